"""``mx model`` and ``mx cache`` against a real server with a cache on disk."""

from __future__ import annotations

import asyncio
import io
import json
import os
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from model_server import FILES, ModelServer, model_server

from mx.cli.app import run
from mx.cli.options import Invocation
from mx.cli.output import Output
from mx.client.base import Client
from mx.client.embedded import EmbeddedClient
from mx.client.grpc import GrpcClient
from mx.client.sync import SyncClient
from mx.core.model import EntryStatus, ModelRef, ProviderName
from mx.errors import ConflictError, NotFoundError
from mx.testing.fake_hub import FakeHub

HF = ProviderName.HUGGING_FACE
NAME = "org/model"
REF = ModelRef(HF, NAME)


@dataclass(frozen=True, slots=True)
class Ran:
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


@pytest.fixture(autouse=True)
def _a_home_of_its_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in os.environ:
        if name.startswith(("MX_", "MODEL_EXPRESS_", "HF_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))


@pytest.fixture
def hub() -> Iterator[FakeHub]:
    with FakeHub() as hub:
        yield hub


@pytest.fixture
async def mx(tmp_path: Path, hub: FakeHub) -> AsyncIterator[ModelServer]:
    local = tmp_path / "open"
    local.mkdir()
    flags = {"cache.eviction.policy.grace_time": "0s", "providers.local.roots": [str(local)]}
    async with model_server(tmp_path, hub, **flags) as server:
        yield server


async def cli(mx: ModelServer, *args: str) -> Ran:
    """One command line in a thread, as it has an event loop of its own."""
    stdout, stderr = io.StringIO(), io.StringIO()
    invocation = Invocation(
        start_logs=lambda _settings, _stream: None, out=Output(stdout=stdout, stderr=stderr)
    )
    code = await asyncio.to_thread(run, [*args, "--endpoint", mx.address], invocation=invocation)
    return Ran(code, stdout.getvalue(), stderr.getvalue())


async def test_download_list_status_and_clear(mx: ModelServer, hub: FakeHub) -> None:
    commit = hub.add(NAME, FILES)
    total = sum(map(len, FILES.values()))
    done = await cli(mx, "model", "download", NAME, "-r", "main", "-f", "json")
    assert done.code == 0, done.err
    assert done.json == {
        "success": True,
        "message": "downloaded",
        "model_name": NAME,
        "provider": "hugging-face",
        "strategy": "smart-fallback",
        "resolved_revision": commit,
        "path": str(mx.cache / "models--org--model" / "snapshots" / commit),
        "via": "server",
        "fallback_reason": None,
        "bytes": total,
        "files": len(FILES),
    }
    again = await cli(mx, "model", "download", NAME)
    assert (again.code, again.out.startswith(f"{NAME}@{commit[:12]}: already in the cache")) == (0, True)
    listed = (await cli(mx, "model", "list", "--detailed", "-f", "json")).json
    assert listed["total_models"] == 1
    assert [(m["name"], m["revision"], m["files"]) for m in listed["models"]] == [(NAME, commit, len(FILES))]
    assert listed["models"][0]["size"] >= total
    status = (await cli(mx, "model", "status", "-f", "json")).json
    assert (status["server_available"], status["storage_accessible"], status["total_models"]) == (
        True,
        True,
        1,
    )
    assert NAME in (await cli(mx, "model", "list")).out
    assert (await cli(mx, "model", "status")).code == 0
    asked = await cli(mx, "model", "clear", NAME)
    assert (asked.code, "--yes" in asked.err) == (2, True)
    cleared = await cli(mx, "model", "clear", NAME, "--yes", "-f", "json")
    assert (cleared.json["success"], cleared.json["registry_cleared"]) == (True, True)
    assert cleared.json["bytes_freed"] >= total
    assert (await cli(mx, "model", "clear", NAME, "--yes")).code == 3
    assert (await cli(mx, "model", "list", "-f", "json")).json["models"] == []


async def test_failures_have_their_exit_codes_and_members(mx: ModelServer, hub: FakeHub) -> None:
    hub.add(NAME, FILES, gated=True)
    gated = await cli(mx, "model", "download", NAME, "-s", "server-only", "-f", "json")
    assert gated.code == 5, gated.err
    assert gated.json["success"] is False
    assert (gated.json["model_name"], gated.json["provider"]) == (NAME, "hugging-face")
    assert gated.json["strategy"] == "server-only"
    assert (await cli(mx, "model", "download", "org/nothing", "-s", "server-only")).code in (3, 5)
    assert (await cli(mx, "model", "download", "a/b/c")).code == 1
    assert (await cli(mx, "model", "download", NAME, "-p", "floppy")).code == 2
    assert (await cli(mx, "cache", "pin", "org/nothing")).code == 3
    assert (await cli(mx, "cache", "evict", "--to", "much")).code == 2
    assert (await cli(mx, "cache", "list", "--sort", "colour")).code == 2


async def test_a_directory_is_taken_only_from_below_the_roots(
    mx: ModelServer, hub: FakeHub, tmp_path: Path
) -> None:
    folder = tmp_path / "open" / "mine"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret" / "config.json").write_text("{}")
    done = await cli(mx, "model", "download", str(folder), "-p", "local", "-f", "json")
    assert (done.code, done.json["provider"]) == (0, "local"), done.err
    assert (await cli(mx, "model", "download", f"file://{tmp_path}/secret", "-s", "server-only")).code == 5


async def test_a_plan_is_what_evict_does_and_pins_keep(mx: ModelServer, hub: FakeHub) -> None:
    for name in ("org/old", "org/new"):
        hub.add(name, {**FILES, "name.json": name.encode()})
        assert (await cli(mx, "model", "download", name)).code == 0
    pinned = await cli(mx, "cache", "pin", "org/new", "--for", "1d", "--reason", "demo", "-f", "json")
    assert [one["model"] for one in pinned.json["pinned"]] == ["org/new"]
    rows = (await cli(mx, "cache", "list", "--sort", "model", "-f", "json")).json["entries"]
    assert [(row["model"], row["pinned"], row["pin_reason"]) for row in rows] == [
        ("org/new", True, "demo"),
        ("org/old", False, ""),
    ]
    assert "pin" in (await cli(mx, "cache", "list")).out
    plan = (await cli(mx, "cache", "evict", "--to", "1KiB", "--dry-run", "-f", "json")).json
    assert [one["model"] for one in plan["victims"]] == ["org/old"]
    assert [(one["model"], "demo" in one["reason"]) for one in plan["survivors"]] == [("org/new", True)]
    assert (plan["executed"], plan["met"]) == (False, False)
    assert len(await mx.services.models.records()) == 2, "a dry run changes nothing"
    assert (await cli(mx, "cache", "evict", "--to", "1KiB")).code == 2, "nobody was asked"
    done = (await cli(mx, "cache", "evict", "--to", "1KiB", "--yes", "-f", "json")).json
    assert done["victims"] == [{**plan["victims"][0], "reason": done["victims"][0]["reason"]}]
    assert (done["executed"], done["failed"], done["bytes_freed"]) == (True, [], plan["bytes_freed"])
    assert set(done) == set(plan)
    assert (await cli(mx, "model", "clear", "org/new", "--yes")).code == 6
    assert (await cli(mx, "cache", "unpin", "org/new")).code == 0
    limits = (await cli(mx, "cache", "evict", "-f", "json")).json
    assert limits["victims"] == [], "without options only what the limits demand"
    assert (await cli(mx, "cache", "evict", "org/new", "--yes")).code == 0
    assert await mx.services.models.records() == ()


async def test_grpc_and_embedded_clients_say_the_same(mx: ModelServer, hub: FakeHub) -> None:
    commit = hub.add(NAME, FILES)
    remote = GrpcClient(mx.address)
    clients: list[Client] = [remote, EmbeddedClient(mx.services)]
    try:
        for client in clients:
            updates = [update async for update in client.ensure(REF)]
            assert (updates[-1].status, updates[-1].key.commit) == (EntryStatus.DOWNLOADED, commit)
            assert updates[-1].bytes_total == sum(map(len, FILES.values()))
        listings = [await client.list_models(name=NAME, provider=HF) for client in clients]
        assert listings[0].entries == listings[1].entries
        assert [await c.list_files(REF) for c in clients] == [await clients[1].list_files(REF)] * 2
        assert await clients[0].list_files(REF, weights=False) == await clients[1].list_files(
            REF, weights=False
        )
        assert await clients[0].plan_eviction() == await clients[1].plan_eviction()
        async with mx.services.models.reading(REF, holder="somebody"):
            for client in clients:
                with pytest.raises(ConflictError):
                    await client.remove_model(HF, NAME)
        assert "files stay" in await remote.delete_model(HF, NAME)
        removed = await remote.remove_model(HF, NAME)
        assert [key.commit for key in removed.keys] == [commit]
        for client in clients:
            with pytest.raises(NotFoundError):
                await client.list_files(REF)
    finally:
        await remote.close()


async def test_the_blocking_client_follows_a_download(mx: ModelServer, hub: FakeHub) -> None:
    commit = hub.add(NAME, FILES)

    def steps() -> None:
        with SyncClient(mx.address) as client:
            *_, last = client.ensure(REF)
            assert (last.status, last.key.commit) == (EntryStatus.DOWNLOADED, commit)
            assert len(client.list_files(REF)) == len(FILES)
            assert len(client.list_models().entries) == 1

    await asyncio.to_thread(steps)
