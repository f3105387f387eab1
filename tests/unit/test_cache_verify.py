"""Verifying, repairing single files, and opening files for readers."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from mx.core.cached import FaultKind
from mx.errors import IntegrityError, InvalidArgumentError, NotFoundError
from mx.providers.cache import DiskCache, open_cache
from mx.testing.cache_samples import BASE, OTHER_COMMIT, SampleModel, bucket_model, hub_model

WEIGHTS = "model-00001.safetensors"


@pytest.fixture
def cache(tmp_path: Path) -> DiskCache:
    return open_cache(tmp_path / "hub")


def both() -> pytest.MarkDecorator:
    return pytest.mark.parametrize("model", [hub_model(), bucket_model()], ids=["hub", "bucket"])


def flip(path: Path) -> None:
    """One bit, with the times as before: what a dying disk does."""
    found = path.stat()
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    os.utime(path, ns=(found.st_atime_ns, found.st_mtime_ns))


@both()
def test_sound_entry(cache: DiskCache, model: SampleModel) -> None:
    model.download(cache)
    seen: list[int] = []
    report = cache.verify(model.key, progress=seen.append)
    assert report.sound
    assert (report.files, report.bytes_read) == (len(BASE), model.total_bytes)
    assert sum(seen) == model.total_bytes


@both()
def test_every_kind_of_damage_is_named(cache: DiskCache, model: SampleModel) -> None:
    root = model.download(cache).root
    flip((root / WEIGHTS).resolve())
    with (root / "model-00002.safetensors").open("ab") as file:
        file.write(b"!")
    (root / "config.json").resolve().unlink()
    report = cache.verify(model.key)
    assert {fault.path: fault.kind for fault in report.faults} == {
        WEIGHTS: FaultKind.DIGEST,
        "model-00002.safetensors": FaultKind.SIZE,
        "config.json": FaultKind.MISSING,
    }
    assert all(fault.detail for fault in report.faults)


def test_lost_link_is_damage(cache: DiskCache) -> None:
    model = hub_model()
    (model.download(cache).root / "config.json").unlink()
    assert [(f.path, f.kind) for f in cache.verify(model.key).faults] == [("config.json", FaultKind.LINK)]
    # The bytes are there: nothing is asked for again.
    assert cache.begin(model.listing).missing == ()


@both()
def test_files_that_nobody_recorded_are_named_and_are_no_damage(cache: DiskCache, model: SampleModel) -> None:
    root = model.download(cache).root
    (root / "nested" / "README.md").write_text("of another tool")
    report = cache.verify(model.key)
    assert (report.sound, report.extras) == (True, ("nested/README.md",))


def test_models_inside_a_model_are_no_extras(cache: DiskCache) -> None:
    outer, inner = bucket_model("s3://b/team"), bucket_model("s3://b/team/nested/other")
    outer.download(cache)
    inner.download(cache)
    assert [cache.verify(one.key).extras for one in (outer, inner)] == [(), ()]


def test_the_other_weight_mode_has_no_extras(cache: DiskCache) -> None:
    hub_model().download(cache)
    meta = hub_model(weights=False)
    meta.download(cache)
    assert cache.verify(meta.key).extras == ()
    cache.condemn(hub_model().key, [WEIGHTS])
    assert cache.verify(meta.key).extras == ()


def test_a_condemned_entry_is_recorded_and_says_what_is_missing(cache: DiskCache) -> None:
    model = hub_model()
    model.download(cache)
    cache.condemn(model.key, ["config.json"])
    assert (cache.scan(), cache.recorded()) == ((), (model.key,))
    assert [(f.path, f.kind) for f in cache.verify(model.key).faults] == [("config.json", FaultKind.MISSING)]
    model.download(cache)
    assert cache.recorded() == (model.key,)


@both()
def test_who_watches_may_end_it(cache: DiskCache, model: SampleModel) -> None:
    class EnoughError(Exception): ...

    def stop(_count: int) -> None:
        raise EnoughError

    model.download(cache)
    with pytest.raises(EnoughError):
        cache.verify(model.key, progress=stop)


def test_verify_without_an_entry(cache: DiskCache) -> None:
    with pytest.raises(NotFoundError, match="not complete"):
        cache.verify(hub_model().key)
    with pytest.raises(NotFoundError):
        cache.condemn(hub_model().key, ["config.json"])


@both()
def test_repair_fetches_the_bad_file_only(cache: DiskCache, model: SampleModel) -> None:
    root = model.download(cache).root
    flip((root / WEIGHTS).resolve())
    assert cache.condemn(model.key, [WEIGHTS]) == (model.key,)
    assert cache.entry(model.key) is None, "never served while a file is known to be wrong"
    staging = cache.begin(model.listing)
    assert [m.file.path for m in staging.missing] == [WEIGHTS]
    model.fetch(staging)
    staging.publish(revision=None, fence=lambda: True)
    assert cache.verify(model.key).sound
    cache.clean_abandoned(older_than_s=0)
    assert cache.verify(model.key).sound
    cache.remove(model.key)
    assert list(cache.root.iterdir()) == []


def test_condemned_blob_takes_every_revision_that_uses_it(cache: DiskCache) -> None:
    first, second = hub_model(), hub_model(commit=OTHER_COMMIT, config__json=b"{}")
    first.download(cache)
    second.download(cache, revision="v2")
    assert set(cache.condemn(first.key, [WEIGHTS])) == {first.key, second.key}
    assert cache.scan() == ()
    first.download(cache)
    assert [m.file.path for m in cache.begin(second.listing).missing] == []


def test_condemned_entry_that_nobody_repairs_can_be_removed_or_cleaned(cache: DiskCache) -> None:
    model = hub_model()
    for end in (cache.remove, lambda _key: cache.clean_abandoned(older_than_s=0)):
        model.download(cache)
        cache.condemn(model.key, [WEIGHTS])
        assert cache.clean_abandoned(older_than_s=3600) == 0
        assert end(model.key) > 0
        assert list(cache.root.iterdir()) == []


def test_what_is_left_of_a_condemned_entry_is_counted_as_its_own(cache: DiskCache) -> None:
    entry = hub_model().download(cache)
    assert cache.condemn(entry.key, [entry.files[0].path]) == (entry.key,)
    assert cache.recorded() == (entry.key,)
    left_bytes = cache.usage().entries[entry.key].total_bytes
    assert left_bytes > 0
    assert cache.remove(entry.key) == left_bytes
    assert cache.usage().entries == {}


def test_condemning_nothing_or_nonsense(cache: DiskCache) -> None:
    model = hub_model()
    model.download(cache)
    assert cache.condemn(model.key, []) == ()
    with pytest.raises(InvalidArgumentError, match="has no file"):
        cache.condemn(model.key, ["../../etc/passwd"])
    assert cache.verify(model.key).sound


@both()
def test_open_file(cache: DiskCache, model: SampleModel) -> None:
    entry = model.download(cache)
    for path, data in BASE.items():
        with os.fdopen(cache.open_file(entry, path), "rb") as file:
            assert file.read() == data


@both()
def test_open_file_that_changed_or_went(cache: DiskCache, model: SampleModel) -> None:
    entry = model.download(cache)
    with (entry.root / WEIGHTS).open("ab") as file:
        file.write(b"!")
    with pytest.raises(IntegrityError, match="76801 bytes, and 76800"):
        cache.open_file(entry, WEIGHTS)
    (entry.root / "config.json").resolve().unlink()
    with pytest.raises(NotFoundError, match="gone"):
        cache.open_file(entry, "config.json")
    with pytest.raises(NotFoundError, match="no file"):
        cache.open_file(entry, "other.json")
    for path in ("../x", "/etc/passwd", "a//b", "a\\b", "a\0b", ".."):
        with pytest.raises(InvalidArgumentError):
            cache.open_file(entry, path)


@pytest.mark.parametrize("target", ["/etc/hostname", "../../../../secret", "../../blobs/../../../secret"])
def test_open_file_never_leaves_by_a_link(cache: DiskCache, target: str) -> None:
    model = hub_model()
    entry = model.download(cache)
    secret = cache.root.parent / "secret"
    secret.write_bytes(BASE["config.json"])
    link = entry.root / "config.json"
    link.unlink()
    link.symlink_to(target)
    with pytest.raises(NotFoundError):
        cache.open_file(entry, "config.json")
    assert cache.entry(model.key) is None


def test_open_file_never_follows_a_blob_that_is_a_link(cache: DiskCache) -> None:
    model = hub_model()
    entry = model.download(cache)
    secret = cache.root.parent / "secret"
    secret.write_bytes(BASE["config.json"])
    blob = (entry.root / "config.json").resolve()
    blob.unlink()
    blob.symlink_to(secret)
    with pytest.raises(Exception, match="in the way"):
        cache.open_file(entry, "config.json")
    assert cache.entry(model.key) is None
