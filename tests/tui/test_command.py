"""``mx tui`` on the command line: what it refuses, before anything is drawn."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from mx.client.record import Recorder
from mx.testing import fleet_samples as some


def mx(*args: str) -> subprocess.CompletedProcess[str]:
    """In a process without a terminal."""
    return subprocess.run(
        [sys.executable, "-m", "mx", *args],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_without_a_terminal_it_names_what_does_without() -> None:
    ran = mx("tui")
    assert (ran.returncode, ran.stdout) == (2, "")
    assert "needs a terminal" in ran.stderr
    assert "mx server status --format json" in ran.stderr
    assert "mx events -f" in ran.stderr
    ran = mx("tui", "--format", "json")
    assert ran.returncode == 2
    assert json.loads(ran.stdout)["code"] == "usage"


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (("--replay", "x", "-e", "a:1"), "--endpoint and --replay exclude each other"),
        (("--embedded", "-e", "a:1"), "--endpoint and --embedded exclude each other"),
        (("--replay", "x", "--record", "y"), "--record and --replay"),
        (("--record", "y", "--web"), "--record and --web"),
        (("--speed", "2"), "--speed is of --replay"),
        (("--replay", "x", "--speed", "-1"), "no factor above 0"),
        (("--replay", "x", "--speed", "nan"), "no factor above 0"),
        (("--replay", "nothing.jsonl", "--web"), "no recording nothing.jsonl"),
        (("--replay", __file__, "--web"), "is no recording of mx"),
        (("--web", "-e", "a=h:1", "-e", "a=h:2"), "is there twice"),
        (("--web", "-e", "h:port"), "port"),
        (("--theme", "pink"), "pink"),
    ],
)
def test_what_contradicts_itself(args: tuple[str, ...], said: str) -> None:
    ran = mx("tui", *args)
    assert ran.returncode in (1, 2, 3, 6), ran
    assert said in ran.stderr, ran.stderr
    assert "Traceback" not in ran.stderr


def test_a_recording_that_holds_nothing(tmp_path: Path) -> None:
    with Recorder(tmp_path / "r.jsonl"):
        pass
    ran = mx("tui", "--replay", str(tmp_path / "r.jsonl"), "--web")
    assert "holds no update" in ran.stderr


def test_a_place_that_can_not_be_written(tmp_path: Path) -> None:
    """Told before the screen is drawn; in a process it is the terminal that is refused first."""
    from mx.cli.tui import _recorder
    from mx.errors import MxError

    (tmp_path / "notes.txt").write_text("mine\n")
    with pytest.raises(MxError, match="no recording"), _recorder(tmp_path / "notes.txt"):
        pass
    assert (tmp_path / "notes.txt").read_text() == "mine\n"
    with _recorder(tmp_path / "r.jsonl") as write:
        assert write is not None
        write(some.snapshot())
