"""What the SQLite store of models promises beyond the contract: older files, other processes, plans."""

from __future__ import annotations

import asyncio
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import closing
from pathlib import Path

import pytest

from mx.core.model import EntryKey, EntryStatus, ModelRecord, ProviderName, ReadLease
from mx.core.transitions import Held, Ready, Won
from mx.errors import IntegrityError, InvalidArgumentError, UnavailableError
from mx.store.sqlite import Database, SqliteModelStore, SqliteSourceStore
from mx.store.sqlite.models import list_statement
from mx.store.sqlite.older import TO_BE_VERIFIED
from mx.store.sqlite.schema import LATEST, MIGRATIONS
from mx.testing.model_store_contract import KEY, NOW, claim, downloaded, finish, refresh, win
from mx.testing.samples import entry, model_key
from mx.testing.store_contract import listed

ROOT = Path(__file__).parents[2]

OLDER_TABLE = """
    CREATE TABLE models (
        model_name TEXT PRIMARY KEY, provider TEXT NOT NULL, status TEXT NOT NULL,
        created_at TEXT NOT NULL, last_used_at TEXT NOT NULL, message TEXT
    )
"""
CREATED, USED = "2025-06-01T00:00:00+00:00", "2025-06-02T12:30:00.123456789+02:00"
CREATED_MS, USED_MS = 1_748_736_000_000, 1_748_860_200_123


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "models.db"


@pytest.fixture
async def store(path: Path) -> AsyncIterator[SqliteModelStore]:
    store = await SqliteModelStore.open(path, busy_timeout_s=0.1)
    yield store
    await store.close()


def execute(path: Path, sql: str, rows: Sequence[Sequence[object]] = ()) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(path)) as connection, connection:
        if rows:
            connection.executemany(sql, rows)
            return []
        return connection.execute(sql).fetchall()


def older(path: Path, *rows: Sequence[object]) -> None:
    """A file as an older release left it."""
    execute(path, OLDER_TABLE)
    execute(path, "CREATE INDEX idx_last_used_at ON models (last_used_at)")
    execute(path, "INSERT INTO models VALUES (?, ?, ?, ?, ?, ?)", rows)


async def records(path: Path) -> tuple[ModelRecord, ...]:
    store = await SqliteModelStore.open(path)
    try:
        return await store.list_models()
    finally:
        await store.close()


# files of older versions


async def test_models_of_an_older_release_become_claimable(path: Path) -> None:
    older(
        path,
        ("org/done", "HuggingFace", "DOWNLOADED", CREATED, USED, None),
        ("org/begun", "HuggingFace", "DOWNLOADING", CREATED, USED, "begun"),
        ("org/failed", "HuggingFace", "ERROR", CREATED, USED, "no space"),
        ("ngc://org/model:1", "Ngc", "DOWNLOADED", CREATED, USED, None),
        ("gs://bucket/m/", "Gcs", "DOWNLOADED", CREATED, USED, None),
        ("other/provider", "Unheard", "what is this", CREATED, USED, None),
    )
    before = execute(path, "SELECT * FROM models ORDER BY model_name")
    store = await SqliteModelStore.open(path)
    hub, ngc, gcs = ProviderName.HUGGING_FACE, ProviderName.NGC, ProviderName.GCS
    expected = {
        EntryKey(hub, "org/done", ""): (EntryStatus.DOWNLOADING, TO_BE_VERIFIED),
        EntryKey(hub, "org/begun", ""): (EntryStatus.DOWNLOADING, "begun"),
        EntryKey(hub, "org/failed", ""): (EntryStatus.ERROR, "no space"),
        EntryKey(ngc, "org/models/model/1", ""): (EntryStatus.DOWNLOADING, TO_BE_VERIFIED),
        EntryKey(gcs, "gs://bucket/m", ""): (EntryStatus.DOWNLOADING, TO_BE_VERIFIED),
        EntryKey(hub, "other/provider", ""): (EntryStatus.ERROR, ""),
    }
    found = await store.list_models()
    assert {record.key: (record.status, record.message) for record in found} == expected
    assert {(record.created_at_ms, record.last_used_at_ms) for record in found} == {(CREATED_MS, USED_MS)}
    for key in expected:
        won = await claim(store, key)
        assert isinstance(won, Won), "nobody is waited for and nothing is believed"
        assert (won.resumed, won.record.message) == (False, "")
    await store.close()
    assert execute(path, "SELECT * FROM models ORDER BY model_name") == before


async def test_they_are_taken_over_once(path: Path) -> None:
    older(path, ("org/done", "HuggingFace", "DOWNLOADED", CREATED, USED, None))
    store = await SqliteModelStore.open(path)
    (record,) = await store.list_models()
    assert await store.delete(record.key)
    await store.close()
    assert await records(path) == ()
    execute(path, "DROP TABLE models")
    assert await records(path) == ()


async def test_two_spellings_of_one_model_become_one_entry(path: Path) -> None:
    later = "2025-07-01T00:00:00Z"
    older(
        path,
        ("org/model/1", "Ngc", "ERROR", CREATED, CREATED, "old"),
        ("ngc://org/models/model/1", "Ngc", "DOWNLOADED", CREATED, later, None),
        ("org/model:1", "Ngc", "ERROR", CREATED, USED, "older"),
    )
    (record,) = await records(path)
    assert (record.key.name, record.message) == ("org/models/model/1", TO_BE_VERIFIED)


async def test_rubbish_in_the_older_table_does_no_harm(path: Path) -> None:
    execute(path, OLDER_TABLE.replace("NOT NULL", ""))
    rubbish: list[Sequence[object]] = [
        (None, None, None, None, None, None),
        (b"\xff\xfe", "HuggingFace", "DOWNLOADED", CREATED, USED, None),
        ("../../etc/passwd", "HuggingFace", "DOWNLOADED", CREATED, USED, None),
        ("", "HuggingFace", "DOWNLOADED", CREATED, USED, None),
        ("a/b/c", "HuggingFace", "DOWNLOADED", CREATED, USED, None),
        ("x" * 5000, "HuggingFace", "DOWNLOADED", CREATED, USED, None),
        ("gs://b/../m", "Gcs", "DOWNLOADED", CREATED, USED, None),
        ("org/times", b"\0", 7, "yesterday", -1, b"\xff"),
        ("org/epoch", "HuggingFace", "DOWNLOADED", "0001-01-01T00:00:00", "9999-12-31T23:59:59Z", 5),
    ]
    execute(path, "INSERT INTO models VALUES (?, ?, ?, ?, ?, ?)", rubbish)
    found = {record.key.name: record for record in await records(path)}
    assert set(found) == {"org/times", "org/epoch"}
    assert (found["org/times"].status, found["org/times"].message) == (EntryStatus.ERROR, "")
    assert (found["org/times"].created_at_ms, found["org/times"].last_used_at_ms) == (0, 0)
    assert (found["org/epoch"].created_at_ms, found["org/epoch"].last_used_at_ms) == (0, 253_402_300_799_000)


async def test_a_table_of_that_name_and_another_kind_is_not_read(path: Path) -> None:
    execute(path, "CREATE TABLE models (model_name TEXT PRIMARY KEY, status TEXT NOT NULL)")
    execute(path, "INSERT INTO models VALUES (?, ?)", [("org/m", "DOWNLOADED")])
    assert await records(path) == ()


@pytest.mark.parametrize("version", range(1, LATEST))
async def test_a_file_of_each_earlier_version_is_brought_up(path: Path, version: int) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("CREATE TABLE mx_schema (version INTEGER NOT NULL, probe INTEGER NOT NULL)")
        connection.execute("INSERT INTO mx_schema VALUES (?, 0)", (version,))
        for steps in MIGRATIONS[:version]:
            for step in steps:
                if isinstance(step, str):
                    connection.execute(step)
                else:
                    step(connection)
    store = await SqliteSourceStore.open(path)
    await store.publish(entry())
    await store.close()
    models = await SqliteModelStore.open(path)
    await downloaded(models)
    await models.close()
    assert execute(path, "SELECT version FROM mx_schema") == [(LATEST,)]


async def test_a_damaged_registry_is_refused_though_the_file_is_large(path: Path) -> None:
    store = await SqliteModelStore.open(path)
    await asyncio.gather(*(win(store, model_key(f"org/model-{number:04}")) for number in range(400)))
    await store.close()
    execute(path, "CREATE TABLE ballast (zeros BLOB)")
    execute(path, f"INSERT INTO ballast VALUES (zeroblob({65 << 20}))")
    content = bytearray(path.read_bytes())
    page = content.index(b"org/model-0200") // 4096 * 4096
    content[page : page + 2000] = b"\xa5" * 2000
    path.write_bytes(content)
    with pytest.raises(IntegrityError, match="damaged"):
        await SqliteModelStore.open(path)


# one file, several users


async def test_sources_and_models_share_a_file_and_its_life(path: Path) -> None:
    database = await Database.open(path)
    sources, models = SqliteSourceStore(database), SqliteModelStore(database)
    await asyncio.gather(sources.publish(entry()), win(models))
    assert await listed(sources) == ["w0"]
    assert len(await models.list_models()) == 1
    await models.close()
    for call in (sources.check(), models.check()):
        with pytest.raises(UnavailableError):
            await call
    await sources.close()


async def test_a_claim_on_what_is_there_or_held_needs_no_write_lock(
    path: Path, store: SqliteModelStore
) -> None:
    ready = await downloaded(store)
    await win(store, model_key("held"))
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        assert await claim(store) == Ready(ready)
        assert isinstance(await claim(store, model_key("held")), Held)
        with pytest.raises(UnavailableError, match="locked by another process"):
            await claim(store, model_key("free"))
        other.execute("ROLLBACK")
    assert isinstance(await claim(store, model_key("free")), Won)


CLAIM_ALL = """
import asyncio, sys
from pathlib import Path
from mx.core.transitions import Won
from mx.store.sqlite import SqliteModelStore
from mx.testing.samples import model_key

async def main(path, owner, count):
    store = await SqliteModelStore.open(Path(path), busy_timeout_s=30)
    print("ready", flush=True)
    sys.stdin.readline()
    keys = [model_key(f"org/m{number}") for number in range(int(count))]
    answers = await asyncio.gather(
        *(store.claim(key, owner=owner, lease_s=60, now_ms=1) for key in keys)
    )
    for key, answer in zip(keys, answers):
        if isinstance(answer, Won):
            print(key.name, answer.claim.token)
    await store.close()

asyncio.run(main(*sys.argv[1:]))
"""


async def test_each_model_is_won_by_one_of_several_processes(path: Path) -> None:
    count = 50
    claimants = [
        subprocess.Popen(
            [sys.executable, "-c", CLAIM_ALL, str(path), f"p{number}", str(count)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        )
        for number in range(4)
    ]
    for claimant in claimants:
        assert claimant.stdout is not None
        assert claimant.stdout.readline() == "ready\n"
    won: list[list[str]] = []
    for claimant in claimants:
        assert claimant.stdin is not None
        claimant.stdin.write("go\n")
        claimant.stdin.flush()
    for claimant in claimants:
        out, _ = await asyncio.to_thread(claimant.communicate, None, 60)
        assert claimant.returncode == 0
        won += [line.split() for line in out.splitlines()]
    assert sorted(name for name, _ in won) == sorted(f"org/m{number}" for number in range(count))
    assert sorted(int(token) for _, token in won) == list(range(1, count + 1))


async def test_tokens_grow_over_restarts(path: Path) -> None:
    tokens = []
    for _ in range(3):
        store = await SqliteModelStore.open(path)
        held = await win(store)
        tokens.append(held.token)
        assert await store.delete(KEY)
        await store.close()
    assert tokens == sorted(set(tokens))


# the tables


async def test_nothing_is_left_of_a_deleted_entry(path: Path, store: SqliteModelStore) -> None:
    await downloaded(store)
    for lease_id in ("a", "b"):
        await store.lease(KEY, ReadLease(lease_id, "h", NOW + 9), now_ms=NOW)
    assert execute(path, "SELECT count(*) FROM mx_model_lease") == [(2,)]
    await store.delete(KEY)
    assert execute(path, "SELECT count(*) FROM mx_model_lease") == [(0,)]
    assert execute(path, "SELECT count(*) FROM mx_model") == [(0,)]


async def test_a_value_that_does_not_fit_is_refused_and_harms_no_other(store: SqliteModelStore) -> None:
    held = await win(store)
    for call in (
        refresh(store, held, done=1 << 63),
        store.touch([KEY], now_ms=1 << 63),
        store.claim(model_key("lone \ud800"), owner="a", lease_s=1, now_ms=NOW),
        store.claim(model_key("late"), owner="a", lease_s=1e18, now_ms=NOW),
    ):
        with pytest.raises(InvalidArgumentError):
            await call
    assert [record.key for record in await store.list_models()] == [KEY]
    assert await finish(store, held)


async def test_a_listing_longer_than_a_page_is_whole_and_ordered(store: SqliteModelStore) -> None:
    names = [f"org/model-{number:04}" for number in range(1_201)]
    await asyncio.gather(*(win(store, model_key(name)) for name in reversed(names)))
    assert [record.key.name for record in await store.list_models()] == names


@pytest.mark.parametrize(
    ("provider", "name"), [(ProviderName.NGC, None), (None, "n"), (ProviderName.NGC, "n")]
)
async def test_listings_go_by_index_and_need_no_sort_of_everything(
    path: Path, store: SqliteModelStore, provider: ProviderName | None, name: str | None
) -> None:
    sql, values = list_statement(provider=provider, name=name)
    database = await Database.open(path)
    try:
        plan = [row[3] for row in await database.read(f"EXPLAIN QUERY PLAN {sql}", values)]
    finally:
        await database.close()
    assert plan[0].startswith("SEARCH mx_model USING INDEX"), plan
    assert any(step.startswith("SEARCH mx_model_lease USING PRIMARY KEY") for step in plan), plan
