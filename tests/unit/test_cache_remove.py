"""Deleting, cleaning up and measuring: what goes, what stays, and what the disk gains."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from mx.core.model import EntryKey, ProviderName
from mx.providers.cache import DiskCache, open_cache
from mx.testing.cache_samples import (
    BASE,
    OTHER_COMMIT,
    SampleModel,
    bucket_model,
    hub_model,
    tree,
)

REPO = "models--org--name"
DAY_S = 86_400.0


@pytest.fixture
def cache(tmp_path: Path) -> DiskCache:
    return open_cache(tmp_path / "hub")


def used(root: Path) -> int:
    """What the files below occupy, told by the file system itself."""
    found = {
        (s.st_dev, s.st_ino): s.st_blocks * 512
        for s in (p.lstat() for p in root.rglob("*") if not p.is_dir() or p.is_symlink())
    }
    return sum(found.values())


class Interruption:
    """Acts right before the change number ``at`` (counted from 0) among those with this beginning."""

    def __init__(self, at: int, act: Callable[[], object], *, only: str = "") -> None:
        self._at = at
        self._act = act
        self._only = only
        self.seen = 0

    def __call__(self, name: str) -> None:
        if name.startswith(self._only):
            self.seen += 1
            if self.seen == self._at + 1:
                self._act()

    @property
    def acted(self) -> bool:
        return self.seen > self._at


@pytest.mark.parametrize("model", [hub_model(), bucket_model()], ids=["hub", "bucket"])
def test_remove_frees_what_it_says_and_leaves_nothing(cache: DiskCache, model: SampleModel) -> None:
    model.download(cache)
    before = used(cache.root)
    planned = cache.usage().entries[model.key]
    freed = cache.remove(model.key)
    assert freed == planned.total_bytes > 0
    # The completion record and refs go as well, and are not worth counting.
    assert 0 <= before - used(cache.root) - freed <= 16_384
    assert cache.entry(model.key) is None
    assert list(cache.root.iterdir()) == []
    assert cache.remove(model.key) == 0


def test_shared_blobs_stay_with_the_other_revision(cache: DiskCache) -> None:
    first = hub_model()
    second = hub_model(commit=OTHER_COMMIT, config__json=b'{"changed": true}')
    first.download(cache)
    alone = tree(cache.root)
    second.download(cache, revision="v2")
    usage = cache.usage().entries[second.key]
    assert usage.own_bytes == cache.remove(second.key) > 0
    assert tree(cache.root) == alone
    assert cache.verify(first.key).sound


def test_shared_bytes_are_gained_with_the_last_entry(cache: DiskCache) -> None:
    models = [hub_model(), hub_model(commit=OTHER_COMMIT, config__json=b"{}")]
    for model in models:
        model.download(cache)
    usages = cache.usage().entries
    shared = dict(usages[models[0].key].shared)
    assert shared == dict(usages[models[1].key].shared)
    expected = sum(u.own_bytes for u in usages.values()) + sum(shared.values())
    assert sum(cache.remove(model.key) for model in models) == expected


@pytest.mark.parametrize("make", [hub_model, bucket_model], ids=["hub", "bucket"])
def test_weights_go_and_metadata_stays(cache: DiskCache, make: Callable[..., SampleModel]) -> None:
    full, meta = make(), make(weights=False)
    meta.download(cache)
    alone = tree(cache.root)
    full.download(cache)
    freed = cache.remove(full.key)
    assert freed >= sum(len(data) for path, data in BASE.items() if path.endswith(".safetensors"))
    assert cache.entry(meta.key) is not None
    assert tree(cache.root) == alone


@pytest.mark.parametrize("make", [hub_model, bucket_model], ids=["hub", "bucket"])
def test_metadata_goes_and_everything_stays(cache: DiskCache, make: Callable[..., SampleModel]) -> None:
    full, meta = make(), make(weights=False)
    full.download(cache)
    alone = tree(cache.root)
    meta.download(cache)
    assert cache.remove(meta.key) == 0
    assert tree(cache.root) == alone
    assert cache.verify(full.key).sound


def test_nested_bucket_models_keep_each_others_files(cache: DiskCache) -> None:
    outer = bucket_model()
    inner = SampleModel(
        EntryKey(ProviderName.S3, f"{outer.key.name}/nested", ""),
        {"deep/tokenizer.json": BASE["nested/deep/tokenizer.json"], "own.json": b"1"},
        digest=lambda _path, _data: "",
        etag="v1",
    )
    outer.download(cache)
    inner.download(cache)
    assert cache.entry(outer.key) is not None, "the same bytes: nothing has changed for it"
    cache.remove(outer.key)
    assert cache.verify(inner.key).sound
    outer.download(cache)
    cache.remove(inner.key)
    assert cache.verify(outer.key).sound
    cache.remove(outer.key)
    assert list(cache.root.iterdir()) == []


def test_what_others_keep_here_stays(cache: DiskCache) -> None:
    model = hub_model()
    model.download(cache)
    repo = cache.root / REPO
    outside = cache.root.parent / "precious"
    outside.mkdir()
    (outside / "file").write_text("keep me")
    # A snapshot of another tool, using one of our blobs; a partial file of it; a dataset.
    blob = os.path.basename(os.readlink(repo / "snapshots" / model.key.commit / "config.json"))
    foreign = repo / "snapshots" / OTHER_COMMIT / "sub"
    foreign.mkdir(parents=True)
    (foreign / "config.json").symlink_to(f"../../../blobs/{blob}")
    (foreign / "escape").symlink_to(outside)
    (repo / "blobs" / "0123.incomplete").write_text("half")
    (cache.root / "datasets--x--y").mkdir()
    assert cache.remove(model.key) > 0
    assert (foreign / "config.json").read_bytes() == BASE["config.json"]
    assert (repo / "blobs" / "0123.incomplete").exists()
    assert (cache.root / "datasets--x--y").exists()
    assert (outside / "file").read_text() == "keep me"
    assert sorted(os.listdir(repo / "blobs")) == sorted(["0123.incomplete", blob])


def test_blob_that_another_tool_is_at_stays(cache: DiskCache) -> None:
    model = hub_model()
    model.download(cache)
    blobs = cache.root / REPO / "blobs"
    names = sorted(os.listdir(blobs))
    (blobs / f"{names[0]}.1234.incomplete").write_text("")
    locks = cache.root / ".locks" / REPO
    locks.mkdir(parents=True)
    for name in names[1:3]:
        (locks / f"{name}.lock").write_text("")
    with (locks / f"{names[1]}.lock").open("r+") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        cache.remove(model.key)
    left = [name for name in os.listdir(blobs) if not name.endswith(".incomplete")]
    assert sorted(left) == names[:2], "the partial one and the locked one; a lock nobody holds is nothing"


def test_links_planted_in_the_cache_are_not_followed(cache: DiskCache, tmp_path: Path) -> None:
    model = bucket_model()
    model.download(cache)
    outside = tmp_path / "outside"
    (outside / "deep").mkdir(parents=True)
    (outside / "deep" / "tokenizer.json").write_bytes(BASE["nested/deep/tokenizer.json"])
    folder = cache.root / "s3/bucket/team/model"
    (folder / "nested/deep/tokenizer.json").unlink()
    (folder / "nested/deep").rmdir()
    (folder / "nested").rmdir()
    (folder / "nested").symlink_to(outside)
    (folder / "link-to-outside").symlink_to(outside)
    assert cache.entry(model.key) is None, "a file behind a link is no file of ours"
    cache.usage()
    cache.remove(model.key)
    cache.clean_abandoned(older_than_s=0)
    assert (outside / "deep" / "tokenizer.json").read_bytes() == BASE["nested/deep/tokenizer.json"]


def test_model_folder_that_is_a_link_is_not_entered(cache: DiskCache, tmp_path: Path) -> None:
    elsewhere = open_cache(tmp_path / "elsewhere")
    model = hub_model()
    model.download(elsewhere)
    before = tree(elsewhere.root)
    (cache.root / REPO).symlink_to(elsewhere.root / REPO)
    assert cache.entry(model.key) is None
    assert cache.remove(model.key) == 0
    assert cache.scan() == ()
    cache.clean_abandoned(older_than_s=0)
    with pytest.raises(Exception, match="in the way"):
        cache.begin(model.listing)
    assert tree(elsewhere.root) == before


def test_remove_takes_the_half_download_of_the_key_along(cache: DiskCache) -> None:
    model, other = hub_model(), hub_model(commit=OTHER_COMMIT)
    staging, kept = cache.begin(model.listing), cache.begin(other.listing)
    model.fetch(staging)
    staging.close()
    assert cache.remove(model.key) >= model.total_bytes
    assert other.fetch(kept) == other.total_bytes
    kept.publish(revision=None, fence=lambda: True)
    assert cache.verify(other.key).sound


def test_files_removed_under_a_running_download_come_back_with_it(cache: DiskCache) -> None:
    first, second = hub_model(), hub_model(commit=OTHER_COMMIT, config__json=b"{}")
    first.download(cache)
    staging = cache.begin(second.listing)
    assert len(staging.missing) == 1
    cache.remove(first.key)
    second.fetch(staging)
    staging.publish(revision=None, fence=lambda: True)
    assert cache.verify(second.key).sound


@pytest.mark.parametrize("moment", ["rename", "sync", "unlink"])
def test_publish_in_the_middle_of_a_remove(tmp_path: Path, moment: str) -> None:
    """At each change that a remove makes, another process publishes a revision with the same blobs."""
    cache = open_cache(tmp_path / "hub")
    first, second = hub_model(), hub_model(commit=OTHER_COMMIT, config__json=b"{}")
    for at in range(1000):
        first.download(cache)
        staging = cache.begin(second.listing)
        second.fetch(staging)
        publish = partial(staging.publish, revision=None, fence=lambda: True)
        interruption = Interruption(at, publish, only=moment)
        open_cache(tmp_path / "hub", step=interruption).remove(first.key)
        if interruption.acted:
            assert cache.verify(second.key).sound, f"at {moment} {at}"
            assert cache.entry(first.key) is None
        staging.close()
        cache.remove(second.key)
        assert list(cache.root.iterdir()) == []
        if not interruption.acted:
            break
    assert 2 < at < 999


def test_remove_in_the_middle_of_a_publish(tmp_path: Path) -> None:
    cache = open_cache(tmp_path / "hub")
    first, second = hub_model(), hub_model(commit=OTHER_COMMIT, config__json=b"{}")
    for at in range(1000):
        first.download(cache)
        interruption = Interruption(at, partial(cache.remove, first.key))
        second.download(open_cache(tmp_path / "hub", step=interruption))
        assert cache.verify(second.key).sound, f"at change {at}"
        cache.remove(first.key)
        cache.remove(second.key)
        assert list(cache.root.iterdir()) == []
        if not interruption.acted:
            break
    assert 20 < at < 999


def test_abandoned_download_goes_when_it_is_old_and_not_before(cache: DiskCache) -> None:
    model = hub_model()
    staging = cache.begin(model.listing)
    model.fetch(staging)
    staging.close()
    assert cache.clean_abandoned(older_than_s=3600) == 0
    assert cache.begin(model.listing).missing == ()
    assert cache.clean_abandoned(older_than_s=0) >= model.total_bytes
    assert list(cache.root.iterdir()) == []


def test_what_a_crash_left_is_cleaned(cache: DiskCache) -> None:
    model = hub_model()
    model.download(cache)
    repo = cache.root / REPO
    orphan = repo / "blobs" / ("c" * 40)
    orphan.write_bytes(b"x" * 8192)
    (repo / ".mx" / ".mx-1234.ref").write_text("half")
    for name in (".modelexpress-staging-1", ".modelexpress-old"):
        (repo / name).mkdir()
        (repo / name / "file").write_bytes(b"x" * 4096)
    (repo / ".modelexpress.lock").write_text("")
    before = tree(cache.root)
    cache.clean_abandoned(older_than_s=3600)
    assert tree(cache.root) == before
    assert cache.clean_abandoned(older_than_s=0) >= 8192
    assert not orphan.exists()
    assert not (repo / ".mx" / ".mx-1234.ref").exists()
    assert (repo / ".modelexpress-old" / "file").exists(), "not a day old"
    assert cache.verify(model.key).sound
    later = open_cache(cache.root, now_ms=lambda: int((time.time() + 2 * DAY_S) * 1000))
    later.clean_abandoned(older_than_s=3600)
    assert sorted(p.name for p in repo.iterdir() if p.name.startswith(".model")) == [".modelexpress.lock"]
    assert later.verify(model.key).sound


def test_usage_counts_each_block_once_and_partial_files_too(cache: DiskCache) -> None:
    hub_model().download(cache)
    hub_model(commit=OTHER_COMMIT).download(cache)
    bucket_model().download(cache)
    staging = cache.begin(hub_model("org/second").listing)
    staging.path_for(staging.missing[0].file).write_bytes(b"1")
    usage = cache.usage()
    assert usage.used_bytes == used(cache.root)
    assert 0 < usage.free_bytes <= usage.disk_bytes
    half = hub_model("org/second").listing.key
    assert set(usage.entries) == {entry.key for entry in cache.scan()} | {half}
    # What removing the unfinished download gains is what is said of it.
    assert usage.entries[half].total_bytes > 0
    staging.close()
    staged = cache.usage().entries[half].total_bytes
    assert cache.remove(half) == staged
    assert half not in cache.usage().entries


def test_files_with_a_name_outside_gain_nothing(cache: DiskCache, tmp_path: Path) -> None:
    model = bucket_model()
    original = tmp_path / "original.safetensors"
    original.write_bytes(BASE["model-00001.safetensors"])
    staging = cache.begin(model.listing)
    file = next(m.file for m in staging.missing if m.file.path == "model-00001.safetensors")
    part = staging.path_for(file)
    part.unlink()
    os.link(original, part)
    staging.accept(file)
    model.fetch(staging)
    staging.publish(revision=None, fence=lambda: True)
    planned = cache.usage().entries[model.key].total_bytes
    assert cache.remove(model.key) == planned < model.total_bytes
    assert original.read_bytes() == BASE["model-00001.safetensors"]


def test_partial_second_name_of_an_original_is_never_shortened(cache: DiskCache, tmp_path: Path) -> None:
    model = bucket_model()
    original = tmp_path / "original"
    original.write_bytes(b"x" * 5000)
    staging = cache.begin(model.listing)
    file = next(m.file for m in staging.missing if m.file.size_bytes > 5000)
    part = staging.path_for(file)
    part.unlink()
    os.link(original, part)
    staging.close()
    cache.begin(model.listing)
    assert original.read_bytes() == b"x" * 5000


def test_record_of_garbage_is_no_entry_and_no_crash(cache: DiskCache) -> None:
    model = hub_model()
    model.download(cache)
    record = cache.root / REPO / ".mx/complete" / f"{model.key.commit}.full.json"
    good = record.read_text()
    rubbish = [
        "",
        "{",
        "[]",
        "null",
        "[" * 100_000,
        good.replace('"version":1', '"version":2'),
        good.replace("blobs/", "../../"),
        good.replace('"path":"config.json"', '"path":"../../x"'),
        good.replace("org/name", "org/other"),
        good.replace('"size":', '"size":"x","y":'),
    ]
    for bad in rubbish:
        record.write_text(bad)
        assert cache.entry(model.key) is None
        assert cache.scan() == ()
        cache.usage()
    record.write_text(good)
    assert cache.entry(model.key) is not None


def test_entry_that_lost_a_file_is_none_and_comes_back_with_that_file_only(cache: DiskCache) -> None:
    model = hub_model()
    entry = model.download(cache)
    (entry.root / "config.json").resolve().unlink()
    assert cache.entry(model.key) is None
    assert cache.scan() == ()
    staging = cache.begin(model.listing)
    assert [m.file.path for m in staging.missing] == ["config.json"]
    model.fetch(staging)
    staging.publish(revision=None, fence=lambda: True)
    assert cache.verify(model.key).sound


def test_thousands_of_entries_are_scanned_fast(cache: DiskCache) -> None:
    """The record of one entry is copied to many names: what is measured is reading, not publishing."""
    count = 2000
    model = bucket_model("s3://bucket/m00000")
    source = model.download(cache).root
    text = (source / ".mx/complete/-.full.json").read_text()
    for n in range(1, count):
        name = f"m{n:05}"
        folder = source.parent / name
        (folder / ".mx/complete").mkdir(parents=True)
        (folder / ".mx/complete/-.full.json").write_text(text.replace("m00000", name))
        (folder / "nested/deep").mkdir(parents=True)
        for path in BASE:
            os.link(source / path, folder / path)
    start = time.perf_counter()
    assert len(cache.scan()) == count
    # 10,000 in 6 s at worst; measured 0.9 ms each would be slow already.
    assert time.perf_counter() - start < count * 0.003
