"""What a REDIS_URL says: one server, a socket, a Sentinel or a cluster; who logs in, and with which TLS.

    redis://[user:password@]host[:port][/db]                  rediss://… with TLS
    unix:///path[?db=1&user=…&pass=…]                         also redis+unix://
    redis+sentinel://[user:password@]host[:port],…/service[/db]
    redis+cluster://[user:password@]host[:port],…             rediss+sentinel://, rediss+cluster:// with TLS

Parsed here and not by the client library: its parser passes unknown parameters on as arguments of
its own and repeats what it could not read in its errors.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Literal
from urllib.parse import parse_qsl, unquote, urlsplit

Form = Literal["server", "socket", "sentinel", "cluster"]

_FORMS: Mapping[str, tuple[Form, bool]] = MappingProxyType(
    {
        "redis": ("server", False),
        "rediss": ("server", True),
        "unix": ("socket", False),
        "redis+unix": ("socket", False),
        "redis+sentinel": ("sentinel", False),
        "rediss+sentinel": ("sentinel", True),
        "redis+cluster": ("cluster", False),
        "rediss+cluster": ("cluster", True),
    }
)
_DEFAULT_PORTS: Mapping[Form, int] = MappingProxyType({"sentinel": 26379})
_TLS_FILES = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile")
_LOGINS = ("user", "username", "pass", "password", "sentinel_username", "sentinel_password")
_PARAMETERS = frozenset({"db", "protocol", "ssl_check_hostname", "ssl_cert_reqs", *_TLS_FILES, *_LOGINS})
_YES_NO = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
_ENCODE = "write / # ? @ : and % in a user name or password percent-encoded"


@dataclass(frozen=True, slots=True)
class RedisTls:
    """``verify`` False: no certificate is checked. Files None: those of the system."""

    verify: bool = True
    check_hostname: bool = True
    ca_file: str | None = None
    cert_file: str | None = None
    key_file: str | None = None


@dataclass(frozen=True, slots=True)
class RedisLogin:
    username: str | None = None
    password: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class RedisAddress:
    """``nodes`` of a cluster or a Sentinel are where to ask first; ``tls`` None: none."""

    form: Form
    nodes: tuple[tuple[str, int], ...] = ()
    path: str = ""
    service: str = ""
    db: int = 0
    login: RedisLogin = RedisLogin()
    sentinel_login: RedisLogin = RedisLogin()
    tls: RedisTls | None = None

    def __str__(self) -> str:
        """For people: without user name and password."""
        if self.form == "socket":
            return f"unix://{self.path}"
        hosts = ",".join(f"[{host}]:{port}" if ":" in host else f"{host}:{port}" for host, port in self.nodes)
        kind = {"server": "", "sentinel": "+sentinel", "cluster": "+cluster"}[self.form]
        parts = [part for part in (self.service, str(self.db) if self.db else "") if part]
        return "/".join([f"redis{'s' if self.tls else ''}{kind}://{hosts}", *parts])


def parse_redis_url(text: str) -> RedisAddress:
    """ValueError says what is wrong, as the end of a sentence, and never repeats the text."""
    scheme, colon, rest = text.partition("://")
    found = _FORMS.get(scheme.lower())
    if not colon or found is None:
        raise ValueError("has a scheme that Redis does not know")
    form, tls = found
    if any(ord(char) < 0x21 or char == "\x7f" for char in text):
        raise ValueError("holds a blank or a control character")
    # urlsplit knows no list of hosts, so the part between the slashes is looked at here.
    parts = urlsplit(f"x://{rest}")
    account, _, hosts = parts.netloc.rpartition("@")
    query = _query(parts.query)
    insecure = parts.fragment == "insecure"  # as published servers write it
    if parts.fragment and not (tls and insecure):
        raise ValueError(f"has something behind a #; {_ENCODE}")
    if not tls and (stray := sorted(name for name in query if name.startswith("ssl_"))):
        raise ValueError(f"has {stray[0]} without TLS; write {scheme.replace('redis', 'rediss', 1)}://")
    nodes, path, service, db = _place(form, hosts, parts.path, query.get("db"))
    return RedisAddress(
        form,
        nodes=nodes,
        path=path,
        service=service,
        db=db,
        login=_login(account, query),
        sentinel_login=RedisLogin(query.get("sentinel_username"), query.get("sentinel_password")),
        tls=_tls(query, insecure=insecure) if tls else None,
    )


def _place(
    form: Form, hosts: str, path: str, db: str | None
) -> tuple[tuple[tuple[str, int], ...], str, str, int]:
    """Nodes, path of a socket, service and database."""
    if form == "socket":
        if hosts or not path.strip("/"):
            raise ValueError("has no path of a socket; write three slashes: unix:///run/redis.sock")
        return (), unquote(path), "", _db(db or "0")
    nodes = tuple(_node(one, _DEFAULT_PORTS.get(form, 6379)) for one in hosts.split(","))
    if form == "server" and len(nodes) > 1:
        raise ValueError("has several hosts; write redis+sentinel:// or redis+cluster://")
    names = [unquote(part) for part in path.split("/") if part]
    service = names.pop(0) if form == "sentinel" and names else ""
    if form == "sentinel" and not service:
        raise ValueError("names no service behind the hosts, such as /mymaster")
    number = _db(db or (names.pop(0) if names else "0"))
    if names:
        raise ValueError(f"has more behind its database than it may; {_ENCODE}")
    if form == "cluster" and number:
        raise ValueError("names a database; a cluster has only number 0")
    return nodes, "", service, number


def _query(text: str) -> dict[str, str]:
    query: dict[str, str] = {}
    for name, value in parse_qsl(text, keep_blank_values=True):
        if name not in _PARAMETERS:
            # The name may be half a password; only those that look like names are repeated.
            shown = name if name.isidentifier() and len(name) < 32 and "@" not in text else "one"
            raise ValueError(f"has an unknown parameter: {shown}; allowed: {', '.join(sorted(_PARAMETERS))}")
        query[name] = value
    return query


def _login(account: str, query: Mapping[str, str]) -> RedisLogin:
    username, colon, password = account.partition(":")
    if not account:
        return RedisLogin(
            query.get("username") or query.get("user") or None,
            query.get("password") or query.get("pass") or None,
        )
    return RedisLogin(unquote(username) or None, (unquote(password) or None) if colon else None)


def _node(text: str, default_port: int) -> tuple[str, int]:
    try:
        parts = urlsplit(f"x://{text}")
        host, port = parts.hostname, parts.port
    except ValueError:
        raise ValueError(f"has a host or port that is wrong; {_ENCODE}") from None
    if not host or parts.path:
        raise ValueError("has no host" if not text else f"has a host or port that is wrong; {_ENCODE}")
    return host, port or default_port


def _db(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 6):
        raise ValueError(f"has a database that is no number; {_ENCODE}")
    return int(text)


def _tls(query: Mapping[str, str], *, insecure: bool) -> RedisTls:
    verify = query.get("ssl_cert_reqs", "required").lower()
    if verify not in ("required", "none"):
        raise ValueError("has ssl_cert_reqs that is neither required nor none")
    check = query.get("ssl_check_hostname", "true").lower()
    if check not in _YES_NO:
        raise ValueError("has ssl_check_hostname that is neither true nor false")
    ca_file, cert_file, key_file = (query.get(name) or None for name in _TLS_FILES)
    checked = verify == "required" and not insecure
    return RedisTls(checked, checked and _YES_NO[check], ca_file, cert_file, key_file)
