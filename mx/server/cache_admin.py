"""The calls of ``mx.admin.v1.AdminService`` that look at the cache, mend it, and make room in it.

What may take longer than a call without a stream may is a stream, and says at least every few
seconds that it goes on. It may take as long as it likes while something moves on the disk; where
nothing does, the caller is told so, and is not kept for ever.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Coroutine
from contextlib import aclosing, suppress
from typing import Any, TypeVar

import grpc.aio

from mx.core.eviction import EvictionStep
from mx.core.model import canonical_name
from mx.errors import DeadlineError
from mx.logs import event_log
from mx.server.models import SILENCE_S
from mx.services.listing import cache_stats, show_entry
from mx.services.removal import plan_removals
from mx.services.verify import Verification
from mx.wire import cache_codec, models_admin_codec
from mx.wire.codec import build
from mx.wire.v1 import admin
from mx.wiring import Services

T = TypeVar("T")
log = event_log(__name__)
Context = grpc.aio.ServicerContext[Any, Any]


# The largest file of a model on the slowest disk goes faster than this.
STANDSTILL_S = 600.0


class _Life:
    """When something moved last; told from any thread."""

    def __init__(self) -> None:
        self._moved_s = time.monotonic()

    def moved(self) -> None:
        self._moved_s = time.monotonic()

    @property
    def still_s(self) -> float:
        return time.monotonic() - self._moved_s


class CacheCalls:
    """``silence_s`` bounds the time between two messages of a stream, ``standstill_s`` how long one goes
    on while nothing moves."""

    def __init__(
        self, services: Services, *, silence_s: float = SILENCE_S, standstill_s: float = STANDSTILL_S
    ) -> None:
        self._of = services
        self._silence_s = silence_s
        self._standstill_s = standstill_s
        self._left: set[asyncio.Future[Any]] = set()

    async def ShowModel(
        self, request: admin.ShowModelRequest, _context: Context, /
    ) -> admin.ShowModelResponse:
        of, key = self._of, models_admin_codec.decode_key(request.key)
        return cache_codec.encode_detail(await show_entry(of.models, of.cache, of.clock, key))

    async def PlanRemoval(
        self, request: admin.PlanRemovalRequest, _context: Context, /
    ) -> admin.PlanRemovalResponse:
        of = self._of
        provider = models_admin_codec.decode_provider(request.provider) if request.provider else None
        name = request.name or None
        plan = await plan_removals(
            of.models_store,
            of.cache,
            of.clock,
            provider=provider,
            name=canonical_name(provider, name) if provider and name else name,
            commit=request.commit if request.HasField("commit") else None,
            force=request.force,
        )
        return admin.PlanRemovalResponse(plan=models_admin_codec.encode_plan(plan))

    async def RemoveModel(
        self, request: admin.RemoveModelRequest, _context: Context, /
    ) -> AsyncIterator[admin.RemoveModelUpdate]:
        life = _Life()
        work = self._of.models.delete(
            models_admin_codec.decode_provider(request.provider),
            request.name,
            commit=request.commit if request.HasField("commit") else None,
            force=request.force,
            moved=life.moved,
        )
        what = f"removing {request.name}"
        async with aclosing(self._waited(work, what, self._silence_s, life)) as waiting:
            async for report in waiting:
                if report is None:
                    yield admin.RemoveModelUpdate()
                    continue
                removed = map(models_admin_codec.encode_key, report.records)
                freed = max(0, report.bytes_freed)
                yield build(admin.RemoveModelUpdate, removed=removed, bytes_freed=freed, done=True)

    async def RunEviction(
        self, request: admin.RunEvictionRequest, _context: Context, /
    ) -> AsyncIterator[admin.RunEvictionUpdate]:
        plan = models_admin_codec.decode_plan(request.plan)
        steps: asyncio.Queue[EvictionStep] = asyncio.Queue()
        life = _Life()
        work = self._of.eviction.execute(plan, told=steps.put_nowait, moved=life.moved)
        within_s = min(0.5, self._silence_s)
        async with aclosing(self._waited(work, "evicting", within_s, life)) as waiting:
            async for run in waiting:
                newest = None
                while not steps.empty():
                    newest = steps.get_nowait()
                if newest is not None:
                    yield admin.RunEvictionUpdate(step=models_admin_codec.encode_step(newest))
                elif run is None:
                    yield admin.RunEvictionUpdate()
                if run is not None:
                    yield admin.RunEvictionUpdate(run=models_admin_codec.encode_run(run))

    async def VerifyModels(
        self, request: admin.VerifyModelsRequest, _context: Context, /
    ) -> AsyncIterator[admin.VerifyUpdate]:
        of = self._of
        keys, on_fault = cache_codec.decode_verify(request)
        run = Verification(of.models, of.models_store, of.cache, of.clock, on_fault=on_fault)
        async with aclosing(run.run(keys)) as steps:
            async for step in steps:
                yield cache_codec.encode_verify_step(step)

    async def GetCacheStats(
        self, request: admin.GetCacheStatsRequest, _context: Context, /
    ) -> admin.GetCacheStatsResponse:
        of = self._of
        stats = await cache_stats(of.models, of.eviction, of.cache, of.clock, runs=request.runs)
        return cache_codec.encode_stats(stats)

    async def _waited(
        self, work: Coroutine[None, None, T], what: str, within_s: float, life: _Life
    ) -> AsyncGenerator[T | None, None]:
        """None whenever that time went by, then the result; leaving early cancels the work.

        DeadlineError when nothing moved for too long. A disk that does not answer holds a thread that
        can't be ended: such work is left behind, under its claim, until the disk lets go.
        """
        task = asyncio.ensure_future(work)
        try:
            while not (await asyncio.wait({task}, timeout=within_s))[0]:
                if life.still_s > self._standstill_s:
                    raise DeadlineError(
                        f"{what}: nothing moved for {self._standstill_s:g} s; the disk does not answer",
                        remedy="look at the cache's disk; what was begun is finished by the next "
                        "reconciliation after it answers again",
                    )
                yield None
            yield task.result()
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await asyncio.wait({task}, timeout=self._silence_s)
            if not task.done():
                self._left.add(task)
                task.add_done_callback(self._let_go)

    def _let_go(self, task: asyncio.Future[Any]) -> None:
        self._left.discard(task)
        failure = None if task.cancelled() else task.exception()
        log.info("work that was left behind has ended", error=str(failure or ""))
