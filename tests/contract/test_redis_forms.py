"""Every form of REDIS_URL against a real server, and what people read when it is wrong."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from redis_sites import cluster, redis_settings, with_tls

from mx.errors import (
    MxError,
    PermissionDeniedError,
    SettingsError,
    UnauthenticatedError,
    UnavailableError,
)
from mx.store.redis import RedisModelStore, RedisSourceStore, open_link, open_redis
from mx.testing.redis_servers import RedisServer, free_port, running_redis, valkey_program
from mx.testing.samples import PEER, entry, model_record
from mx.testing.watching import watching

ROOT = Path(__file__).parents[2]
PASSWORD = "ge/he#im@1"
ENCODED = "ge%2Fhe%23im%401"


async def works(url: str, **flags: Any) -> None:
    link = await open_link(redis_settings(url, **flags))
    try:
        sources, models = RedisSourceStore(link, ttl_s=60), RedisModelStore(link)
        async with watching(sources.watch) as told:
            await told.after(sources.publish(entry(peer=PEER)), entry().key)
        assert await sources.get(entry().source_id, "w0") == entry(peer=PEER)
        assert await models.put(model_record())
        await sources.check()
    finally:
        await link.close()


async def refused(url: str, **flags: Any) -> MxError:
    with pytest.raises(MxError) as caught:
        await open_link(redis_settings(url, timeout_s=2, **flags))
    for secret in (PASSWORD, ENCODED, "geheim"):
        assert secret not in str(caught.value)
        assert secret not in repr(caught.value.__cause__)
    return caught.value


def documented_acl() -> str:
    lines = (ROOT / "docs/howto/redis.md").read_text().splitlines()
    return next(line for line in lines if line.startswith("ACL SETUSER mx "))


@pytest.fixture(scope="module")
def locked() -> Iterator[RedisServer]:
    """A server that wants a password, with a user for mx and one that may do nothing."""
    with running_redis(valkey_program(), "--requirepass", PASSWORD) as server:
        with server.client(password=PASSWORD) as client:
            # The rights that docs/howto/redis.md names, and no others.
            client.execute_command(*documented_acl().replace("password", PASSWORD).split())
            client.execute_command("ACL", "SETUSER", "guest", "on", f">{PASSWORD}", "+ping", "+hello")
            client.execute_command(
                *("ACL", "SETUSER", "deaf", "on", f">{PASSWORD}", "resetchannels", "~mx:*", "+@all")
            )
        yield server


async def test_a_password_and_an_acl_user(locked: RedisServer) -> None:
    await works(f"redis://:{ENCODED}@127.0.0.1:{locked.port}")
    await works(f"redis://mx:{ENCODED}@127.0.0.1:{locked.port}")


async def test_a_socket_with_and_without_a_user(locked: RedisServer) -> None:
    await works(f"unix://{locked.socket}?user=mx&pass={ENCODED}")
    with running_redis(valkey_program()) as server:
        await works(f"unix://{server.socket}?db=3")
        with server.client(db=3) as client:
            assert client.exists(f"mx:source:{entry().source_id}")


@pytest.mark.parametrize("user", ["", "mx:geheim", ":geheim", "nobody:geheim"])
async def test_a_wrong_login_is_told_at_once(locked: RedisServer, user: str) -> None:
    at = f"{user}@" if user else ""
    begin = time.monotonic()
    error = await refused(f"redis://{at}127.0.0.1:{locked.port}")
    assert isinstance(error, UnauthenticatedError), error
    assert f"redis://127.0.0.1:{locked.port} refuses the user name or password" in error.message
    assert time.monotonic() - begin < 10


async def test_a_user_without_rights_is_told_which_are_needed(locked: RedisServer) -> None:
    error = await refused(f"redis://guest:{ENCODED}@127.0.0.1:{locked.port}")
    assert isinstance(error, PermissionDeniedError)
    assert "mx:*" in error.remedy


async def test_a_user_without_channels_still_hears_of_changes_a_little_later(locked: RedisServer) -> None:
    await works(f"redis://deaf:{ENCODED}@127.0.0.1:{locked.port}")


async def test_a_password_that_is_changed_while_it_runs_is_an_outage(locked: RedisServer) -> None:
    with locked.client(password=PASSWORD) as client:
        client.execute_command("ACL", "SETUSER", "passing", "on", f">{PASSWORD}", "~mx:*", "&mx:*", "+@all")
        link = await open_link(redis_settings(f"redis://passing:{ENCODED}@127.0.0.1:{locked.port}"))
        try:
            client.execute_command("ACL", "SETUSER", "passing", "resetpass", ">another")
            client.execute_command("CLIENT", "KILL", "USER", "passing")
            with pytest.raises(UnavailableError, match="user name or password"):
                await link.probe()
        finally:
            await link.close()


async def test_tls_with_a_client_certificate_by_settings_and_by_url(tmp_path: Path) -> None:
    with with_tls(tmp_path) as site:
        url, settings = site.settings.url, site.settings
        await works(
            url,
            ca_file=str(settings.ca_file),
            cert_file=str(settings.cert_file),
            key_file=str(settings.key_file),
        )
        await works(
            f"{url}?ssl_ca_certs={settings.ca_file}&ssl_certfile={settings.cert_file}"
            f"&ssl_keyfile={settings.key_file}"
        )
        pair = {"cert_file": str(settings.cert_file), "key_file": str(settings.key_file)}
        await works(f"{url}/#insecure", **pair)
        error = await refused(url, **pair)
        assert "certificate" in error.message
        assert "redis.ca_file" in error.remedy
        missing = await refused(url, ca_file=str(tmp_path / "missing.pem"))
        assert isinstance(missing, SettingsError)
        assert "missing.pem can't be read: No such file" in missing.message
        plain = await refused(url.replace("rediss://", "redis://"))
        assert isinstance(plain, UnavailableError)


async def test_a_cluster_is_named_when_it_is_taken_for_one_server() -> None:
    with cluster() as site:
        for server in site.servers:
            error = await refused(f"redis://127.0.0.1:{server.port}")
            assert "is a node of a cluster" in error.message
            assert "redis+cluster://" in error.remedy


async def test_one_server_is_named_when_it_is_taken_for_a_cluster() -> None:
    with running_redis(valkey_program()) as server:
        error = await refused(f"redis+cluster://127.0.0.1:{server.port}")
        assert isinstance(error, UnavailableError)
        assert "cluster" in str(error)


@pytest.mark.parametrize("form", ["redis://", "redis+cluster://", "redis+sentinel://"])
async def test_nobody_there(form: str) -> None:
    service = "/mymaster" if "sentinel" in form else ""
    error = await refused(f"{form}:geheim@127.0.0.1:{free_port()}{service}")
    assert isinstance(error, UnavailableError)


async def test_a_redis_that_starts_later_is_waited_for() -> None:
    port = free_port()
    opening = asyncio.create_task(open_redis(redis_settings(f"redis://127.0.0.1:{port}"), status_ttl_s=60))
    await asyncio.sleep(0.5)
    with running_redis(valkey_program(), port=port):
        backend = await opening
        await backend.sources.check()
        await backend.link.close()


# ---- Sentinel ------------------------------------------------------------------------------------------


@contextlib.contextmanager
def guarded() -> Iterator[tuple[str, RedisServer, RedisServer]]:
    """A primary, its replica, and one Sentinel that watches them; with the URL."""
    with contextlib.ExitStack() as stack:
        primary = stack.enter_context(running_redis(valkey_program()))
        replica = stack.enter_context(
            running_redis(valkey_program(), "--replicaof", "127.0.0.1", str(primary.port))
        )
        conf = primary.folder / "sentinel.conf"
        conf.write_text(
            f"sentinel monitor mymaster 127.0.0.1 {primary.port} 1\n"
            "sentinel down-after-milliseconds mymaster 500\nsentinel failover-timeout mymaster 3000\n"
        )
        port = free_port()
        sentinel = stack.enter_context(
            running_redis(valkey_program(), port=port, config=conf, mode="--sentinel")
        )
        with sentinel.client() as client:
            wait_for(lambda: client.execute_command("SENTINEL", "MASTER", "mymaster"))
            wait_for(lambda: len(client.execute_command("SENTINEL", "REPLICAS", "mymaster")) == 1)
        yield f"redis+sentinel://127.0.0.1:{port}/mymaster", primary, replica


def wait_for(condition: Any, *, within_s: float = 60.0) -> None:
    end = time.monotonic() + within_s
    while True:
        with contextlib.suppress(redis.RedisError):
            if condition():
                return
        assert time.monotonic() < end, "it did not come true in time"
        threading.Event().wait(0.05)


async def test_a_sentinel_leads_to_the_primary_and_to_the_next_one() -> None:
    with guarded() as (url, primary, replica):
        await works(url)
        link = await open_link(redis_settings(url, timeout_s=2))
        store = RedisSourceStore(link, ttl_s=60)
        try:
            await store.publish(entry())
            with replica.client() as client:
                wait_for(lambda: client.exists(f"mx:source:{entry().source_id}"))
            primary.kill()
            async with asyncio.timeout(90):
                while True:
                    try:
                        known = await store.update_status(
                            entry().key, status=2, source_load=None, now_ms=2_000
                        )
                        break
                    except UnavailableError:
                        await asyncio.sleep(0.1)
            assert known, "the replica had it"
            with replica.client() as client:
                assert client.role()[0] == "master"
        finally:
            await link.close()
        unknown = await refused(url.replace("mymaster", "other"))
        assert "no primary" in unknown.message
