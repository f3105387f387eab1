"""Staging and publish: what is verified, what is resumed, what becomes visible and when."""

from __future__ import annotations

import hashlib
import os
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from mx.core.cached import CachedEntry
from mx.core.model import EntryKey, ListedFile, Listing, ProviderName
from mx.errors import (
    ConflictError,
    ExhaustedError,
    IntegrityError,
    InvalidArgumentError,
    PermissionDeniedError,
    PreconditionError,
)
from mx.providers.cache import DiskCache, open_cache
from mx.testing.cache_samples import (
    BASE,
    COMMIT,
    OTHER_COMMIT,
    SampleModel,
    bucket_model,
    hub_model,
    sha256,
    tree,
)

WEIGHTS = "model-00001.safetensors"
# Of the nine bytes 123456789, as catalogues of checksums give them.
CHECK_VALUES = {
    "crc32": "cbf43926",
    "crc32c": "e3069283",
    "crc64nvme": "ae8b14860a799888",
    "md5": "25f9e794323b453885f5181f1b624d0b",
    "sha256": "15e2b0d3c33891ebb0f1ef609ec419420c20e320ce94c65fbc8c3312448eb225",
}


@pytest.fixture
def cache(tmp_path: Path) -> DiskCache:
    return open_cache(tmp_path / "hub")


def contents(entry: CachedEntry) -> dict[str, bytes]:
    return {file.path: (entry.root / file.path).read_bytes() for file in entry.files}


@pytest.mark.parametrize("model", [hub_model(), bucket_model()], ids=["hub", "bucket"])
def test_download_is_complete_with_its_bytes(cache: DiskCache, model: SampleModel) -> None:
    entry = model.download(cache)
    assert contents(entry) == dict(BASE)
    assert [file.path for file in entry.files] == sorted(BASE)
    assert entry.total_bytes == model.total_bytes
    assert cache.entry(model.key) == entry
    assert cache.scan() == (entry,)
    assert all(file.digest and len(file.xxh3) == 32 for file in entry.files)


@pytest.mark.parametrize("model", [hub_model(), bucket_model()], ids=["hub", "bucket"])
def test_nothing_is_seen_before_publish(cache: DiskCache, model: SampleModel) -> None:
    staging = cache.begin(model.listing)
    model.fetch(staging)
    assert staging.missing == ()
    assert cache.entry(model.key) is None
    assert cache.scan() == ()
    assert not list(cache.root.glob("**/snapshots/*"))


def test_weight_modes_do_not_stand_for_each_other(cache: DiskCache) -> None:
    meta, full = hub_model(weights=False), hub_model()
    entry = meta.download(cache)
    assert WEIGHTS not in contents(entry)
    assert cache.entry(full.key) is None
    staging = cache.begin(full.listing)
    assert [m.file.path for m in staging.missing] == [WEIGHTS, "model-00002.safetensors"]
    full.fetch(staging)
    assert contents(staging.publish(revision=None, fence=lambda: True)) == dict(BASE)
    assert cache.entry(meta.key) is not None


def test_weight_files_of_the_listing_are_not_asked_for_in_metadata_mode(cache: DiskCache) -> None:
    full = hub_model().listing
    staging = cache.begin(Listing(hub_model(weights=False).key, full.files))
    assert not [m for m in staging.missing if m.file.path.endswith(".safetensors")]


def test_second_revision_asks_only_for_what_changed(cache: DiskCache) -> None:
    hub_model().download(cache)
    second = hub_model(commit=OTHER_COMMIT, config__json=b'{"changed": true}')
    staging = cache.begin(second.listing)
    assert [m.file.path for m in staging.missing] == ["config.json"]
    second.fetch(staging)
    entry = staging.publish(revision="v2", fence=lambda: True)
    assert contents(entry)["config.json"] == b'{"changed": true}'
    first = cache.entry(hub_model().key)
    assert first is not None
    assert os.path.samefile(first.root / WEIGHTS, entry.root / WEIGHTS)


def test_same_content_under_two_names_is_fetched_once(cache: DiskCache) -> None:
    model = hub_model(twin__safetensors=BASE[WEIGHTS])
    staging = cache.begin(model.listing)
    one = next(m for m in staging.missing if m.file.path == WEIGHTS)
    staging.path_for(one.file).write_bytes(BASE[WEIGHTS])
    staging.accept(one.file)
    assert "twin.safetensors" not in [m.file.path for m in staging.missing]
    model.fetch(staging)
    entry = staging.publish(revision=None, fence=lambda: True)
    assert contents(entry)["twin.safetensors"] == BASE[WEIGHTS]


@pytest.mark.parametrize("wrong", [b"x" * len(BASE[WEIGHTS]), BASE[WEIGHTS] + b"more"])
def test_wrong_bytes_are_refused_and_thrown_away(cache: DiskCache, wrong: bytes) -> None:
    model = hub_model()
    staging = cache.begin(model.listing)
    file = next(m.file for m in staging.missing if m.file.path == WEIGHTS)
    staging.path_for(file).write_bytes(wrong)
    with pytest.raises(IntegrityError, match=r"00001.safetensors .*not what the provider lists"):
        staging.accept(file)
    assert next(m for m in staging.missing if m.file == file).offset == 0
    assert staging.path_for(file).stat().st_size == 0
    with pytest.raises(PreconditionError, match="missing"):
        staging.publish(revision=None, fence=lambda: True)
    model.fetch(staging)
    assert contents(staging.publish(revision=None, fence=lambda: True)) == dict(BASE)


def test_short_file_is_kept_and_continued(cache: DiskCache) -> None:
    model = hub_model()
    staging = cache.begin(model.listing)
    file = next(m.file for m in staging.missing if m.file.path == WEIGHTS)
    staging.path_for(file).write_bytes(BASE[WEIGHTS][:1000])
    with pytest.raises(IntegrityError, match="1000 of 76800 bytes"):
        staging.accept(file)
    staging.close()
    again = cache.begin(model.listing)
    assert next(m for m in again.missing if m.file == file).offset == 1000
    model.fetch(again)
    assert contents(again.publish(revision=None, fence=lambda: True)) == dict(BASE)


def test_bytes_replaced_after_a_checkpoint_are_hashed_again(cache: DiskCache) -> None:
    model = hub_model()
    staging = cache.begin(model.listing)
    file = next(m.file for m in staging.missing if m.file.path == WEIGHTS)
    path = staging.path_for(file)
    path.write_bytes(b"?" * 500)
    assert staging.checkpoint(file) == 500
    with path.open("r+b") as part:  # the provider began the file anew
        part.write(BASE[WEIGHTS])
    staging.accept(file)
    assert file not in [m.file for m in staging.missing]


def test_resume_is_void_when_the_provider_lists_another_file(cache: DiskCache) -> None:
    model = bucket_model()
    staging = cache.begin(model.listing)
    file = next(m.file for m in staging.missing if m.file.path == WEIGHTS)
    staging.path_for(file).write_bytes(BASE[WEIGHTS][:1000])
    staging.close()
    newer = replace(model, etag="v2")
    again = cache.begin(newer.listing)
    assert next(m for m in again.missing if m.file.path == WEIGHTS).offset == 0
    assert newer.fetch(again) == model.total_bytes


def test_verified_files_are_not_fetched_again(cache: DiskCache) -> None:
    model = bucket_model()
    staging = cache.begin(model.listing)
    file = next(m.file for m in staging.missing if m.file.path == WEIGHTS)
    staging.path_for(file).write_bytes(BASE[WEIGHTS])
    staging.accept(file)
    staging.close()
    assert WEIGHTS not in [m.file.path for m in cache.begin(model.listing).missing]


def test_a_new_owner_stops_the_old_one(cache: DiskCache) -> None:
    model = hub_model()
    old = cache.begin(model.listing)
    file = next(m.file for m in old.missing if m.file.path == WEIGHTS)
    with old.path_for(file).open("ab", buffering=0) as zombie:
        zombie.write(BASE[WEIGHTS][:2000])
        new = cache.begin(model.listing)
        assert next(m for m in new.missing if m.file == file).offset == 2000
        zombie.write(b"garbage of one who does not know that he is dead")
        for call in (old.accept, old.checkpoint, old.path_for):
            with pytest.raises(ConflictError, match="taken over"):
                call(file)
        with pytest.raises((ConflictError, PreconditionError)):
            old.publish(revision=None, fence=lambda: True)
        old.close()
        # The old one letting go must not make the new one look gone, who still writes.
        with new.path_for(file).open("ab", buffering=0) as living:
            third = cache.begin(model.listing)
            living.write(b"still there")
        zombie.write(b"still there")
    model.fetch(third)
    assert contents(third.publish(revision=None, fence=lambda: True)) == dict(BASE)


def test_fence_says_no(cache: DiskCache) -> None:
    model = hub_model()
    staging = cache.begin(model.listing)
    model.fetch(staging)
    with pytest.raises(ConflictError, match="another owner"):
        staging.publish(revision=None, fence=lambda: False)
    assert cache.entry(model.key) is None
    staging.close()
    answers = iter([True, False])
    again = cache.begin(model.listing)
    assert again.missing == ()
    with pytest.raises(ConflictError):
        again.publish(revision=None, fence=lambda: next(answers))
    assert cache.entry(model.key) is None


def test_the_fence_is_asked_when_only_the_record_is_left(cache: DiskCache) -> None:
    model = hub_model()
    staging = cache.begin(model.listing)
    model.fetch(staging)
    seen = []

    def fence() -> bool:
        seen.append((len(list(cache.root.glob("**/blobs/*"))), cache.entry(model.key)))
        return True

    staging.publish(revision=None, fence=fence)
    assert seen == [(0, None), (len(BASE), None)]


def test_staging_that_is_published_or_closed_says_so(cache: DiskCache) -> None:
    model = hub_model()
    staging = cache.begin(model.listing)
    model.fetch(staging)
    staging.publish(revision=None, fence=lambda: True)
    staging.close()
    with pytest.raises(PreconditionError, match="closed"):
        staging.accept(model.listing.files[0])
    with pytest.raises(PreconditionError, match="closed"):
        staging.publish(revision=None, fence=lambda: True)


def test_publishing_again_changes_nothing(cache: DiskCache) -> None:
    model = hub_model()
    model.download(cache)
    before = tree(cache.root)
    staging = cache.begin(model.listing)
    assert staging.missing == ()
    staging.publish(revision=None, fence=lambda: True)
    assert tree(cache.root) == before


def test_no_rubbish_is_left(cache: DiskCache) -> None:
    hub_model().download(cache)
    bucket_model().download(cache)
    odd = [path for path in cache.root.rglob(".mx*") if path.name != ".mx"]
    assert odd == []
    assert list(cache.root.rglob(".mx/stage/*")) == []


def test_a_file_nobody_vouches_for_is_read_before_it_is_taken(cache: DiskCache) -> None:
    model = hub_model()
    file = next(f for f in model.listing.files if f.path == WEIGHTS)
    blobs = cache.root / "models--org--name" / "blobs"
    blobs.mkdir(parents=True)
    good, bad = file, next(f for f in model.listing.files if f.path == "model-00002.safetensors")
    (blobs / good.digest.partition(":")[2]).write_bytes(BASE[WEIGHTS])
    (blobs / bad.digest.partition(":")[2]).write_bytes(b"!" * bad.size_bytes)
    staging = cache.begin(model.listing)
    missing = [m.file.path for m in staging.missing]
    assert WEIGHTS not in missing
    assert "model-00002.safetensors" in missing
    model.fetch(staging)
    assert contents(staging.publish(revision=None, fence=lambda: True)) == dict(BASE)


@pytest.mark.parametrize(
    "files",
    [
        (ListedFile("a", 1), ListedFile("a", 1)),
        (ListedFile("a", 1), ListedFile("a/b", 1)),
        (ListedFile("a", -1),),
        (ListedFile("../a", 1),),
        (ListedFile("/etc/passwd", 1),),
        (ListedFile("a\\b", 1),),
        (ListedFile("a\0b", 1),),
        (ListedFile(".mx/complete/x.json", 1),),
        (ListedFile("a/.mx-1", 1),),
        (ListedFile("a", 1, "sha256:short"),),
        (ListedFile("a", 1, "rot13:" + "0" * 64),),
        (ListedFile("a", 1, "sha256:" + "../" * 21 + "x"),),
    ],
)
def test_rubbish_in_a_listing_is_refused(cache: DiskCache, files: tuple[ListedFile, ...]) -> None:
    with pytest.raises(InvalidArgumentError):
        cache.begin(Listing(hub_model().key, files))
    assert tree(cache.root) == {}


@pytest.mark.parametrize("commit", ["../x", "a/b", ".", "..", ".hidden", "x" * 200, "a\0b"])
def test_rubbish_as_a_commit_is_refused(cache: DiskCache, commit: str) -> None:
    key = EntryKey(ProviderName.HUGGING_FACE, "org/name", commit)
    for call in (cache.entry, cache.remove, cache.verify):
        with pytest.raises(InvalidArgumentError):
            call(key)
    with pytest.raises(InvalidArgumentError):
        cache.begin(Listing(key, ()))


@pytest.mark.parametrize(
    ("digest", "module", "package"),
    [
        ("crc32c:00000000", "google_crc32c", "google-crc32c"),
        ("crc64nvme:0000000000000000", "awscrt.checksums", "awscrt"),
    ],
)
def test_a_digest_whose_library_is_missing_is_refused_before_the_first_byte(
    cache: DiskCache, monkeypatch: pytest.MonkeyPatch, digest: str, module: str, package: str
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(PreconditionError, match=package) as caught:
        cache.begin(Listing(bucket_model().key, (ListedFile("a", 1, digest),)))
    assert caught.value.remedy == f"pip install {package}"


@pytest.mark.parametrize("algorithm", sorted(CHECK_VALUES))
def test_every_digest_that_a_bucket_names_is_checked(cache: DiskCache, algorithm: str) -> None:
    file = ListedFile("a.bin", 9, f"{algorithm}:{CHECK_VALUES[algorithm]}")
    staging = cache.begin(Listing(bucket_model().key, (file,)))
    staging.path_for(file).write_bytes(b"123456780")
    with pytest.raises(IntegrityError, match=algorithm):
        staging.accept(file)
    staging.path_for(file).write_bytes(b"123456789")
    staging.accept(file)
    assert staging.publish(revision=None, fence=lambda: True).files[0].digest.startswith("sha256:")


def test_md5_is_checked(cache: DiskCache) -> None:
    data = b"weights"
    digest = f"md5:{hashlib.md5(data).hexdigest()}"
    key = bucket_model().key
    staging = cache.begin(Listing(key, (ListedFile("a.bin", len(data), digest),)))
    file = staging.missing[0].file
    staging.path_for(file).write_bytes(b"WEIGHTS")
    with pytest.raises(IntegrityError):
        staging.accept(file)
    staging.path_for(file).write_bytes(data)
    staging.accept(file)
    entry = staging.publish(revision=None, fence=lambda: True)
    assert entry.files[0].digest == sha256(data)


def test_many_files_at_once_from_threads(cache: DiskCache) -> None:
    content = {f"part-{n:03}.bin": os.urandom(5000 + n) for n in range(60)}
    model = SampleModel(hub_model().key, content)
    staging = cache.begin(model.listing)

    def fetch(file: ListedFile) -> None:
        staging.path_for(file).write_bytes(content[file.path])
        staging.checkpoint(file)
        staging.accept(file)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(fetch, [m.file for m in staging.missing]))
    assert contents(staging.publish(revision=None, fence=lambda: True)) == content


def test_refs(cache: DiskCache) -> None:
    model = hub_model()
    model.download(cache, revision="release/1.0")
    hub = ProviderName.HUGGING_FACE
    assert cache.resolve(hub, "org/name", "release/1.0") == COMMIT
    assert cache.resolve(hub, "org/name", None) is None
    assert cache.resolve(hub, "org/name", OTHER_COMMIT) == OTHER_COMMIT
    cache.point(model.key, None)
    assert cache.resolve(hub, "org/name", None) == COMMIT
    assert cache.resolve(hub, "org/other", None) is None
    second = hub_model(commit=OTHER_COMMIT)
    second.download(cache, revision="release")  # a branch where a folder of refs is
    assert cache.resolve(hub, "org/name", "release") == OTHER_COMMIT
    cache.point(model.key, "release/2.0")  # and a folder where a branch is
    assert cache.resolve(hub, "org/name", "release/2.0") == COMMIT
    with pytest.raises(InvalidArgumentError):
        cache.point(model.key, "../../escape")
    with pytest.raises(InvalidArgumentError):
        cache.resolve(hub, "org/name", "../../../etc/passwd")


def test_bucket_has_one_commit_at_a_time(cache: DiskCache) -> None:
    old, new = bucket_model(), bucket_model(etag="v2", config__json=b"{}")
    old.download(cache)
    assert cache.resolve(ProviderName.S3, old.key.name, None) == ""
    staging = cache.begin(new.listing)
    assert len(staging.missing) == len(BASE) - 1, "an ETag that changed may stand for other bytes"
    new.fetch(staging)
    assert contents(staging.publish(revision=None, fence=lambda: True))["config.json"] == b"{}"


def test_changed_bucket_invalidates_entries_that_share_files(cache: DiskCache) -> None:
    meta = bucket_model(weights=False)
    meta.download(cache)
    inner = SampleModel(
        EntryKey(ProviderName.S3, "s3://bucket/team/model/nested", ""),
        {"deep/tokenizer.json": b"other"},
        digest=lambda _p, _d: "",
        etag="w",
    )
    inner.download(cache)
    assert cache.entry(inner.key) is not None
    assert cache.entry(meta.key) is None, "its file now has other bytes"
    assert cache.verify(inner.key).sound
    assert not (cache.root / "s3/bucket/team/model/config.json").exists()


def test_disk_full_is_said_with_the_place(tmp_path: Path) -> None:
    def full(step: str) -> None:
        if step == "sync file":
            raise OSError(28, "No space left on device")

    cache = open_cache(tmp_path / "hub", step=full)
    staging = cache.begin(SampleModel(hub_model().key, {"a.json": b"1"}).listing)
    file = staging.missing[0].file
    staging.path_for(file).write_bytes(b"1")
    with pytest.raises(ExhaustedError, match=r"a.json of org/name.*no room"):
        staging.accept(file)


def test_root_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(PreconditionError, match="no folder"):
        open_cache(tmp_path / "file")


@pytest.mark.parametrize("model", [hub_model(), bucket_model()], ids=["hub", "bucket"])
@pytest.mark.parametrize("lacking", [("link",), ("link", "symlink")], ids=["no-hard-links", "no-links"])
def test_file_systems_without_links(tmp_path: Path, model: SampleModel, lacking: tuple[str, ...]) -> None:
    def refuse(step: str) -> None:
        if step.partition(" ")[0] in lacking:
            raise PermissionError(1, "Operation not permitted")

    cache = open_cache(tmp_path / "hub", step=refuse)
    if "symlink" in lacking and model.key.provider is ProviderName.HUGGING_FACE:
        with pytest.raises(PermissionDeniedError):
            model.download(cache)
        assert cache.entry(model.key) is None
        return
    assert contents(model.download(cache)) == dict(BASE)
    assert cache.begin(model.listing).missing == ()
    assert contents(model.download(cache)) == dict(BASE)
    assert cache.verify(model.key).sound


def test_hard_links_do_where_there_are_no_symbolic_ones(tmp_path: Path) -> None:
    def refuse(step: str) -> None:
        if step.startswith("symlink"):
            raise PermissionError(1, "Operation not permitted")

    model = hub_model()
    cache = open_cache(tmp_path / "hub", step=refuse)
    entry = model.download(cache)
    assert contents(entry) == dict(BASE)
    with os.fdopen(cache.open_file(entry, "config.json"), "rb") as file:
        assert file.read() == BASE["config.json"]
    cache.remove(model.key)
    assert list(cache.root.iterdir()) == []


@pytest.mark.parametrize("lie", [False, True], ids=["true", "damaged"])
def test_another_machine_goes_on_from_the_last_checkpoint(cache: DiskCache, lie: bool) -> None:
    """What came after it may have holes: the other machine's memory is not ours."""
    model = hub_model()
    staging = cache.begin(model.listing)
    file = next(m.file for m in staging.missing if m.file.path == WEIGHTS)
    part = staging.path_for(file)
    part.write_bytes(BASE[WEIGHTS][:3000])
    assert staging.checkpoint(file) == 3000
    with part.open("ab") as more:
        more.write(bytes(1000))
    staging.close()
    (journal,) = cache.root.rglob("journal.jsonl")
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    journal.write_text(journal.read_text().replace(boot, "another-machine"))
    if lie:
        with part.open("r+b") as damaged:
            damaged.write(b"!!")
    again = cache.begin(model.listing)
    assert next(m for m in again.missing if m.file == file).offset == (0 if lie else 3000)
    model.fetch(again)
    assert contents(again.publish(revision=None, fence=lambda: True)) == dict(BASE)


def test_journal_of_garbage_costs_bytes_and_nothing_else(cache: DiskCache) -> None:
    model = hub_model()
    rubbish = [
        b"\x00\xff\n",
        b"[]\nnull\n7\n",
        b'{"held":{}}\n',
        b'{"mark":{"path":"x"}}\n',
        b'{"owner":3}\n{',
    ]
    for data in rubbish:
        staging = cache.begin(model.listing)
        model.fetch(staging)
        staging.close()
        (journal,) = cache.root.rglob("journal.jsonl")
        journal.write_bytes(data)
    staging = cache.begin(model.listing)
    model.fetch(staging)
    assert contents(staging.publish(revision=None, fence=lambda: True)) == dict(BASE)


def test_a_checkpoint_while_a_file_is_accepted_spoils_no_digest(cache: DiskCache) -> None:
    data = os.urandom(8 << 20)
    file = ListedFile("model.safetensors", len(data), sha256(data))
    for attempt in range(12):
        key = EntryKey(ProviderName.HUGGING_FACE, f"org/race{attempt}", COMMIT)
        staging = cache.begin(Listing(key, (file,)))
        staging.path_for(file).write_bytes(data)
        with ThreadPoolExecutor(4) as threads:
            saves = [threads.submit(staging.checkpoint, file) for _ in range(3)]
            threads.submit(staging.accept, file).result()
            assert all(0 <= save.result() <= len(data) for save in saves)
        staging.publish(revision=None, fence=lambda: True)
