"""What is live, and every exit code, as a person meets them: processes, a server that dies and comes back."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cli_user import DEADLINE_S, User

from mx.cli.exits import ExitCode
from mx.client.sync import SyncClient
from mx.core.source import SourceStatus
from mx.core.transfer import TransferState
from mx.testing import feed_samples
from mx.testing.samples import PEER, entry

GB = 10**9


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def serving(user: User, port: int, *args: str) -> Iterator[subprocess.Popen[str]]:
    """A server of this user, up; killed at the end."""
    process = user.start(
        *("-f", "json", "server", "start", "--host", "127.0.0.1", "--port", str(port), "--metrics-port", "0"),
        *args,
    )
    try:
        assert process.stdout is not None
        assert json.loads(process.stdout.readline())["port"] == port
        yield process
    finally:
        process.kill()
        process.communicate()


class Stream:
    """A command that goes on, and the lines that it has written."""

    def __init__(self, user: User, *args: str) -> None:
        self._user = user
        self.process = user.start(*args)
        self._lines: queue.Queue[str] = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._lines.put(line)

    def until(self, holds: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """The next document for which it holds; each line has to be one."""
        end = time.monotonic() + DEADLINE_S
        while True:
            found = json.loads(self._lines.get(timeout=max(0.1, end - time.monotonic())))
            if holds(found):
                return found  # type: ignore[no-any-return]

    def interrupt(self) -> int:
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(DEADLINE_S)


@pytest.fixture
def user(tmp_path: Path) -> User:
    (tmp_path / "tiny").mkdir()
    (tmp_path / "tiny" / "config.json").write_text("{}")
    (tmp_path / "tiny" / "model.safetensors").write_bytes(bytes(65536))
    return User(tmp_path, {"MODEL_EXPRESS_PROVIDERS_LOCAL_ROOTS": str(tmp_path)})


def publish(port: int) -> str:
    record = entry("w0", peer=PEER)
    with SyncClient(f"127.0.0.1:{port}") as client:
        client.publish(record.identity, record.worker, worker_id="w0")
        client.update_status(record.key, SourceStatus.READY, source_load=0.5)
    return record.source_id


def test_a_listing_lives_through_the_death_of_its_server(user: User) -> None:
    port = free_port()
    user.variables["MODEL_EXPRESS_ENDPOINT"] = f"127.0.0.1:{port}"
    model = str(user.home / "tiny")
    with serving(user, port) as server:
        cache = Stream(user, "cache", "list", "--watch", "-f", "json")
        events = Stream(user, "events", "--follow", "-f", "json")
        assert cache.until(lambda one: one["update"] == "snapshot")["entries"] == []
        assert user.mx("model", "download", model, "-s", "server-only").code == 0
        row = cache.until(lambda one: one["update"] == "changed" and one["status"] == "downloaded")
        assert row["model"] == model
        events.until(lambda one: one["kind"] == "model" and one["subject"] == model)
        server.send_signal(signal.SIGKILL)
        assert cache.until(lambda one: one["update"] == "link-lost")["reason"]
    with serving(user, port):
        cache.until(lambda one: one["update"] == "link-back")
        events.until(lambda one: one["kind"] == "server" and "started" in one["text"])
        assert user.mx("cache", "pin", model).code == 0
        assert cache.until(lambda one: one["update"] == "changed")["pinned"] is True
        assert user.mx("model", "clear", model, "--yes", "--force").code == 0
        assert cache.until(lambda one: one["update"] == "gone")["model"] == model
        assert (cache.interrupt(), events.interrupt()) == (0, 0)
    # What was told is kept over the restart, and each once.
    assert cache.process.stderr is not None
    assert "Traceback" not in cache.process.stderr.read()


def test_top_sees_what_workers_report(user: User) -> None:
    port = free_port()
    with serving(user, port):
        top = Stream(user, "transfer", "top", "-e", f"127.0.0.1:{port}", "-f", "json")
        top.until(lambda one: one["running"] == 0)
        report = replace(feed_samples.transfer("t7"), bytes_done=GB, bytes_total=4 * GB, seconds=1.0)
        with SyncClient(f"127.0.0.1:{port}") as client:
            client.report_transfer(report)
            line = top.until(lambda one: one["running"] == 1)
            assert line["workers"][0]["worker_id"] == report.worker_id
            client.report_transfer(
                replace(report, state=TransferState.DONE, bytes_done=4 * GB, seconds=2.0, verified=True)
            )
        line = top.until(lambda one: one["done"] == 1)
        assert (line["running"], line["bytes_moved"], line["failed"]) == (0, 4 * GB, 0)
        assert top.interrupt() == 0


def test_acts_on_sources_and_records_as_they_lie(user: User) -> None:
    port = free_port()
    user.variables["MODEL_EXPRESS_ENDPOINT"] = f"127.0.0.1:{port}"
    with serving(user, port):
        source = publish(port)
        (record,) = user.json("source", "show", source, "--raw")["records"]
        assert record["backend"] == "sqlite"
        assert "w0" in record["text"]
        assert source in user.mx("source", "show", source, "--raw").out
        assert user.mx("source", "stale", source).code == 2  # nobody is there to be asked
        assert [one["worker_id"] for one in user.json("source", "stale", source, "--dry-run")["marked"]] == [
            "w0"
        ]
        assert user.json("source", "list")["sources"][0]["status"] == "ready"
        assert user.json("source", "stale", source, "--yes")["success"] is True
        assert user.json("source", "list")["sources"][0]["status"] == "stale"
        done = user.json("source", "reap", "--dry-run")
        assert (done["seen"], done["removed"]) == (1, [])
        assert "1 records looked at" in user.mx("source", "reap").err
        (store,) = user.json("server", "status")["backends"]
        assert (store["backend"], store["ok"]) == ("sqlite", True)
        settings = {one["key"]: one for one in user.json("server", "settings")["settings"]}
        assert settings["server.port"] == {"key": "server.port", "value": str(port), "origin": "flag"}
        shown = user.mx("server", "settings", "--explicit").out
        assert "server.port" in shown
        assert "redis.url" not in shown


# ---- exit codes ------------------------------------------------------------------------------


def _damage(user: User) -> None:
    (file,) = (user.home / "cache" / "local").rglob("model.safetensors")
    file.unlink()
    file.write_bytes(b"x" * 65536)


def test_every_exit_code_has_its_command(user: User) -> None:
    """The codes are a contract; each is met by a real command against a real server."""
    port, model = free_port(), str(user.home / "tiny")
    user.variables["MODEL_EXPRESS_ENDPOINT"] = f"127.0.0.1:{port}"
    met: dict[int, tuple[str, ...]] = {}

    def meets(code: ExitCode, *args: str) -> None:
        ran = user.mx(*args, "-f", "json")
        assert ran.code == code, (args, ran)
        if code:
            document = json.loads(ran.out) if ran.out.count("\n") == 1 else {}
            assert document.get("exit_code", code) == code
            assert "\nerror: " in f"\n{ran.err}", (args, ran)  # after what was told of the work
            assert "Traceback" not in ran.err
        met[code] = args

    with serving(user, port):
        meets(ExitCode.OK, "health")
        meets(ExitCode.FAILURE, "api", "send", "dance")
        meets(ExitCode.USAGE, "cache", "list", "--sort", "siez")
        meets(ExitCode.NOT_FOUND, "cache", "show", "org/absent")
        meets(ExitCode.OK, "model", "download", model, "-s", "server-only")
        meets(ExitCode.OK, "cache", "pin", model)
        meets(ExitCode.CONFLICT, "model", "clear", model, "--yes")
        _damage(user)
        meets(ExitCode.INTEGRITY, "cache", "verify", "--dry-run")
    meets(ExitCode.UNREACHABLE, "health")
    meets(ExitCode.UNREACHABLE, "events", "-f")  # a server that was never there is not waited for
    with serving(replace(user, variables=user.variables | {"MODEL_EXPRESS_ADMIN_READ_ONLY": "1"}), port):
        meets(ExitCode.DENIED, "cache", "unpin", model)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        meets(ExitCode.TIMEOUT, "health", "-e", f"127.0.0.1:{silent.getsockname()[1]}", "-t", "1")
        met[ExitCode.INTERRUPTED] = _interrupted(user, silent.getsockname()[1])
    met[ExitCode.BROKEN_PIPE] = _unread(user)
    assert set(met) == set(ExitCode)


def _interrupted(user: User, port: int) -> tuple[str, ...]:
    args = ("health", "-e", f"127.0.0.1:{port}", "-t", "60")
    process = user.start(*args, "-v")
    _connected(process.pid, port)
    assert user.end(process, by=signal.SIGINT).code == ExitCode.INTERRUPTED
    return args


def _connected(pid: int, port: int) -> None:
    """Wait until it has a connection to that port: then it waits for an answer."""
    end = time.monotonic() + DEADLINE_S
    wanted = f":{port:04X} 01 "
    tables = [Path(f"/proc/{pid}/net/{name}") for name in ("tcp", "tcp6")]
    while not any(wanted in table.read_text() for table in tables):
        assert time.monotonic() < end
        time.sleep(0.02)


def _unread(user: User) -> tuple[str, ...]:
    args = ("config", "show")
    reader, writer = os.pipe()
    os.close(reader)
    process = subprocess.Popen(
        [sys.executable, "-m", "mx", *args],
        cwd=user.home,
        env=user.environment(),
        stdout=writer,
        stderr=subprocess.PIPE,
    )
    os.close(writer)
    _, err = process.communicate(timeout=DEADLINE_S)
    assert (process.returncode, err) == (ExitCode.BROKEN_PIPE, b"")
    return args
