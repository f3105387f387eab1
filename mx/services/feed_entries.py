"""Entries of the cache for the feed: records as the store has them, sizes as the disk has them.

Measuring the cache means walking over all of its files. It is done when entries came or went, or somebody
has been watching for a while, and never more often than every few seconds.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import NoReturn

from mx.core.cache_view import CacheStats, kinds_of, listed
from mx.core.cached import CacheUsage
from mx.core.counts import Count
from mx.core.eviction import EvictionRun
from mx.core.feed import CacheChanged, DownloadMoved, EntryChanged, EntryGone, Moving
from mx.core.model import EntryKey, EntryStatus, ModelRecord
from mx.core.progress import RateMeter, time_left_s
from mx.core.transitions import is_claimed
from mx.errors import MxError
from mx.logs import event_log
from mx.ports import Clock, EntryCache, ModelStore
from mx.services.eviction import EvictionService
from mx.services.feed import Feed
from mx.services.feed_follow import Heard, follow
from mx.services.threads import in_thread

log = event_log(__name__)

RUNS_TOLD = 5
VICTIMS_TOLD = 100  # of each run
# After a walk that took a second come 20 without one.
_SHARE = 20.0
_MEASURE_S = 5.0
_STALE_S = 60.0
_UNKNOWN = CacheUsage(0, 0, 0, {})


class EntryFeed:
    """``owner`` is this process in claims: its own downloads are told by ``FeedService``."""

    def __init__(
        self,
        store: ModelStore,
        cache: EntryCache,
        eviction: EvictionService,
        feed: Feed,
        clock: Clock,
        *,
        owner: str,
    ) -> None:
        self._store = store
        self._cache = cache
        self._eviction = eviction
        self._feed = feed
        self._clock = clock
        self._owner = owner
        self._heard: Heard[EntryKey] = Heard()
        self._usage = _UNKNOWN
        self._meters: dict[EntryKey, RateMeter] = {}
        self._outdated = asyncio.Event()
        self._outdated.set()
        self.read_once = asyncio.Event()

    async def watch(self) -> NoReturn:
        await self._store.watch(self._heard.tell)

    async def run(self) -> NoReturn:
        await follow("models", self._heard, self._feed, self.read)

    def look(self) -> None:
        """Read everything again, soon."""
        self._heard.tell(None)

    def counted(self, _count: Count) -> None:
        """A run of eviction is over."""
        self._outdated.set()

    async def read(self, keys: Sequence[EntryKey] | None) -> None:
        if keys is None:
            records = {record.key: record for record in await self._store.list_models()}
            known = frozenset(self._feed.fleet.entries)
        else:
            read = [record for key in keys if (record := await self._store.get(key)) is not None]
            records = {record.key: record for record in read}
            known = frozenset(keys)
        self._tell(records.values())
        for key in known - records.keys():
            self._feed.tell(EntryGone(key))
            self._ended(key)
            self._outdated.set()
        self.read_once.set()

    def _tell(self, records: Iterable[ModelRecord]) -> None:
        now_ms = self._clock.now_ms()
        fleet = self._feed.fleet
        for record in records:
            self._feed.tell(EntryChanged(listed(record, self._usage, now_ms)))
            old = fleet.entries.get(record.key)
            if old is None or old.status is not record.status:
                self._outdated.set()
            if self._downloaded_elsewhere(record, now_ms):
                self._feed.tell(DownloadMoved(record.key, self._moving(record)))
            elif record.key in self._meters:
                self._ended(record.key)

    def _downloaded_elsewhere(self, record: ModelRecord, now_ms: int) -> bool:
        return (
            record.status is EntryStatus.DOWNLOADING
            and is_claimed(record, now_ms=now_ms)
            and record.claim is not None
            and record.claim.owner != self._owner
        )

    def _moving(self, record: ModelRecord) -> Moving:
        meter = self._meters.setdefault(record.key, RateMeter())
        rate = meter.read(record.bytes_done, now_s=self._clock.monotonic_s())
        eta_s = time_left_s(record.bytes_done, record.bytes_total, rate)
        return Moving(record.bytes_done, record.bytes_total, files_total=record.files, rate=rate, eta_s=eta_s)

    def _ended(self, key: EntryKey) -> None:
        if self._meters.pop(key, None) is not None:
            self._feed.tell(DownloadMoved(key, None))

    # Sizes, and the cache as a whole

    async def keep_measuring(self) -> NoReturn:
        """While somebody watches: measure when something changed, and now and then."""
        failing = False
        while True:
            await self._feed.wait_watched()
            try:
                async with asyncio.timeout(_STALE_S):
                    await self._outdated.wait()
            except TimeoutError:
                pass
            if not self._feed.watchers:
                continue
            self._outdated.clear()
            begin_s = time.monotonic()
            try:
                await self.measure()
            except MxError as error:
                say = log.debug if failing else log.warn
                say("cache not measured for the feed", error=str(error))
                failing = True
            else:
                failing = False
            await asyncio.sleep(max(_MEASURE_S, _SHARE * (time.monotonic() - begin_s)))

    async def measure(self) -> None:
        """Tell the cache in short, and entries whose size on disk is another one now."""
        usage = await in_thread(self._cache.usage)
        runs = await self._eviction.runs(limit=RUNS_TOLD)
        records = await self._store.list_models()
        changed = [one for one in records if usage.entries.get(one.key) != self._usage.entries.get(one.key)]
        self._usage = usage
        now_ms = self._clock.now_ms()
        for record in changed:
            self._feed.tell(EntryChanged(listed(record, usage, now_ms)))
        self._feed.tell(
            CacheChanged(
                CacheStats(
                    root=str(self._cache.root),
                    kinds=kinds_of(records, usage=usage, now_ms=now_ms),
                    used_bytes=usage.used_bytes,
                    free_bytes=usage.free_bytes,
                    disk_bytes=usage.disk_bytes,
                    policy=self._eviction.policy,
                    eviction_enabled=self._eviction.enabled,
                    next_run_at_ms=self._eviction.next_run_at_ms,
                    runs=tuple(map(_short, runs)),
                    now_ms=now_ms,
                )
            )
        )


def _short(run: EvictionRun) -> EvictionRun:
    """Without what stayed, and the first of what went: a plan may name 10,000 entries."""
    return replace(
        run,
        plan=replace(run.plan, survivors=(), victims=run.plan.victims[:VICTIMS_TOLD]),
        failed=run.failed[:VICTIMS_TOLD],
    )
