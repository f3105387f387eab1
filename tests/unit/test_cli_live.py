"""``--watch``, ``mx events -f`` and ``mx transfer top`` over recorded feeds."""

from __future__ import annotations

import contextlib
import json
import math
import os
import pty
import select
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cli_runner import Bench, Ran

from mx.cli.events import event_line
from mx.cli.transfer_top import Meter
from mx.client.record import Recorder
from mx.client.replay import ReplayClient
from mx.core import feed
from mx.core.fleet import NOTHING_TOLD, Fleet, apply
from mx.core.model import EntryStatus
from mx.core.source import SourceStatus
from mx.core.transfer import TransferReport, TransferState
from mx.testing import feed_samples as some

GB = 10**9
LOST = feed.LinkLost("connection refused", 1, 2.0)


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in os.environ:
        if name.startswith(("MX_", "MODEL_EXPRESS_")) or name in ("FORCE_COLOR", "COLUMNS"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()


def changes(*told: feed.Change, sequence: int = 2) -> feed.FleetChanges:
    return feed.FleetChanges(feed.FeedPosition("f0", sequence), 20 + sequence, told)


def recording(path: Path, *updates: feed.FeedUpdate) -> Path:
    """A second between two updates: each is seen by itself, however they are gathered."""
    now_s = iter(range(10_000))
    with Recorder(path, now_s=lambda: float(next(now_s)), now_ms=lambda: 1) as recorder:
        for update in updates:
            recorder.write(update)
    return path


def played(tmp_path: Path, *args: str, updates: tuple[feed.FeedUpdate, ...], speed: float = math.inf) -> Ran:
    bench = Bench()
    bench.client = ReplayClient(recording(tmp_path / "r.jsonl", *updates), speed=speed, stays=False)
    return bench.mx(*args)


def lines(ran: Ran) -> list[dict[str, Any]]:
    """Every line is a document of its own."""
    assert ran.code == 0, ran
    return [json.loads(line) for line in ran.out.splitlines()]


# ---- --watch ---------------------------------------------------------------------------------

WATCHED = {
    "cache list": "entries",
    "cache stats": "kinds",
    "source list": "sources",
    "transfer list": "transfers",
    "model list": "models",
}


@pytest.mark.parametrize("command", WATCHED)
def test_the_first_line_is_what_the_command_prints_without(tmp_path: Path, command: str) -> None:
    updates = (some.snapshot(),)
    once = played(tmp_path, *command.split(), "-f", "json", updates=updates).json
    (first,) = lines(played(tmp_path, *command.split(), "--watch", "-f", "json", updates=updates))
    assert first.pop("update") == "snapshot"
    # Ages go on.
    for document in (once, first):
        for row in document[WATCHED[command]]:
            for age in ("unused_s", "age_s"):
                row.pop(age, None)
    assert first == once


def test_rows_that_change_and_go_are_told(tmp_path: Path) -> None:
    ran = played(
        tmp_path,
        *("source", "list", "--watch", "-f", "json", "--filter", "worker!=w9"),
        updates=(
            some.snapshot(),
            changes(
                feed.SourceChanged(some.source("w1", status=SourceStatus.STALE)),
                feed.SourceChanged(some.source("w9")),
                sequence=2,
            ),
            changes(sequence=3),  # a sign of life
            changes(feed.SourceGone(some.source("w0").key), sequence=4),
        ),
        speed=1.5,
    )
    told = [(one["update"], one.get("worker_id"), one.get("status")) for one in lines(ran)]
    assert told == [("snapshot", None, None), ("changed", "w1", "stale"), ("gone", "w0", "ready")]


def test_one_transfer_is_followed_to_its_end(tmp_path: Path) -> None:
    ran = played(
        tmp_path,
        *("transfer", "show", "t0", "--watch", "-f", "json"),
        updates=(
            some.snapshot(),
            changes(feed.TransferChanged(some.transfer("t0", bytes_done=70)), sequence=2),
            changes(feed.TransferChanged(some.transfer("other", bytes_done=1)), sequence=3),
            changes(
                feed.TransferChanged(some.transfer("t0", TransferState.DONE, bytes_done=100)), sequence=4
            ),
        ),
        speed=1.5,
    )
    told = [(one["update"], one["state"], one["bytes_done"]) for one in lines(ran)]
    assert told[1:] == [("snapshot", "running", 70), ("snapshot", "done", 100)]


def test_a_server_is_followed(tmp_path: Path) -> None:
    draining = replace(some.server_status(), draining=True)
    ran = played(
        tmp_path,
        *("server", "status", "--watch", "-f", "json"),
        updates=(some.snapshot(), changes(feed.ServerChanged(draining), sequence=2)),
        speed=1.5,
    )
    assert [(one["update"], one["draining"]) for one in lines(ran)] == [
        ("snapshot", False),
        ("snapshot", True),
    ]


def test_a_lost_link_is_told_and_its_return(tmp_path: Path) -> None:
    ran = played(
        tmp_path,
        *("cache", "list", "--watch", "-f", "json"),
        updates=(some.snapshot(), LOST, changes()),
        speed=1.5,
    )
    assert [one["update"] for one in lines(ran)] == ["snapshot", "link-lost", "link-back"]
    assert lines(ran)[1] == {
        "update": "link-lost",
        "reason": "connection refused",
        "attempt": 1,
        "retry_in_s": 2.0,
    }


@pytest.mark.parametrize(
    "command",
    [
        "cache list --watch",
        "cache show x --watch",
        "source list --watch",
        "source show x --watch",
        "events -f",
        "transfer top",
        "model status --watch",
    ],
)
def test_a_server_that_was_never_there_is_unreachable(tmp_path: Path, command: str) -> None:
    ran = played(tmp_path, *command.split(), "-f", "json", updates=(LOST,))
    assert ran.code == 4
    assert ran.json["code"] == "unavailable"
    assert "connection refused" in ran.err


def test_a_pipe_gets_the_table_anew_when_something_changed(tmp_path: Path) -> None:
    ran = played(
        tmp_path,
        *("cache", "list", "--watch"),
        updates=(
            some.snapshot(),
            changes(sequence=2),
            changes(feed.EntryChanged(some.listed("org/n", EntryStatus.ERROR)), sequence=3),
        ),
        speed=1.5,
    )
    first, second = ran.out.split("\n\n")
    assert "downloading" in first
    assert "error" in second


def test_what_was_typed_wrong_is_said_before_the_server_is_asked(tmp_path: Path) -> None:
    for command in ("cache list", "source list", "transfer list", "model list"):
        ran = played(tmp_path, *command.split(), "--watch", "--sort", "siez", updates=(LOST,))
        assert ran.code == 2, command


# ---- a terminal ------------------------------------------------------------------------------

_CHILD = """
import sys
from pathlib import Path
from mx.cli.app import run
from mx.cli.options import Invocation
from mx.client.replay import ReplayClient
client = ReplayClient(Path(sys.argv[1]), speed=float("inf"))
sys.exit(run(sys.argv[2:], invocation=Invocation(connect=lambda settings: client)))
"""


def test_a_terminal_is_drawn_over_and_ctrl_c_ends_it_with_0(tmp_path: Path) -> None:
    path = recording(tmp_path / "r.jsonl", some.snapshot(), LOST)
    master, slave = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", _CHILD, str(path), "cache", "list", "--watch"],
        stdin=slave,
        stdout=slave,
        stderr=slave,
        env=os.environ | {"TERM": "xterm-256color", "COLUMNS": "100", "NO_COLOR": "1"},
        start_new_session=True,
    )
    os.close(slave)
    shown = b""
    end = time.monotonic() + 60
    try:
        # Twice: the second frame is drawn over the first, with the age of a second more.
        while shown.count(b"org/m") < 2 or b"link lost: connection refused" not in shown:
            assert time.monotonic() < end, shown
            if select.select([master], [], [], 0.5)[0]:
                shown += os.read(master, 65536)
        process.send_signal(2)
        while process.poll() is None:
            assert time.monotonic() < end
            if select.select([master], [], [], 0.1)[0]:
                with contextlib.suppress(OSError):  # closed by its end
                    os.read(master, 65536)
    finally:
        process.kill()
        process.wait()
        os.close(master)
    assert process.returncode == 0
    assert b"Traceback" not in shown
    assert b"\x1b[" in shown  # the cursor moves up again
    assert b"\x1b[32m" not in shown  # NO_COLOR


# ---- events ----------------------------------------------------------------------------------


def test_events_once(tmp_path: Path) -> None:
    ran = played(tmp_path, "events", "--format", "json", updates=(some.snapshot(),))
    assert [one["text"] for one in ran.json["events"]] == ["event 0", "event 1"]
    assert ran.json["events"][0]["fields"] == {"bytes": 7, "ratio": 0.5, "ok": True, "from": "w1"}


@pytest.mark.parametrize("spelling", [["-f", "json"], ["--format", "json"], ["-f", "json-pretty"]])
def test_f_with_a_format_is_the_format(tmp_path: Path, spelling: list[str]) -> None:
    assert played(tmp_path, "events", *spelling, updates=(some.snapshot(),)).json["events"]
    assert played(tmp_path, *spelling, "events", updates=(some.snapshot(),)).json["events"]


FOLLOWED = (
    some.snapshot(),
    changes(feed.Logged(some.event(2)), sequence=2),
    LOST,
    # After the loss all is told anew: what was seen is not repeated.
    replace(
        some.snapshot(9),
        events=(some.event(1), some.event(2), some.event(3, feed.EventKind.TRANSFER)),
    ),
    changes(feed.Logged(some.event(4)), sequence=10),
)


@pytest.mark.parametrize(
    "spelling", [["-f", "-f", "json"], ["--follow", "--format", "json"], ["-F", "-f", "json"]]
)
def test_events_are_followed_each_once(tmp_path: Path, spelling: list[str]) -> None:
    ran = played(tmp_path, "events", *spelling, updates=FOLLOWED)
    assert [one["text"] for one in lines(ran)] == [f"event {number}" for number in range(5)]
    assert "link lost" in ran.err
    assert "the link is back" in ran.err


def test_events_of_a_kind_and_none_of_the_past(tmp_path: Path) -> None:
    ran = played(tmp_path, "events", "-f", "--kind", "transfer", updates=FOLLOWED)
    assert ran.out == "1970-01-01 00:00:00   transfer  w0: event 3\n"
    ran = played(tmp_path, "events", "-f", "-n", "0", "--subject", "w0", updates=FOLLOWED)
    assert [line.rsplit(" ", 1)[-1] for line in ran.out.splitlines()] == ["2", "3", "4"]
    assert played(tmp_path, "events", "-f", "--subject", "nobody", updates=FOLLOWED).out == ""


def test_since_is_an_age(tmp_path: Path) -> None:
    assert played(tmp_path, "events", "--since", "1h", updates=FOLLOWED).out == ""
    assert played(tmp_path, "events", "--since", "soon", updates=FOLLOWED).code == 2


def test_an_event_for_people() -> None:
    event = replace(some.event(0), at_ms=1_000_000, level=feed.EventLevel.WARNING, text="w0 left")
    assert event_line(event, now_s=2_000) == "00:16:40 ! source    w0 left"
    assert event_line(event, now_s=200_000) == "1970-01-01 00:16:40 ! source    w0 left"


# ---- transfer top ----------------------------------------------------------------------------


def moved(
    transfer_id: str, gigabytes: float, seconds: float, state: TransferState = TransferState.RUNNING
) -> TransferReport:
    return replace(
        some.transfer(transfer_id, state),
        bytes_done=round(gigabytes * GB),
        bytes_total=10 * GB,
        seconds=seconds,
    )


class Bed:
    """A meter and the fleet that it is told of."""

    def __init__(self, *running: TransferReport) -> None:
        self.meter = Meter()
        self.fleet: Fleet = NOTHING_TOLD
        self.tell(replace(some.snapshot(), transfers=running), 0.0)

    def tell(self, update: feed.FeedUpdate, now_s: float) -> None:
        self.fleet = apply(self.fleet, update)
        self.meter.take(self.fleet, now_s=now_s)

    def report(self, now_s: float, *reports: TransferReport) -> None:
        self.tell(changes(*(feed.TransferChanged(one) for one in reports)), now_s)

    def rate(self, now_s: float) -> float:
        return self.meter.line(now_s=now_s).rate / GB


def test_a_rate_is_that_between_two_reports_by_the_workers_clock() -> None:
    bed = Bed(moved("a", 1, 1.0))
    assert bed.rate(0.1) == 0.0  # what moved before is not known
    bed.report(0.5, moved("a", 2, 1.5), moved("b", 3, 1.0))
    line = bed.meter.line(now_s=1.0)
    assert line.rate / GB == pytest.approx(2.0 + 3.0)
    assert (line.running, line.bytes_moved, line.done, line.failed) == (2, 4 * GB, 0, 0)


def test_a_worker_that_says_nothing_stands_still() -> None:
    bed = Bed()
    bed.report(1.0, moved("a", 2, 1.0))
    assert bed.rate(3.9) == pytest.approx(2.0)
    assert bed.rate(4.1) == 0.0


def test_a_transfer_that_ends_counts_in_its_second_and_never_again() -> None:
    bed = Bed(moved("old", 9, 9.0, TransferState.DONE))
    bed.report(0.2, moved("short", 4, 2.0, TransferState.DONE), moved("bad", 1, 1.0, TransferState.FAILED))
    line = bed.meter.line(now_s=1.0)
    assert line.rate / GB == pytest.approx(2.0 + 1.0)
    assert (line.running, line.done, line.failed, line.bytes_moved) == (0, 1, 1, 5 * GB)
    assert bed.rate(2.0) == 0.0
    # All told anew after a lost link changes nothing.
    bed.tell(replace(some.snapshot(5), transfers=bed.fleet.transfers), 2.5)
    line = bed.meter.line(now_s=3.0)
    assert (line.rate, line.done, line.bytes_moved) == (0.0, 1, 5 * GB)


def test_reports_that_repeat_or_go_back_give_no_rate() -> None:
    bed = Bed()
    bed.report(1.0, moved("a", 2, 1.0))
    bed.report(1.1, moved("a", 2, 1.0))
    assert bed.rate(1.5) == pytest.approx(2.0)
    bed.report(2.0, moved("a", 1, 1.0))
    assert bed.rate(2.1) == 0.0


def test_top_tells_a_line_a_second(tmp_path: Path) -> None:
    updates = (some.snapshot(), changes(feed.TransferChanged(moved("t1", 1, 2.0))))
    bench = Bench()
    bench.client = ReplayClient(recording(tmp_path / "r.jsonl", *updates), speed=math.inf)
    told = lines(bench.mx("transfer", "top", "--count", "2", "-f", "json"))
    assert [one["running"] for one in told] == [1, 1]
    assert told[0]["bytes_moved"] == GB
    assert told[0]["gbit_s"] == pytest.approx(8.0)
    assert told[0]["link"] == "up"
    assert told[0]["workers"][0]["transfer_id"] == "t1"
    ran = bench.mx("transfer", "top", "--count", "1", "-v")
    header, line, worker = ran.out.splitlines()
    assert header.split() == ["TIME", "RUNNING", "GBIT/S", "MOVED", "DONE", "FAILED"]
    assert line.split()[1:3] == ["1", "8.0"]
    assert worker.split() == ["8.0", "Gbit/s", "10", "%", "running", "w1", "rank", "0", "org/m"]
