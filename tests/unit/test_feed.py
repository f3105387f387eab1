"""The feed itself: one order for everyone, coalescing, a bounded ring, slow watchers, and the same state
by changes as by a snapshot."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import AsyncGenerator
from contextlib import aclosing

import pytest

from mx.core.feed import (
    EntryChanged,
    EntryGone,
    FeedPosition,
    FleetChanges,
    FleetSnapshot,
    ServerChanged,
    SourceChanged,
    SourceGone,
    TransferChanged,
)
from mx.core.fleet import NOTHING_TOLD, apply, snapshot_of
from mx.core.model import EntryStatus
from mx.errors import UnavailableError
from mx.services.feed import Feed, FeedRules
from mx.testing import feed_samples as some
from mx.testing.clock import FakeClock

WITHIN_S = 20.0
Stream = AsyncGenerator[FleetSnapshot | FleetChanges, None]


def begun(**rules: float) -> Feed:
    feed = Feed(FakeClock(), rules=FeedRules(**{"tick_s": 0.0, **rules}))  # type: ignore[arg-type]
    feed.tell(ServerChanged(some.server_status()))
    feed.loaded()
    feed.flush()
    return feed


async def following(stream: Stream) -> FleetSnapshot | FleetChanges:
    async with asyncio.timeout(WITHIN_S):
        return await anext(stream)


async def test_a_snapshot_then_batches_that_all_watchers_share() -> None:
    feed = begun()
    feed.tell(SourceChanged(some.source("w0")))
    async with aclosing(feed.watch()) as one, aclosing(feed.watch()) as two:
        for stream in (one, two):
            first = await following(stream)
            assert isinstance(first, FleetSnapshot)
            assert [source.worker_id for source in first.sources] == ["w0"]
        feed.tell(SourceChanged(some.source("w1")))
        batch = await following(one)
        assert isinstance(batch, FleetChanges)
        assert await following(two) is batch
        assert feed.watchers == 2
    assert feed.watchers == 0


async def test_of_several_changes_to_one_thing_the_last_is_told_once() -> None:
    feed = begun()
    async with aclosing(feed.watch()) as stream:
        await following(stream)
        for done in range(5):
            feed.tell(TransferChanged(some.transfer("t0", bytes_done=done)))
        feed.tell(SourceChanged(some.source("w0")))
        feed.tell(SourceGone(some.source("w0").key))  # nobody ever heard of it
        batch = await following(stream)
        assert isinstance(batch, FleetChanges)
        assert batch.changes == (TransferChanged(some.transfer("t0", bytes_done=4)),)


async def test_what_changes_nothing_is_not_told() -> None:
    feed = begun()
    feed.tell(SourceChanged(some.source("w0")))
    feed.flush()
    position = feed.fleet.position
    feed.tell(SourceChanged(some.source("w0")))
    feed.tell(EntryGone(some.entry_key("org/never")))
    feed.tell(ServerChanged(some.server_status()))
    feed.flush()
    assert feed.fleet.position == position


async def test_batches_keep_their_distance() -> None:
    feed = begun(tick_s=0.05)
    loop = asyncio.get_running_loop()
    times: list[float] = []
    async with aclosing(feed.watch()) as stream:
        await following(stream)
        for number in range(4):
            feed.tell(SourceChanged(some.source(f"w{number}")))
            await following(stream)
            times.append(loop.time())
    assert all(after - before >= 0.045 for before, after in itertools.pairwise(times))


async def test_silence_is_broken_by_empty_batches() -> None:
    feed = begun(alive_s=0.01)
    async with aclosing(feed.watch()) as stream:
        first = await following(stream)
        assert await following(stream) == FleetChanges(first.position, first.now_ms, ())


async def test_a_watcher_too_slow_is_told_what_it_missed_and_gets_everything_anew() -> None:
    feed = begun(ring_changes=10)
    async with aclosing(feed.watch()) as slow, aclosing(feed.watch()) as quick:
        await following(slow)
        await following(quick)
        for number in range(25):
            feed.tell(SourceChanged(some.source(f"w{number}")))
            feed.flush()
            assert isinstance(await following(quick), FleetChanges)
        anew = await following(slow)
        assert isinstance(anew, FleetSnapshot)
        assert anew.dropped == 25
        assert len(anew.sources) == 25
        feed.tell(SourceChanged(some.source("w99")))
        assert isinstance(await following(slow), FleetChanges)
        feed.tell(SourceChanged(some.source("w98")))
        feed.flush()
        for number in range(25):
            feed.tell(SourceGone(some.source(f"w{number}").key))
        feed.flush()
        again = await following(slow)
        assert isinstance(again, FleetSnapshot)
        assert again.dropped == 25 + 26


async def test_the_ring_holds_no_more_than_it_may() -> None:
    feed = begun(ring_changes=100)
    for number in range(1000):
        feed.tell(TransferChanged(some.transfer("t0", bytes_done=number)))
        feed.flush()
    assert sum(len(batch.changes) for batch in feed._ring.values()) <= 100
    assert len(feed._pending) == 0


@pytest.mark.parametrize(("back", "anew"), [(0, False), (3, False), (10, False), (11, True), (500, True)])
async def test_who_comes_back_in_time_gets_the_changes_since(back: int, anew: bool) -> None:
    feed = begun(ring_changes=10, alive_s=0.01)
    for number in range(600):
        feed.tell(SourceChanged(some.source(f"w{number}")))
        feed.flush()
    now = feed.fleet.position
    assert now is not None
    async with aclosing(feed.watch(resume=FeedPosition(now.feed_id, now.sequence - back))) as stream:
        first = await following(stream)
        assert isinstance(first, FleetSnapshot) is anew
        if isinstance(first, FleetChanges):
            assert first.position.sequence == (now.sequence - back + 1 if back else now.sequence)


async def test_the_end_reaches_everyone_at_once() -> None:
    feed = begun()
    async with aclosing(feed.watch()) as stream:
        await following(stream)
        waiting = asyncio.create_task(anext(stream))  # type: ignore[arg-type]
        await asyncio.sleep(0)
        feed.end("draining")
        with pytest.raises(UnavailableError, match="draining"):
            await asyncio.wait_for(waiting, WITHIN_S)
    with pytest.raises(UnavailableError, match="draining"):
        await anext(feed.watch())


async def test_watchers_are_counted_and_bounded() -> None:
    feed = begun(max_watchers=2)
    async with aclosing(feed.watch()) as one, aclosing(feed.watch()) as two:
        await following(one)
        await following(two)
        with pytest.raises(UnavailableError, match="2 callers"):
            await anext(feed.watch())
    async with aclosing(feed.watch()) as three:
        await following(three)


async def test_without_a_server_to_tell_of_a_watch_waits() -> None:
    feed = Feed(FakeClock(), rules=FeedRules(first_s=0.01))
    async with aclosing(feed.watch()) as stream:
        first = asyncio.create_task(anext(stream))  # type: ignore[arg-type]
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(asyncio.shield(first), 0.05)
        assert not first.done()
        feed.tell(ServerChanged(some.server_status()))
        assert isinstance(await asyncio.wait_for(first, WITHIN_S), FleetSnapshot)


async def test_changes_and_a_snapshot_tell_the_same() -> None:
    feed = begun()
    async with aclosing(feed.watch()) as stream:
        fleet = apply(NOTHING_TOLD, await following(stream))
        for number in range(50):
            feed.tell(SourceChanged(some.source(f"w{number % 7}", at_ms=number)))
            feed.tell(EntryChanged(some.listed(f"org/m{number % 5}", tuple(EntryStatus)[number % 4])))
            if number % 3 == 0:
                feed.tell(SourceGone(some.source(f"w{number % 4}").key))
                feed.tell(EntryGone(some.entry_key(f"org/m{number % 2}")))
            feed.flush()
            fleet = apply(fleet, await following(stream))
            assert snapshot_of(fleet) == snapshot_of(feed.fleet)
