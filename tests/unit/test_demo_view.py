"""What the demo shows of a replica while it runs, and of a process that failed."""

from __future__ import annotations

import io
import time

import pytest
from rich.console import Console

from mx.demo.fleet import Demo, Replica, _tail
from mx.demo.view import _table


def shown(state: str, *, done: int = 0) -> str:
    """The live table's last line, for one replica in ``state``."""
    demo = Demo(size_bytes=1 << 20, count=2, model=None)
    replica = demo.replicas[1]
    replica.state, replica.done, replica.total, replica.since_s = state, done, 1 << 30, 1.0
    console = Console(width=120, file=io.StringIO(), record=True)
    console.print(_table(demo))
    return console.export_text().rstrip().splitlines()[-1]


@pytest.mark.parametrize("state", ["loading", "pulling"])
def test_bytes_that_move_have_a_rate(state: str) -> None:
    assert "bit/s" in shown(state, done=1 << 29)


def test_a_replica_that_compares_shows_no_rate() -> None:
    """The bytes are those of the pull before, the time is that of the comparison."""
    line = shown("comparing", done=1 << 30)
    assert "1.00 GiB" in line
    assert "bit/s" not in line


def test_columns_stay_where_they_are() -> None:
    starts = {
        line.index("1.00 GiB")
        for line in (shown(state, done=1 << 30) for state in ("loading", "comparing", "starting"))
    }
    assert len(starts) == 1


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        (b"log line\nerror: no port\nhint: take another\n", "no port"),
        (b"Traceback\nBoom\n", "Boom"),
        (b"", "it said nothing"),
    ],
)
def test_a_failed_process_is_known_by_its_error(said: bytes, expected: str) -> None:
    assert _tail(io.BytesIO(said)) == expected


def test_the_wait_before_the_first_bytes_is_no_part_of_the_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    replica = Replica("replica-2")

    def hear(at: float, done: int) -> float:
        nonlocal now
        now = at
        Demo._take(replica, {"event": "state", "state": "pulling", "done": done, "total": 4000})
        return replica.bytes_s

    assert hear(100, 0) == 0
    assert hear(110, 0) == 0
    assert hear(120, 1000) == 0, "one point is no rate"
    assert hear(121, 2000) == 1000
    assert hear(122, 3500) == 1250


def test_a_replica_that_did_not_start_has_no_rate() -> None:
    assert Replica("replica-1").bytes_s == 0
