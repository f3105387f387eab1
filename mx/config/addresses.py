"""Kinds of settings that say where something is: hosts, endpoints, URLs."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from urllib.parse import SplitResult, urlsplit

from mx.config.kinds import Place, Text, as_text
from mx.config.redis_address import parse_redis_url


@dataclass(frozen=True, slots=True)
class UrlText(Text):
    """A URL of another program, read as it is; it may hold a password, so it is masked where it shows."""


@dataclass(frozen=True, slots=True)
class Host:
    """An address to listen on: a name, IPv4, or IPv6 with or without brackets."""

    allowed: str = "a host name, an IPv4 or an IPv6 address, without a port"

    def parse(self, raw: object, place: Place) -> str:
        text = as_text(raw)
        bare = text[1:-1] if text.startswith("[") and text.endswith("]") else text
        if ":" in bare:
            try:
                return str(ipaddress.IPv6Address(bare))
            except ValueError:
                raise ValueError("is no address; a port has its own setting") from None
        if not re.fullmatch(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,252})", bare, re.ASCII):
            raise ValueError("is no host name or address")
        return bare

    def render(self, value: object) -> object:
        return str(value)


# What a bare host name means: the server's default port.
DEFAULT_PORT = 8001


def _split_url(text: str) -> SplitResult:
    try:
        parts = urlsplit(text)
        _ = parts.port  # raises for a port that is no number or out of range
    except ValueError:
        raise ValueError("is no address: its host or port is wrong") from None
    if not parts.hostname or re.search(r"\s", text):
        raise ValueError("is no address: it has no host")
    if parts.netloc.endswith(":"):
        raise ValueError("is no address: it has no port after the colon")
    if "@" in parts.netloc:
        raise ValueError("holds a user name or password; credentials don't belong in an address")
    return parts


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A server's URL. Without a scheme ``http://`` is assumed; a bare host also gets the default port."""

    allowed: str = "host:port or http(s)://host:port"

    def parse(self, raw: object, place: Place) -> str:
        text = as_text(raw)
        bare = "://" not in text
        parts = _split_url(f"http://{text}" if bare else text)
        if parts.scheme not in ("http", "https"):
            raise ValueError(f"has the scheme {parts.scheme!r}")
        if parts.query or parts.fragment:
            raise ValueError("is no server address: it has a query or a fragment")
        port = f":{DEFAULT_PORT}" if bare and parts.port is None else ""
        return f"{parts.scheme}://{parts.netloc}{port}{parts.path.rstrip('/')}"

    def render(self, value: object) -> object:
        return str(value)


@dataclass(frozen=True, slots=True)
class SecureEndpoint:
    """The URL of a server that gets secrets: https whatever scheme was given, as NGC's own tools have it."""

    allowed: str = "https://host[:port]"

    def parse(self, raw: object, place: Place) -> str:
        text = as_text(raw)
        endpoint = Endpoint().parse(text if "://" in text else f"https://{text}", place)
        return "https://" + endpoint.partition("://")[2]

    def render(self, value: object) -> object:
        return str(value)


@dataclass(frozen=True, slots=True)
class Address:
    """``host:port`` for gRPC; ``http://`` in front is dropped, ``https://`` kept (TLS)."""

    allowed: str = "host:port"

    def parse(self, raw: object, place: Place) -> str:
        endpoint = Endpoint().parse(raw, place)
        if endpoint.count("/") > 2:
            raise ValueError("is no server address: it has a path")
        if endpoint.startswith("https://"):
            return endpoint
        address = endpoint.removeprefix("http://")
        has_port = re.search(r":[0-9]+$", address) is not None and not address.endswith("]")
        return address if has_port else f"{address}:{DEFAULT_PORT}"

    def render(self, value: object) -> object:
        return str(value)


@dataclass(frozen=True, slots=True)
class RedisUrl:
    """Where Redis is. May hold a password, so its text is never repeated in an error."""

    allowed: str = (
        "redis://[user:password@]host[:port][/db], rediss://… with TLS, unix:///path, "
        "redis+sentinel://host,…/service or redis+cluster://host,…"
    )

    def parse(self, raw: object, place: Place) -> str:
        text = as_text(raw)
        parse_redis_url(text)
        return text

    def render(self, value: object) -> object:
        return str(value)
