"""The providers ``s3`` and ``gcs`` against real servers: the contract, and faults of the way there."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mx.core.model import EntryKey, ListedFile, Listing, ModelRef
from mx.errors import (
    IntegrityError,
    InvalidArgumentError,
    MxError,
    NotFoundError,
    PreconditionError,
    UnavailableError,
)
from mx.ports import Provider
from mx.providers.gcs import GcsProvider
from mx.providers.s3 import S3Provider
from mx.testing.bucket_stores import PAGE, RULE, Bucket, Store, opened
from mx.testing.fault_proxy import FaultProxy
from mx.testing.faults import Fault
from mx.testing.pauses import Pauses
from mx.testing.provider_contract import (
    FILES,
    LARGE,
    WEIGHTS,
    Counted,
    ProviderContract,
    file_of,
    listing_of,
    open_files_below,
)


@pytest.fixture(scope="module", params=["s3", "gcs"])
def store(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    with opened(request.param, tmp_path_factory.mktemp(request.param)) as store:
        yield store


@pytest.fixture(scope="module")
def model(store: Store) -> ModelRef:
    """One that no test changes."""
    return store.put(FILES)


@pytest.fixture
def proxy(store: Store) -> Iterator[FaultProxy]:
    with FaultProxy(store.endpoint) as proxy:
        yield proxy


@pytest.fixture
def pauses() -> Pauses:
    return Pauses()


@pytest.fixture
async def provider(
    store: Store, proxy: FaultProxy, pauses: Pauses
) -> AsyncIterator[S3Provider | GcsProvider]:
    provider = store.provider(proxy.endpoint, pauses)
    yield provider
    await provider.close()


class TestBuckets(ProviderContract):
    @pytest.fixture
    def origin(self, store: Store, proxy: FaultProxy) -> Bucket:
        return Bucket(store, proxy)

    @pytest.fixture
    async def provider(self, provider: Provider) -> Provider:
        return provider


async def fetch(
    provider: Provider, listing: Listing, into: Path, *, path: str = LARGE, offset: int = 0
) -> Counted:
    counted = Counted()
    await provider.fetch(listing.key, file_of(listing, path), into, offset=offset, progress=counted)
    return counted


# what is listed


async def test_folder_markers_are_no_files(store: Store, provider: Provider) -> None:
    ref = store.put({"": b"", "sub/": b"", "sub/config.json": b"{}"})
    assert [file.path for file in (await listing_of(provider, ref)).files] == ["sub/config.json"]


async def test_a_folder_with_nothing_but_its_marker_is_missing(store: Store, provider: Provider) -> None:
    ref = store.put({"": b""})
    with pytest.raises(NotFoundError, match="nothing below"):
        await provider.resolve(ref)
    with pytest.raises(NotFoundError, match="nothing below"):
        await provider.list_files(EntryKey(ref.provider, ref.name, ""))


async def test_a_model_does_not_hold_what_only_begins_like_its_name(store: Store, provider: Provider) -> None:
    ref = store.put({"config.json": b"{}"}, folder="near")
    store.put({"config.json": b"{}"}, folder="near-by")
    store.put({"config.json": b"{}"}, folder="nearer/deep")
    assert len((await listing_of(provider, ref)).files) == 1
    with pytest.raises(NotFoundError):
        await provider.resolve(ModelRef(ref.provider, ref.name[:-1]))


async def test_a_file_is_no_model(store: Store, provider: Provider) -> None:
    ref = store.put({"config.json": b"{}"})
    with pytest.raises(NotFoundError, match="without its files"):
        await provider.resolve(ModelRef(ref.provider, f"{ref.name}/config.json"))


async def test_listings_of_many_pages_are_whole(store: Store, provider: Provider, proxy: FaultProxy) -> None:
    names = [f"{number:04}.json" for number in range(2 * PAGE + 1)]
    ref = store.put(dict.fromkeys(names, b""))
    assert [file.path for file in (await listing_of(provider, ref)).files] == names
    assert len(proxy.asked(store.listing)) == 4  # resolved, and three pages


@pytest.mark.parametrize(
    ("paths", "said"), [(["a\nb"], "control characters"), (["a", "a/b"], "as a file and as a folder")]
)
async def test_objects_that_no_disk_can_hold_are_named(
    store: Store, provider: Provider, paths: list[str], said: str
) -> None:
    ref = store.put(dict.fromkeys(paths, b"x"))
    with pytest.raises(IntegrityError, match=said) as caught:
        await listing_of(provider, ref)
    assert ref.name in caught.value.message


# faults


@pytest.mark.parametrize(
    ("status", "headers", "pauses_s"),
    [
        (429, {"Retry-After": "7"}, [7.5, 7.5]),
        (
            503,
            {"Date": "Mon, 23 Nov 2026 10:00:00 GMT", "Retry-After": "Mon, 23 Nov 2026 10:01:00 GMT"},
            [60.5] * 2,
        ),
        (500, {}, [1.0, 2.0]),
        (503, {}, [1.0, 2.0]),
    ],
)
@pytest.mark.parametrize("what", ["listing", "reading"])
async def test_what_may_pass_is_asked_for_again_after_a_pause(
    store: Store,
    provider: Provider,
    proxy: FaultProxy,
    pauses: Pauses,
    model: ModelRef,
    tmp_path: Path,
    what: str,
    status: int,
    headers: dict[str, str],
    pauses_s: list[float],
) -> None:
    where = store.listing if what == "listing" else store.reading("config.json")
    proxy.fail(Fault(where, times=2, status=status, headers=headers))
    await fetch(provider, await listing_of(provider, model), tmp_path / "part", path="config.json")
    assert (tmp_path / "part").read_bytes() == FILES["config.json"]
    assert pauses.taken == pauses_s


@pytest.mark.parametrize("what", ["listing", "reading"])
async def test_what_does_not_pass_ends_with_the_reason(
    store: Store,
    provider: Provider,
    proxy: FaultProxy,
    pauses: Pauses,
    model: ModelRef,
    tmp_path: Path,
    what: str,
) -> None:
    where = store.listing if what == "listing" else store.reading("config.json")
    proxy.fail(Fault(where, times=None, status=503))
    with pytest.raises(UnavailableError, match="503") as caught:
        await fetch(provider, await listing_of(provider, model), tmp_path / "part", path="config.json")
    assert model.name in caught.value.message
    assert len(pauses.taken) == RULE.attempts - 1


@given(cuts=st.lists(st.integers(0, 99_999), min_size=1, max_size=3), ahead=st.integers(1, 4))
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_cut_at_any_byte_is_resumed_there(
    store: Store, model: ModelRef, tmp_path: Path, cuts: list[int], ahead: int
) -> None:
    async def run(proxy: FaultProxy) -> None:
        provider = store.provider(proxy.endpoint, Pauses(), ahead=ahead)
        listing = await listing_of(provider, model)
        for cut in cuts:
            proxy.fail(Fault(store.reading(LARGE), cut_after=cut))
        counted = await fetch(provider, listing, tmp_path / "part")
        assert (tmp_path / "part").read_bytes() == WEIGHTS
        assert counted.total == len(WEIGHTS)
        begins = sorted(int(one.range[6:].partition("-")[0]) for one in proxy.asked(store.reading(LARGE)))
        assert 4 <= len(begins) <= 4 + len(cuts)
        assert set(range(0, len(WEIGHTS), 100_000)) <= set(begins)
        await provider.close()

    (tmp_path / "part").unlink(missing_ok=True)
    with FaultProxy(store.endpoint) as proxy:
        asyncio.run(run(proxy))


async def test_parts_that_come_before_their_turn_wait_for_it(
    store: Store, provider: Provider, proxy: FaultProxy, model: ModelRef, tmp_path: Path
) -> None:
    listing = await listing_of(provider, model)
    gate = threading.Event()
    proxy.fail(Fault(store.reading(LARGE), cut_after=50_000, gate=gate))
    task = asyncio.create_task(fetch(provider, listing, tmp_path / "part"))
    async with asyncio.timeout(60):
        while len(proxy.asked(store.reading(LARGE))) < 4:
            await asyncio.sleep(0.01)
    assert WEIGHTS.startswith((tmp_path / "part").read_bytes())
    gate.set()
    await task
    assert (tmp_path / "part").read_bytes() == WEIGHTS


async def test_what_came_before_a_failure_is_kept_and_nothing_behind_it(
    store: Store, provider: Provider, proxy: FaultProxy, model: ModelRef, tmp_path: Path
) -> None:
    listing = await listing_of(provider, model)
    proxy.fail(Fault("nothing"))
    proxy.fail(Fault(store.reading(LARGE), times=None, cut_after=1000))
    with pytest.raises(UnavailableError, match="broke"):
        await fetch(provider, listing, tmp_path / "part")
    kept = (tmp_path / "part").read_bytes()
    assert kept == WEIGHTS[: 1000 * RULE.attempts]
    proxy.mend()
    counted = await fetch(provider, listing, tmp_path / "part", offset=len(kept))
    assert (tmp_path / "part").read_bytes() == WEIGHTS
    assert counted.total == len(WEIGHTS) - len(kept)


async def test_a_silent_connection_is_left(
    store: Store, proxy: FaultProxy, model: ModelRef, tmp_path: Path
) -> None:
    provider = store.provider(proxy.endpoint, Pauses(), silence_s=0.5)
    listing = await listing_of(provider, model)
    proxy.fail(Fault(store.reading(LARGE), cut_after=1000, gate=threading.Event()))
    await fetch(provider, listing, tmp_path / "part")
    assert (tmp_path / "part").read_bytes() == WEIGHTS
    await provider.close()


async def test_a_request_that_takes_too_long_is_made_again(
    store: Store, proxy: FaultProxy, model: ModelRef, tmp_path: Path
) -> None:
    provider = store.provider(proxy.endpoint, Pauses(), window_s=0.5)
    listing = await listing_of(provider, model)
    proxy.fail(Fault(store.reading("config.json"), cut_after=3, gate=threading.Event()))
    await fetch(provider, listing, tmp_path / "part", path="config.json")
    assert (tmp_path / "part").read_bytes() == FILES["config.json"]
    await provider.close()


@pytest.mark.parametrize("path", [LARGE, "config.json"])
async def test_a_shorter_answer_is_never_the_file(
    store: Store, provider: Provider, proxy: FaultProxy, model: ModelRef, tmp_path: Path, path: str
) -> None:
    listing = await listing_of(provider, model)
    proxy.fail(Fault(store.reading(path), shorten_by=1, times=None))
    with pytest.raises(PreconditionError, match="changed"):
        await fetch(provider, listing, tmp_path / "part", path=path)
    assert (tmp_path / "part").stat().st_size == 0


@pytest.mark.parametrize("path", [LARGE, "config.json"])
async def test_an_object_that_changed_is_never_joined_with_its_older_bytes(
    store: Store, provider: Provider, tmp_path: Path, path: str
) -> None:
    ref = store.put(FILES)
    listing = await listing_of(provider, ref)
    folder = ref.name.partition("models/")[2]
    (tmp_path / "part").write_bytes(FILES[path][:3])
    store.put({path: bytes(reversed(FILES[path]))}, folder=folder)  # as long as before
    with pytest.raises(PreconditionError, match="changed"):
        await fetch(provider, listing, tmp_path / "part", path=path, offset=3)
    assert (tmp_path / "part").stat().st_size == 0


async def test_a_store_that_does_not_mind_the_condition_is_caught_by_its_etag(
    store: Store, provider: Provider, proxy: FaultProxy, model: ModelRef, tmp_path: Path
) -> None:
    listing = await listing_of(provider, model)
    proxy.fail(Fault("nothing"))
    # Three parts are as they were, the last one is of another version.
    for _ in range(3):
        proxy.fail(Fault(store.reading(LARGE)))
    proxy.fail(Fault(store.reading(LARGE), times=None, etag="1234567890"))
    with pytest.raises(PreconditionError, match="1234567890"):
        await fetch(provider, listing, tmp_path / "part")
    assert (tmp_path / "part").stat().st_size == 0


@pytest.mark.parametrize("path", [LARGE, "config.json"])
async def test_wrong_bytes_are_refused_and_nothing_is_kept(
    store: Store, provider: Provider, proxy: FaultProxy, model: ModelRef, tmp_path: Path, path: str
) -> None:
    listing = await listing_of(provider, model)
    algorithm = file_of(listing, path).digest.partition(":")[0]
    assert algorithm
    proxy.fail(Fault(store.reading(path), corrupt=True))
    with pytest.raises(IntegrityError, match=algorithm) as caught:
        await fetch(provider, listing, tmp_path / "part", path=path)
    assert path in caught.value.message
    assert (tmp_path / "part").stat().st_size == 0
    await fetch(provider, listing, tmp_path / "part", path=path)
    assert (tmp_path / "part").read_bytes() == FILES[path]


async def test_a_store_without_ranges_is_refused_where_parts_are_wanted(
    store: Store, provider: Provider, proxy: FaultProxy, model: ModelRef, tmp_path: Path
) -> None:
    listing = await listing_of(provider, model)
    proxy.fail(Fault(store.reading(LARGE), ignore_range=True, times=None))
    with pytest.raises(UnavailableError, match="answers no ranges"):
        await fetch(provider, listing, tmp_path / "part")


async def test_redirects_lead_elsewhere_without_anything_that_says_who_asks(
    store: Store, provider: Provider, proxy: FaultProxy, model: ModelRef, tmp_path: Path
) -> None:
    listing = await listing_of(provider, model)
    with FaultProxy(store.endpoint) as elsewhere:
        body = FILES["config.json"]
        elsewhere.fail(Fault("GET:/stolen", body=body, times=None))
        location = {"Location": f"{elsewhere.endpoint}/stolen"}
        proxy.fail(Fault(store.reading("config.json"), status=307, headers=location))
        await fetch(provider, listing, tmp_path / "part", path="config.json")
        [one] = elsewhere.asked("")
    assert set(one.headers) <= {"host", "user-agent", "accept-encoding", "range"}
    assert (tmp_path / "part").read_bytes() == body


async def test_nobody_listens(store: Store, pauses: Pauses, model: ModelRef) -> None:
    with FaultProxy(store.endpoint) as proxy:
        address = proxy.endpoint
    provider = store.provider(address, pauses)
    with pytest.raises(UnavailableError, match="can't be reached") as caught:
        await provider.resolve(model)
    assert caught.value.remedy
    assert pauses.taken == [1.0, 2.0, 4.0]
    await provider.close()


# leaving


async def test_a_cancelled_fetch_leaves_the_beginning_and_can_be_resumed(
    store: Store, provider: Provider, proxy: FaultProxy, model: ModelRef, tmp_path: Path
) -> None:
    listing = await listing_of(provider, model)
    gate = threading.Event()
    proxy.fail(Fault(store.reading(LARGE), cut_after=50_000, gate=gate, times=None))
    task = asyncio.create_task(fetch(provider, listing, tmp_path / "part"))
    async with asyncio.timeout(60):
        while len(proxy.asked(store.reading(LARGE))) < 4:
            await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    kept = (tmp_path / "part").read_bytes()
    gate.set()
    proxy.mend()
    assert WEIGHTS.startswith(kept)
    await fetch(provider, listing, tmp_path / "part", offset=len(kept))
    assert (tmp_path / "part").read_bytes() == WEIGHTS


async def test_connections_are_bounded_over_all_files_and_used_again(
    store: Store, proxy: FaultProxy, tmp_path: Path
) -> None:
    ref = store.put({f"{number}.safetensors": WEIGHTS for number in range(4)})
    provider: Any = store.provider(proxy.endpoint, Pauses(), connections=3)
    listing = await listing_of(provider, ref)
    gate = threading.Event()
    proxy.fail(Fault(store.reading(".safetensors"), times=3, gate=gate))
    async with asyncio.TaskGroup() as tasks:
        for file in listing.files:
            tasks.create_task(fetch(provider, listing, tmp_path / file.path, path=file.path))
        async with asyncio.timeout(60):
            while len(proxy.asked(store.reading(".safetensors"))) < 3:
                await asyncio.sleep(0.01)
        for _ in range(20):  # a fourth one would be on its way by now
            await asyncio.sleep(0.01)
        assert len(proxy.asked(store.reading(".safetensors"))) == 3
        gate.set()
    for file in listing.files:
        assert (tmp_path / file.path).read_bytes() == WEIGHTS
    await provider.close()


async def test_no_descriptor_is_left_open(
    store: Store, provider: Provider, proxy: FaultProxy, model: ModelRef, tmp_path: Path
) -> None:
    listing = await listing_of(provider, model)
    await fetch(provider, listing, tmp_path / "warm")
    proxy.fail(Fault(store.reading(LARGE), corrupt=True, times=None))

    for number in range(20):
        task = asyncio.create_task(fetch(provider, listing, tmp_path / f"{number}"))
        for _ in range(number * 3):  # cancelled a little later each time
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises((asyncio.CancelledError, MxError)):
            await task
        assert open_files_below(tmp_path) == []


async def test_a_path_from_outside_is_refused_before_anything_is_asked(
    provider: Provider, model: ModelRef, proxy: FaultProxy, tmp_path: Path
) -> None:
    listing = await listing_of(provider, model)
    before = len(proxy.asked(""))
    for path in ("../x", "/x", "a/../../x"):
        with pytest.raises(InvalidArgumentError):
            await provider.fetch(
                listing.key, ListedFile(path, 5), tmp_path / "part", offset=0, progress=Counted()
            )
    assert len(proxy.asked("")) == before
