"""From an address to the library's client: plain, TLS, socket, Sentinel or cluster."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from redis.asyncio import Redis, RedisCluster
from redis.asyncio.cluster import ClusterNode
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import Sentinel
from redis.backoff import ExponentialWithJitterBackoff
from redis.exceptions import BusyLoadingError, ConnectionError  # noqa: A004  # theirs

from mx.config.redis_address import RedisAddress
from mx.config.tree import RedisSettings

Client = Redis | RedisCluster

# A connection that broke while it was idle is noticed by the next call: that one is sent again at
# once. Whoever waits has a deadline of his own, so more tries than this help nobody.
_RETRIES = 2
_CLIENT_NAME = "mx"


def make_client(address: RedisAddress, settings: RedisSettings) -> Client:
    """Not connected yet. Answers are bytes; every call sends RESP2, which all servers speak."""
    options = _options(address, settings)
    match address.form:
        case "server":
            ((host, port),) = address.nodes
            return Redis(host=host, port=port, db=address.db, **options)
        case "socket":
            return Redis(unix_socket_path=address.path, db=address.db, **options)
        case "sentinel":
            login = address.sentinel_login
            guards = Sentinel(  # type: ignore[no-untyped-call]
                list(address.nodes),
                sentinel_kwargs=options | {"username": login.username, "password": login.password},
                **options,
            )
            client: Redis = guards.master_for(address.service, db=address.db)
            return client
        case "cluster":
            nodes = [ClusterNode(host, port) for host, port in address.nodes]
            return RedisCluster(startup_nodes=nodes, **options)


def _options(address: RedisAddress, settings: RedisSettings) -> dict[str, Any]:
    timeout_s = settings.timeout_s
    options: dict[str, Any] = {
        "username": address.login.username,
        "password": address.login.password,
        "socket_timeout": timeout_s,
        "socket_connect_timeout": timeout_s / 2,
        "socket_keepalive": True,
        "client_name": _CLIENT_NAME,
        "protocol": 2,
        "decode_responses": False,
        "retry": Retry(
            ExponentialWithJitterBackoff(cap=0.5, base=0.05),
            _RETRIES,
            supported_errors=(ConnectionError, BusyLoadingError),
        ),
    }
    return options | _tls_options(address, settings)


def _tls_options(address: RedisAddress, settings: RedisSettings) -> dict[str, Any]:
    tls = address.tls
    if tls is None:
        return {}
    return {
        "ssl": True,
        "ssl_cert_reqs": "required" if tls.verify else "none",
        "ssl_check_hostname": tls.check_hostname,
        "ssl_ca_certs": tls.ca_file or _path(settings.ca_file),
        "ssl_certfile": tls.cert_file or _path(settings.cert_file),
        "ssl_keyfile": tls.key_file or _path(settings.key_file),
    }


def _path(path: Path | None) -> str | None:
    return None if path is None else str(path)
