"""The provider ``local``: the contract, and what directories have of their own."""

from __future__ import annotations

import os
import threading
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

import pytest

from mx.core.model import EntryKey, ModelRef, ProviderName
from mx.errors import InvalidArgumentError, NotFoundError, PermissionDeniedError, PreconditionError
from mx.providers.local import LocalProvider
from mx.testing.provider_contract import (
    FILES,
    LARGE,
    WEIGHTS,
    Counted,
    ProviderContract,
    file_of,
    listing_of,
    mounted_tmpfs,
)


class Folders:
    """Models as folders below one root."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def put(self, files: Mapping[str, bytes]) -> ModelRef:
        folder = self.root / f"model-{len(os.listdir(self.root))}"
        for path, data in files.items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_bytes(data)
        return ModelRef(ProviderName.LOCAL, str(folder))

    def missing(self) -> ModelRef:
        return ModelRef(ProviderName.LOCAL, str(self.root / "nothing-here"))

    def change(self, ref: ModelRef, path: str) -> None:
        changed = Path(ref.name) / path
        data = changed.read_bytes()
        changed.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
        os.utime(changed, ns=(1, 1))  # clocks of file systems tick in milliseconds


@pytest.fixture
def origin(tmp_path: Path) -> Folders:
    (tmp_path / "root").mkdir()
    return Folders(tmp_path / "root")


@pytest.fixture(params=[True, False], ids=["links", "copies"])
async def provider(request: pytest.FixtureRequest, origin: Folders) -> AsyncIterator[LocalProvider]:
    provider = LocalProvider(roots=[origin.root], hard_links=request.param)
    yield provider
    await provider.close()


class TestLocalProvider(ProviderContract):
    @pytest.fixture
    def origin(self, origin: Folders) -> Folders:
        return origin

    @pytest.fixture
    async def provider(self, provider: LocalProvider) -> LocalProvider:
        return provider


def key_of(ref: ModelRef) -> EntryKey:
    return EntryKey(ref.provider, ref.name, "")


# roots


async def test_without_roots_nothing_can_be_asked_for(origin: Folders) -> None:
    ref = origin.put(FILES)
    closed = LocalProvider(roots=[])
    with pytest.raises(PermissionDeniedError) as caught:
        await closed.resolve(ref)
    assert "MODEL_EXPRESS_PROVIDERS_LOCAL_ROOTS" in caught.value.remedy


async def test_outside_the_roots_nothing_is_told(provider: LocalProvider, tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "root-of-another").mkdir()
    said = set()
    for name in ("there", "not-there", "root-of-another", "root-of-another/x"):
        with pytest.raises(PermissionDeniedError) as caught:
            await provider.resolve(ModelRef(ProviderName.LOCAL, str(tmp_path / name)))
        said.add(str(caught.value).replace(str(tmp_path / name), "NAME"))
    assert len(said) == 1, "the answer tells what exists"


async def test_the_root_itself_may_be_the_model(provider: LocalProvider, origin: Folders) -> None:
    (origin.root / "config.json").write_bytes(b"{}")
    listing = await listing_of(provider, ModelRef(ProviderName.LOCAL, str(origin.root)))
    assert [file.path for file in listing.files] == ["config.json"]


async def test_every_root_counts_and_may_itself_be_a_link(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name / "model").mkdir(parents=True)
        (tmp_path / name / "model" / "config.json").write_bytes(b"{}")
    (tmp_path / "link").symlink_to(tmp_path / "two")
    provider = LocalProvider(roots=[tmp_path / "one", tmp_path / "link"])
    for name in ("one/model", "link/model", "two/model"):
        listing = await listing_of(provider, ModelRef(ProviderName.LOCAL, str(tmp_path / name)))
        assert [file.path for file in listing.files] == ["config.json"]
    await provider.close()


# links


async def test_links_that_stay_below_the_roots_are_files(provider: LocalProvider, origin: Folders) -> None:
    """The layout of a hub's cache: a snapshot is made of links into another folder."""
    blobs, snapshot = origin.root / "m" / "blobs", origin.root / "m" / "snapshots" / "c"
    blobs.mkdir(parents=True)
    snapshot.mkdir(parents=True)
    (blobs / "b1").write_bytes(WEIGHTS)
    (snapshot / LARGE).symlink_to("../../blobs/b1")
    listing = await listing_of(provider, ModelRef(ProviderName.LOCAL, str(snapshot)))
    assert [(file.path, file.size_bytes) for file in listing.files] == [(LARGE, len(WEIGHTS))]
    into = origin.root.parent / "part"
    await provider.fetch(listing.key, listing.files[0], into, offset=0, progress=Counted())
    assert into.read_bytes() == WEIGHTS
    assert not into.is_symlink()


@pytest.mark.parametrize("target", ["../../secret", "/etc/hostname", "../../missing"])
async def test_links_that_leave_the_roots_are_refused(
    provider: LocalProvider, origin: Folders, tmp_path: Path, target: str
) -> None:
    (tmp_path / "secret").write_bytes(b"of the server")
    ref = origin.put(FILES)
    (Path(ref.name) / "config2.json").symlink_to(target)
    with pytest.raises(PermissionDeniedError, match="config2"):
        await listing_of(provider, ref)


async def test_a_file_replaced_by_a_link_after_listing_is_not_followed(
    provider: LocalProvider, origin: Folders, tmp_path: Path
) -> None:
    (tmp_path / "secret").write_bytes(WEIGHTS)
    ref = origin.put(FILES)
    listing = await listing_of(provider, ref)
    (Path(ref.name) / LARGE).unlink()
    (Path(ref.name) / LARGE).symlink_to(tmp_path / "secret")
    with pytest.raises(PermissionDeniedError):
        await provider.fetch(
            listing.key, file_of(listing, LARGE), tmp_path / "part", offset=0, progress=Counted()
        )
    assert not (tmp_path / "part").exists()


async def test_a_folder_that_leads_out_is_refused(
    provider: LocalProvider, origin: Folders, tmp_path: Path
) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "config.json").write_bytes(b"{}")
    (origin.root / "model").symlink_to(tmp_path / "outside")
    with pytest.raises(PermissionDeniedError):
        await provider.resolve(ModelRef(ProviderName.LOCAL, str(origin.root / "model")))


async def test_linked_folders_inside_a_model_are_named_not_skipped(
    provider: LocalProvider, origin: Folders
) -> None:
    ref, other = origin.put(FILES), origin.put(FILES)
    (Path(ref.name) / "more").symlink_to(other.name)
    with pytest.raises(InvalidArgumentError, match="more is no regular file"):
        await listing_of(provider, ref)


# what is no directory of files


async def test_files_pipes_and_wrong_names(provider: LocalProvider, origin: Folders) -> None:
    ref = origin.put(FILES)
    for name in (f"{ref.name}/config.json", f"{ref.name}/config.json/x"):
        with pytest.raises(NotFoundError):
            await provider.resolve(ModelRef(ProviderName.LOCAL, name))
    with pytest.raises(InvalidArgumentError, match="no revisions"):
        await provider.resolve(ModelRef(ProviderName.LOCAL, ref.name, "main"))
    os.mkfifo(f"{ref.name}/pipe")
    listing = await listing_of(provider, ref)
    assert "pipe" not in [file.path for file in listing.files]


async def test_a_name_that_is_no_text_is_named(provider: LocalProvider, origin: Folders) -> None:
    ref = origin.put(FILES)
    with open(os.fsencode(ref.name) + b"/\xff.json", "wb"):
        pass
    with pytest.raises(InvalidArgumentError, match="rename the file"):
        await listing_of(provider, ref)


# bytes


async def test_hard_links_cost_no_bytes(origin: Folders, tmp_path: Path) -> None:
    ref = origin.put(FILES)
    provider = LocalProvider(roots=[origin.root])
    listing = await listing_of(provider, ref)
    file, into, counted = file_of(listing, LARGE), tmp_path / "part", Counted()
    await provider.fetch(listing.key, file, into, offset=0, progress=counted)
    same = os.stat(into).st_ino == os.stat(Path(ref.name) / LARGE).st_ino
    assert same or _reflinks(tmp_path), "neither cloned nor linked"
    assert counted.calls == [file.size_bytes]
    # Fetched again, the second name is replaced and the original stays.
    await provider.fetch(listing.key, file, into, offset=0, progress=counted)
    assert (Path(ref.name) / LARGE).read_bytes() == WEIGHTS == into.read_bytes()
    await provider.close()


def _reflinks(folder: Path) -> bool:
    with open("/proc/mounts") as mounts:
        kinds = {line.split()[1]: line.split()[2] for line in mounts}
    real = folder.resolve()
    return next(kinds[str(one)] for one in (real, *real.parents) if str(one) in kinds) in ("btrfs", "xfs")


async def test_another_file_system_gets_a_copy(origin: Folders, tmp_path: Path) -> None:
    ref = origin.put(FILES)
    provider = LocalProvider(roots=[origin.root])
    listing = await listing_of(provider, ref)
    for other in mounted_tmpfs(tmp_path / "other", size_bytes=4 << 20):
        counted = Counted()
        await provider.fetch(listing.key, file_of(listing, LARGE), other / "part", offset=0, progress=counted)
        assert (other / "part").read_bytes() == WEIGHTS
        assert os.stat(other / "part").st_nlink == 1
        assert counted.total == len(WEIGHTS)
    await provider.close()


async def test_a_file_that_shrinks_while_it_is_copied(origin: Folders, tmp_path: Path) -> None:
    """The original is cut by another thread as soon as the first bytes have arrived."""
    size = 256 << 20
    ref = origin.put({"model.safetensors": b""})
    source = Path(ref.name) / "model.safetensors"
    os.truncate(source, size)
    provider = LocalProvider(roots=[origin.root], hard_links=False)
    listing = await listing_of(provider, ref)
    cut = threading.Event()

    def progress(count: int) -> None:
        if not cut.is_set():
            os.truncate(source, 1)
            cut.set()

    with pytest.raises(PreconditionError, match=r"model\.safetensors"):
        await provider.fetch(listing.key, listing.files[0], tmp_path / "part", offset=0, progress=progress)
    assert cut.is_set()
    await provider.close()
