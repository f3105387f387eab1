"""A cache of this machine: where it is, whose limits it has, where its records lie."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from mx.config import Settings, load_settings
from mx.core.cache_view import EntryDetail, ListedEntry, ShownFile
from mx.core.model import EntryKey, EntryStatus, ModelRef, Pin, ProviderName
from mx.errors import ConflictError, PreconditionError
from mx.providers.cache import open_cache
from mx.providers.cache.split import SplitCache
from mx.store.passing_models import PassingModelStore
from mx.store.sqlite.place import network_file_system
from mx.store.whereabouts import Whereabouts, leave_note, note_path, read_note
from mx.testing.cache_samples import bucket_model, hub_model
from mx.wiring import client_root, open_client_cache, open_services
from mx.wiring_local import find_here, open_local


def settings(home: Path, *, scope: str = "client", **environ: str) -> Settings:
    variables = {"HOME": str(home), **environ}
    if scope == "server":
        return load_settings(environ=variables, cwd=home, scope="server")
    return load_settings(environ=variables, cwd=home, scope="client")


def test_roots_of_providers(tmp_path: Path) -> None:
    plain = settings(tmp_path)
    hub = tmp_path / ".cache/huggingface/hub"
    for provider in (ProviderName.HUGGING_FACE, ProviderName.S3, ProviderName.LOCAL):
        assert client_root(plain, provider) == (hub, None)
    assert client_root(plain, ProviderName.NGC) == (tmp_path / ".cache", frozenset({"ngc"}))
    named = settings(tmp_path, MODEL_EXPRESS_CACHE_DIRECTORY="/x")
    assert {client_root(named, provider) for provider in ProviderName} == {(Path("/x"), None)}


def test_models_of_ngc_lie_in_its_own_folder_and_are_one_cache_with_the_rest(tmp_path: Path) -> None:
    plain = settings(tmp_path)
    (tmp_path / ".cache/mine").mkdir(parents=True)
    (tmp_path / ".cache/mine/large").write_bytes(bytes(1 << 20))
    ngc = EntryKey(ProviderName.NGC, "org/models/m/1", "")
    aside = open_client_cache(plain, ProviderName.NGC)
    both = SplitCache(open_client_cache(plain, ProviderName.HUGGING_FACE), {ProviderName.NGC: aside})
    hub_model().download(both)
    entry = replace(bucket_model(), key=ngc).download(both).root
    assert entry == tmp_path / ".cache/ngc/org/models/m/1"
    assert {one.key for one in both.scan()} == {ngc, hub_model().key} == set(both.recorded())
    usage = both.usage()
    assert set(usage.entries) == {ngc, hub_model().key}
    assert usage.used_bytes < 1 << 20, "what else lies in ~/.cache is not the cache's"
    assert both.verify(ngc).sound
    assert both.clean_abandoned(older_than_s=0) >= 0
    assert both.remove(ngc) > 0
    assert (tmp_path / ".cache/mine/large").exists()


@pytest.mark.parametrize(
    ("kind", "named"),
    [("nfs4", "nfs4"), ("lustre", "lustre"), ("fuse.sshfs", "fuse.sshfs"), ("ext4", ""), ("tmpfs", "")],
)
def test_network_file_systems_are_known_by_the_mount_table(tmp_path: Path, kind: str, named: str) -> None:
    folder = tmp_path / "with space" / "below"
    folder.mkdir(parents=True)
    mounts = tmp_path / "mountinfo"
    where = str(folder.parent).replace(" ", "\\040")
    mounts.write_text(
        "1 0 8:1 / / rw - ext4 /dev/sda rw\n"
        f"2 1 0:5 / {where} rw shared:1 - {kind} host:/x rw\n"
        f"3 1 0:5 / {where}-beside rw - nfs host:/y rw\n"
        "nonsense\n"
    )
    assert network_file_system(folder, mounts=mounts) == named
    assert network_file_system(tmp_path, mounts=mounts) == ""
    assert network_file_system(tmp_path, mounts=tmp_path / "none") == ""


def test_a_note_says_whose_records_they_are(tmp_path: Path) -> None:
    assert read_note(tmp_path) is None
    leave_note(tmp_path, backend="memory", path=None)
    note = read_note(tmp_path)
    assert note is not None
    assert (note.is_here, note.is_gone, note.pid) == (True, False, os.getpid())
    assert Whereabouts("memory", note.host, 2**22 + 1).is_gone, "its process has ended"
    assert Whereabouts("sqlite", note.host, 1, "/nothing").is_gone
    assert not Whereabouts("memory", "elsewhere", 1).is_gone
    assert not Whereabouts("redis", note.host, 1).is_gone
    for nonsense in (
        b"",
        b"[]",
        b"{",
        b'{"backend": 1}',
        b"\xff",
        b'{"backend":"a","host":"h","pid":-1,"path":""}',
    ):
        note_path(tmp_path).write_bytes(nonsense)
        assert read_note(tmp_path) is None, nonsense
    leave_note(tmp_path / "read-only-or-gone", backend="redis", path=None)


KEY = EntryKey(ProviderName.HUGGING_FACE, "org/name", "a" * 40)


async def test_records_that_pass_refuse_pins_and_those_of_others_removals() -> None:
    passing = PassingModelStore(why="the disk is read-only", remedy="do something")
    with pytest.raises(PreconditionError, match="read-only") as refused:
        await passing.pin(KEY, Pin())
    assert refused.value.remedy == "do something"
    of_others = PassingModelStore(owner="redis, of an mx server on h")
    claim = await of_others.claim(KEY, owner="a", lease_s=1, now_ms=0)
    with pytest.raises(ConflictError, match="redis, of an mx server on h"):
        await of_others.mark_evicting(KEY, observed=claim.record, now_ms=10_000)


async def test_a_server_on_this_machine_shares_its_records(tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    hub_model().download(open_cache(cache))
    server = settings(tmp_path, scope="server", MODEL_EXPRESS_CACHE_DIRECTORY=str(cache))
    mine = settings(tmp_path, MODEL_EXPRESS_CACHE_DIRECTORY=str(cache))
    async with open_services(server) as services:
        await services.models.reconcile()
        await services.models.pin(hub_model().key, Pin(reason="the server's"))
        async with open_local(mine) as local:
            assert local.records == str(tmp_path / "models.db")
            (record,) = await local.services.models.records()
            assert record.pin == Pin(reason="the server's")


async def test_limits_are_those_that_somebody_set(tmp_path: Path) -> None:
    async with open_local(settings(tmp_path)) as local:
        policy, eviction = local.services.eviction.policy, local.services.eviction
        assert (policy.unused_threshold_s, policy.grace_s, policy.max_size_bytes) == (None, 0.0, None)
        assert (eviction.enabled, eviction.next_run_at_ms) == (False, None)
    (tmp_path / "model-express.yaml").write_text(
        "cache: {max_size_bytes: 1GiB, eviction: {policy: {unused_threshold: 30d, grace_time: 1h}}}\n"
    )
    async with open_local(settings(tmp_path)) as local:
        policy = local.services.eviction.policy
        assert (policy.unused_threshold_s, policy.grace_s) == (30 * 86_400, 3600)
        assert policy.max_size_bytes == 1 << 30


async def test_what_was_there_before_is_found_and_nothing_of_others_is_touched(tmp_path: Path) -> None:
    root = tmp_path / ".cache/huggingface/hub"
    hub_model().download(open_cache(root))
    theirs = root / "models--org--theirs/snapshots/x/config.json"
    theirs.parent.mkdir(parents=True)
    theirs.write_text("{}")
    ref = ModelRef(ProviderName.HUGGING_FACE, "org/name", "a" * 40)
    async with open_local(settings(tmp_path)) as local:
        records = await local.services.models.records()
        assert [(one.key.name, one.status) for one in records] == [("org/name", EntryStatus.DOWNLOADED)]
        updates = [update async for update in local.services.models.ensure(ref)]
        assert updates[-1].message == "already in the cache"
    assert theirs.exists()


def test_an_entry_of_the_server_is_found_where_it_is_seen(tmp_path: Path) -> None:
    mine = settings(tmp_path)
    there = open_cache(tmp_path / "server")
    entry = hub_model().download(there)
    listed = ListedEntry(key=entry.key, status=EntryStatus.DOWNLOADED, created_at_ms=0, last_used_at_ms=0)
    files = tuple(ShownFile(f.path, f.size_bytes, f.digest, f.xxh3, f.block, 1) for f in entry.files)
    told = EntryDetail(listed=listed, root=str(entry.root), files=files)
    assert find_here(mine, entry.key, told=None) is None
    assert find_here(mine, entry.key, told=told) == entry.root
    assert not (tmp_path / ".cache").exists(), "looking makes no folders"
    (entry.root / "config.json").resolve().write_text("another size, surely so")
    assert find_here(mine, entry.key, told=told) is None, "a folder of that name with other files is not it"
    here = open_client_cache(mine, ProviderName.HUGGING_FACE)
    own = hub_model().download(here)
    assert find_here(mine, entry.key, told=told) == own.root
