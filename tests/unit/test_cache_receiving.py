"""What receiving asks of the cache: parts that are hashed as they grow, digests another cache vouches for,
and one of several processes that stages an entry."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
import xxhash

from mx.core.cached import StageHolder
from mx.core.model import ListedFile, Listing
from mx.errors import ConflictError, IntegrityError, InvalidArgumentError, UnavailableError
from mx.providers.cache import DiskCache, DiskStaging, open_cache
from mx.testing.cache_samples import SampleModel, bucket_model, hub_model, sha256

WEIGHTS = "model-00001.safetensors"
MODEL = hub_model()
ROOT = Path(__file__).parents[2]


@pytest.fixture
def cache(tmp_path: Path) -> DiskCache:
    return open_cache(tmp_path / "hub")


def vouched(model: SampleModel) -> Listing:
    """The listing as another cache tells it."""
    files = [
        replace(file, xxh3=xxhash.xxh3_128(model.kept[file.path]).hexdigest()) for file in model.listing.files
    ]
    return Listing(model.key, tuple(files))


def fill(staging: DiskStaging, content: dict[str, bytes], *, piece: int = 1 << 14) -> int:
    brought = 0
    for missing in staging.missing:
        part = staging.open_part(missing.file)
        data = memoryview(content[missing.file.path])
        while part.missing_bytes:
            step = data[part.offset : part.offset + piece]
            part.append(step)
            brought += len(step)
        part.close()
        staging.accept(missing.file)
    return brought


def start(cache: DiskCache, listing: Listing, holder: StageHolder | None = None) -> DiskStaging:
    staging = cache.begin_instead(listing, holder)
    assert staging is not None
    return staging


@pytest.mark.parametrize("model", [hub_model(), bucket_model()], ids=["hub", "bucket"])
def test_parts_make_the_same_entry_as_any_other_way(tmp_path: Path, model: SampleModel) -> None:
    one, other = open_cache(tmp_path / "one"), open_cache(tmp_path / "other")
    staging = start(one, model.listing)
    fill(staging, model.kept)
    entry = staging.publish(revision=None, fence=lambda: True)
    twin = model.download(other)
    assert entry.files == tuple(
        replace(file, mtime_ns=mine.mtime_ns) for file, mine in zip(twin.files, entry.files, strict=True)
    )
    assert one.verify(model.key).sound


def test_a_vouched_file_has_the_digests_it_was_listed_with(cache: DiskCache) -> None:
    staging = start(cache, vouched(MODEL))
    fill(staging, MODEL.kept)
    entry = staging.publish(revision=None, fence=lambda: True)
    assert {file.path: file.digest for file in entry.files} == {
        file.path: file.digest for file in MODEL.listing.files
    }
    assert cache.verify(MODEL.key).sound, "the digests that nobody computed here are right"


def test_a_vouched_file_with_another_byte_is_thrown_away(cache: DiskCache) -> None:
    staging = start(cache, vouched(MODEL))
    wrong = bytearray(MODEL.kept[WEIGHTS])
    wrong[-1] ^= 1
    with pytest.raises(IntegrityError, match="thrown away"):
        fill(staging, {**MODEL.kept, WEIGHTS: bytes(wrong)})
    again = {each.file.path: each.offset for each in staging.missing}
    assert again[WEIGHTS] == 0
    fill(staging, MODEL.kept)
    staging.publish(revision=None, fence=lambda: True)


@pytest.mark.parametrize(
    ("digest", "xxh3"),
    [
        ("", "0" * 32),  # beside no digest that could name a blob
        ("md5:" + "0" * 32, "0" * 32),
        (sha256(b""), "0" * 31),
        (sha256(b""), "Z" * 32),
        (sha256(b""), "../../etc/passwd"),
    ],
)
def test_what_can_vouch_for_nothing_is_refused(cache: DiskCache, digest: str, xxh3: str) -> None:
    listing = Listing(MODEL.key, (ListedFile("config.json", 2, digest, xxh3=xxh3),))
    with pytest.raises(InvalidArgumentError):
        cache.begin_instead(listing, None)


def test_more_bytes_than_listed_are_refused(cache: DiskCache) -> None:
    staging = start(cache, MODEL.listing)
    file = next(each.file for each in staging.missing if each.file.path == WEIGHTS)
    part = staging.open_part(file)
    with pytest.raises(IntegrityError, match="more bytes"):
        part.append(memoryview(bytes(file.size_bytes + 1)))
    assert part.offset == 0
    part.close()


def test_a_part_goes_on_where_it_was_left(cache: DiskCache) -> None:
    staging = start(cache, vouched(MODEL))
    file = next(each.file for each in staging.missing if each.file.path == WEIGHTS)
    half = memoryview(MODEL.kept[WEIGHTS])[: file.size_bytes // 2]
    part = staging.open_part(file)
    part.append(half)
    part.close()
    staging.close()
    holder = cache.holder(MODEL.key)
    assert holder is not None
    assert holder.ended
    again = start(cache, vouched(MODEL), holder)
    assert {m.file.path: m.offset for m in again.missing}[WEIGHTS] == len(half)
    part = again.open_part(file)
    assert part.offset == len(half)
    part.close()
    assert fill(again, MODEL.kept) == MODEL.total_bytes - len(half)
    again.publish(revision=None, fence=lambda: True)
    assert cache.verify(MODEL.key).sound


def test_a_checkpoint_may_come_while_a_part_grows(cache: DiskCache) -> None:
    big = hub_model(**{WEIGHTS.replace(".", "__"): os.urandom(4 << 20)})
    staging = start(cache, vouched(big))
    file = next(each.file for each in staging.missing if each.file.path == WEIGHTS)
    over = threading.Event()

    def keep_checking() -> int:
        rounds = 0
        while not over.is_set():
            staging.checkpoint(file)
            rounds += 1
        return rounds

    with ThreadPoolExecutor(1) as pool:
        rounds = pool.submit(keep_checking)
        part = staging.open_part(file)
        data = memoryview(big.kept[WEIGHTS])
        while part.missing_bytes:
            part.append(data[part.offset : part.offset + 8192])
        part.close()
        over.set()
        assert rounds.result() > 0
    staging.accept(file)
    fill(staging, big.kept)
    staging.publish(revision=None, fence=lambda: True)
    assert cache.verify(big.key).sound


def test_one_of_many_becomes_the_stager(tmp_path: Path) -> None:
    cache = open_cache(tmp_path / "hub")
    gate = threading.Barrier(12)

    def contend(_: int) -> DiskStaging | None:
        gate.wait(30)
        return cache.begin_instead(MODEL.listing, None)

    with ThreadPoolExecutor(12) as pool:
        won = [staging for staging in pool.map(contend, range(12)) if staging is not None]
    assert len(won) == 1
    won[0].close()


def test_one_of_many_replaces_a_dead_one(cache: DiskCache) -> None:
    start(cache, MODEL.listing).close()
    holder = cache.holder(MODEL.key)
    gate = threading.Barrier(12)

    def contend(_: int) -> DiskStaging | None:
        gate.wait(30)
        return cache.begin_instead(MODEL.listing, holder)

    with ThreadPoolExecutor(12) as pool:
        won = [staging for staging in pool.map(contend, range(12)) if staging is not None]
    assert len(won) == 1
    won[0].close()


def test_others_see_whether_the_stager_lives(cache: DiskCache) -> None:
    assert cache.holder(MODEL.key) is None
    staging = start(cache, MODEL.listing)
    first = cache.holder(MODEL.key)
    assert first is not None
    assert not first.ended
    staging.beat()
    second = cache.holder(MODEL.key)
    assert second is not None
    assert second.pulse != first.pulse
    assert cache.begin_instead(MODEL.listing, None) is None, "it is not free"
    staging.close()
    third = cache.holder(MODEL.key)
    assert third is not None
    assert (third.ended, third.failure) == (True, None)


def test_why_it_gave_up_is_told(cache: DiskCache) -> None:
    staging = start(cache, MODEL.listing)
    staging.close(failure=UnavailableError("the server is away", remedy="start it"))
    holder = cache.holder(MODEL.key)
    assert holder is not None
    assert holder.failure == ("unavailable", "the server is away (start it)")
    successor = start(cache, MODEL.listing, holder)
    told = cache.holder(MODEL.key)
    assert told is not None
    assert (told.ended, told.failure) == (False, None), "of the one before, not of this one"
    successor.close()


def test_bytes_that_are_there_are_told(cache: DiskCache) -> None:
    staging = start(cache, MODEL.listing)
    fill(staging, MODEL.kept)
    holder = cache.holder(MODEL.key)
    assert holder is not None
    assert holder.bytes_done == MODEL.total_bytes
    staging.close()


def test_whoever_was_replaced_notices(cache: DiskCache) -> None:
    frozen = start(cache, vouched(MODEL))
    file = next(each.file for each in frozen.missing if each.file.path == WEIGHTS)
    part = frozen.open_part(file)
    part.append(memoryview(MODEL.kept[WEIGHTS])[:1000])
    successor = start(cache, vouched(MODEL), cache.holder(MODEL.key))
    part.append(memoryview(b"x" * 1000))  # it does not know yet; nobody reads this
    with pytest.raises(ConflictError, match="taken over"):
        frozen.beat()
    with pytest.raises(ConflictError):
        frozen.open_part(file)
    part.close()
    fill(successor, MODEL.kept)
    successor.publish(revision=None, fence=lambda: True)
    assert cache.verify(MODEL.key).sound
    frozen.close()
    assert cache.holder(MODEL.key) is None


DYING = """
import os, signal, sys
from pathlib import Path
from mx.providers.cache import open_cache
from mx.testing.cache_samples import hub_model
model = hub_model()
staging = open_cache(Path(sys.argv[1])).begin_instead(model.listing, None)
file = next(each.file for each in staging.missing if each.file.path == sys.argv[2])
staging.open_part(file).append(memoryview(model.kept[file.path])[:5000])
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_killed_stager_is_known_to_be_dead_and_its_bytes_are_used(cache: DiskCache) -> None:
    done = subprocess.run(
        [sys.executable, "-c", DYING, str(cache.root), WEIGHTS],
        check=False,
        timeout=60,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == -signal.SIGKILL
    holder = cache.holder(MODEL.key)
    assert holder is not None
    assert holder.ended
    staging = start(cache, MODEL.listing, holder)
    assert {m.file.path: m.offset for m in staging.missing}[WEIGHTS] == 5000
    assert fill(staging, MODEL.kept) == MODEL.total_bytes - 5000
    staging.publish(revision=None, fence=lambda: True)
    assert cache.verify(MODEL.key).sound


def test_free_bytes_are_those_of_the_file_system(cache: DiskCache) -> None:
    staging = start(cache, MODEL.listing)
    space = os.statvfs(cache.root)
    assert abs(staging.free_bytes - space.f_bavail * space.f_frsize) < space.f_blocks * space.f_frsize / 10
    staging.close()


def test_what_is_missing_says_where_a_part_ends_by_now(cache: DiskCache) -> None:
    staging = start(cache, vouched(MODEL))
    file = next(each.file for each in staging.missing if each.file.path == WEIGHTS)
    part = staging.open_part(file)
    part.append(memoryview(MODEL.kept[WEIGHTS])[:3000])
    part.close()
    assert {m.file.path: m.offset for m in staging.missing}[WEIGHTS] == 3000
    staging.close()
