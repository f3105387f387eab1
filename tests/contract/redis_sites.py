"""Places where Redis runs, for tests: each gives the settings that reach it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import redis
import trustme

from mx.config import load_settings
from mx.config.tree import RedisSettings
from mx.testing.redis_servers import (
    RedisServer,
    free_port,
    redis_program,
    running_cluster,
    running_redis,
    valkey_program,
)


def redis_settings(url: str, **flags: Any) -> RedisSettings:
    """``flags`` by their name in the section, such as ``timeout_s``."""
    keyed = {f"redis.{name}": value for name, value in flags.items()}
    return load_settings(flags={"redis.url": url, **keyed}, environ={}, scope="server").redis


@dataclass(frozen=True)
class Site:
    """``clients`` look at each node as it is, without mx."""

    settings: RedisSettings
    servers: tuple[RedisServer, ...]

    @property
    def server(self) -> RedisServer:
        return self.servers[0]

    def empty(self) -> None:
        for server in self.servers:
            with server.client() as client:
                client.flushall()

    def client(self) -> redis.Redis:
        return self.server.client()


@contextmanager
def plain() -> Iterator[Site]:
    with running_redis(valkey_program()) as server:
        yield Site(redis_settings(server.url), (server,))


@contextmanager
def with_tls(folder: Path) -> Iterator[Site]:
    """Debian's redis-server, which wants a client certificate as well."""
    authority = trustme.CA()
    files = {"ca": folder / "ca.pem"}
    authority.cert_pem.write_to_path(files["ca"])
    for name, holder in (("server", "127.0.0.1"), ("client", "mx@example.org")):
        cert = authority.issue_cert(holder)
        files[f"{name}.cert"], files[f"{name}.key"] = folder / f"{name}.pem", folder / f"{name}.key"
        cert.cert_chain_pems[0].write_to_path(files[f"{name}.cert"])
        cert.private_key_pem.write_to_path(files[f"{name}.key"])
    port = free_port()
    options = ["--tls-port", port, "--tls-ca-cert-file", files["ca"]]
    options += ["--tls-cert-file", files["server.cert"], "--tls-key-file", files["server.key"]]
    with running_redis(redis_program(), *map(str, options)) as server:
        settings = redis_settings(
            f"rediss://127.0.0.1:{port}",
            ca_file=str(files["ca"]),
            cert_file=str(files["client.cert"]),
            key_file=str(files["client.key"]),
        )
        yield Site(settings, (server,))


@contextmanager
def cluster() -> Iterator[Site]:
    with running_cluster(valkey_program()) as servers:
        # One node is enough to find the others.
        url = f"redis+cluster://127.0.0.1:{servers[-1].port}"
        yield Site(redis_settings(url), tuple(servers))
