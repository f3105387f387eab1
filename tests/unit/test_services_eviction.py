"""Carrying out eviction plans: what changed in between stays, files go before records."""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mx.core.eviction import EvictionGoal, EvictionPolicy, EvictionRun, KeepLimits, MakeRoom, Shrink
from mx.core.model import (
    EntryKey,
    EntryStatus,
    ListedFile,
    Listing,
    ModelRecord,
    Pin,
    ProviderName,
    ReadLease,
)
from mx.errors import ExhaustedError, UnavailableError
from mx.services.eviction import EvictionService
from mx.services.touches import TouchBatch
from mx.store.memory_models import MemoryModelStore
from mx.testing.clock import FakeClock
from mx.testing.folder_cache import FolderCache
from mx.testing.outage_models import OutageModelStore

HOUR_S = 3600.0


def key(name: str, commit: str = "c") -> EntryKey:
    return EntryKey(ProviderName.HUGGING_FACE, name, commit)


class World:
    def __init__(self, folder: Path) -> None:
        self.clock = FakeClock()
        self.store = OutageModelStore(MemoryModelStore())
        self.cache = FolderCache(folder)
        self.touches = TouchBatch(self.store, self.clock)

    def service(self, *, enabled: bool = True, **policy: float | None) -> EvictionService:
        return EvictionService(
            self.store,
            self.cache,
            self.clock,
            policy=EvictionPolicy(**policy),  # type: ignore[arg-type]
            owner="server-1",
            touches=self.touches,
            enabled=enabled,
        )

    async def add(self, name: str, sizes: dict[str, int], *, commit: str = "c") -> ModelRecord:
        """A complete entry, used now; then an hour passes."""
        files = tuple(ListedFile(path, size) for path, size in sorted(sizes.items()))
        staging = self.cache.begin(Listing(key(name, commit), files))
        for file in files:
            staging.path_for(file).write_bytes(bytes(file.size_bytes))
            staging.accept(file)
        staging.publish(revision=None, fence=lambda: True)
        now_ms = self.clock.now_ms()
        record = ModelRecord(key(name, commit), EntryStatus.DOWNLOADED, now_ms, now_ms)
        assert await self.store.put(record)
        self.clock.advance(HOUR_S)
        return record

    async def names(self) -> list[str]:
        return sorted(record.key.name for record in await self.store.list_models())


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def refusals(run: EvictionRun) -> dict[str, str]:
    return {failed.name: reason for failed, reason in run.failed}


async def test_the_oldest_go_with_files_and_record_and_the_run_is_kept(world: World) -> None:
    for name in ("a", "b", "c"):
        await world.add(name, {"w": 100})
    service = world.service(max_size_bytes=250, low_water=0.8)
    planned = await service.plan()
    run = await service.evict(trigger="interval")
    assert run.plan == planned
    assert [v.key.name for v in planned.victims] == ["a"]
    assert (run.bytes_freed, run.failed, run.trigger) == (100, (), "interval")
    assert await world.names() == ["b", "c"]
    assert {e.key.name for e in world.cache.scan()} == {"b", "c"}
    assert await service.runs() == (run,)


async def test_a_pass_with_nothing_to_do_leaves_no_record_of_itself(world: World) -> None:
    await world.add("a", {"w": 100})
    service = world.service(max_size_bytes=250)
    await service.evict(trigger="interval")
    assert await service.runs() == ()
    await service.evict()
    assert len(await service.runs()) == 1, "one that a person asked for does"


async def test_a_hit_that_is_not_written_yet_counts(world: World) -> None:
    await world.add("a", {"w": 100})
    await world.add("b", {"w": 100})
    world.touches.add(key("a"))
    plan = await world.service().plan(Shrink(to_bytes=100))
    assert [v.key.name for v in plan.victims] == ["b"]


async def test_what_was_pinned_leased_or_used_since_the_plan_stays_and_says_why(world: World) -> None:
    for name in ("pinned", "read", "used", "gone", "idle"):
        await world.add(name, {"w": 100})
    service = world.service()
    plan = await service.plan(Shrink(to_bytes=0))
    now_ms = world.clock.now_ms()
    await world.store.pin(key("pinned"), Pin(reason="prod"))
    await world.store.lease(key("read"), ReadLease("1", "vllm-0", now_ms + 60_000), now_ms=now_ms)
    await world.store.delete(key("gone"))
    run = await service.execute(plan)
    assert refusals(run) == {
        "pinned": "pinned (prod)",
        "read": "read by vllm-0, for 1m at most",
        "gone": "its record is gone",
    }
    assert run.bytes_freed == 200
    assert await world.names() == ["pinned", "read"]


async def test_a_use_between_look_and_removal_wins(world: World) -> None:
    """The use comes while the first victim's files go, so after the look that made the plan."""
    for name in ("a", "b"):
        await world.add(name, {"w": 100})
    loop = asyncio.get_running_loop()

    class UsedMeanwhile(FolderCache):
        def remove(self, key: EntryKey, *, moved: Callable[[], None] | None = None) -> int:
            now_ms = world.clock.now_ms()
            asyncio.run_coroutine_threadsafe(world.store.touch([b], now_ms=now_ms), loop).result(5)
            return world.cache.remove(key, moved=moved)

    b = key("b")
    racing = UsedMeanwhile(world.cache.root)
    racing.entries = world.cache.entries
    service = EvictionService(
        world.store, racing, world.clock, policy=EvictionPolicy(), owner="s", touches=world.touches
    )
    run = await service.evict(Shrink())
    assert refusals(run) == {"b": "it was used since the plan was made"}
    assert await world.names() == ["b"]


async def test_files_that_cannot_be_removed_keep_their_record(world: World) -> None:
    await world.add("a", {"w": 100})
    world.cache.refuse_removal = UnavailableError("the disk is read-only")
    run = await world.service().evict(Shrink())
    assert refusals(run) == {"a": "the disk is read-only"}
    record = await world.store.get(key("a"))
    assert record is not None
    assert (record.status, record.claim) == (EntryStatus.DOWNLOADED, None)
    assert world.cache.entry(key("a")) is not None
    world.cache.refuse_removal = None
    assert (await world.service().evict(Shrink())).bytes_freed == 100


async def test_an_eviction_that_a_crash_cut_short_is_finished_by_the_next_pass(world: World) -> None:
    record = await world.add("a", {"w": 100})
    await world.store.mark_evicting(
        record.key, observed=record, now_ms=world.clock.now_ms(), owner="dead", lease_s=60
    )
    service = world.service()
    run = await service.evict(trigger="interval")
    assert run.plan.victims == (), "its owner may be at it"
    assert run.plan.survivors[0].reason == "being removed by dead"
    world.clock.advance(61)
    run = await service.evict(trigger="interval")
    assert [v.reason for v in run.plan.victims] == ["its eviction was interrupted"]
    assert await world.names() == []
    assert world.cache.scan() == ()


async def test_room_is_made_only_where_it_suffices(world: World) -> None:
    for name in ("a", "b"):
        await world.add(name, {"w": 100})
    service = world.service(max_size_bytes=250)
    await service.make_room(key("new"), need_bytes=50)
    assert await world.names() == ["a", "b"]
    with pytest.raises(ExhaustedError) as refused:
        await service.make_room(key("new"), need_bytes=251)
    assert refused.value.message == (
        "no room for new@c: it needs 251 B more and max_size_bytes is 250 B; the cache has 200 B; "
        "eviction may free 200 B of the 201 B missing"
    )
    assert await world.names() == ["a", "b"], "what would not suffice is not evicted"
    await service.make_room(key("new"), need_bytes=51)
    assert await world.names() == ["b"]
    assert [run.trigger for run in await service.runs()] == ["room"]


async def test_room_that_is_promised_is_not_promised_again(world: World) -> None:
    service = world.service(max_size_bytes=250)
    running = {key("other"): 200, key("new"): 999}
    await service.make_room(key("new"), need_bytes=50, running=running)
    with pytest.raises(ExhaustedError, match="200 B are promised"):
        await service.make_room(key("new"), need_bytes=51, running=running)
    await world.store.claim(key("far"), owner="s2", lease_s=60, now_ms=world.clock.now_ms())
    record = await world.store.get(key("far"))
    assert record is not None
    assert record.claim is not None
    await world.store.refresh(
        key("far"),
        record.claim,
        lease_s=60,
        now_ms=world.clock.now_ms(),
        bytes_done=10,
        bytes_total=210,
        files=1,
    )
    with pytest.raises(ExhaustedError, match="200 B are promised"):
        await service.make_room(key("new"), need_bytes=51)
    world.clock.advance(61)
    await service.make_room(key("new"), need_bytes=51)


async def test_with_eviction_off_nothing_goes_for_a_download(world: World) -> None:
    await world.add("a", {"w": 100})
    with pytest.raises(ExhaustedError, match="50 B are missing and eviction is off"):
        await world.service(enabled=False, max_size_bytes=200).make_room(key("new"), need_bytes=150)
    assert await world.names() == ["a"]


async def test_the_interval_outlives_an_outage(world: World) -> None:
    await world.add("a", {"w": 100})
    world.store.down = True
    loop = asyncio.create_task(world.service(unused_threshold_s=60.0).run_interval(0.01))
    async with asyncio.timeout(10):
        while world.store.refused < 2:
            await asyncio.sleep(0.005)
        world.store.down = False
        while world.cache.scan():
            await asyncio.sleep(0.005)
    loop.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await loop


_goals = (
    st.just(KeepLimits())
    | st.builds(MakeRoom, st.integers(0, 300))
    | st.builds(Shrink, to_bytes=st.none() | st.integers(0, 200))
)


@given(
    st.lists(
        st.tuples(st.sampled_from("ab"), st.sampled_from("12"), st.integers(0, 50), st.booleans()),
        unique_by=lambda each: each[:2],
        max_size=4,
    ),
    st.integers(0, 40),
    st.none() | st.integers(1, 150),
    _goals,
)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_what_a_run_does_is_what_its_plan_said(
    entries: list[tuple[str, str, int, bool]], shared: int, limit: int | None, goal: EvictionGoal
) -> None:
    async def check(folder: Path) -> None:
        world = World(folder)
        world.cache.shared_paths = frozenset({"shared"})
        for name, commit, size, pinned in entries:
            record = await world.add(name, {"own": size, "shared": shared}, commit=commit)
            if pinned:
                await world.store.pin(record.key, Pin())
        service = world.service(max_size_bytes=limit)
        before = world.cache.usage().used_bytes
        planned = await service.plan(goal)
        run = await service.evict(goal)
        assert run.plan == planned
        assert run.failed == ()
        assert run.bytes_freed == planned.bytes_freed == before - world.cache.usage().used_bytes
        left = {record.key for record in await world.store.list_models()}
        assert left == {s.key for s in planned.survivors} == {e.key for e in world.cache.scan()}

    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(check(Path(folder)))
