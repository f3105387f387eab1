"""Providers and the cache on disk together: what is fetched becomes an entry, or nothing does."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from mx.core.cached import changed_paths
from mx.core.model import ModelRef, ProviderName
from mx.errors import IntegrityError, NotFoundError
from mx.ports import Provider
from mx.providers.cache import DiskCache, open_cache
from mx.providers.huggingface import HuggingFaceProvider
from mx.providers.local import LocalProvider
from mx.testing.bucket_stores import Store, opened
from mx.testing.fake_hub import FakeHub
from mx.testing.fault_proxy import FaultProxy
from mx.testing.faults import Fault
from mx.testing.pauses import Pauses
from mx.testing.provider_contract import FILES, KEPT, LARGE, WEIGHTS, listing_of

HUB_REF = ModelRef(ProviderName.HUGGING_FACE, "org/Model-7B")


@pytest.fixture
def cache(tmp_path: Path) -> DiskCache:
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


@pytest.fixture(scope="module", params=["s3", "gcs"])
def store(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    with opened(request.param, tmp_path_factory.mktemp(request.param)) as store:
        yield store


@pytest.fixture
def proxy(store: Store) -> Iterator[FaultProxy]:
    with FaultProxy(store.endpoint) as proxy:
        yield proxy


@pytest.fixture
async def bucket(store: Store, proxy: FaultProxy) -> AsyncIterator[Provider]:
    provider = store.provider(proxy.endpoint, Pauses(), verify=False)
    yield provider
    await provider.close()


async def bring(provider: Provider, cache: DiskCache, ref: ModelRef) -> Path:
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
    hugging_face: HuggingFaceProvider, cache: DiskCache
) -> None:
    assert read(await bring(hugging_face, cache, HUB_REF)) == EXPECTED


async def test_wrong_bytes_never_become_an_entry(
    hub: FakeHub, hugging_face: HuggingFaceProvider, cache: DiskCache
) -> None:
    hub.fail(Fault("storage:", corrupt=True))
    with pytest.raises(IntegrityError):
        await bring(hugging_face, cache, HUB_REF)
    assert cache.scan() == ()
    assert read(await bring(hugging_face, cache, HUB_REF)) == EXPECTED


async def test_a_directory_becomes_an_entry_and_stays_what_it_is(
    local: LocalProvider, cache: DiskCache, local_ref: ModelRef
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


async def test_a_model_of_a_bucket_becomes_an_entry(store: Store, bucket: Provider, cache: DiskCache) -> None:
    ref = store.put(FILES)
    root = await bring(bucket, cache, ref)
    assert read(root) == EXPECTED
    assert root.relative_to(cache.root).parts[0] == ref.provider.value
    [entry] = cache.scan()
    assert cache.verify(entry.key).sound


async def test_wrong_bytes_of_a_bucket_never_become_an_entry(
    store: Store, proxy: FaultProxy, bucket: Provider, cache: DiskCache
) -> None:
    ref = store.put(FILES)
    proxy.fail(Fault(store.reading(LARGE), corrupt=True))
    with pytest.raises(IntegrityError, match="not what the provider lists"):
        await bring(bucket, cache, ref)
    assert cache.scan() == ()
    assert read(await bring(bucket, cache, ref)) == EXPECTED


async def test_of_a_changed_model_only_what_changed_is_fetched(
    store: Store, proxy: FaultProxy, bucket: Provider, cache: DiskCache
) -> None:
    ref = store.put(FILES)
    await bring(bucket, cache, ref)
    [old] = cache.scan()
    assert changed_paths(old, await listing_of(bucket, ref)) == ()
    folder = ref.name.partition("models/")[2]
    new = bytes(reversed(FILES["config.json"]))
    store.put({"config.json": new, "more.json": b"{}"}, folder=folder)
    assert changed_paths(old, await listing_of(bucket, ref)) == ("config.json", "more.json")
    proxy.faults.requests.clear()
    root = await bring(bucket, cache, ref)
    assert read(root) == {**EXPECTED, "config.json": new}
    assert proxy.asked(store.reading(LARGE)) == []
    assert len(proxy.asked(store.reading("config.json"))) == 1
    # Whoever looked the old one up reads the files that both have, and no mixture.
    os.close(cache.open_file(old, LARGE))
    with pytest.raises(NotFoundError, match="replaced by a newer version"):
        cache.open_file(old, "config.json")


async def test_a_rewritten_object_of_the_same_content_is_not_fetched_again(
    store: Store, proxy: FaultProxy, bucket: Provider, cache: DiskCache
) -> None:
    ref = store.put(FILES)
    await bring(bucket, cache, ref)
    store.put({LARGE: WEIGHTS}, folder=ref.name.partition("models/")[2])
    proxy.faults.requests.clear()
    assert read(await bring(bucket, cache, ref)) == EXPECTED
    assert proxy.asked(store.reading(LARGE)) == []
    [entry] = cache.scan()
    assert changed_paths(entry, await listing_of(bucket, ref)) == ()


async def test_a_copied_cache_is_served_though_its_files_have_other_times(
    hugging_face: HuggingFaceProvider, cache: DiskCache
) -> None:
    root = await bring(hugging_face, cache, HUB_REF)
    [entry] = cache.scan()
    os.utime(root / LARGE, ns=(1, 1))
    os.close(cache.open_file(entry, LARGE))
