"""What the SQLite store promises beyond the contract: the file, its failures, crashes, other processes."""

from __future__ import annotations

import asyncio
import ctypes
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from mx.core.source import SourceFilter, SourceStatus
from mx.errors import (
    IntegrityError,
    InvalidArgumentError,
    MxError,
    PreconditionError,
    UnavailableError,
)
from mx.store.sqlite import Database, SqliteSourceStore
from mx.store.sqlite.schema import LATEST
from mx.store.sqlite.sources import list_statement
from mx.testing.samples import entry
from mx.testing.store_contract import listed, scanned

ROOT = Path(__file__).parents[2]

# Publishes w0, w1, ... and prints each number once the store has acknowledged it.
WRITER = """
import asyncio, sys
from pathlib import Path
from mx.store.sqlite import SqliteSourceStore
from mx.testing.samples import entry

async def main(path, prefix, count):
    store = await SqliteSourceStore.open(Path(path))
    for number in range(int(count)):
        await store.publish(entry(f"{prefix}{number}"))
        print(number, flush=True)
    await store.close()

asyncio.run(main(*sys.argv[1:]))
"""


def start_writer(path: Path, prefix: str, count: int) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", WRITER, str(path), prefix, str(count)],
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "models.db"


@pytest.fixture
async def database(path: Path) -> AsyncIterator[Database]:
    database = await Database.open(path, busy_timeout_s=0.1)
    yield database
    await database.close()


async def make(path: Path, *workers: str) -> bytes:
    """A closed file with these workers; its bytes."""
    store = await SqliteSourceStore.open(path)
    for worker_id in workers:
        await store.publish(entry(worker_id))
    await store.close()
    return path.read_bytes()


async def refusal(path: Path) -> MxError:
    """The error of opening; the file must be as it was, and nothing must be left beside it."""
    before = path.read_bytes() if path.is_file() else None
    with pytest.raises(MxError) as caught:
        await SqliteSourceStore.open(path, busy_timeout_s=0.1)
    if before is not None:
        assert path.read_bytes() == before
    assert caught.value.remedy
    assert "\n" not in str(caught.value)
    return caught.value


# files that can't be used


async def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    error = await refusal(tmp_path / "absent" / "models.db")
    assert isinstance(error, UnavailableError)
    assert f"there is no folder {tmp_path / 'absent'}" in error.message
    assert not (tmp_path / "absent").exists()


async def test_a_folder_is_no_database(tmp_path: Path) -> None:
    assert "it is a folder" in (await refusal(tmp_path)).message


@pytest.mark.parametrize("content", [b"x", b"{}\n" * 40, b"SQLite format 3\0", os.urandom(8192)])
async def test_another_kind_of_file_is_refused_and_left(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    error = await refusal(path)
    assert isinstance(error, IntegrityError)
    assert "is not a SQLite database" in error.message


@pytest.mark.parametrize("page", range(12))
async def test_a_damaged_file_is_refused_and_left(path: Path, page: int) -> None:
    content = bytearray(await make(path, *(f"w{number}" for number in range(60))))
    begin = page * 4096 + (100 if page == 0 else 0)
    content[begin : begin + 2000] = b"\xa5" * 2000
    path.write_bytes(content)
    error = await refusal(path)
    assert isinstance(error, IntegrityError)
    assert str(path) in error.message


async def test_a_truncated_file_is_refused_and_left(path: Path) -> None:
    content = await make(path, *(f"w{number}" for number in range(60)))
    path.write_bytes(content[: len(content) // 2])
    assert isinstance(await refusal(path), IntegrityError)


async def test_tables_of_somebody_else_are_refused_and_left(path: Path) -> None:
    execute(path, "CREATE TABLE mx_worker (other TEXT)")
    error = await refusal(path)
    assert isinstance(error, IntegrityError)
    assert "did not make" in error.message


async def test_a_newer_schema_is_refused_and_left(path: Path) -> None:
    await make(path, "w0")
    execute(path, f"UPDATE mx_schema SET version = {LATEST + 1}")
    error = await refusal(path)
    assert isinstance(error, PreconditionError)
    assert f"schema version {LATEST + 1}; this mx knows versions up to {LATEST}" in error.message


async def test_an_interrupted_first_start_is_finished_by_the_next(path: Path) -> None:
    path.touch()
    await make(path, "w0")
    store = await SqliteSourceStore.open(path)
    assert await listed(store) == ["w0"]
    await store.close()


OPEN_AND_PUBLISH = """
import asyncio, sys
from pathlib import Path
from mx.errors import MxError
from mx.store.sqlite import SqliteSourceStore
from mx.testing.samples import entry

async def main(path):
    store = await SqliteSourceStore.open(Path(path), busy_timeout_s=0.1)
    try:
        await store.publish(entry())
    finally:
        await store.close()

try:
    asyncio.run(main(sys.argv[1]))
except MxError as error:
    sys.exit(f"{type(error).__name__}: {error}")
"""


def open_without_privilege(path: Path) -> subprocess.CompletedProcess[str]:
    """Permission bits mean nothing to root, so root gives up the capability to ignore them."""

    def give_up() -> None:
        libc = ctypes.CDLL(None)
        for capability in (_CAP_DAC_OVERRIDE, _CAP_DAC_READ_SEARCH):
            assert libc.prctl(_PR_CAPBSET_DROP, capability, 0, 0, 0) == 0

    return subprocess.run(
        [sys.executable, "-c", OPEN_AND_PUBLISH, str(path)],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
        preexec_fn=give_up if os.geteuid() == 0 else None,
    )


_PR_CAPBSET_DROP, _CAP_DAC_OVERRIDE, _CAP_DAC_READ_SEARCH = 24, 1, 2


async def test_a_read_only_file_is_refused_at_start(path: Path) -> None:
    before = await make(path, "w0")
    path.chmod(0o444)
    done = open_without_privilege(path)
    assert done.returncode == 1
    assert done.stderr.startswith("PermissionDeniedError")
    assert done.stderr.count("\n") == 1
    assert str(path) in done.stderr
    assert path.read_bytes() == before


async def test_a_read_only_folder_is_refused_at_start(path: Path) -> None:
    path.parent.chmod(0o555)
    done = open_without_privilege(path)
    path.parent.chmod(0o755)
    assert done.returncode == 1
    assert done.stderr.startswith("PermissionDeniedError")
    assert done.stderr.count("\n") == 1
    assert not path.exists()


async def test_an_unreadable_file_is_refused_at_start(path: Path) -> None:
    await make(path, "w0")
    path.chmod(0)
    done = open_without_privilege(path)
    assert done.returncode == 1
    assert done.stderr.startswith("PermissionDeniedError")
    assert done.stderr.count("\n") == 1


# failures while running


async def test_a_lock_held_by_another_process_is_named_and_passes(path: Path, database: Database) -> None:
    store = SqliteSourceStore(database)
    await store.publish(entry("before"))
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    for call in (store.publish(entry("during")), store.check()):
        with pytest.raises(UnavailableError, match="locked by another process") as caught:
            await call
        assert str(path) in caught.value.remedy
    assert await listed(store) == ["before"]
    other.execute("ROLLBACK")
    other.close()
    await store.publish(entry("after"))
    assert await listed(store) == ["after", "before"]


async def test_a_lock_held_at_start_is_named(path: Path) -> None:
    await make(path, "w0")
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    assert "locked by another process" in (await refusal(path)).message
    other.close()


async def test_a_full_disk_fails_writes_until_there_is_room(database: Database) -> None:
    store = SqliteSourceStore(database)
    await store.publish(entry("before"))
    pages = (await database.read("PRAGMA page_count"))[0][0]
    await database.write(lambda connection: connection.execute(f"PRAGMA max_page_count = {pages}").fetchall())
    big = [entry("big" + "x" * 5_000 + str(number)) for number in range(8)]
    outcomes = await asyncio.gather(*(store.publish(one) for one in big), return_exceptions=True)
    for outcome in outcomes:
        assert isinstance(outcome, UnavailableError)
        assert "the disk is full" in outcome.message
    assert await listed(store) == ["before"]
    await database.write(lambda connection: connection.execute("PRAGMA max_page_count = 100000").fetchall())
    await store.check()
    await store.publish(entry("w1"))
    assert await listed(store) == ["before", "w1"]


FULL_DISK = """
import asyncio, resource, sys
from pathlib import Path
from mx.errors import UnavailableError
from mx.store.sqlite import SqliteSourceStore
from mx.testing.samples import entry

async def refused(call):
    try:
        await call
    except UnavailableError:
        return True
    return False

async def main(path):
    store = await SqliteSourceStore.open(Path(path))
    await store.publish(entry("before"))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (Path(path + "-wal").stat().st_size, hard))
    calls = (store.check(), store.publish(entry("w1")), store.check())
    print(*[await refused(call) for call in calls])
    print(await store.get(entry().source_id, "before") == entry("before"))
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    await store.check()
    await store.publish(entry("after"))
    print([row.worker_id async for row in store.scan()])
    await store.close()

asyncio.run(main(sys.argv[1]))
"""


async def test_readiness_remembers_that_writing_failed(path: Path) -> None:
    """A limit on file sizes stands in for the full disk: nothing can be appended any more."""
    done = subprocess.run(
        [sys.executable, "-c", FULL_DISK, str(path)], capture_output=True, text=True, check=False, cwd=ROOT
    )
    assert done.stdout.splitlines() == ["False True True", "True", "['before', 'after']"], done.stderr
    assert execute(path, "PRAGMA integrity_check") == [("ok",)]


async def test_removal_leaves_no_record_behind(path: Path, database: Database) -> None:
    store = SqliteSourceStore(database)
    for worker_id in ("w0", "w1"):
        await store.publish(entry(worker_id))
    await store.remove(entry("w0").key, observed_ms=entry().worker.updated_at_ms)
    assert execute(path, "SELECT count(*) FROM mx_record") == [(1,)]
    await store.remove(entry("w1").key)
    assert execute(path, "SELECT count(*) FROM mx_record") == [(0,)]


async def test_a_listing_longer_than_a_page_is_whole_and_ordered(database: Database) -> None:
    store = SqliteSourceStore(database)
    await asyncio.gather(*(store.publish(entry(f"w{number:04}")) for number in range(1_201)))
    assert await listed(store) == [f"w{number:04}" for number in range(1_201)]


async def test_a_deleted_file_is_noticed(path: Path, database: Database) -> None:
    await database.check()
    path.unlink()
    with pytest.raises(UnavailableError, match="deleted or replaced"):
        await database.check()


async def test_a_value_that_does_not_fit_fails_alone(database: Database) -> None:
    store = SqliteSourceStore(database)
    calls = [store.publish(entry(f"w{number}")) for number in range(10)]
    calls.insert(5, store.publish(entry("huge", updated_at_ms=1 << 63)))
    outcomes = await asyncio.gather(*calls, return_exceptions=True)
    assert isinstance(outcomes.pop(5), InvalidArgumentError)
    assert outcomes == [None] * 10
    assert len(await scanned(store)) == 10


async def test_a_defect_in_one_change_reaches_its_caller_only(database: Database) -> None:
    def broken(connection: sqlite3.Connection) -> None:
        raise KeyError("broken")

    def half(connection: sqlite3.Connection) -> None:
        connection.execute("DELETE FROM mx_worker")
        raise KeyError("half")

    store = SqliteSourceStore(database)
    await store.publish(entry("kept"))
    outcomes = await asyncio.gather(
        database.write(broken),
        store.publish(entry("w1")),
        database.write(half),
        return_exceptions=True,
    )
    assert [type(outcome) for outcome in outcomes] == [KeyError, type(None), KeyError]
    assert await listed(store) == ["kept", "w1"]


# crashes and other processes


async def test_killed_at_any_moment_nothing_acknowledged_is_lost(path: Path) -> None:
    acknowledged: set[str] = set()
    for round_ in range(3):
        writer = start_writer(path, f"{round_}-", 100_000)
        assert writer.stdout is not None
        for number in range(200 + 37 * round_):
            assert int(writer.stdout.readline()) == number
            acknowledged.add(f"{round_}-{number}")
        writer.send_signal(signal.SIGKILL)
        writer.wait()
        writer.stdout.close()
    store = await SqliteSourceStore.open(path)
    rows = await scanned(store)
    assert acknowledged <= {row.worker_id for row in rows}
    for row in rows:
        assert await store.get(row.source_id, row.worker_id) == entry(row.worker_id)
    await store.close()
    assert execute(path, "PRAGMA integrity_check") == [("ok",)]
    assert execute(path, "SELECT count(*) FROM mx_record") == [(len(rows),)]


async def test_two_processes_share_one_file(path: Path) -> None:
    store = await SqliteSourceStore.open(path)
    other = start_writer(path, "theirs-", 300)
    assert other.stdout is not None
    other.stdout.readline()
    for number in range(300):
        await store.publish(entry(f"mine-{number}"))
    assert await asyncio.to_thread(other.wait, 60) == 0
    other.stdout.close()
    expected = {f"{who}-{number}" for who in ("mine", "theirs") for number in range(300)}
    assert {row.worker_id for row in await scanned(store)} == expected
    assert await store.update_status(
        entry("theirs-7").key, status=SourceStatus.STALE, source_load=None, now_ms=5_000
    )
    await store.close()


async def test_many_processes_may_start_on_an_empty_folder_at_once(path: Path) -> None:
    writers = [start_writer(path, f"{number}-", 5) for number in range(4)]
    for writer in writers:
        await asyncio.to_thread(writer.communicate, None, 60)
        assert writer.returncode == 0
    store = await SqliteSourceStore.open(path)
    assert len(await scanned(store)) == 20
    await store.close()


async def test_close_finishes_what_was_begun(path: Path) -> None:
    store = await SqliteSourceStore.open(path)
    publishes = [asyncio.ensure_future(store.publish(entry(f"w{number}"))) for number in range(50)]
    await asyncio.sleep(0)
    await store.close()
    await asyncio.gather(*publishes)
    assert execute(path, "SELECT count(*) FROM mx_worker") == [(50,)]


# the file itself


async def test_the_table_of_older_releases_is_left_alone(path: Path) -> None:
    execute(path, "CREATE TABLE models (model_name TEXT PRIMARY KEY, status TEXT NOT NULL)")
    execute(path, "INSERT INTO models VALUES ('org/m', 'DOWNLOADED')")
    await make(path, "w0")
    assert execute(path, "SELECT * FROM models") == [("org/m", "DOWNLOADED")]
    # SQLite's own bookkeeping is nobody's table.
    named = "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite%'"
    tables = {row[0] for row in execute(path, named)}
    assert all(str(name).startswith("mx_") for name in tables - {"models"})


async def test_a_large_file_opens_without_being_read_whole(path: Path) -> None:
    execute(path, "CREATE TABLE models (model_name TEXT PRIMARY KEY, status BLOB NOT NULL)")
    execute(path, f"INSERT INTO models VALUES ('org/m', zeroblob({65 << 20}))")
    for worker_id in ("w0", "w1"):
        await make(path, worker_id)
    assert execute(path, "SELECT count(*) FROM mx_worker") == [(2,)]


async def test_an_odd_path_is_only_a_file_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in (":memory:", "a b?mode=ro#é.db", "file:x"):
        await make(Path(name), "w0")
        assert (tmp_path / name).is_file()


@pytest.mark.parametrize(
    "query",
    [
        SourceFilter(source_id="s"),
        SourceFilter(source_id="s", status=2),
        SourceFilter(source_id="s", status=2, worker_rank=1, min_updated_at_ms=5, limit=3),
        SourceFilter(source_id="s", worker_rank=1, model_name="m"),
        SourceFilter(model_name="m"),
        SourceFilter(model_name="m", status=2),
    ],
)
async def test_listings_go_by_index_and_never_touch_records(database: Database, query: SourceFilter) -> None:
    sql, values = list_statement(query, fresh_after_ms=7)
    plan = [row[3] for row in await database.read(f"EXPLAIN QUERY PLAN {sql}", values)]
    assert plan[0].startswith("SEARCH mx_worker USING INDEX")
    assert not any("mx_record" in step for step in plan)


async def test_a_heartbeat_touches_no_index_but_the_key(database: Database) -> None:
    statements: list[str] = []
    store = SqliteSourceStore(database)
    await store.publish(entry())
    trace: Callable[[str], None] = statements.append
    await database.write(lambda connection: connection.set_trace_callback(trace))
    await store.update_status(entry().key, status=SourceStatus.READY, source_load=None, now_ms=2_000)
    updates = [statement for statement in statements if statement.startswith("UPDATE")]
    assert len(updates) == 1
    assert "SET updated_at_ms" in updates[0]
    assert "SET status" not in updates[0]


def execute(path: Path, sql: str) -> list[tuple[object, ...]]:
    connection = sqlite3.connect(path)
    try:
        with connection:
            return connection.execute(sql).fetchall()
    finally:
        connection.close()
