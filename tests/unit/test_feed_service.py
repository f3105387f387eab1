"""The feed of real services: what watchers hold equals what the services list, and happenings become events
once, however many servers saw them."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, aclosing
from dataclasses import dataclass, field, replace

import pytest

from mx.core.cache_view import listing_of
from mx.core.counts import EvictionDone
from mx.core.feed import Event, EventKind
from mx.core.fleet import NOTHING_TOLD, Fleet, apply
from mx.core.model import EntryStatus, Pin
from mx.core.server_state import ServerStatus
from mx.core.source import SourceFilter, SourceStatus
from mx.core.transfer import TransferState
from mx.errors import UnavailableError
from mx.ports import Won
from mx.services.feed import FeedRules
from mx.services.feed_service import FeedService
from mx.services.sources import SourcesService
from mx.services.transfers import SILENT_AFTER_S, TransfersService
from mx.store.memory import MemorySourceStore
from mx.store.memory_events import MemoryEventStore
from mx.testing import feed_samples as some
from mx.testing.clock import FakeClock
from mx.testing.live_feed import live_feed
from mx.testing.model_services import ModelBench, model_bench
from mx.testing.samples import entry

WITHIN_S = 30.0
QUICK = FeedRules(tick_s=0.005)


class LostEvents(MemoryEventStore):
    """A history that can be taken away."""

    down = False

    async def append(self, events: object) -> tuple[Event, ...]:
        if self.down:
            raise UnavailableError("taken away")
        return await super().append(events)  # type: ignore[arg-type]


@dataclass
class World:
    clock: FakeClock = field(default_factory=FakeClock)
    store: MemorySourceStore = field(default_factory=MemorySourceStore)
    events: LostEvents = field(default_factory=LostEvents)
    stack: AsyncExitStack = field(default_factory=AsyncExitStack)

    def __post_init__(self) -> None:
        self.bench: ModelBench = model_bench(self.clock)
        self.sources = SourcesService(self.store, self.clock, heartbeat_timeout_s=90, gc_timeout_s=3600)

    async def server(self, name: str) -> tuple[FeedService, TransfersService]:
        """One more server on the same stores."""
        transfers = TransfersService(self.clock)
        feed = live_feed(
            self.store,
            models_store=self.bench.store,
            models=self.bench.models,
            eviction=self.bench.eviction,
            transfers=transfers,
            cache=self.bench.cache,
            clock=self.clock,
            events=self.events,
            name=name,
            always=True,
            rules=QUICK,
        )
        await self.stack.enter_async_context(feed)
        feed.tell_status(some.server_status())
        return feed, transfers


@pytest.fixture
async def world() -> AsyncIterator[World]:
    world = World()
    async with world.stack:
        yield world


class Watch:
    """A watcher's state, followed in the background."""

    def __init__(self, feed: FeedService) -> None:
        self.fleet: Fleet = NOTHING_TOLD
        self._feed = feed
        self._news = asyncio.Event()

    async def run(self) -> None:
        async with aclosing(self._feed.watch()) as updates:
            async for update in updates:
                self.fleet = apply(self.fleet, update)
                self._news.set()

    async def until(self, holds: object) -> None:
        assert callable(holds)
        async with asyncio.timeout(WITHIN_S):
            while not holds(self.fleet):
                self._news.clear()
                await self._news.wait()


async def watched(world: World, feed: FeedService) -> Watch:
    watch = Watch(feed)
    task = asyncio.create_task(watch.run())

    async def end() -> None:
        task.cancel()
        await asyncio.wait({task})

    world.stack.push_async_callback(end)
    await watch.until(lambda fleet: fleet.server)
    return watch


async def some_operation(world: World, transfers: TransfersService, draw: random.Random) -> None:
    one = entry()
    one = replace(one, worker_id=f"w{draw.randrange(6)}")
    key = some.entry_key(f"org/m{draw.randrange(4)}")
    now_ms = world.clock.now_ms()
    match draw.randrange(9):
        case 0 | 1:
            await world.sources.publish(one.identity, one.worker, worker_id=one.worker_id)
        case 2:
            await world.sources.update_status(one.key, draw.choice([1, 2, 3]))
        case 3:
            await world.sources.withdraw(one.key)
        case 4:
            won = await world.bench.store.claim(key, owner="other", lease_s=60, now_ms=now_ms, force=True)
            if isinstance(won, Won) and draw.random() < 0.7:
                await world.bench.store.finish(
                    key,
                    won.claim,
                    status=draw.choice([EntryStatus.DOWNLOADED, EntryStatus.ERROR]),
                    message="said",
                    bytes_on_disk=7,
                    files=2,
                    retry_at_ms=0,
                    now_ms=now_ms,
                )
        case 5:
            await world.bench.store.delete(key)
        case 6:
            await world.bench.store.pin(key, draw.choice([None, Pin(None, "kept")]))
        case 7:
            transfers.record(some.transfer(f"t{draw.randrange(5)}", bytes_done=draw.randrange(100)))
        case _:
            state = draw.choice([TransferState.DONE, TransferState.FAILED])
            transfers.record(some.transfer(f"t{draw.randrange(5)}", state))


@pytest.mark.parametrize("seed", range(5))
async def test_a_watcher_holds_what_the_services_list(world: World, seed: int) -> None:
    draw = random.Random(seed)
    feed, transfers = await world.server("a")
    for _ in range(10):
        await some_operation(world, transfers, draw)
    watch = await watched(world, feed)
    for _ in range(80):
        await some_operation(world, transfers, draw)
        if draw.random() < 0.3:
            await asyncio.sleep(0)
    rows = {row.key: row for row in await world.store.list_sources(SourceFilter(), fresh_after_ms=None)}
    records = await world.bench.store.list_models()
    listing = listing_of(
        records, usage=world.bench.cache.usage(), max_size_bytes=None, now_ms=world.clock.now_ms()
    )
    entries = {listed.key: listed for listed in listing.entries}
    reports = {report.transfer_id: report for report in transfers.recent(0)}
    await watch.until(
        lambda fleet: (
            fleet.sources == rows
            and fleet.entries == entries
            and {**fleet.running, **fleet.finished} == reports
        )
    )
    assert watch.fleet.snapshots == 1


async def test_servers_of_one_store_tell_a_happening_once_and_all_of_them_hear_it(world: World) -> None:
    (one, transfers), (two, _) = await world.server("a"), await world.server("b")
    first, second = await watched(world, one), await watched(world, two)
    worker = entry()
    await world.sources.publish(worker.identity, worker.worker, worker_id=worker.worker_id)
    await world.sources.update_status(worker.key, SourceStatus.READY)
    transfers.record(some.transfer("t0", TransferState.DONE, bytes_done=100))

    def has_both(fleet: Fleet) -> bool:
        return {event.kind for event in fleet.events} >= {EventKind.SOURCE, EventKind.TRANSFER}

    await first.until(has_both)
    await second.until(has_both)
    world.clock.advance(1)
    assert await world.sources.withdraw(worker.key)
    left = "left; it had"
    await first.until(lambda fleet: any(left in event.text for event in fleet.events))
    await second.until(lambda fleet: any(left in event.text for event in fleet.events))
    for fleet in (first.fleet, second.fleet):
        texts = [event.text for event in fleet.events]
        assert len(texts) == len(set(texts)) == 3
    assert await one.list_events(limit=10) == await two.list_events(limit=10)


async def test_what_was_there_before_is_no_news(world: World) -> None:
    worker = entry()
    await world.sources.publish(worker.identity, worker.worker, worker_id=worker.worker_id)
    await world.sources.update_status(worker.key, SourceStatus.READY)
    feed, _ = await world.server("a")
    watch = await watched(world, feed)
    await watch.until(lambda fleet: fleet.sources)
    assert watch.fleet.events == ()
    assert await feed.list_events(limit=10) == ()


async def test_with_the_history_away_events_are_told_at_once_and_kept_later(world: World) -> None:
    feed, transfers = await world.server("a")
    watch = await watched(world, feed)
    world.events.down = True
    transfers.record(some.transfer("t0", TransferState.FAILED))
    await watch.until(lambda fleet: fleet.events)
    world.events.down = False
    assert [event.kind for event in await feed.list_events(limit=10)] == [EventKind.TRANSFER]
    transfers.record(some.transfer("t1", TransferState.DONE))
    await watch.until(lambda fleet: len(fleet.events) == 2)


async def test_a_transfer_without_news_is_told_as_failed_and_news_undoes_that(world: World) -> None:
    feed, transfers = await world.server("a")
    watch = await watched(world, feed)
    transfers.record(some.transfer("t0", bytes_done=1))
    world.clock.advance(SILENT_AFTER_S + 1)
    transfers.look_for_silent()
    await watch.until(lambda fleet: fleet.finished)
    assert watch.fleet.finished["t0"].reason == "no news"
    transfers.look_for_silent()
    transfers.record(some.transfer("t0", bytes_done=2))
    await watch.until(lambda fleet: fleet.running)
    assert not watch.fleet.finished


async def test_a_run_of_eviction_is_told_with_its_numbers(world: World) -> None:
    feed, _ = await world.server("a")
    watch = await watched(world, feed)
    feed.counted(EvictionDone("interval", 0, 0, 0, True))
    feed.counted(EvictionDone("interval", 2, 1, 3 << 30, False))
    await watch.until(lambda fleet: fleet.events)
    (event,) = watch.fleet.events
    assert event.text == (
        "eviction (interval) freed 3.00 GiB: 2 entries went, 1 stayed; the cache stays above its limits"
    )
    assert event.level == "warning"


async def test_a_status_that_could_not_be_had_is_asked_for_again(world: World) -> None:
    feed, _ = await world.server("a")
    later = replace(some.server_status(), store_ok=False)
    asked = 0
    news = asyncio.Event()

    async def ask() -> ServerStatus:
        nonlocal asked
        asked += 1
        if asked == 1:
            raise UnavailableError("the store went away in between")
        return later

    task = asyncio.create_task(feed.keep_status(ask, changed=news.wait))
    try:
        news.set()
        watch = await watched(world, feed)
        await watch.until(lambda fleet: fleet.server == later)
    finally:
        task.cancel()
        await asyncio.wait({task})


async def test_a_feed_that_does_not_run_says_so(world: World) -> None:
    feed, _ = await world.server("a")
    await world.stack.aclose()
    with pytest.raises(UnavailableError):
        await anext(feed.watch())
