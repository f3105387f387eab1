"""What was written down shows the same later, and a disk that refuses ends the recording only."""

from __future__ import annotations

import math
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

from stage import Stage, stage

from mx.client.record import Recorder
from mx.client.replay import ReplayClient
from mx.core.feed import EntryGone, FeedPosition, FeedUpdate, FleetChanges, LinkLost, TransferChanged
from mx.core.transfer import TransferState
from mx.errors import UnavailableError
from mx.testing import fleet_samples as some
from mx.testing.fleet_client import FleetClient
from mx.tui.app import Site

RUNNING = next(one for one in some.transfers() if one.state is TransferState.RUNNING)
UPDATES: tuple[FeedUpdate, ...] = (
    LinkLost("not there yet", 1, 0.5),
    some.snapshot(),
    FleetChanges(
        FeedPosition(some.FEED, 2),
        some.NOW_MS + 1000,
        (TransferChanged(replace(RUNNING, bytes_done=RUNNING.bytes_total, state=TransferState.DONE)),),
    ),
    LinkLost("cut", 1, 0.5),
    FleetChanges(
        FeedPosition(some.FEED, 3), some.NOW_MS + 2000, (EntryGone(some.key("google/gemma-3-27b-it")),)
    ),
)


async def pictures(shown: Stage) -> list[str]:
    """What is told, below the head, which says by whom; rates go by the clock of who looks on."""
    found = []
    for name in ("cache", "sources", "events"):
        await shown.go(name)
        found.append("\n".join(line[:72] for line in shown.text.splitlines()[1:28]))
    return found


async def test_a_recording_shows_what_was_watched(tmp_path: Path) -> None:
    path = tmp_path / "watched.jsonl"
    with Recorder(path) as recorder:
        async with stage(FleetClient(UPDATES), record=recorder.write) as shown:
            await shown.until(lambda: shown.app.watched.fleet.now_ms == some.NOW_MS + 2000, "all of it")
            watched, seen = shown.app.watched.fleet, await pictures(shown)
    client = ReplayClient(path, speed=math.inf, stays=False)
    async with stage(client) as shown:
        await shown.shows("■ end")
        assert shown.app.watched.fleet == watched
        assert await pictures(shown) == seen
        # r plays it again.
        await shown.press("r")
        await shown.shows("■ end")
        assert shown.app.watched.fleet == watched
        # Nothing can be changed, and it says so.
        await shown.go("cache")
        await shown.press("v")
        await shown.shows("this is a recording")


async def test_a_damaged_recording_shows_what_was_before_and_says_where(tmp_path: Path) -> None:
    path = tmp_path / "watched.jsonl"
    with Recorder(path) as recorder:
        for update in UPDATES:
            recorder.write(update)
    lines = path.read_text().splitlines()
    lines[4] = '{"at_s": 1, "update": {"type": "changes"}}'
    path.write_text("\n".join(lines) + "\n")
    client = ReplayClient(path, speed=math.inf, stays=False)
    async with stage(Site("watched.jsonl", "watched.jsonl", lambda: nullcontext(client))) as shown:
        await shown.shows("✗ failed", "line 5")
        await shown.go("cache")
        assert "google/gemma-3-27b-it" in shown.text


async def test_a_full_disk_ends_the_recording_and_not_the_watch() -> None:
    written: list[FeedUpdate] = []

    def write(update: FeedUpdate) -> None:
        if written:
            raise UnavailableError("recording x: No space left on device", remedy="name another file")
        written.append(update)

    async with stage(FleetClient(UPDATES), record=write) as shown:
        await shown.shows("the recording ended", "No space left on device")
        await shown.until(lambda: shown.app.watched.fleet.now_ms == some.NOW_MS + 2000, "all of it")
    assert written == [UPDATES[0]]
