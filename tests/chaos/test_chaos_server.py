"""A server that dies, forgets, freezes or was never there, and workers that leave without a word."""

from __future__ import annotations

import signal
import socket
import sqlite3
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from processes import Server, Site, Worker, black_hole, far_away, free_port, until

from mx.core.source import SourceStatus

SIZES = [1 << 20] * 8 + [512] * 8
READY, STALE = SourceStatus.READY, SourceStatus.STALE
# Heartbeats of the test workers come every second.
HEARTBEAT_TIMEOUT_S = 3
SOME_HEARTBEATS_S = 15


def workers(site: Site, *names: str, **task: Any) -> list[Worker]:
    """Started side by side; names of sources begin with "source" and publish."""
    made = [site.worker(name, sizes=SIZES, filled=name.startswith("source"), **task) for name in names]
    for worker in made:
        worker.hear("started")
        if worker.name.startswith("source"):
            worker.publish()
    return made


# ---- the server dies -----------------------------------------------------------------------------


@pytest.mark.parametrize("memory", ["kept", "lost"])
def test_workers_come_back_to_a_server_that_was_killed(site: Site, memory: str) -> None:
    server = site.serve(heartbeat_timeout_s=HEARTBEAT_TIMEOUT_S, reaper_interval_s=1)
    flags = {"transfer.segment_bytes": 1 << 20}
    source, _, target = workers(site, "source-1", "source-2", "target", flags=flags, count=True)
    target.tell("pull", hold_at=0.3)
    target.hear("holding")
    server.kill()
    # A pull that is under way needs no server.
    target.tell("go")
    outcome = target.hear("outcome")
    assert (outcome["kind"], outcome["verified"]) == ("Loaded", True), outcome
    assert target.wrong_words() == 0
    target.tell("publish", wait=False)
    target.hear("published")
    if memory == "lost":
        for file in server.home.glob("models.db*"):
            file.unlink()
    restarted_ms = time.time_ns() // 1_000_000
    server.start()

    def all_back() -> bool:
        rows = server.sources(status=READY)
        fresh = [name for name, row in rows.items() if row.updated_at_ms > restarted_ms]
        return set(fresh) == {"source-1", "source-2", "target"}

    until(all_back, "every worker is READY again", within_s=SOME_HEARTBEATS_S)
    rows = server.sources(status=READY)
    assert all(row.peer is not None for row in rows.values()), "mx's own record is back too"
    # They stay: whoever publishes again does not fall over its own old record.
    (late,) = workers(site, "late")
    assert late.pull()["kind"] == "Loaded"
    assert set(server.sources(status=READY)) == {"source-1", "source-2", "target"}
    assert source.end() < 5


def test_a_worker_ends_in_time_though_its_server_is_gone(site: Site) -> None:
    server = site.serve()
    (source,) = workers(site, "source")
    server.signal(signal.SIGSTOP)  # worse than dead: it accepts and does not answer
    assert source.end() < 8
    server.signal(signal.SIGCONT)


# ---- workers leave ---------------------------------------------------------------------------------


def test_a_worker_that_is_asked_to_end_withdraws_and_one_that_is_killed_is_reaped(site: Site) -> None:
    server = site.serve(heartbeat_timeout_s=HEARTBEAT_TIMEOUT_S, reaper_interval_s=1, gc_timeout_s=4)
    asked, killed, _ = workers(site, "source-asked", "source-killed", "source-stays")
    assert set(server.sources(status=READY)) == {"source-asked", "source-killed", "source-stays"}
    asked.signal(signal.SIGTERM)
    asked.hear("closed")
    assert "source-asked" not in server.sources(), "gone from every listing, by the time it has closed"
    assert asked.process.wait(10) == 0

    killed.kill()
    until(
        lambda: "source-killed" not in server.sources(status=READY),
        "nobody is offered the killed one any more",
        within_s=HEARTBEAT_TIMEOUT_S + SOME_HEARTBEATS_S,
    )
    until(lambda: "source-killed" in server.sources(status=STALE), "the reaper marks it")
    until(lambda: "source-killed" not in server.sources(), "the reaper removes it")
    assert set(server.sources()) == {"source-stays"}


# ---- nobody there ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "prefetched"),
    [("refused", False), ("black hole", False), ("black hole", True), ("frozen", True)],
)
def test_a_server_that_does_not_answer_costs_a_cold_worker_little(
    site: Site, kind: str, prefetched: bool
) -> None:
    with black_hole() as hole:
        if kind == "frozen":
            server = site.serve()
            address = server.address
        else:
            address = hole if kind == "black hole" else f"127.0.0.1:{free_port()}"
        target = site.worker("target", sizes=SIZES, address=address)
        target.hear("started")
        if kind == "frozen":
            server.signal(signal.SIGSTOP)
        if prefetched:
            target.ask("prefetch", "prefetching")
        outcome = target.pull()
        assert outcome["kind"] == "Skipped", outcome
        assert address in outcome["reason"]
        assert "\n" not in outcome["reason"]
        assert outcome["seconds"] < 5
        assert target.untouched()
        assert target.end() < 8


def test_a_server_that_freezes_between_two_calls_is_given_up_in_time(site: Site) -> None:
    """Connected before: nothing refuses, the call just never ends."""
    server = site.serve()
    (target,) = workers(site, "target")
    assert target.pull()["kind"] == "Skipped"
    server.signal(signal.SIGSTOP)
    outcome = target.pull()
    assert outcome["kind"] == "Skipped", outcome
    assert server.address in outcome["reason"]
    assert outcome["seconds"] < 5


def test_a_server_far_away_is_found(site: Site) -> None:
    """A link of 400 ms there and back, as over satellite, or as a server that is very busy."""
    server = site.serve()
    workers(site, "source")
    with far_away(server.address, delay_s=0.4) as address:
        target = site.worker("target", sizes=SIZES, address=address)
        target.hear("started")
        outcome = target.pull()
        assert outcome["kind"] == "Loaded", outcome
        target.end()


# ---- a server that can't start -----------------------------------------------------------------------


def refused(server: Server, *args: str) -> str:
    """What a server says that does not start: one line, and one about what to do."""
    said = len(server.log.read_text()) if server.log.exists() else 0
    process = server.launch(*args)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 1, err
    assert "Traceback" not in err
    assert [line.split(":")[0].strip() for line in err.strip().splitlines()] == ["error", "hint"], err
    assert "listen" not in server.log.read_text()[said:]
    return err


@pytest.fixture
def server(tmp_path: Path) -> Server:
    return Server(tmp_path)


def filled(database: Path) -> bytes:
    """A database that a server has made; its content."""
    with closing(sqlite3.connect(database)) as connection:
        connection.execute("PRAGMA journal_mode = DELETE")
    return database.read_bytes()


def test_a_port_in_use_is_one_clear_line(server: Server) -> None:
    with socket.create_server(("127.0.0.1", server.port)):
        line = refused(server)
    assert f"can't listen on 127.0.0.1:{server.port}" in line
    assert "--port" in line


def test_a_read_only_database_is_one_clear_line(server: Server) -> None:
    server.start()
    server.kill()
    before = filled(server.database)
    server.database.chmod(0o444)
    line = refused(server)
    assert str(server.database) in line
    assert "can't be written" in line
    assert server.database.read_bytes() == before
    server.database.chmod(0o644)
    server.start()
    server.close()


@pytest.mark.parametrize("damage", ["rubbish", "in the middle", "truncated"])
def test_a_corrupt_database_is_one_clear_line_and_left_as_it_is(server: Server, damage: str) -> None:
    server.start()
    server.kill()
    content = bytearray(filled(server.database))
    if damage == "rubbish":
        content = bytearray(b"no database at all " * 1000)
    elif damage == "truncated":
        del content[len(content) // 2 :]
    else:
        content[4096:] = bytes(0xA5 for _ in content[4096:])
    server.database.write_bytes(content)
    line = refused(server)
    assert str(server.database) in line
    assert "it was left as it is" in line
    assert server.database.read_bytes() == content


def test_a_missing_folder_is_one_clear_line(server: Server) -> None:
    wanted = server.home / "missing" / "models.db"
    line = refused(server, "--database-path", str(wanted))
    assert f"there is no folder {wanted.parent}" in line
    assert "mkdir" in line
    assert not wanted.parent.exists()
