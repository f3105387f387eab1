"""Events on their way: each is told once, however long nobody looked."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from mx.core.feed import Event
from mx.core.fleet import EVENTS_KEPT
from mx.errors import UnavailableError
from mx.services.history import History
from mx.store.memory_events import MemoryEventStore
from mx.testing.event_store_contract import happened

WITHIN_S = 30.0


class Audience:
    """Hears everything; whether it watches can be said."""

    def __init__(self) -> None:
        self.heard: list[str] = []
        self.watches = False
        self._news = asyncio.Event()

    def tell(self, event: Event) -> None:
        self.heard.append(event.event_id)
        self._news.set()

    async def until_heard(self, event_id: str) -> None:
        async with asyncio.timeout(WITHIN_S):
            while event_id not in self.heard:
                self._news.clear()
                await self._news.wait()


class SlowToStart(MemoryEventStore):
    """Cannot be read for the first time."""

    refusals = 1

    async def since(self, cursor: str) -> tuple[tuple[Event, ...], str]:
        if self.refusals:
            self.refusals -= 1
            raise UnavailableError("not yet")
        return await super().since(cursor)


@asynccontextmanager
async def running(store: MemoryEventStore, audience: Audience) -> AsyncIterator[History]:
    history = History(
        store, tell=audience.tell, watched=lambda: audience.watches, tail_s=0.005, retry_s=0.005
    )
    task = asyncio.create_task(history.run())
    try:
        yield history
    finally:
        task.cancel()
        await asyncio.wait({task})


async def test_whoever_watches_after_days_hears_the_newest_and_none_of_it_again() -> None:
    store, audience = MemoryEventStore(), Audience()
    async with running(store, audience) as history:
        await history.read_once.wait()
        for number in range(3 * EVENTS_KEPT):
            history.add(happened(f"own{number}"))
            if number % 100 == 0:
                await asyncio.sleep(0)
        await audience.until_heard(happened(f"own{3 * EVENTS_KEPT - 1}").event_id)
        others = [happened(f"other{number}") for number in range(4 * EVENTS_KEPT)]
        await store.append(others)
        audience.watches = True
        history.wake()
        await audience.until_heard(others[-1].event_id)
        fresh = happened("fresh")
        await store.append([fresh])
        await audience.until_heard(fresh.event_id)
    assert len(audience.heard) == len(set(audience.heard)) == 3 * EVENTS_KEPT + EVENTS_KEPT + 1
    assert audience.heard[-2:] == [others[-1].event_id, fresh.event_id]


async def test_the_past_is_told_before_what_is_new() -> None:
    store, audience = MemoryEventStore(), Audience()
    past, new = happened("past"), happened("new")
    await store.append([past])
    async with running(store, audience) as history:
        history.add(new)  # before anything ran
        await audience.until_heard(new.event_id)
    assert audience.heard == [past.event_id, new.event_id]


async def test_a_past_that_could_not_be_read_at_the_start_is_read_when_somebody_watches() -> None:
    store, audience = SlowToStart(), Audience()
    past = happened("past")
    await store.append([past])
    audience.watches = True
    async with running(store, audience):
        await audience.until_heard(past.event_id)
    assert audience.heard == [past.event_id]
