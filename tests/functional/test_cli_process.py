"""``mx`` as a process: signals, pipes, terminals, completion, and a real server behind it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import pty
import select
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mx.client.grpc import GrpcClient
from mx.core.transfer import Strategy, TransferReport, TransferState
from mx.testing.samples import IDENTITY, PEER, entry

MX = [sys.executable, "-m", "mx"]
DEADLINE_S = 30.0


def environment(home: Path, **changes: str) -> dict[str, str]:
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("MX_", "MODEL_EXPRESS_")) and name not in ("FORCE_COLOR", "COLUMNS")
    }
    return kept | {"HOME": str(home)} | changes


def mx(home: Path, *args: str, **changes: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*MX, *args],
        cwd=home,
        env=environment(home, **changes),
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        stdin=subprocess.DEVNULL,
        check=False,
    )


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def server(home: Path, *args: str) -> Iterator[tuple[subprocess.Popen[str], dict[str, Any]]]:
    """A real ``mx server start``; yields the process and its start document."""
    command = [*MX, "-f", "json", "server", "start", "--host", "127.0.0.1", "--port", str(free_port())]
    with (home / "server.log").open("w") as log:
        process = subprocess.Popen(
            [*command, "--metrics-port", "0", *args],
            cwd=home,
            env=environment(home),
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )
    try:
        assert process.stdout is not None
        ready, _, _ = select.select([process.stdout], [], [], DEADLINE_S)
        line = process.stdout.readline() if ready else ""
        assert line, (home / "server.log").read_text()
        yield process, json.loads(line)
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, str]]:
    """A server with one source of two ranks and one finished transfer; (home, endpoint)."""
    home = tmp_path_factory.mktemp("served")
    with server(home) as (_, started):
        asyncio.run(_fill(started["listen"]))
        yield home, started["listen"]


async def _fill(endpoint: str) -> None:
    client = GrpcClient(endpoint, timeout_s=10)
    for rank in (0, 1):
        record = entry("w0", rank=rank)
        await client.publish(record.identity, record.worker, worker_id="w0")
        await client.announce(record.key, PEER)
        await client.update_status(record.key, record.worker.status, source_load=0.5)
    await client.report_transfer(
        TransferReport(
            transfer_id="t-1",
            model_name=IDENTITY.model_name,
            source_id=record.source_id,
            worker_id="w9",
            worker_rank=0,
            strategy=Strategy.PEER,
            state=TransferState.DONE,
            bytes_total=1024,
            bytes_done=1024,
            verified=True,
            started_at_ms=1,
            seconds=1.0,
            stages_s={"read": 0.5},
        )
    )
    await client.close()


def test_start_document(tmp_path: Path) -> None:
    with server(tmp_path) as (process, started):
        assert started["pid"] == process.pid
        assert started["listen"].endswith(f":{started['port']}")
        assert started["store"] == {"backend": "sqlite", "path": str(tmp_path / "models.db")}


def test_every_noun_against_a_server(running: tuple[Path, str]) -> None:
    home, endpoint = running

    def document(*args: str) -> Any:
        ran = mx(home, "-e", endpoint, *args, "-f", "json")
        assert (ran.returncode, ran.stderr) == (0, ""), ran
        return json.loads(ran.stdout)

    assert document("health")["status"] == "ok"
    assert document("api", "send", "ping") == {"message": "pong"}
    assert document("api", "send", "ping", "-p", '{"a": 1}') == {"message": "pong"}
    assert document("server", "status")["store"]["ok"] is True
    rows = document("source", "list", "--status", "ready")["sources"]
    assert [(row["worker_id"], row["worker_rank"]) for row in rows] == [("w0", 0), ("w0", 1)]
    assert rows[0]["source_load"] == 0.5
    assert rows[0]["peer"]["endpoint"] == PEER.endpoint
    shown = document("source", "show", rows[0]["source_id"][:6])
    assert shown["identity"]["model_name"] == IDENTITY.model_name
    assert shown["workers"][0]["record"]["tensors"]["count"] == 2
    assert document("transfer", "list")["transfers"][0]["transfer_id"] == "t-1"
    assert document("transfer", "show", "t-1")["gbit_s"] > 0


def test_every_noun_for_a_person(running: tuple[Path, str]) -> None:
    home, endpoint = running
    for args, words in (
        (["health"], "ok  version"),
        (["server", "status"], "sqlite"),
        (["source", "list"], IDENTITY.model_name),
        (["source", "show", IDENTITY.model_name], "worker w0  rank 1"),
        (["transfer", "list"], "t-1"),
        (["transfer", "show", "t-1"], "stages"),
        (["api", "send", "ping"], '"pong"'),
    ):
        ran = mx(home, *args, "-e", endpoint)
        assert (ran.returncode, ran.stderr) == (0, ""), ran
        assert words in ran.stdout


def test_a_refused_action_and_a_missing_source(running: tuple[Path, str]) -> None:
    home, endpoint = running
    ran = mx(home, "-e", endpoint, "api", "send", "dance", "-f", "json")
    assert ran.returncode == 1
    assert "dance" in json.loads(ran.stdout)["error"]
    ran = mx(home, "-e", endpoint, "source", "show", "nobody")
    assert (ran.returncode, ran.stdout) == (3, "")


def test_payload_from_stdin(running: tuple[Path, str]) -> None:
    home, endpoint = running
    for text, code in (("[1]", 0), ("{", 2)):
        ran = subprocess.run(
            [*MX, "-e", endpoint, "api", "send", "ping", "-p", "-"],
            env=environment(home),
            cwd=home,
            input=text,
            capture_output=True,
            text=True,
            timeout=DEADLINE_S,
            check=False,
        )
        assert ran.returncode == code, ran


def test_withdraw_asks_on_a_terminal(running: tuple[Path, str]) -> None:
    home, endpoint = running
    args = ["-e", endpoint, "source", "withdraw", IDENTITY.model_name]
    code, shown = on_terminal(home, args, answer="n\n")
    assert (code, "nothing was withdrawn" in shown) == (130, True), shown
    code, shown = on_terminal(home, args, answer="\n")
    assert code == 130
    assert len(json.loads(mx(home, "-e", endpoint, "source", "list", "-f", "json").stdout)["sources"]) == 2
    code, shown = on_terminal(home, args, answer="y\n")
    assert (code, shown.count("withdrew ")) == (0, 2), shown
    asyncio.run(_fill(endpoint))


def on_terminal(home: Path, args: list[str], *, answer: str) -> tuple[int, str]:
    """Run on a terminal and answer its question; the exit code and all that was shown."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [*MX, *args], cwd=home, env=environment(home), stdin=theirs, stdout=theirs, stderr=theirs
    )
    os.close(theirs)
    shown = b""
    answered = False
    until = time.monotonic() + DEADLINE_S
    try:
        while time.monotonic() < until:
            ready, _, _ = select.select([ours], [], [], 0.2)
            if ready:
                try:
                    piece = os.read(ours, 65536)
                except OSError:  # how a terminal says that nobody writes to it any more
                    break
                if not piece:
                    break
                shown += piece
            if not answered and b"[y/N]" in shown:
                os.write(ours, answer.encode())
                answered = True
        return process.wait(timeout=DEADLINE_S), shown.decode()
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
        os.close(ours)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_a_server_well(tmp_path: Path, number: signal.Signals) -> None:
    with server(tmp_path) as (process, _):
        process.send_signal(number)
        assert process.wait(timeout=DEADLINE_S) == 0
    assert "Traceback" not in (tmp_path / "server.log").read_text()


def test_port_in_use(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        ran = mx(tmp_path, "server", "start", "--host", "127.0.0.1", "-p", port, "--metrics-port", "0")
    assert ran.returncode == 1
    assert f"error: can't listen on 127.0.0.1:{port}" in ran.stderr
    assert "Traceback" not in ran.stderr + ran.stdout


def test_a_corrupt_database_is_left_alone(tmp_path: Path) -> None:
    database = tmp_path / "models.db"
    database.write_bytes(b"no database at all" * 100)
    ran = mx(tmp_path, "server", "start", "--host", "127.0.0.1", "-p", str(free_port()), "-f", "json")
    assert ran.returncode == 1
    assert str(database) in json.loads(ran.stdout)["error"]
    assert "Traceback" not in ran.stderr
    assert database.read_bytes() == b"no database at all" * 100


def test_nobody_there(tmp_path: Path) -> None:
    ran = mx(tmp_path, "health", "-e", f"127.0.0.1:{free_port()}", "-f", "json", "-t", "10")
    assert ran.returncode == 4
    assert json.loads(ran.stdout)["code"] == "unavailable"
    assert ran.stderr.startswith("error: ")


def test_somebody_there_who_never_answers(tmp_path: Path) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        begin = time.monotonic()
        ran = mx(tmp_path, "health", "-e", f"127.0.0.1:{silent.getsockname()[1]}", "-t", "1")
        assert time.monotonic() - begin < 10
    assert ran.returncode in (4, 8), ran
    assert "Traceback" not in ran.stderr


def test_ctrl_c_is_130_and_quiet(tmp_path: Path) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        silent.settimeout(DEADLINE_S)
        process = subprocess.Popen(
            [*MX, "health", "-e", f"127.0.0.1:{silent.getsockname()[1]}", "-t", "60", "-f", "json"],
            cwd=tmp_path,
            env=environment(tmp_path),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        connection, _ = silent.accept()  # the call is under way
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=DEADLINE_S)
        connection.close()
    assert process.returncode == 130
    assert err == "error: interrupted\n"
    assert json.loads(out)["code"] == "cancelled"


@pytest.mark.parametrize(
    "args",
    [
        ["config", "show"],
        ["config", "show", "-f", "json"],
        ["--help"],
        ["source", "show", "x", "-e", "localhost:1", "-f", "json", "-q"],
    ],
)
def test_a_reader_that_goes_away(tmp_path: Path, args: list[str]) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    ran = subprocess.run(
        [*MX, *args],
        cwd=tmp_path,
        env=environment(tmp_path),
        stdout=writing,
        stderr=subprocess.PIPE,
        text=True,
        timeout=DEADLINE_S,
        check=False,
    )
    os.close(writing)
    assert [line for line in ran.stderr.splitlines() if not line.startswith(("error: ", "hint: "))] == []
    assert ran.returncode == 141


def test_a_terminal_without_unicode(tmp_path: Path) -> None:
    ran = mx(tmp_path, "source", "show", "modèle-名", "-e", "localhost:1", PYTHONIOENCODING="ascii")
    assert ran.returncode == 4
    assert "Traceback" not in ran.stderr
    ran = mx(tmp_path, "source", "lïst", PYTHONIOENCODING="ascii")
    assert ran.returncode == 2


def complete(home: Path, shell: str, words: str) -> str:
    variables = {
        "bash": {"COMP_WORDS": words, "COMP_CWORD": str(len(words.split(" ")) - 1)},
        "zsh": {"_TYPER_COMPLETE_ARGS": words},
        "fish": {"_TYPER_COMPLETE_ARGS": words, "_TYPER_COMPLETE_FISH_ACTION": "get-args"},
    }[shell]
    ran = mx(home, _MX_COMPLETE=f"complete_{shell}", **variables)
    assert (ran.returncode, ran.stderr) == (0, ""), ran
    return ran.stdout


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion(tmp_path: Path, shell: str) -> None:
    assert "source" in complete(tmp_path, shell, "mx so")
    verbs = complete(tmp_path, shell, "mx source ")
    assert all(verb in verbs for verb in ("list", "show", "withdraw"))
    assert "--endpoint" in complete(tmp_path, shell, "mx source list --end")
    assert "--model" in complete(tmp_path, shell, "mx source list --mod")
    assert "initializing" in complete(tmp_path, shell, "mx source list --status ini")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_script_is_one_that_the_shell_takes(tmp_path: Path, shell: str) -> None:
    script = mx(tmp_path, _MX_COMPLETE=f"source_{shell}").stdout
    assert "_MX_COMPLETE" in script
    if shutil.which(shell):
        checked = subprocess.run(
            [shell, "-n"], input=script, text=True, capture_output=True, timeout=DEADLINE_S, check=False
        )
        assert (checked.returncode, checked.stderr) == (0, "")
