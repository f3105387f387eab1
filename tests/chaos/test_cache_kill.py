"""SIGKILL before every single change to the disk: a whole entry or none, and a resumable rest.

For each deed and each of its changes: kill there, look at what is left, finish the job, and compare
the folder with one where nobody was killed.
"""

from __future__ import annotations

import errno
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from cache_deeds import BUCKET, DEEDS, FIRST, SECOND

from mx.errors import ExhaustedError
from mx.providers.cache import DiskCache, open_cache
from mx.testing.cache_samples import SampleModel, tree

# Deeds that go on after a kill, and what they fetch.
RESUMED = {
    "first-download": FIRST,
    "second-revision": SECOND,
    "weights-after-metadata": FIRST,
    "resume": FIRST,
    "bucket-download": BUCKET,
}
# Entries that a deed replaces: there before and after, not in between.
CONCERNED = {"bucket-changed": {BUCKET.key}, "repair": {FIRST.key}}


class Killer:
    """The process that forks the victims; ended with the test module."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("cache_deeds.py"))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def order(self, deed: str, root: Path, *, kill_at: int) -> tuple[int, int]:
        """Exit code (minus the signal) and the changes made."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{deed} {kill_at} {root}\n")
        self._process.stdin.flush()
        code, count = self._process.stdout.readline().split()
        return int(code), int(count)

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(timeout=10)
        assert self._process.stdout is not None
        self._process.stdout.close()


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Path]:
    """In memory where there is such a thing: a kill is no power cut, and a thousand syncs take minutes."""
    memory = Path("/dev/shm")
    if not os.access(memory, os.W_OK):
        yield tmp_path
        return
    with tempfile.TemporaryDirectory(prefix="mx-cache-kill-", dir=memory) as name:
        yield Path(name)


@pytest.fixture(scope="module")
def killer() -> Iterator[Killer]:
    killer = Killer()
    try:
        yield killer
    finally:
        killer.close()


def prepared(root: Path, deed: str) -> DiskCache:
    cache = open_cache(root)
    for before in DEEDS[deed][0]:
        before(cache)
    return cache


def copied(source: Path, root: Path) -> DiskCache:
    """The same cache anew; copying is faster than downloading, which syncs."""
    if root.exists():
        shutil.rmtree(root)
    shutil.copytree(source, root, symlinks=True)
    return open_cache(root)


def broken_links(root: Path) -> list[Path]:
    return [p for p in root.rglob("*") if p.is_symlink() and ".mx" not in p.parts and not p.exists()]


def on_disk(root: Path, model: SampleModel) -> int:
    """Bytes of the model's files that are there in any form, whole or in part."""
    folder = root / ("models--org--name" if model.key.provider.value == "hugging-face" else "s3")
    files = {p.stat().st_ino: p.stat().st_size for p in folder.rglob("*.part")}
    contents = {p.read_bytes() for p in folder.rglob("*") if p.is_file() and p.suffix != ".part"}
    return sum(files.values()) + sum(len(data) for data in set(model.kept.values()) if data in contents)


@pytest.mark.parametrize("deed", DEEDS)
def test_killed_at_every_change(killer: Killer, place: Path, deed: str) -> None:
    start = prepared(place / "start", deed)
    whole = copied(start.root, place / "whole")
    code, changes = killer.order(deed, whole.root, kill_at=0)
    assert code == 0
    assert changes > 3
    expected = tree(whole.root)
    # What the deed does not concern is an entry all the time.
    kept = {e.key for e in start.scan()} & {e.key for e in whole.scan()} - CONCERNED.get(deed, set())
    for kill_at in range(1, changes + 1):
        cache = copied(start.root, place / "victim")
        code, _ = killer.order(deed, cache.root, kill_at=kill_at)
        assert code == -signal.SIGKILL
        where = f"{deed}, killed before change {kill_at} of {changes}"

        complete = {entry.key for entry in cache.scan()}
        assert kept <= complete, where
        assert all(cache.verify(key).sound for key in complete), where
        if deed != "repair":
            assert broken_links(cache.root) == [], where
        _check_resume(cache, deed, where)

        DEEDS[deed][1](cache)
        cache.clean_abandoned(older_than_s=0)
        assert tree(cache.root) == expected, where


def _check_resume(cache: DiskCache, deed: str, where: str) -> None:
    """Nothing that is on the disk is asked for again."""
    model = {
        "first-download": FIRST,
        "second-revision": SECOND,
        "resume": FIRST,
        "bucket-download": BUCKET,
    }.get(deed)
    if model is None or cache.entry(model.key) is not None:
        return
    there = on_disk(cache.root, model)
    staging = cache.begin(model.listing)
    asked = sum(missing.missing_bytes for missing in staging.missing)
    staging.close()
    assert asked <= model.total_bytes - there, where


@pytest.mark.parametrize("deed", ["remove-last", "remove-shared", "remove-weights", "remove-bucket"])
def test_delete_that_was_killed_is_finished_by_cleaning_up(killer: Killer, place: Path, deed: str) -> None:
    start = prepared(place / "start", deed)
    whole = copied(start.root, place / "whole")
    _, changes = killer.order(deed, whole.root, kill_at=0)
    # Either it had not begun, or it is done: never a part of an entry that nobody deletes.
    ends = (tree(start.root), tree(whole.root))
    for kill_at in range(1, changes + 1):
        cache = copied(start.root, place / "victim")
        killer.order(deed, cache.root, kill_at=kill_at)
        cache.clean_abandoned(older_than_s=0)
        assert tree(cache.root) in ends, f"{deed}, killed before change {kill_at} of {changes}"


@pytest.mark.parametrize(("deed", "model"), [("first-download", FIRST), ("bucket-download", BUCKET)])
def test_download_that_was_killed_and_never_repeated_leaves_nothing(
    killer: Killer, place: Path, deed: str, model: SampleModel
) -> None:
    _, changes = killer.order(deed, place / "whole", kill_at=0)
    for kill_at in range(1, changes + 1):
        root = place / f"victim-{kill_at}"
        cache = open_cache(root)
        killer.order(deed, root, kill_at=kill_at)
        where = f"{deed}, killed before change {kill_at} of {changes}"
        if cache.entry(model.key) is not None:
            # What is left of the publish itself goes at once, so that sizes are right.
            cache.clean_abandoned(older_than_s=86_400)
            assert cache.verify(model.key).sound, where
            assert cache.usage().entries[model.key].total_bytes > model.total_bytes, where
            cache.remove(model.key)
        cache.clean_abandoned(older_than_s=0)
        assert list(root.iterdir()) == [], where


@pytest.mark.parametrize("deed", DEEDS)
def test_disk_full_at_every_change(place: Path, deed: str) -> None:
    """The same with a disk that refuses one change and lives on: an error in our words, nothing broken."""
    start = prepared(place / "start", deed)
    whole = copied(start.root, place / "whole")
    DEEDS[deed][1](whole)
    whole.clean_abandoned(older_than_s=0)
    expected = tree(whole.root)
    for full_at in range(1, 1000):
        cache = copied(start.root, place / "victim")
        full = _FullDisk(full_at)
        with suppress(ExhaustedError):
            DEEDS[deed][1](open_cache(cache.root, step=full))
        where = f"{deed}, full at change {full_at}"
        assert all(cache.verify(entry.key).sound for entry in cache.scan()), where
        DEEDS[deed][1](cache)
        cache.clean_abandoned(older_than_s=0)
        assert tree(cache.root) == expected, where
        if full.seen < full_at:
            break
    assert full_at > 3


class _FullDisk:
    def __init__(self, at: int) -> None:
        self._at = at
        self.seen = 0

    def __call__(self, _name: str) -> None:
        self.seen += 1
        if self.seen == self._at:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
