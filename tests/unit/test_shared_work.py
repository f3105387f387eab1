"""Several servers, one store: who makes a pass, and runs that must not overlap."""

from __future__ import annotations

import asyncio
from contextlib import aclosing

import pytest

from mx.errors import ConflictError, UnavailableError
from mx.services.shared_work import SharedWork
from mx.store.memory_duties import MemoryDuties
from mx.testing.clock import FakeClock

EVERY_S = 0.02


async def place() -> str:
    return "cache-1"


async def elsewhere() -> str:
    return "cache-2"


def servers(clock: FakeClock, duties: MemoryDuties, *names: str, lease_s: float = 30.0) -> list[SharedWork]:
    return [SharedWork(duties, clock, owner=name, lease_s=lease_s) for name in names]


async def test_one_pass_in_each_interval_whoever_makes_it() -> None:
    clock, duties = FakeClock(), MemoryDuties()
    a, b = servers(clock, duties, "a", "b")
    async with (
        aclosing(a.turns("reap", every_s=EVERY_S)) as of_a,
        aclosing(b.turns("reap", every_s=EVERY_S)) as of_b,
    ):
        assert await anext(of_a)
        assert not await anext(of_b)
        assert not await anext(of_a), "one's own last pass counts as well"
        clock.advance(EVERY_S)
        assert await anext(of_b)
        assert not await anext(of_a)
    async with aclosing(a.turns("reap", every_s=3600)) as of_a:
        assert await anext(of_a), "the last one was given up at the end"


async def test_a_store_that_lost_everything_gives_the_next_turn_at_once() -> None:
    clock = FakeClock()
    (a,) = servers(clock, MemoryDuties(), "a")
    async with aclosing(a.turns("reconcile", every_s=3600, place=place)) as turns:
        assert await anext(turns)
    (again,) = servers(clock, MemoryDuties(), "a")
    async with aclosing(again.turns("reconcile", every_s=3600, place=place)) as turns:
        assert await anext(turns)


async def test_alone_every_turn_is_ours() -> None:
    alone = SharedWork(None, FakeClock(), owner="a")
    async with aclosing(alone.turns("reap", every_s=EVERY_S)) as turns:
        assert [await anext(turns) for _ in range(3)] == [True] * 3
    async with alone.one_at_a_time("evict", wait_s=0):
        pass


async def test_an_outage_skips_turns_and_does_not_end_them() -> None:
    duties = MemoryDuties()
    (a,) = servers(FakeClock(), duties, "a")
    async with aclosing(a.turns("reap", every_s=EVERY_S)) as turns:
        assert await anext(turns)
        await duties.close()
        assert [await anext(turns) for _ in range(3)] == [False] * 3


async def test_after_an_outage_the_next_look_is_soon() -> None:
    """A pass each hour must not be an hour late because the store was away for a second."""
    clock, duties = FakeClock(), OutageDuties()
    (a,) = servers(clock, duties, "a")
    async with asyncio.timeout(10), aclosing(a.turns("reconcile", every_s=0.4)) as turns:
        duties.down = True
        assert not await anext(turns)
        duties.down = False
        assert await anext(turns), "a quarter of the time later at most"


async def test_a_turn_that_was_given_while_we_were_stopped_is_given_up() -> None:
    clock, duties = FakeClock(), SlowDuties()
    (a,) = servers(clock, duties, "a")

    async def run() -> None:
        async with aclosing(a.turns("reap", every_s=3600)) as turns:
            await anext(turns)

    task = asyncio.create_task(run())
    await duties.taken.wait()  # the store has given it, and nobody has heard
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert duties.held == {}


class OutageDuties(MemoryDuties):
    down = False

    async def take(self, duty: str, *, owner: str, lease_s: float, now_ms: int) -> bool:
        if self.down:
            raise UnavailableError("the store is down")
        return await super().take(duty, owner=owner, lease_s=lease_s, now_ms=now_ms)


class SlowDuties(MemoryDuties):
    """Gives a duty at once and says so never."""

    def __init__(self) -> None:
        super().__init__()
        self.taken = asyncio.Event()

    async def take(self, duty: str, *, owner: str, lease_s: float, now_ms: int) -> bool:
        await super().take(duty, owner=owner, lease_s=lease_s, now_ms=now_ms)
        self.taken.set()
        await asyncio.Event().wait()
        return True


async def test_runs_in_one_place_do_not_overlap_and_others_do() -> None:
    clock, duties = FakeClock(), MemoryDuties()
    running: list[str] = []

    async def run(server: SharedWork, name: str) -> None:
        async with server.one_at_a_time("evict", wait_s=60, place=place):
            running.append(name)
            assert running == [name]
            await asyncio.sleep(0)
            running.remove(name)

    names = [f"s{number}" for number in range(4)]
    async with asyncio.TaskGroup() as tasks:
        for name, server in zip(names, servers(clock, duties, *names), strict=True):
            tasks.create_task(run(server, name))
    a, b = servers(clock, duties, "a", "b")
    async with a.one_at_a_time("evict", wait_s=0, place=place):
        async with b.one_at_a_time("evict", wait_s=0, place=elsewhere):
            pass
        with pytest.raises(ConflictError, match="evict"):
            async with b.one_at_a_time("evict", wait_s=0, place=place):
                pass


async def test_a_run_is_kept_while_it_lasts_and_given_up_when_it_fails() -> None:
    clock, duties = FakeClock(), MemoryDuties()
    a, b = servers(clock, duties, "a", "b", lease_s=0.03)

    async def fail_after_a_while() -> None:
        async with a.one_at_a_time("evict", wait_s=0):
            for _ in range(10):  # ten times the lease by the clock that decides
                clock.advance(0.029)
                before = dict(duties.held)
                while duties.held == before:
                    await asyncio.sleep(0.001)
            raise RuntimeError("in the body")

    with pytest.raises(RuntimeError, match="in the body"):
        await fail_after_a_while()
    async with b.one_at_a_time("evict", wait_s=0):
        pass
