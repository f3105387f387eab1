"""What every ``mx.ports.Provider`` must do, as a test class to inherit from.

class TestMyProvider(ProviderContract):
    @pytest.fixture
    def origin(self): ...                 # a place that models can be put into
    @pytest.fixture
    async def provider(self, origin): ... # reads from there; closed afterwards
"""

from __future__ import annotations

import asyncio
import os
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol

import pytest

from mx.core.model import EntryKey, ListedFile, Listing, ModelRef
from mx.errors import (
    ExhaustedError,
    InternalError,
    InvalidArgumentError,
    NotFoundError,
    PermissionDeniedError,
    PreconditionError,
)
from mx.ports import Provider
from mx.providers.digests import new_digest

WEIGHTS = bytes(range(256)) * 1200 + b"the end"
FILES: Mapping[str, bytes] = {
    "config.json": b'{"a": 1}',
    "model-00001-of-00002.safetensors": WEIGHTS,
    "text encoder/model.safetensors": WEIGHTS[::-1],
    "text encoder/deep/er/naïve+#?%41 file.json": b"[]",
    "empty.txt": b"",
    "tokenizer.bin": b"counts as a weight file",
    "README.md": b"left out",
    "docs/README.md": b"left out",
    "figures/plot.PNG": b"left out",
    "logo.svg": b"left out",
    ".gitattributes": b"left out",
    ".cache/huggingface/config.json": b"left out",
    "text encoder/.hidden": b"left out",
}
KEPT = sorted(path for path, data in FILES.items() if data != b"left out")
METADATA = ["config.json", "empty.txt", "text encoder/deep/er/naïve+#?%41 file.json"]
LARGE = "model-00001-of-00002.safetensors"


class Origin(Protocol):
    """The other side of a provider, in the hands of a test."""

    def put(self, files: Mapping[str, bytes]) -> ModelRef:
        """A model with these files."""
        ...

    def missing(self) -> ModelRef:
        """A model that is not there, and may be asked for."""
        ...

    def change(self, ref: ModelRef, path: str) -> None:
        """From now on this file is another one, for those who listed it before."""
        ...


async def listing_of(provider: Provider, ref: ModelRef, *, weights: bool = True) -> Listing:
    commit = await provider.resolve(ref)
    return await provider.list_files(EntryKey(ref.provider, ref.name, commit, weights))


def file_of(listing: Listing, path: str) -> ListedFile:
    return next(file for file in listing.files if file.path == path)


class Counted:
    """A progress callback that remembers."""

    def __init__(self) -> None:
        self.calls: list[int] = []

    def __call__(self, count: int) -> None:
        self.calls.append(count)

    @property
    def total(self) -> int:
        return sum(self.calls)


def open_files_below(folder: Path) -> list[str]:
    """Files of this process; connections come and go meanwhile."""
    found = []
    for name in os.listdir("/proc/self/fd"):
        with suppress(OSError):
            found.append(os.readlink(f"/proc/self/fd/{name}"))
    return [path for path in found if path.startswith(f"{folder}/")]


class ProviderContract:
    """Inherit, and provide the fixtures ``origin`` and ``provider``."""

    @pytest.fixture
    def origin(self) -> Any:
        raise NotImplementedError("a contract suite needs a place to put models into")

    @pytest.fixture
    async def provider(self, origin: Origin) -> Any:
        raise NotImplementedError("a contract suite needs a provider to run against")

    # resolve and list

    async def test_the_name_is_that_of_its_refs(self, provider: Provider, origin: Origin) -> None:
        assert origin.put(FILES).provider is provider.name

    async def test_resolving_twice_gives_the_same_commit(self, provider: Provider, origin: Origin) -> None:
        ref = origin.put(FILES)
        assert await provider.resolve(ref) == await provider.resolve(ref)

    async def test_a_missing_model_is_not_found_and_named(self, provider: Provider, origin: Origin) -> None:
        ref = origin.missing()
        with pytest.raises(NotFoundError, match=ref.name) as caught:
            await provider.resolve(ref)
        assert caught.value.remedy

    async def test_a_listing_is_sorted_nested_and_without_what_nobody_loads(
        self, provider: Provider, origin: Origin
    ) -> None:
        listing = await listing_of(provider, origin.put(FILES))
        assert [file.path for file in listing.files] == KEPT
        assert [file.size_bytes for file in listing.files] == [len(FILES[path]) for path in KEPT]
        assert listing.total_bytes == sum(len(FILES[path]) for path in KEPT)

    async def test_without_weights_everything_else_is_listed(
        self, provider: Provider, origin: Origin
    ) -> None:
        listing = await listing_of(provider, origin.put(FILES), weights=False)
        assert [file.path for file in listing.files] == METADATA
        assert not listing.key.weights

    async def test_a_digest_that_is_named_is_that_of_the_content(
        self, provider: Provider, origin: Origin
    ) -> None:
        for file in (await listing_of(provider, origin.put(FILES))).files:
            data = FILES[file.path]
            if file.digest:
                algorithm = file.digest.partition(":")[0]
                digest = new_digest(algorithm, size_bytes=len(data))
                digest.update(data)
                assert file.digest == f"{algorithm}:{digest.hexdigest()}"
            assert file.etag, "a ranged read has nothing to be checked against"

    async def test_a_model_without_files_has_an_empty_listing(
        self, provider: Provider, origin: Origin
    ) -> None:
        listing = await listing_of(provider, origin.put({"README.md": b"only this"}))
        assert listing.files == ()

    # fetch

    async def test_every_file_arrives_as_it_is(
        self, provider: Provider, origin: Origin, tmp_path: Path
    ) -> None:
        listing = await listing_of(provider, origin.put(FILES))
        counted = {file.path: Counted() for file in listing.files}
        async with asyncio.TaskGroup() as tasks:
            for number, file in enumerate(listing.files):
                tasks.create_task(
                    provider.fetch(
                        listing.key, file, tmp_path / str(number), offset=0, progress=counted[file.path]
                    )
                )
        for number, file in enumerate(listing.files):
            assert (tmp_path / str(number)).read_bytes() == FILES[file.path]
            assert counted[file.path].total == file.size_bytes
            assert all(count > 0 for count in counted[file.path].calls)

    @pytest.mark.parametrize("offset", [0, 1, 65_535, len(WEIGHTS) - 1, len(WEIGHTS)])
    async def test_it_resumes_at_any_offset_and_drops_what_lies_behind(
        self, provider: Provider, origin: Origin, tmp_path: Path, offset: int
    ) -> None:
        listing = await listing_of(provider, origin.put(FILES))
        into = tmp_path / "part"
        into.write_bytes(WEIGHTS[:offset] + b"torn bytes of a dead writer")
        counted = Counted()
        await provider.fetch(listing.key, file_of(listing, LARGE), into, offset=offset, progress=counted)
        assert into.read_bytes() == WEIGHTS
        assert counted.total == len(WEIGHTS) - offset

    async def test_more_to_resume_from_than_there_is_is_refused(
        self, provider: Provider, origin: Origin, tmp_path: Path
    ) -> None:
        listing = await listing_of(provider, origin.put(FILES))
        (tmp_path / "part").write_bytes(b"abc")
        with pytest.raises(InternalError, match="3 bytes, fewer than the 4"):
            await provider.fetch(
                listing.key, file_of(listing, LARGE), tmp_path / "part", offset=4, progress=Counted()
            )

    async def test_a_file_that_changed_since_it_was_listed_is_refused(
        self, provider: Provider, origin: Origin, tmp_path: Path
    ) -> None:
        ref = origin.put(FILES)
        listing = await listing_of(provider, ref)
        origin.change(ref, LARGE)
        with pytest.raises(PreconditionError, match="changed"):
            await provider.fetch(
                listing.key, file_of(listing, LARGE), tmp_path / "part", offset=0, progress=Counted()
            )
        left = tmp_path / "part"
        assert not left.exists() or left.stat().st_size == 0, "bytes of two versions could be joined"

    @pytest.mark.parametrize("path", ["../escape", "/etc/hostname", "a//b", "a\\b", "a/./b", ""])
    async def test_a_path_that_leaves_the_model_is_refused(
        self, provider: Provider, origin: Origin, tmp_path: Path, path: str
    ) -> None:
        listing = await listing_of(provider, origin.put(FILES))
        with pytest.raises(InvalidArgumentError, match="unsafe"):
            await provider.fetch(
                listing.key, ListedFile(path, 5), tmp_path / "part", offset=0, progress=Counted()
            )
        assert not (tmp_path / "part").exists()

    async def test_bytes_are_never_written_through_a_link(
        self, provider: Provider, origin: Origin, tmp_path: Path
    ) -> None:
        listing = await listing_of(provider, origin.put(FILES))
        precious = tmp_path / "precious"
        precious.write_bytes(b"of somebody else")
        (tmp_path / "soft").symlink_to(precious)
        os.link(precious, tmp_path / "hard")
        with pytest.raises(PermissionDeniedError):
            await provider.fetch(
                listing.key, file_of(listing, LARGE), tmp_path / "soft", offset=0, progress=Counted()
            )
        await provider.fetch(
            listing.key, file_of(listing, LARGE), tmp_path / "hard", offset=0, progress=Counted()
        )
        assert precious.read_bytes() == b"of somebody else"
        assert (tmp_path / "hard").read_bytes() == WEIGHTS

    async def test_a_full_disk_is_said_to_be_full(
        self, provider: Provider, origin: Origin, small_disk: Path
    ) -> None:
        ref = origin.put({"model.safetensors": bytes(8 << 20)})
        listing = await listing_of(provider, ref)
        with pytest.raises(ExhaustedError, match=r"model\.safetensors \(8\.00 MiB\) does not fit") as caught:
            await provider.fetch(
                listing.key, listing.files[0], small_disk / "part", offset=0, progress=Counted()
            )
        assert "mx cache evict" in caught.value.remedy
        kept = (small_disk / "part").read_bytes()
        assert len(kept) <= 1 << 20
        assert not any(kept), "what is kept must be the beginning of the file"

    @pytest.fixture
    def small_disk(self, tmp_path: Path) -> Iterator[Path]:
        yield from mounted_tmpfs(tmp_path / "small", size_bytes=1 << 20)


def mounted_tmpfs(where: Path, *, size_bytes: int) -> Iterator[Path]:
    """A file system of that size while the test runs; skips where that is not allowed, except in CI."""
    where.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size_bytes}", "mx-test", str(where)]
    made = subprocess.run(mount, capture_output=True, text=True, check=False)
    if made.returncode != 0:
        reason = f"a small file system can't be mounted here: {made.stderr.strip()}"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    try:
        yield where
    finally:
        subprocess.run(["umount", "--lazy", str(where)], check=True)
