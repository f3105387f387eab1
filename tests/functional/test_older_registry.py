"""The registry and the cache of an older server, taken over: verified on the disk, nothing fetched twice."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from huggingface_hub import snapshot_download

from mx.config import load_settings
from mx.core.model import EntryKey, EntryStatus, ModelRecord, ModelRef, ProviderName
from mx.server.metrics import ServerMetrics
from mx.testing.fake_hub import FakeHub
from mx.testing.faults import Fault
from mx.wiring import Services, open_services

HF = ProviderName.HUGGING_FACE
DEADLINE_S = 60.0
FILES: Mapping[str, bytes] = {
    "config.json": b"{}",
    "empty.txt": b"",
    "model.safetensors": bytes(range(256)) * 4000,
    "nested/part.safetensors": b"weights" * 1000,
}


@pytest.fixture
def hub() -> Iterator[FakeHub]:
    with FakeHub() as hub:
        yield hub


def bring(hub: FakeHub, folder: Path, name: str, *, revision: str = "main") -> Path:
    """As another server left it: Hugging Face's own library put it there."""
    snapshot_download(name, revision=revision, endpoint=hub.endpoint, cache_dir=folder / "cache", token=False)
    return folder / "cache" / f"models--{name.replace('/', '--')}"


def registry(folder: Path, *rows: tuple[str, str, str]) -> None:
    """``models.db`` of a release up to 0.3.0: (name, provider, status)."""
    connection = sqlite3.connect(folder / "models.db")
    with connection:
        connection.execute(
            "CREATE TABLE models (model_name TEXT PRIMARY KEY, provider TEXT NOT NULL, status TEXT NOT NULL,"
            " created_at TEXT NOT NULL, last_used_at TEXT NOT NULL, message TEXT)"
        )
        for name, provider, status in rows:
            at = "2025-03-04T05:06:07+00:00"
            connection.execute(
                "INSERT INTO models VALUES (?, ?, ?, ?, ?, NULL)", (name, provider, status, at, at)
            )
    connection.close()


@asynccontextmanager
async def server(folder: Path, hub: FakeHub, metrics: ServerMetrics | None = None) -> AsyncIterator[Services]:
    settings = load_settings(
        flags={
            "database.path": str(folder / "models.db"),
            "cache.directory": str(folder / "cache"),
            "providers.huggingface.endpoint": hub.endpoint,
            "cache.reconcile_interval": "1s",
            "cache.eviction.enabled": False,
        },
        environ={},
        cwd=folder,
        scope="server",
    )
    async with open_services(settings, tally=metrics) as services:
        yield services


async def settled(
    services: Services, condition: Callable[[tuple[ModelRecord, ...]], bool]
) -> tuple[ModelRecord, ...]:
    async with asyncio.timeout(DEADLINE_S):
        while not condition(records := await services.models_store.list_models()):
            await asyncio.sleep(0.02)
    return records


def only(records: tuple[ModelRecord, ...]) -> bool:
    """One record, under a commit, that nobody works on."""
    return len(records) == 1 and bool(records[0].key.commit) and records[0].claim is None


async def test_a_whole_model_is_verified_and_not_fetched(tmp_path: Path, hub: FakeHub) -> None:
    commit = hub.add("org/model", FILES)
    bring(hub, tmp_path, "org/model")
    registry(tmp_path, ("org/model", "HuggingFace", "DOWNLOADED"))
    served = len(hub.asked("resolve/|storage:"))
    metrics = ServerMetrics()
    async with server(tmp_path, hub, metrics) as services:
        (record,) = await settled(services, only)
        assert record.key == EntryKey(HF, "org/model", commit)
        assert (record.status, record.files) == (EntryStatus.DOWNLOADED, len(FILES))
        entry = await services.models.find(ModelRef(HF, "org/model"))
        assert {file.path: (entry.root / file.path).read_bytes() for file in entry.files} == FILES
        updates = [update async for update in services.models.ensure(ModelRef(HF, "org/model"))]
        assert updates[-1].status is EntryStatus.DOWNLOADED
    assert len(hub.asked("resolve/|storage:")) == served, "a verified file is not fetched again"
    assert b'mx_reconcile_drift_total{kind="verified"} 1.0' in metrics.exposition()[0]
    async with server(tmp_path, hub) as services:
        assert only(await services.models_store.list_models()), "a restart takes nothing over again"


async def test_what_is_missing_or_wrong_is_told_and_brought_by_the_next_download(
    tmp_path: Path, hub: FakeHub
) -> None:
    commit = hub.add("org/model", FILES)
    model = bring(hub, tmp_path, "org/model")
    snapshot = model / "snapshots" / commit
    # Older servers left files in folders out; and one blob has rotted.
    for path in ("nested/part.safetensors", "config.json"):
        blob = (snapshot / path).resolve()
        blob.unlink() if path.startswith("nested") else blob.write_bytes(b"[]")
    (snapshot / "nested" / "part.safetensors").unlink()
    registry(tmp_path, ("org/model", "HuggingFace", "DOWNLOADED"))
    async with server(tmp_path, hub) as services:
        (record,) = await settled(services, only)
        assert (record.key.commit, record.status) == (commit, EntryStatus.DOWNLOADING)
        before = hub.bytes_served
        updates = [update async for update in services.models.ensure(ModelRef(HF, "org/model"))]
        assert updates[-1].status is EntryStatus.DOWNLOADED, updates[-1].message
        entry = await services.models.find(ModelRef(HF, "org/model"))
        assert {file.path: (entry.root / file.path).read_bytes() for file in entry.files} == FILES
        assert hub.bytes_served - before < 20_000, "the large file was there"


async def test_a_record_without_files_goes(tmp_path: Path, hub: FakeHub) -> None:
    registry(tmp_path, ("org/gone", "HuggingFace", "DOWNLOADED"), ("org/failed", "HuggingFace", "ERROR"))
    async with server(tmp_path, hub) as services:
        await settled(services, lambda records: records == ())
    assert hub.requests == []


async def test_while_the_hub_is_away_the_record_is_left_and_later_settled(
    tmp_path: Path, hub: FakeHub, caplog: pytest.LogCaptureFixture
) -> None:
    commit = hub.add("org/model", FILES)
    bring(hub, tmp_path, "org/model")
    registry(tmp_path, ("org/model", "HuggingFace", "DOWNLOADED"))
    hub.fail(Fault("/tree/", status=403, times=None))
    async with server(tmp_path, hub) as services:
        async with asyncio.timeout(DEADLINE_S):
            while "left as it is" not in caplog.text:
                await asyncio.sleep(0.02)
        await settled(
            services, lambda records: [one.key for one in records] == [EntryKey(HF, "org/model", "")]
        )
        hub.mend()
        (record,) = await settled(services, only)
        assert (record.key.commit, record.status) == (commit, EntryStatus.DOWNLOADED)


async def test_every_commit_on_the_disk_becomes_an_entry_and_main_stays(tmp_path: Path, hub: FakeHub) -> None:
    old = hub.add("org/model", {**FILES, "config.json": b'{"old": 1}'})
    bring(hub, tmp_path, "org/model", revision=old)
    new = hub.add("org/model", FILES)
    model = bring(hub, tmp_path, "org/model")
    registry(tmp_path, ("org/model", "HuggingFace", "DOWNLOADING"))
    async with server(tmp_path, hub) as services:
        records = await settled(
            services,
            lambda found: len(found) == 2 and all(one.status is EntryStatus.DOWNLOADED for one in found),
        )
        assert {one.key.commit for one in records} == {old, new}
    assert (model / "refs" / "main").read_text() == new


async def test_a_model_of_a_provider_that_is_not_asked_is_left(tmp_path: Path, hub: FakeHub) -> None:
    """NGC without a key: nothing can be compared, so nothing is claimed to be so."""
    folder = tmp_path / "cache" / "ngc" / "acme" / "models" / "tiny" / "1.0"
    folder.mkdir(parents=True)
    (folder / "config.json").write_bytes(b"{}")
    registry(tmp_path, ("acme/tiny/1.0", "Ngc", "DOWNLOADED"))
    async with server(tmp_path, hub) as services:
        report = await services.models.settle_older()
        assert [key.name for key, _ in report.left] == ["acme/models/tiny/1.0"]
        (record,) = await settled(services, lambda found: len(found) == 1 and found[0].claim is None)
        assert record.status is EntryStatus.DOWNLOADING
        assert (await services.models.settle_older()).left, "it is looked at again"
    assert (folder / "config.json").read_bytes() == b"{}"
