"""Evict: plan, re-check each entry, remove its files, then its record; and keep a record of the run."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager, aclosing
from dataclasses import dataclass, replace
from typing import NoReturn

from mx.core.cached import CacheUsage
from mx.core.eviction import (
    EvictionGoal,
    EvictionPlan,
    EvictionPolicy,
    EvictionRun,
    KeepLimits,
    MakeRoom,
    capacity,
    plan,
    protection,
)
from mx.core.model import EntryKey, EntryStatus, ModelRecord
from mx.core.transitions import is_claimed
from mx.core.units import format_size
from mx.errors import ExhaustedError, MxError
from mx.logs import event_log
from mx.ports import Clock, EntryCache, ModelStore
from mx.services.removal import remove_entry
from mx.services.shared_work import SharedWork
from mx.services.threads import in_thread
from mx.services.touches import TouchBatch

log = event_log(__name__)

# Another server may be deleting terabytes over a network.
_WAIT_S = 300.0
# An entry that was read or pinned between plan and removal makes room fall short: plan again.
_ROOM_ATTEMPTS = 3


@dataclass(frozen=True, slots=True)
class _View:
    """What a plan was made of."""

    records: Mapping[EntryKey, ModelRecord]
    usage: CacheUsage


class EvictionService:
    """Keeps the cache below its limits. One run at a time per cache; records fence those who disagree.

    Every method raises UnavailableError when the store can't be reached.
    """

    def __init__(
        self,
        store: ModelStore,
        cache: EntryCache,
        clock: Clock,
        *,
        policy: EvictionPolicy,
        owner: str,
        touches: TouchBatch,
        enabled: bool = True,
        shared: SharedWork | None = None,
    ) -> None:
        self._store = store
        self._cache = cache
        self._clock = clock
        self._policy = policy
        self._owner = owner
        self._touches = touches
        self._enabled = enabled
        self._one_run = asyncio.Lock()
        self._shared = shared or SharedWork(None, clock, owner=owner)

    @property
    def policy(self) -> EvictionPolicy:
        return self._policy

    async def plan(self, goal: EvictionGoal = KeepLimits()) -> EvictionPlan:  # a frozen value
        """What a run would do now; changes nothing."""
        return self._plan(await self._look(), goal)

    async def evict(self, goal: EvictionGoal = KeepLimits(), *, trigger: str = "command") -> EvictionRun:
        """Plan and carry it out. What changed in between stays, and the run says why."""
        async with self._one_run, self._alone():
            view = await self._look()
            return await self._execute(self._plan(view, goal), trigger=trigger, observed=view.records)

    async def execute(self, plan: EvictionPlan, *, trigger: str = "command") -> EvictionRun:
        """Carry out a plan that somebody looked at. Each entry is judged again as it is now."""
        async with self._one_run, self._alone():
            await self._touches.flush()
            return await self._execute(plan, trigger=trigger, observed=None)

    async def make_room(
        self, key: EntryKey, *, need_bytes: int, running: Mapping[EntryKey, int] | None = None
    ) -> None:
        """See to it that a download fits, or raise ExhaustedError with the numbers, nothing evicted.

        ``running`` has the bytes still to come of this process's other downloads; those of other
        processes are known from their records.
        """
        async with self._one_run:
            for attempt in range(_ROOM_ATTEMPTS):
                view, reserved_bytes, found = await self._plan_room(key, need_bytes, running or {})
                if not found.target_bytes:
                    return
                last = attempt == _ROOM_ATTEMPTS - 1
                if not found.met or not self._enabled or last:
                    raise self._no_room(key, need_bytes, reserved_bytes, found, view.usage)
                async with self._alone():
                    # Another server may have made room while we waited for our turn.
                    view, _, found = await self._plan_room(key, need_bytes, running or {})
                    if found.met:
                        await self._execute(found, trigger="room", observed=view.records)

    async def runs(self, *, limit: int = 20) -> tuple[EvictionRun, ...]:
        """The newest first."""
        return await self._store.eviction_runs(limit=limit)

    async def run_interval(self, interval_s: float) -> NoReturn:
        """Look now and then every ``interval_s``, until cancelled. Outlives outages of the store.

        Of the servers that share the cache one does it.
        """
        turns = self._shared.turns("look for eviction", every_s=interval_s, place=self._cache_name)
        async with aclosing(turns):
            async for ours in turns:
                if not ours:
                    continue
                try:
                    await self.evict(trigger="interval")
                except MxError as error:
                    log.error(
                        "eviction pass failed", error=str(error), code=error.code.value, retry_s=interval_s
                    )
        raise AssertionError("turns never end")

    def _alone(self) -> AbstractAsyncContextManager[None]:
        return self._shared.one_at_a_time("evict", wait_s=_WAIT_S, place=self._cache_name)

    async def _cache_name(self) -> str:
        return await in_thread(self._cache.identity)

    async def _look(self) -> _View:
        await self._touches.flush()
        # Sizes first: an entry that came in between has a record and no size, and frees nothing here.
        usage = await in_thread(self._cache.usage)
        records = await self._store.list_models()
        return _View({record.key: record for record in records}, usage)

    async def _plan_room(
        self, key: EntryKey, need_bytes: int, running: Mapping[EntryKey, int]
    ) -> tuple[_View, int, EvictionPlan]:
        view = await self._look()
        reserved_bytes = self._reserved_bytes(key, view, running)
        return view, reserved_bytes, self._plan(view, MakeRoom(need_bytes + reserved_bytes))

    def _plan(self, view: _View, goal: EvictionGoal) -> EvictionPlan:
        return plan(
            view.records.values(),
            usage=view.usage,
            policy=self._policy,
            now_ms=self._clock.now_ms(),
            goal=goal,
        )

    async def _execute(
        self, plan: EvictionPlan, *, trigger: str, observed: Mapping[EntryKey, ModelRecord] | None
    ) -> EvictionRun:
        run = EvictionRun(uuid.uuid4().hex, self._clock.now_ms(), trigger, plan, 0, 0)
        failed: list[tuple[EntryKey, str]] = []
        freed_bytes = 0
        for victim in plan.victims:
            record = await self._store.get(victim.key) if observed is None else observed.get(victim.key)
            try:
                reason, gained = await self._remove(victim.key, record)
            except MxError as error:
                reason, gained = str(error), 0
            freed_bytes += gained
            if reason:
                failed.append((victim.key, reason))
                log.warn("not evicted", model=str(victim.key), reason=reason)  # noqa: G010  # an EventLog
            else:
                log.info("evicted", model=str(victim.key), bytes=gained, reason=victim.reason)
        run = replace(run, bytes_freed=freed_bytes, finished_at_ms=self._clock.now_ms(), failed=tuple(failed))
        if plan.victims or not plan.met or trigger == "command":
            await self._store.record_eviction(run)
            log.info("eviction run", trigger=trigger, victims=len(plan.victims), bytes=freed_bytes)
        if not plan.met:
            log.warn("the cache stays above its limits", target_bytes=plan.target_bytes)  # noqa: G010  # an EventLog
        return run

    async def _remove(self, key: EntryKey, record: ModelRecord | None) -> tuple[str, int]:
        """Why it stayed (empty when it is gone), and the bytes that the disk gained."""
        if record is None:
            return "its record is gone", 0
        now_ms = self._clock.now_ms()
        if record.status is not EntryStatus.EVICTING and (
            reason := protection(record, now_ms=now_ms, grace_s=self._policy.grace_s)
        ):
            return reason, 0
        claim = await self._store.mark_evicting(key, observed=record, now_ms=now_ms, owner=self._owner)
        if claim is None:
            return await self._why_it_stayed(key), 0
        return "", await remove_entry(self._store, self._cache, self._clock, key, claim)

    async def _why_it_stayed(self, key: EntryKey) -> str:
        record = await self._store.get(key)
        if record is None:
            return "its record is gone"
        return (
            protection(record, now_ms=self._clock.now_ms(), grace_s=0)
            or "it was used since the plan was made"
        )

    def _reserved_bytes(self, key: EntryKey, view: _View, running: Mapping[EntryKey, int]) -> int:
        now_ms = self._clock.now_ms()
        elsewhere = {
            record.key: max(0, record.bytes_total - record.bytes_done)
            for record in view.records.values()
            if record.status is EntryStatus.DOWNLOADING and is_claimed(record, now_ms=now_ms)
        }
        return sum(left for other, left in {**elsewhere, **running}.items() if other != key)

    def _no_room(
        self, key: EntryKey, need_bytes: int, reserved_bytes: int, found: EvictionPlan, usage: CacheUsage
    ) -> ExhaustedError:
        most = capacity(usage, self._policy)
        others = (
            f", {format_size(reserved_bytes)} are promised to running downloads" if reserved_bytes else ""
        )
        missing = format_size(found.target_bytes)
        may = (
            f"eviction may free {format_size(found.bytes_freed)} of the {missing} missing"
            if self._enabled
            else f"{missing} are missing and eviction is off"
        )
        return ExhaustedError(
            f"no room for {key}: it needs {format_size(need_bytes)} more and {most.limit}; the cache has "
            f"{format_size(usage.used_bytes)}{others}; {may}",
            remedy="raise the limit or free space: mx cache list says what is pinned or in use",
        )
