"""When garbage is collected: after the first frame, and at keys only if nobody ever rests."""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path

import pytest

from mx.client.record import Recorder
from mx.client.replay import ReplayClient
from mx.testing import fleet_samples as some
from mx.tui.app import MxApp, Site
from mx.tui.garbage import Garbage


@pytest.fixture(autouse=True)
def collector() -> Iterator[None]:
    """Leave the collector of this process as it was."""
    threshold = gc.get_threshold()
    yield
    gc.unfreeze()
    gc.set_threshold(*threshold)
    gc.enable()


def full_collections() -> int:
    return int(gc.get_stats()[2]["collections"])


def test_nothing_is_collected_until_it_settled() -> None:
    garbage = Garbage()
    assert not gc.isenabled()
    before = full_collections()
    garbage.settled()
    assert gc.isenabled()
    assert gc.get_freeze_count() > 0
    assert full_collections() == before, "what was made for the first frame all stays"
    garbage.settled()
    assert full_collections() == before + 1, "what hangs in cycles by now must not be kept for ever"


def test_a_rest_is_used_when_there_is_something_to_look_at() -> None:
    garbage = Garbage()
    garbage.settled()
    gc.collect()
    before = full_collections()
    garbage.idle()
    assert full_collections() == before
    for _ in range(5):
        gc.collect(1)
    garbage.idle()
    assert full_collections() == before + 1


async def test_an_app_collects_when_nobody_types(tmp_path: Path) -> None:
    with Recorder(tmp_path / "r.jsonl") as recorder:
        recorder.write(some.snapshot())
    site = Site("r", "r.jsonl", lambda: nullcontext(ReplayClient(tmp_path / "r.jsonl", stays=True)))
    app = MxApp([site], garbage=Garbage())
    async with app.run_test() as pilot:
        async with asyncio.timeout(30):
            while not gc.isenabled():
                await pilot.pause()

        async def ticked(for_s: float, *keys: str) -> int:
            """Full collections while these keys are pressed again and again."""
            before, end_s = full_collections(), time.monotonic() + for_s
            while time.monotonic() < end_s:
                gc.collect(1)  # as painting has it
                await pilot.press(*keys)
                await pilot.pause(0.05)
            return full_collections() - before

        await ticked(1.2, "2", "1")
        assert await ticked(2.5, "2", "1") == 0
        assert await ticked(3.5) > 0
