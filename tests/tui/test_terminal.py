"""``mx tui`` as a process in a real terminal: tmux, keys, a server that dies and comes back."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
DEADLINE_S = 60.0
MX = [sys.executable, "-m", "mx"]

pytestmark = pytest.mark.skipif(
    shutil.which("tmux") is None and os.environ.get("CI") != "true", reason="needs tmux"
)


class Terminal:
    """A tmux server of its own with one pane; a new one for each start."""

    def __init__(self, home: Path) -> None:
        self._home = home
        self._started = 0

    @property
    def _tmux(self) -> list[str]:
        return ["tmux", "-S", str(self._home / f"tmux-{self._started}"), "-f", "/dev/null"]

    def start(self, *words: str, columns: int = 120, lines: int = 40) -> None:
        self._started += 1
        size = ["-x", str(columns), "-y", str(lines)]
        command = " ".join([f"PYTHONPATH={ROOT}", "TERM=xterm-256color", *words, "; echo exit code $? ; cat"])
        self._run("new-session", "-d", *size, command)

    def press(self, *keys: str) -> None:
        self._run("send-keys", *keys)

    @property
    def text(self) -> str:
        return self._run("capture-pane", "-p")

    def shows(self, *words: str) -> str:
        return self._until(lambda text: all(word in text for word in words), words)

    def hides(self, word: str) -> str:
        return self._until(lambda text: word not in text, f"no {word}")

    def _until(self, condition: object, what: object) -> str:
        assert callable(condition)
        end_s = time.monotonic() + DEADLINE_S
        while not condition(text := self.text):
            assert time.monotonic() < end_s, f"never: {what}\n{text}"
            time.sleep(0.05)
        return text

    def end(self) -> None:
        subprocess.run([*self._tmux, "kill-server"], capture_output=True, check=False)

    def _run(self, *words: str) -> str:
        return subprocess.run([*self._tmux, *words], capture_output=True, text=True, check=True).stdout


@pytest.fixture
def terminal(tmp_path: Path) -> Iterator[Terminal]:
    terminal = Terminal(tmp_path)
    yield terminal
    terminal.end()


class Server:
    """``mx server start`` on one port and one cache; it can be killed and started again."""

    def __init__(self, home: Path) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self._home = home
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def start(self) -> None:
        command = [*MX, "server", "start", "--host", "127.0.0.1", "--port", str(self.port)]
        command += ["--metrics-port", "0", "--database-path", str(self._home / "models.db")]
        command += ["--cache-directory", str(self._home / "cache"), "--log-level", "warn"]
        environment = os.environ | {
            "PYTHONPATH": str(ROOT),
            "MODEL_EXPRESS_PROVIDERS_LOCAL_ROOTS": str(self._home),
        }
        with (self._home / "server.log").open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log, env=environment)

    def kill(self) -> None:
        if self._process is not None:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    server = Server(tmp_path)
    server.start()
    yield server
    server.kill()


def test_an_operator_at_a_terminal(terminal: Terminal, server: Server, tmp_path: Path) -> None:
    recording = tmp_path / "watched.jsonl"
    model = tmp_path / "tiny"
    model.mkdir()
    (model / "config.json").write_text("{}")
    (model / "model.safetensors").write_bytes(bytes(1 << 20))

    # It may be opened before the server is there.
    terminal.start(*MX, "tui", "-e", f"prod={server.address}", "--record", str(recording))
    terminal.shows("[1 Overview]", "● live", "prod")

    terminal.press("2")
    terminal.shows("the cache is empty")
    terminal.press("e")
    terminal.shows("Ensure a model")
    terminal.press("-l", str(model))
    terminal.press("Enter")
    terminal.shows("✓ ready", "verified")

    # The link goes: the last data stays, with its age; it comes back by itself.
    server.kill()
    text = terminal.shows("▲ link lost", "next try in")
    assert "✓ ready" in text
    server.start()
    terminal.shows("● live")
    terminal.hides("link lost")

    terminal.press("C-d")
    terminal.shows("1 to delete", "$ mx model clear")
    terminal.press("Enter")  # No is the default
    terminal.shows("nothing was changed", "✓ ready")
    terminal.press("C-d")
    terminal.shows("1 to delete")
    terminal.press("y")
    terminal.shows("1 entry deleted", "the cache is empty")
    terminal.press("q")
    assert "exit code 0" in terminal.shows("exit code")
    terminal.end()

    # The recording tells the same, and lets nobody act.
    terminal.start(*MX, "tui", "--replay", str(recording), "--speed", "max", columns=80, lines=24)
    terminal.shows("■ end", "watched.jsonl")
    terminal.press("2")
    terminal.shows("the cache is empty")
    terminal.press("6")
    terminal.shows("[6 Events]", "  model  ")
    terminal.press("3", "x")
    terminal.shows("a recording does not hold a plan")
    terminal.press("q")
    terminal.shows("exit code 0")


def test_no_screen_is_left_behind_after_control_c(terminal: Terminal, server: Server) -> None:
    terminal.start(*MX, "tui", "-e", server.address, "--theme", "light")
    terminal.shows("● live")
    terminal.press("C-q")
    text = terminal.shows("exit code 0")
    assert "Overview" not in text
    assert "Traceback" not in text
