"""The calls of ``mx.admin.v1.AdminService`` that look at the cache, mend it, and make room in it.

What may take longer than a call without a stream may is a stream, and says at least every few
seconds that it goes on.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Coroutine
from contextlib import aclosing, suppress
from typing import Any, TypeVar

import grpc.aio

from mx.core.eviction import EvictionStep
from mx.core.model import canonical_name
from mx.server.models import SILENCE_S
from mx.services.listing import cache_stats, show_entry
from mx.services.removal import plan_removals
from mx.services.verify import Verification
from mx.wire import cache_codec, models_admin_codec
from mx.wire.codec import build
from mx.wire.v1 import admin
from mx.wiring import Services

T = TypeVar("T")
Context = grpc.aio.ServicerContext[Any, Any]


class CacheCalls:
    """``silence_s`` bounds the time between two messages of a stream."""

    def __init__(self, services: Services, *, silence_s: float = SILENCE_S) -> None:
        self._of = services
        self._silence_s = silence_s

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
        work = self._of.models.delete(
            models_admin_codec.decode_provider(request.provider),
            request.name,
            commit=request.commit if request.HasField("commit") else None,
            force=request.force,
        )
        async with aclosing(_waited(work, self._silence_s)) as waiting:
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
        work = self._of.eviction.execute(plan, told=steps.put_nowait)
        async with aclosing(_waited(work, min(0.5, self._silence_s))) as waiting:
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


async def _waited(work: Coroutine[None, None, T], within_s: float) -> AsyncGenerator[T | None, None]:
    """None whenever that time went by, then the result; leaving early cancels the work."""
    task = asyncio.ensure_future(work)
    try:
        while not (await asyncio.wait({task}, timeout=within_s))[0]:
            yield None
        yield task.result()
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await asyncio.wait({task})
