"""The Hugging Face layout, read by Hugging Face's own library with the network out of reach."""

from __future__ import annotations

from pathlib import Path

import pytest
from huggingface_hub import hf_hub_download, scan_cache_dir, snapshot_download
from huggingface_hub.errors import LocalEntryNotFoundError

from mx.providers.cache import DiskCache, open_cache
from mx.testing.cache_samples import BASE, COMMIT, OTHER_COMMIT, bucket_model, hub_model


@pytest.fixture
def cache(tmp_path: Path) -> DiskCache:
    return open_cache(tmp_path / "hub")


@pytest.mark.parametrize("revision", [None, "release/1.0", COMMIT])
def test_snapshot_is_found_offline(cache: DiskCache, revision: str | None) -> None:
    entry = hub_model().download(cache, revision=revision)
    found = Path(
        snapshot_download("org/name", revision=revision, cache_dir=cache.root, local_files_only=True)
    )
    assert found == entry.root
    assert {p: (found / p).read_bytes() for p in BASE} == dict(BASE)
    file = hf_hub_download(
        "org/name",
        "nested/deep/tokenizer.json",
        revision=revision,
        cache_dir=cache.root,
        local_files_only=True,
    )
    assert Path(file).read_bytes() == BASE["nested/deep/tokenizer.json"]


def test_unfinished_download_is_not_found_offline(cache: DiskCache) -> None:
    model = hub_model()
    model.fetch(cache.begin(model.listing))
    for revision in (None, COMMIT):
        with pytest.raises(LocalEntryNotFoundError):
            snapshot_download("org/name", revision=revision, cache_dir=cache.root, local_files_only=True)


def test_scan_sees_what_we_see(cache: DiskCache) -> None:
    hub_model().download(cache)
    hub_model(commit=OTHER_COMMIT, config__json=b"{}").download(cache, revision="v2")
    hub_model("plainname", weights=False).download(cache)
    half = hub_model("org/half")
    half.fetch(cache.begin(half.listing))
    info = scan_cache_dir(cache.root)
    assert info.warnings == []
    found = {repo.repo_id: repo for repo in info.repos}
    assert {r.commit_hash for r in found["org/name"].revisions} == {COMMIT, OTHER_COMMIT}
    assert found["org/name"].nb_files == len(BASE) + 1
    refs = {ref for revision in found["org/name"].revisions for ref in revision.refs}
    assert refs == {"main", "v2", COMMIT, OTHER_COMMIT}
    assert found["plainname"].nb_files == len(BASE) - 2


def test_remove_leaves_a_cache_without_warnings(cache: DiskCache) -> None:
    first, second = hub_model(), hub_model(commit=OTHER_COMMIT)
    first.download(cache)
    second.download(cache, revision="v2")
    cache.remove(first.key)
    info = scan_cache_dir(cache.root)
    assert info.warnings == []
    assert {ref for repo in info.repos for rev in repo.revisions for ref in rev.refs} == {"v2", OTHER_COMMIT}


def test_revision_deleted_by_the_library_is_no_entry_any_more(cache: DiskCache) -> None:
    model, other = hub_model(), hub_model(commit=OTHER_COMMIT, config__json=b"{}")
    model.download(cache)
    other.download(cache, revision="v2")
    scan_cache_dir(cache.root).delete_revisions(COMMIT).execute()
    assert cache.entry(model.key) is None
    assert cache.verify(other.key).sound
    model.download(cache)
    assert cache.verify(model.key).sound


def test_other_folders_do_not_disturb_the_library(cache: DiskCache) -> None:
    hub_model().download(cache)
    bucket_model().download(cache)
    assert [repo.repo_id for repo in scan_cache_dir(cache.root).repos] == ["org/name"]
    assert snapshot_download("org/name", cache_dir=cache.root, local_files_only=True)
