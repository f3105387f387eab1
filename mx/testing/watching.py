"""Watches of a store, for its contract: what was told, and waiting until it was."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, Generic, TypeVar

import pytest

from mx.errors import UnavailableError
from mx.ports import ModelStore, SourceStore

K = TypeVar("K")

# A change is told within a second; a busy machine may need longer.
TOLD_WITHIN_S = 20.0


class Told(Generic[K]):
    """What a watch has told so far."""

    def __init__(self) -> None:
        self.keys: list[K | None] = []
        self._news = asyncio.Event()

    def tell(self, key: K | None) -> None:
        self.keys.append(key)
        self._news.set()

    async def of(self, key: K | None) -> None:
        """Return once ``key`` was told, or that anything may have changed."""
        async with asyncio.timeout(TOLD_WITHIN_S):
            while key not in self.keys and None not in self.keys:
                self._news.clear()
                await self._news.wait()

    async def after(self, change: Awaitable[Any], key: K | None) -> None:
        """Make a change and wait until it was told."""
        self.keys.clear()
        assert await change is not False
        await self.of(key)


@asynccontextmanager
async def watching(watch: Callable[[Callable[[Any], None]], Awaitable[Any]]) -> AsyncIterator[Told[Any]]:
    """A watch that stands; it must not end by itself."""
    told: Told[Any] = Told()

    async def run() -> None:
        await watch(told.tell)

    task = asyncio.create_task(run())
    try:
        await told.of(None)
        yield told
        assert not task.done()
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def closing_ends_the_watch(store: SourceStore | ModelStore) -> None:
    stands = asyncio.Event()

    async def run() -> None:
        await store.watch(lambda _: stands.set())

    task = asyncio.create_task(run())
    async with asyncio.timeout(TOLD_WITHIN_S):
        await stands.wait()
        await store.close()
        with pytest.raises(UnavailableError):
            await task
    with pytest.raises(UnavailableError):
        await store.watch(lambda _: None)
