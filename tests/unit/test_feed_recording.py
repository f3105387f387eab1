"""Recordings: every update comes back as it was told, whatever happened to the file's end."""

from __future__ import annotations

import inspect
import json
import math
from collections.abc import AsyncGenerator
from pathlib import Path

import pytest

from mx.client.base import Client
from mx.client.record import Recorder, read_recording, recorded
from mx.client.replay import ReplayClient
from mx.core import feed
from mx.core.feed_json import event_from_json, to_json, update_from_json
from mx.core.model import EntryStatus, ModelRef, ProviderName
from mx.core.source import SourceFilter
from mx.core.transfer import TransferState
from mx.errors import IntegrityError, MxError, NotFoundError, PreconditionError, UnavailableError
from mx.testing import feed_samples as some

CHANGES = feed.FleetChanges(
    feed.FeedPosition("f0", 9),
    12,
    (
        feed.EntryChanged(some.listed()),
        feed.EntryGone(some.entry_key("org/n")),
        feed.DownloadMoved(some.entry_key(), feed.Moving(1, 2, eta_s=4.0)),
        feed.DownloadMoved(some.entry_key(), None),
        feed.CacheChanged(some.cache_stats()),
        feed.SourceChanged(some.source("w7", status=9)),
        feed.SourceGone(some.source("w1").key),
        feed.TransferChanged(some.transfer("t9", TransferState.FAILED)),
        feed.ServerChanged(some.server_status(read_only=True)),
        feed.Logged(some.event(3)),
    ),
)
LOST = feed.LinkLost("refused", 1, 0.5)
UPDATES: tuple[feed.FeedUpdate, ...] = (some.snapshot(), CHANGES, LOST)


class Ticks:
    """A clock that goes on by a second each time it is read."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        self.now_s += 1.0
        return self.now_s


def record(path: Path, *updates: feed.FeedUpdate) -> None:
    with Recorder(path, now_s=Ticks(), now_ms=lambda: 1) as recorder:
        for update in updates:
            recorder.write(update)


def read(path: Path) -> list[feed.FeedUpdate]:
    return [one.update for one in read_recording(path)]


def test_every_kind_of_change_has_a_sample_here() -> None:
    assert {type(change) for change in CHANGES.changes} == set(feed.Change.__args__)


@pytest.mark.parametrize("update", UPDATES, ids=lambda update: type(update).__name__)
def test_an_update_comes_back_from_json_as_it_was(update: feed.FeedUpdate) -> None:
    text = json.dumps(to_json(update), allow_nan=False)
    assert update_from_json(json.loads(text)) == update


def test_an_event_is_a_flat_object() -> None:
    shown = to_json(some.event(3))
    assert shown["kind"] == "source"
    assert shown["fields"] == {"bytes": 7, "ratio": 0.5, "ok": True, "from": "w1"}
    assert event_from_json(shown) == some.event(3)


def test_unknown_fields_are_left_and_missing_ones_take_their_default() -> None:
    shown = to_json(LOST) | {"later": 1}
    assert update_from_json(shown) == LOST
    entry = to_json(some.event(3))
    del entry["server"], entry["fields"]
    assert event_from_json(entry).server == ""


@pytest.mark.parametrize(
    "rubbish",
    [
        None,
        [],
        {},
        {"type": "nonsense"},
        {"type": "entry"},
        {"type": "link_lost", "reason": 1, "attempt": 1, "retry_in_s": 1.0},
        {"type": "link_lost", "reason": "", "attempt": True, "retry_in_s": 1.0},
        {"type": "changes", "position": {"feed_id": "f", "sequence": 1}, "now_ms": 1, "changes": {}},
        {"type": "changes", "position": {"feed_id": "f"}, "now_ms": 1, "changes": []},
    ],
)
def test_rubbish_is_an_integrity_error(rubbish: object) -> None:
    with pytest.raises(IntegrityError):
        update_from_json(rubbish)


def test_a_recording_has_the_updates_and_when_they_came(tmp_path: Path) -> None:
    record(tmp_path / "r", *UPDATES)
    assert [(one.at_s, one.update) for one in read_recording(tmp_path / "r")] == [
        (float(number), update) for number, update in enumerate(UPDATES, 1)
    ]


def test_sessions_follow_each_other_without_the_time_between(tmp_path: Path) -> None:
    record(tmp_path / "r", *UPDATES)
    record(tmp_path / "r", some.snapshot())
    assert [one.at_s for one in read_recording(tmp_path / "r")] == [1.0, 2.0, 3.0, 4.0]


@pytest.mark.parametrize("cut", [1, 2, 40])
def test_a_line_that_a_crash_cut_short_costs_only_itself(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "r"
    record(path, some.snapshot(), LOST)
    path.write_bytes(path.read_bytes()[:-cut])
    whole = [some.snapshot(), LOST] if cut == 1 else [some.snapshot()]
    assert read(path) == whole
    record(path, LOST)
    assert read(path) == [*whole, LOST]


def test_a_damaged_line_in_the_middle_is_told_with_its_number(tmp_path: Path) -> None:
    path = tmp_path / "r"
    record(path, some.snapshot(), LOST, LOST)
    lines = path.read_bytes().splitlines(keepends=True)
    lines[2] = b'{"at_s": 1, "upd\n'
    path.write_bytes(b"".join(lines))
    with pytest.raises(IntegrityError, match="line 3"):
        read(path)


def test_other_files_are_refused_and_kept(tmp_path: Path) -> None:
    other = tmp_path / "notes"
    other.write_text("my notes\n")
    with pytest.raises(PreconditionError, match="no recording"):
        Recorder(other)
    with pytest.raises(PreconditionError, match="no recording"):
        read(other)
    assert other.read_text() == "my notes\n"
    newer = tmp_path / "newer"
    newer.write_text('{"mx_recording": 99}\n')
    with pytest.raises(PreconditionError, match="newer mx"):
        read(newer)
    with pytest.raises(NotFoundError):
        read(tmp_path / "missing")
    with pytest.raises(UnavailableError):
        Recorder(tmp_path / "no" / "folder")


async def test_a_full_disk_ends_the_recording_and_not_the_feed(tmp_path: Path) -> None:
    async def updates() -> AsyncGenerator[feed.FeedUpdate, None]:
        for update in UPDATES:
            yield update

    class Full(Recorder):
        def write(self, update: feed.FeedUpdate) -> None:
            raise UnavailableError("disk full")

    with pytest.raises(UnavailableError):
        Recorder(Path("/dev/full"))
    failures: list[MxError] = []
    recorder = Full(tmp_path / "r")
    seen = [update async for update in recorded(updates(), recorder, failed=failures.append)]
    assert seen == list(UPDATES)
    assert len(failures) == 1


# Replay


async def test_a_replay_keeps_the_pace_of_the_recording(tmp_path: Path) -> None:
    record(tmp_path / "r", *UPDATES)
    now_s = 0.0
    waits: list[float] = []

    async def sleep(seconds: float) -> None:
        nonlocal now_s
        now_s += seconds
        waits.append(seconds)

    client = ReplayClient(tmp_path / "r", speed=2.0, stays=False, sleep=sleep, now_s=lambda: now_s)
    assert [update async for update in client.watch()] == list(UPDATES)
    assert waits == [0.5, 0.5]


async def test_a_replay_answers_with_what_it_told(tmp_path: Path) -> None:
    record(tmp_path / "r", *UPDATES)
    client = ReplayClient(tmp_path / "r", speed=math.inf, stays=False)
    assert await client.status() == some.server_status()
    assert len(await client.list_sources(SourceFilter())) == 2
    async for _ in client.watch():
        pass
    assert (await client.status()).read_only
    assert {row.worker_id for row in await client.list_sources(SourceFilter())} == {"w0", "w7"}
    assert [entry.status for entry in (await client.list_models()).entries] == [EntryStatus.DOWNLOADED]
    assert [one.at_ms for one in await client.list_events(limit=2)] == [1, 3]
    assert (await client.list_transfers(limit=1))[0].transfer_id == "t1"
    assert (await client.cache_stats()) == some.cache_stats()


async def test_nothing_in_a_recording_can_be_changed(tmp_path: Path) -> None:
    record(tmp_path / "r", some.snapshot())
    client = ReplayClient(tmp_path / "r")
    with pytest.raises(PreconditionError, match="this is a recording"):
        await client.pin_model(some.entry_key(), None)
    with pytest.raises(PreconditionError, match="this is a recording"):
        await anext(client.ensure(ModelRef(ProviderName.HUGGING_FACE, "org/m")))


def test_a_replay_has_every_method_of_a_client() -> None:
    client: Client = ReplayClient(Path("unused"))
    names = [name for name, _ in inspect.getmembers(Client, inspect.isfunction) if not name.startswith("_")]
    assert all(callable(getattr(client, name)) for name in names)
