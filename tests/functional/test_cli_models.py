"""``mx model`` and ``mx cache`` against a real server with a cache on disk."""

from __future__ import annotations

import asyncio
import io
import json
import os
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, replace
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
from mx.core.eviction import EvictionStep, Shrink
from mx.core.model import EntryStatus, ModelRef, ProviderName
from mx.core.verification import EntryVerified, Outcome
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


async def test_what_the_server_may_not_have_is_got_directly(
    mx: ModelServer, hub: FakeHub, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    hub.add(NAME, FILES, gated=True)
    with FakeHub() as mine:
        commit = mine.add(NAME, FILES)
        monkeypatch.setenv("HF_ENDPOINT", mine.endpoint)
        strict = await cli(mx, "model", "download", NAME, "-s", "server-only", "-f", "json")
        assert (strict.code, strict.json["strategy"]) == (5, "server-only")
        done = await cli(mx, "model", "download", NAME, "-f", "json")
    assert (done.code, done.json["via"], "gated" in done.json["fallback_reason"]) == (0, "direct", True)
    assert done.json["path"].startswith(str(tmp_path / ".cache/huggingface/hub"))
    assert done.json["resolved_revision"] == commit
    assert "downloading directly" in done.err


async def test_a_full_server_is_told_and_not_passed_by(
    tmp_path: Path, hub: FakeHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.add(NAME, FILES)
    monkeypatch.setenv("HF_ENDPOINT", hub.endpoint)
    async with model_server(tmp_path, hub, **{"cache.max_size_bytes": 4096}) as small:
        refused = await cli(small, "model", "download", NAME, "-f", "json")
        wrong = await cli(small, "model", "download", "a/b/c", "-f", "json")
    assert (refused.code, refused.json["code"]) == (1, "exhausted")
    assert (wrong.code, wrong.json["code"]) == (1, "invalid_argument")
    assert not (tmp_path / ".cache").exists()


async def test_files_come_here_where_storage_is_not_shared(
    mx: ModelServer, hub: FakeHub, tmp_path: Path
) -> None:
    commit = hub.add(NAME, FILES)
    words = ("model", "download", NAME, "--no-shared-storage", "--cache-path", str(tmp_path / "mine"))
    done = await cli(mx, *words, "-f", "json")
    assert done.code == 0, done.err
    folder = tmp_path / "mine" / "models--org--model" / "snapshots" / commit
    assert (done.json["path"], done.json["via"], done.json["message"]) == (str(folder), "server", "received")
    assert {path: (folder / path).read_bytes() for path in FILES} == dict(FILES)
    asked = len(hub.asked("storage:"))
    again = await cli(
        mx, *words, "-r", commit, "--transfer-chunk-size", "64KiB", "--no-weights", "-f", "json"
    )
    assert (again.code, again.json["path"]) == (0, str(folder))
    assert len(hub.asked("storage:")) == asked
    assert (await cli(mx, *words, "--transfer-chunk-size", "none")).code == 1
    listed = await cli(
        mx, "model", "list", "--embedded", "--cache-path", str(tmp_path / "mine"), "-f", "json"
    )
    assert [(one["name"], one["revision"]) for one in listed.json["models"]] == [(NAME, commit)]


def flip(path: Path) -> None:
    target = path.resolve()
    found = target.stat()
    data = bytearray(target.read_bytes())
    data[-1] ^= 1
    target.write_bytes(data)
    os.utime(target, ns=(found.st_atime_ns, found.st_mtime_ns))


async def test_a_server_shows_verifies_and_mends_its_cache(mx: ModelServer, hub: FakeHub) -> None:
    commit = hub.add(NAME, FILES)
    other = hub.add(NAME, {**FILES, "config.json": b"{}"}, revision="v2")
    for revision in ("main", "v2"):
        assert (await cli(mx, "model", "download", NAME, "-r", revision)).code == 0
    async with mx.services.models.reading(REF, holder="a worker"):
        shown = (await cli(mx, "cache", "show", f"{NAME}@{commit}", "-f", "json")).json["entries"][0]
        human = await cli(mx, "cache", "show", f"{NAME}@{commit}", "--wide")
        refused = await cli(mx, "model", "clear", NAME, "--yes", "-f", "json")
        assert (refused.code, "a worker" in refused.json["error"]) == (6, True)
    assert [lease["holder"] for lease in shown["leases"]] == ["a worker"]
    assert [one["revision"] for one in shown["shares_with"]] == [other]
    users = {file["path"]: file["users"] for file in shown["file_list"]}
    # An empty file has no blocks to share.
    assert users == {path: 1 if path in ("config.json", "empty.txt") else 2 for path in FILES}
    assert "by a worker, for" in human.out
    assert all(file["digest"] in human.out for file in shown["file_list"])
    assert (await cli(mx, "cache", "verify")).code == 0

    folder = mx.cache / "models--org--model" / "snapshots" / commit
    flip(folder / "model.safetensors")
    found = await cli(mx, "cache", "verify", NAME, "-f", "json")
    assert (found.code, found.json["quarantined"]) == (7, 2), "both revisions use the bytes"
    assert (await cli(mx, "model", "list", "-f", "json")).json["models"] == []
    asked = len(hub.asked("storage:"))
    mended = await cli(mx, "cache", "verify", "--repair", "-f", "json")
    assert (mended.code, mended.json["sound"] + mended.json["repaired"]) == (0, 2), mended.err
    assert len(hub.asked("storage:")) == asked + 1
    assert (folder / "model.safetensors").read_bytes() == FILES["model.safetensors"]


async def test_a_server_tells_its_cache_in_short(mx: ModelServer, hub: FakeHub) -> None:
    hub.add(NAME, FILES)
    assert (await cli(mx, "model", "download", NAME)).code == 0
    assert (await cli(mx, "model", "download", NAME, "--no-weights")).code == 0
    stats = (await cli(mx, "cache", "stats", "-f", "json")).json
    assert stats["path"] == str(mx.cache)
    assert stats["limits"]["evicts"] is True
    assert stats["limits"]["unused_threshold_s"] == 7 * 86_400
    assert stats["next_run_at_ms"] > 0
    kinds = {one["kind"]: one for one in stats["kinds"]}
    assert (kinds["models"]["total"], kinds["models"]["active"]) == (1, 0)
    assert kinds["models"]["reclaimable_bytes"] == kinds["models"]["bytes"] > 0
    assert sum(one["bytes"] for one in stats["kinds"]) == stats["used_bytes"]
    plan = (await cli(mx, "model", "clear-all", "--dry-run", "-f", "json")).json
    assert plan["bytes_freed"] == kinds["models"]["reclaimable_bytes"]
    assert (await cli(mx, "cache", "evict", NAME, "--yes")).code == 0
    text = (await cli(mx, "cache", "stats")).out
    assert "1 evicted" in text
    assert "asked for" in text
    assert (await cli(mx, "cache", "stats", "--runs", "0", "-f", "json")).json["runs"] == []


async def test_rubbish_for_every_option_is_one_document_and_a_documented_code(mx: ModelServer) -> None:
    for words in (
        ["model", "download", NAME, "--strategy", "hope"],
        ["model", "download", NAME, "--provider", "floppy"],
        ["model", "download", NAME, "--revision", "../main"],
        ["model", "download", "s3://"],
        ["model", "download", "ngc://a"],
        ["model", "download", ""],
        ["model", "download", NAME, "--cache-path", ""],
        ["model", "download", NAME, "--transfer-chunk-size", "0", "--no-shared-storage"],
        ["model", "list", "--filter", "size>"],
        ["model", "list", "--sort", "size:up"],
        ["model", "list", "--limit", "0"],
        ["model", "clear", "a/b/c", "--yes"],
        ["model", "clear", NAME, "--revision", "\x00", "--yes"],
        ["model", "validate", "org/nothing"],
        ["model", "init", "--server-endpoint", "ftp://x"],
        ["cache", "list", "--limit", "many"],
        ["cache", "list", "--filter", "colour=red"],
        ["cache", "show", "org/nothing"],
        ["cache", "show", "@"],
        ["cache", "evict", "--to", "-1"],
        ["cache", "evict", "--older-than", "soon"],
        ["cache", "pin", NAME, "--for", "-3d"],
        ["cache", "verify", "org/nothing", "--repair"],
        ["cache", "stats", "--runs", "-1"],
        ["cache", "stats", "--runs", "1000"],
        ["cache", "verify", "--repair", "--dry-run"],
    ):
        ran = await cli(mx, *words, "-f", "json")
        assert ran.code in (1, 2, 3), (words, ran)
        assert ran.json["success"] is False, words
        assert ran.json["exit_code"] == ran.code, words
        assert ran.json["error"], words
        assert "Traceback" not in ran.err
        assert "defect" not in ran.err, (words, ran.err)


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
        assert await clients[0].plan_removal(name=NAME) == await clients[1].plan_removal(name=NAME)
        key = listings[0].entries[0].key
        assert await clients[0].show_model(key) == await clients[1].show_model(key)
        short = [await client.cache_stats() for client in clients]
        assert (short[0].kinds, short[0].policy, short[0].root) == (
            short[1].kinds,
            short[1].policy,
            short[1].root,
        )
        for client in clients:
            steps = [step async for step in client.verify_models([key])]
            assert [step.outcome for step in steps if isinstance(step, EntryVerified)] == [Outcome.SOUND]
            with pytest.raises(NotFoundError):
                await anext(client.verify_models([replace(key, name="org/nothing")]))
            with pytest.raises(NotFoundError):
                await client.plan_removal(name="org/nothing")
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
            (entry,) = client.list_models().entries
            assert client.show_model(entry.key).listed.key == entry.key
            *_, verified = client.verify_models()
            assert isinstance(verified, EntryVerified)
            assert (verified.key, verified.outcome) == (entry.key, Outcome.SOUND)
            assert client.plan_removal(name=NAME).met
            told: list[EvictionStep] = []
            run = client.run_eviction(client.plan_eviction(Shrink(to_bytes=0)), told=told.append)
            assert (run.failed, [step.key for step in told]) == ((), [entry.key])
            assert client.cache_stats().runs[0].run_id == run.run_id
            with pytest.raises(NotFoundError):
                client.remove_model(HF, NAME)

    await asyncio.to_thread(steps)
