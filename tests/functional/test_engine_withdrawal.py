"""A source is withdrawn however its process ends: processes of their own, ended in every way."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

BODY = """
import os, signal, sys, threading, time
from mx.engines.withdrawal import Withdrawal
from pathlib import Path
mark = Path(sys.argv[1])
def close():
    with mark.open("a") as file:
        file.write("closed\\n")
{before}
withdrawal = Withdrawal(close)
print("up", flush=True)
{after}
"""
SLEEP = "while True: time.sleep(0.05)"


def run(tmp_path: Path, *, before: str = "", after: str, number: int | None = None) -> tuple[int, int]:
    """(exit code, how often close ran)."""
    mark = tmp_path / "mark"
    code = BODY.format(before=before, after=after)
    with subprocess.Popen([sys.executable, "-c", code, str(mark)], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"up\n"
        if number is not None:
            process.send_signal(number)
        exit_code = process.wait(20)
    return exit_code, mark.read_text().count("closed") if mark.exists() else 0


def test_a_normal_end_withdraws_once(tmp_path: Path) -> None:
    assert run(tmp_path, after="withdrawal.now(); withdrawal.now()") == (0, 1)
    assert run(tmp_path, after="pass") == (0, 2)  # the mark of the first run, and this one


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_withdraws_and_keeps_its_default_effect(tmp_path: Path, number: int) -> None:
    exit_code, closed = run(tmp_path, after=SLEEP, number=number)
    assert closed == 1
    # SIGTERM kills; Python's own answer to SIGINT is KeyboardInterrupt, which also ends by the signal.
    assert exit_code == -number


def test_the_engine_s_own_handler_still_runs(tmp_path: Path) -> None:
    before = "signal.signal(signal.SIGTERM, lambda n, f: sys.exit(7))"
    assert run(tmp_path, before=before, after=SLEEP, number=signal.SIGTERM) == (7, 1)


def test_an_ignored_signal_withdraws_without_ending_the_process(tmp_path: Path) -> None:
    before = "signal.signal(signal.SIGTERM, signal.SIG_IGN)"
    after = "while not mark.exists(): time.sleep(0.02)\nsys.exit(5)"
    assert run(tmp_path, before=before, after=after, number=signal.SIGTERM) == (5, 1)


def test_forked_children_withdraw_by_multiprocessing_s_exit(tmp_path: Path) -> None:
    before = """
def body():
    Withdrawal(close)
import multiprocessing
child = multiprocessing.get_context("fork").Process(target=body)
child.start(); child.join(10)
assert child.exitcode == 0
assert mark.read_text() == "closed\\n", "the child withdrew"
mark.unlink()
"""
    assert run(tmp_path, before=before, after="pass") == (0, 1)


def test_a_forked_child_leaves_its_parent_s_source_alone(tmp_path: Path) -> None:
    after = """
pid = os.fork()
if pid == 0:
    withdrawal.now()
    os._exit(0)
os.waitpid(pid, 0)
assert not mark.exists()
"""
    assert run(tmp_path, after=after) == (0, 1)


def test_a_failing_close_does_not_fail_the_exit(tmp_path: Path) -> None:
    assert run(tmp_path, before="def close(): raise OSError('no network')", after="pass") == (0, 0)


def test_a_worker_that_is_killed_is_withdrawn_by_its_death_watch(tmp_path: Path) -> None:
    """Against a real server: SIGKILL leaves no time for anything in the process itself."""
    pytest.importorskip("grpc")
    from mx.client.sync import SyncClient
    from mx.core.source import SourceFilter

    log = (tmp_path / "server.log").open("wb")
    port = _free_port()
    command = ["server", "start", "--host", "127.0.0.1", "--port", str(port), "--metadata-backend", "memory"]
    server = subprocess.Popen([sys.executable, "-m", "mx", *command], stdout=log, stderr=log)
    try:
        with SyncClient(f"127.0.0.1:{port}", timeout_s=10, max_retries=50, retry_delay_s=0.1) as client:
            client.health()
            with subprocess.Popen(
                [sys.executable, "-c", WORKER, f"127.0.0.1:{port}"], stdout=subprocess.PIPE
            ) as worker:
                assert worker.stdout is not None
                assert worker.stdout.readline() == b"up\n"
                query = SourceFilter(model_name="watched")
                assert len(client.list_sources(query)) == 1
                worker.kill()
                deadline = time.monotonic() + 5
                while client.list_sources(query):
                    assert time.monotonic() < deadline, "still listed 5 s after SIGKILL"
    finally:
        server.terminate()
        server.wait(20)
        log.close()


WORKER = """
import sys, time
from mx.client.sync import SyncClient
from mx.config import load_settings
from mx.core.source import SourceIdentity, WorkerKey, WorkerRecord, source_id
from mx.engines.death_watch import start_death_watch
identity = SourceIdentity(model_name="watched")
settings = load_settings(environ={"MODEL_EXPRESS_URL": sys.argv[1]}, scope="worker")
with SyncClient(sys.argv[1]) as client:
    client.publish(identity, WorkerRecord(0), worker_id="w")
start_death_watch(settings, WorkerKey(source_id(identity), "w", 0))
print("up", flush=True)
while True: time.sleep(1)
"""


def _free_port() -> int:
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
