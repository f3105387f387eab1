"""Watching a fleet in tests: updates taken in until what is waited for is there."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager

from mx.client.base import Client
from mx.core.feed import FeedPosition, FeedUpdate
from mx.core.fleet import NOTHING_TOLD, Fleet, apply

# A busy machine may need longer than anything here takes.
WITHIN_S = 30.0


class Watcher:
    """What one watch has told so far."""

    def __init__(self) -> None:
        self.fleet = NOTHING_TOLD
        self.updates: list[FeedUpdate] = []
        self.failure: Exception | None = None
        self._news = asyncio.Event()

    async def run(self, client: Client, resume: FeedPosition | None) -> None:
        try:
            async with aclosing(client.watch(resume=resume)) as updates:
                async for update in updates:
                    self.updates.append(update)
                    self.fleet = apply(self.fleet, update)
                    self._news.set()
        except Exception as error:  # noqa: BLE001  # for the test to judge
            self.failure = error
            self._news.set()

    async def until(self, holds: Callable[[Fleet], object]) -> Fleet:
        async with asyncio.timeout(WITHIN_S):
            while not holds(self.fleet):
                if self.failure is not None:
                    raise self.failure
                self._news.clear()
                await self._news.wait()
        return self.fleet

    async def fails(self) -> Exception:
        async with asyncio.timeout(WITHIN_S):
            while self.failure is None:
                self._news.clear()
                await self._news.wait()
        return self.failure


@asynccontextmanager
async def watching(client: Client, *, resume: FeedPosition | None = None) -> AsyncIterator[Watcher]:
    watcher = Watcher()
    task = asyncio.create_task(watcher.run(client, resume))
    try:
        yield watcher
    finally:
        task.cancel()
        await asyncio.wait({task})
