"""Opening Redis, and what runs beside its stores while they are open."""

from __future__ import annotations

import asyncio
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from mx.config.redis_address import RedisAddress, parse_redis_url
from mx.config.tree import RedisSettings
from mx.errors import MxError, SettingsError, UnavailableError
from mx.logs import event_log
from mx.store.redis.clock import RedisClock
from mx.store.redis.connect import make_client
from mx.store.redis.duties import RedisDuties
from mx.store.redis.events import RedisEventStore
from mx.store.redis.failures import LIBRARY_ERRORS, part_of_cluster, translate
from mx.store.redis.left_alone import LeftAlone
from mx.store.redis.link import Link
from mx.store.redis.models import RedisModelStore
from mx.store.redis.sources import RedisSourceStore
from mx.store.redis.sweep import Sweep
from mx.store.redis.view import RedisView

log = event_log(__name__)

# A server and its Redis often start together.
_WAIT_S = 20.0
_PAUSE_S = 0.5
_CLOCK_EVERY_S = 10.0
_SWEEP_EVERY_S = 60.0
_SWEEP = "sweep indexes"


@dataclass(frozen=True, slots=True)
class RedisBackend:
    """Stores over one link. ``clock`` is Redis's own and must be the services'."""

    link: Link
    sources: RedisSourceStore
    models: RedisModelStore
    duties: RedisDuties
    events: RedisEventStore
    view: RedisView
    left_alone: LeftAlone

    @property
    def clock(self) -> RedisClock:
        return self.link.clock

    async def run_upkeep(self) -> NoReturn:
        """Keep the clock right and the indexes whole, until cancelled. Outlives outages."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._keep_clock(), name="clock of redis")
            tasks.create_task(self._keep_sweeping(), name="sweep of redis")
        raise AssertionError("upkeep never ends")

    async def sweep(self) -> int:
        """One sweep; what had to be mended."""
        report = await Sweep(self.link, self.left_alone).run()
        if report.drift:
            log.info(
                "indexes in Redis mended",
                sources_found=report.sources_found,
                sources_gone=report.sources_gone,
                workers_mended=report.workers_mended,
                workers_gone=report.workers_gone,
                models_found=report.models_found,
                models_gone=report.models_gone,
            )
        return report.drift

    async def _keep_clock(self) -> NoReturn:
        while True:
            await asyncio.sleep(_CLOCK_EVERY_S)
            try:
                await self.link.sync_clock()
            except MxError as error:
                log.debug("clock of Redis not read", error=str(error))

    async def _keep_sweeping(self) -> NoReturn:
        while True:
            try:
                # An owner of its own each time: our last sweep holds us off as well.
                owner = uuid.uuid4().hex
                now_ms = self.clock.now_ms()
                if await self.duties.take(_SWEEP, owner=owner, lease_s=_SWEEP_EVERY_S, now_ms=now_ms):
                    await self.sweep()
            except MxError as error:
                log.warn("indexes in Redis not looked at", error=str(error))  # noqa: G010  # an EventLog
            await asyncio.sleep(_SWEEP_EVERY_S / 4)


async def open_redis(settings: RedisSettings, *, status_ttl_s: float) -> RedisBackend:
    """Connect, waiting a little for a Redis that starts at the same time.

    Raises UnavailableError, UnauthenticatedError, PermissionDeniedError or SettingsError (files of TLS).
    """
    link = await open_link(settings, wait_s=_WAIT_S)
    left_alone = LeftAlone()
    return RedisBackend(
        link=link,
        sources=RedisSourceStore(link, ttl_s=status_ttl_s, left_alone=left_alone),
        models=RedisModelStore(link, left_alone=left_alone),
        duties=RedisDuties(link),
        events=RedisEventStore(link),
        view=RedisView(link),
        left_alone=left_alone,
    )


async def open_link(settings: RedisSettings, *, wait_s: float = 0.0) -> Link:
    """A link whose clock is known."""
    address = parse_redis_url(settings.url)
    where = f"Redis at {address}"
    _require_files(address, settings)
    try:
        client = make_client(address, settings)
    except LIBRARY_ERRORS as error:
        raise translate(error, where, opening=True) from error
    link = Link(client, where=where, timeout_s=settings.timeout_s, db=address.db)
    loop = asyncio.get_running_loop()
    give_up = loop.time() + wait_s
    told = False
    try:
        while True:
            try:
                await link.probe()
                await _require_no_cluster(link)
                link.opening = False
                return link
            except UnavailableError as error:
                if loop.time() >= give_up:
                    raise
                if not told:
                    told = True
                    log.warn("waiting for Redis", error=str(error), wait_s=wait_s)  # noqa: G010  # an EventLog
            await asyncio.sleep(_PAUSE_S)
    except BaseException:
        await link.close()
        raise


async def _require_no_cluster(link: Link) -> None:
    """A node of a cluster answers for its own keys only, which may be those of the probe."""
    if link.in_cluster:
        return
    try:
        found = await link.call("INFO", "cluster")
    except MxError:  # this user may not ask: then a later call says so
        return
    if found.get("cluster_enabled"):
        raise part_of_cluster(link.where)


def _require_files(address: RedisAddress, settings: RedisSettings) -> None:
    """The library names no file when one can't be read."""
    tls = address.tls
    if tls is None:
        return
    problems = []
    for key, named in (
        ("ca_file", tls.ca_file or settings.ca_file),
        ("cert_file", tls.cert_file or settings.cert_file),
        ("key_file", tls.key_file or settings.key_file),
    ):
        if named is not None:
            try:
                Path(named).read_bytes()
            except OSError as error:
                problems.append(f"redis.{key}, or REDIS_URL: {named} can't be read: {error.strerror}")
    if problems:
        raise SettingsError(tuple(problems))
