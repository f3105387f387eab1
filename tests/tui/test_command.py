"""``mx tui`` on the command line: what it refuses, before anything is drawn."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from asyncio import timeout
from collections.abc import Iterator
from pathlib import Path

import pytest
from aiohttp import ClientSession, CookieJar

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


@pytest.fixture
def address(tmp_path: Path) -> Iterator[str]:
    """``mx tui --web`` of a recording; the address that it printed."""
    with Recorder(tmp_path / "r.jsonl") as recorder:
        recorder.write(some.snapshot())
    command = [
        sys.executable,
        "-m",
        "mx",
        "tui",
        "--replay",
        str(tmp_path / "r.jsonl"),
        "--web",
        "--web-port",
        "0",
    ]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    try:
        assert process.stdout is not None
        yield process.stdout.readline().strip()
    finally:
        process.send_signal(signal.SIGINT)
        assert process.wait(30) in (0, 130)
        process.stdout.close()


async def test_in_a_browser_only_for_who_has_the_token(address: str) -> None:
    url, _, token = address.partition("?")
    assert url.startswith("http://127.0.0.1:")
    # Cookies of an address without a name are refused unless one says so.
    async with ClientSession(cookie_jar=CookieJar(unsafe=True)) as browser:
        for path in ("", "?token=guessed", "ws", "download/x"):
            async with browser.get(url + path) as reply:
                assert reply.status == 403, path
        async with browser.get(f"{url}?{token}") as reply:
            assert reply.status == 200
            cookie = reply.headers["Set-Cookie"]
            assert "HttpOnly" in cookie
            assert "SameSite=Strict" in cookie
        drawn = b""
        async with browser.ws_connect(f"{url}ws?width=100&height=30") as page, timeout(60):
            while b"[1 Overview]" not in drawn:
                message = await page.receive()
                drawn += message.data if isinstance(message.data, bytes) else b""


def test_a_port_that_is_taken_has_no_address(address: str, tmp_path: Path) -> None:
    """Who has the port would answer in our place."""
    port = address.rpartition(":")[2].partition("/")[0]
    ran = mx("tui", "--replay", str(tmp_path / "r.jsonl"), "--web", "--web-port", port)
    assert ran.returncode == 4
    assert ran.stdout == ""
    assert f"127.0.0.1:{port}" in ran.stderr
    assert "--web-port 0" in ran.stderr
