"""Providers and the cache on disk together: what is fetched becomes an entry, or nothing does."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from mx.core.model import ModelRef, ProviderName
from mx.errors import IntegrityError
from mx.ports import EntryCache, Provider
from mx.providers.cache import open_cache
from mx.providers.huggingface import HuggingFaceProvider
from mx.providers.local import LocalProvider
from mx.testing.fake_hub import FakeHub
from mx.testing.faults import Fault
from mx.testing.provider_contract import FILES, KEPT, LARGE, WEIGHTS, listing_of

HUB_REF = ModelRef(ProviderName.HUGGING_FACE, "org/Model-7B")


@pytest.fixture
def cache(tmp_path: Path) -> EntryCache:
    return open_cache(tmp_path / "cache")


@pytest.fixture
def hub() -> Iterator[FakeHub]:
    with FakeHub() as hub:
        hub.add(HUB_REF.name, FILES)
        yield hub


@pytest.fixture
async def hugging_face(hub: FakeHub) -> AsyncIterator[HuggingFaceProvider]:
    provider = HuggingFaceProvider(endpoint=hub.endpoint, verify=False)
    yield provider
    await provider.close()


@pytest.fixture
async def local(tmp_path: Path) -> AsyncIterator[LocalProvider]:
    provider = LocalProvider(roots=[tmp_path / "models"])
    yield provider
    await provider.close()


@pytest.fixture
def local_ref(tmp_path: Path) -> ModelRef:
    for path, data in FILES.items():
        (tmp_path / "models" / "m" / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "models" / "m" / path).write_bytes(data)
    return ModelRef(ProviderName.LOCAL, str(tmp_path / "models" / "m"))


async def bring(provider: Provider, cache: EntryCache, ref: ModelRef) -> Path:
    """Everything of the model; the folder that it can be loaded from."""
    listing = await listing_of(provider, ref)
    staging = cache.begin(listing)
    for missing in staging.missing:
        into = staging.path_for(missing.file)
        await provider.fetch(
            listing.key, missing.file, into, offset=missing.offset, progress=lambda count: None
        )
        staging.accept(missing.file)
    return staging.publish(revision=None, fence=lambda: True).root


def read(root: Path) -> dict[str, bytes]:
    return {path: (root / path).read_bytes() for path in KEPT}


EXPECTED = {path: FILES[path] for path in KEPT}


async def test_a_model_of_the_hub_becomes_an_entry(
    hugging_face: HuggingFaceProvider, cache: EntryCache
) -> None:
    assert read(await bring(hugging_face, cache, HUB_REF)) == EXPECTED


async def test_wrong_bytes_never_become_an_entry(
    hub: FakeHub, hugging_face: HuggingFaceProvider, cache: EntryCache
) -> None:
    hub.fail(Fault("storage:", corrupt=True))
    with pytest.raises(IntegrityError):
        await bring(hugging_face, cache, HUB_REF)
    assert cache.scan() == ()
    assert read(await bring(hugging_face, cache, HUB_REF)) == EXPECTED


async def test_a_directory_becomes_an_entry_and_stays_what_it_is(
    local: LocalProvider, cache: EntryCache, local_ref: ModelRef
) -> None:
    original = Path(local_ref.name) / LARGE
    original.chmod(0o600)
    before = os.stat(original)
    assert read(await bring(local, cache, local_ref)) == EXPECTED
    after = os.stat(original)
    assert (after.st_mode, after.st_mtime_ns) == (before.st_mode, before.st_mtime_ns)
    [entry] = cache.scan()
    cache.remove(entry.key)
    assert original.read_bytes() == WEIGHTS
    assert cache.scan() == ()
