"""Models without commits: what changed at the provider is noticed by the next one who asks."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path

import pytest
from models_world import DOWNLOADED, ERROR, FILES, PIECE, World, ensure, outcome

from mx.core.cached import CachedEntry, CachedFile, changed_paths
from mx.core.model import EntryKey, ListedFile, Listing, ModelRef, Pin, ProviderName
from mx.errors import IntegrityError, NotFoundError, UnavailableError
from mx.services.freshness import SharedQuestions
from mx.testing.scripted_provider import ScriptedProvider

REF = ModelRef(ProviderName.S3, "s3://bucket/model")
KEY = EntryKey(REF.provider, REF.name, "")
NEW = b'{"new": true}'


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with AsyncExitStack() as stack:
        provider = ScriptedProvider(FILES, name=REF.provider, commit="", piece_bytes=PIECE)
        yield World(tmp_path / "cache", stack, provider=provider)


def fetched(world: World) -> set[str]:
    return {call.split()[1] for call in world.fetches}


async def test_a_model_that_is_as_it_was_costs_one_listing(world: World) -> None:
    service = await world.start()
    await ensure(service, REF)
    world.provider.calls.clear()
    done = await outcome(service, REF)
    assert (done.status, done.message) == (DOWNLOADED, "already in the cache")
    assert world.provider.calls == ["list"]


async def test_many_callers_at_once_cost_one_question_whoever_leaves() -> None:
    asked: list[str] = []
    gate = asyncio.Event()

    async def question() -> str:
        asked.append("model")
        await gate.wait()
        if len(asked) == 2:
            raise NotFoundError("gone")
        return "answer"

    async with asyncio.TaskGroup() as tasks:
        questions: SharedQuestions[str, str] = SharedQuestions(tasks)
        callers = [asyncio.create_task(questions.ask("model", question)) for _ in range(16)]
        await asyncio.sleep(0)
        callers[0].cancel()
        await asyncio.sleep(0)
        gate.set()
        assert await asyncio.gather(*callers[1:]) == ["answer"] * 15
        assert asked == ["model"]
        with pytest.raises(NotFoundError):
            await questions.ask("model", question)
    assert callers[0].cancelled()


@pytest.mark.parametrize("change", ["content", "new file", "gone file"])
async def test_a_changed_model_is_downloaded_again(world: World, change: str) -> None:
    service = await world.start()
    await ensure(service, REF)
    match change:
        case "content":
            world.provider.files["config.json"] = b"[]"  # as long as before
        case "new file":
            world.provider.files["more.json"] = NEW
        case _:
            del world.provider.files["config.json"]
    world.provider.calls.clear()
    done = await outcome(service, REF)
    assert (done.status, done.message) == (DOWNLOADED, "downloaded")
    assert done.files_total == len(world.provider.files)
    entry = await service.find(REF)
    assert {file.path for file in entry.files} == set(world.provider.files)
    for path, data in world.provider.files.items():
        assert (entry.root / path).read_bytes() == data
    record = await world.record(KEY)
    assert (record.status, record.attempts) == (DOWNLOADED, 0)


async def test_pins_outlive_a_change(world: World) -> None:
    service = await world.start()
    await ensure(service, REF)
    await service.pin(KEY, Pin(reason="in production"))
    world.provider.files["config.json"] = NEW
    await ensure(service, REF)
    assert (await world.record(KEY)).pin == Pin(reason="in production")


async def test_a_lost_record_does_not_hide_a_change(world: World) -> None:
    service = await world.start()
    await ensure(service, REF)
    await world.store.delete(KEY)
    world.provider.files["config.json"] = NEW
    await ensure(service, REF)
    assert ((await service.find(REF)).root / "config.json").read_bytes() == NEW


async def test_what_can_not_be_asked_will_do(world: World) -> None:
    service = await world.start()
    await ensure(service, REF)
    world.provider.files["config.json"] = NEW
    world.provider.list_error = UnavailableError("the store is away")
    for weights in (True, False):
        assert (await outcome(service, REF, weights=weights)).status is DOWNLOADED
    world.provider.list_error = None
    await ensure(service, REF)
    assert ((await service.find(REF)).root / "config.json").read_bytes() == NEW


async def test_a_listing_that_is_refused_is_told_and_what_is_there_stays(world: World) -> None:
    service = await world.start()
    await ensure(service, REF)
    world.provider.list_error = IntegrityError("an object that no disk can hold")
    end = await outcome(service, REF)
    assert (end.status, end.message) == (ERROR, "an object that no disk can hold")
    assert (await world.record(KEY)).status is DOWNLOADED
    assert (await service.find(REF)).key == KEY
    assert (await outcome(service, REF, weights=False)).status is ERROR
    assert (await service.find(REF)).key == KEY


async def test_a_model_that_is_gone_is_not_found_and_what_is_there_stays(world: World) -> None:
    service = await world.start()
    await ensure(service, REF)
    world.provider.list_error = NotFoundError("nothing below that prefix")
    for weights in (True, False):
        end = await outcome(service, REF, weights=weights)
        assert (end.status, end.message) == (ERROR, "nothing below that prefix")
    assert (await service.find(REF)).key == KEY


async def test_a_provider_that_hangs_is_waited_for_once(world: World) -> None:
    service = await world.start()
    await ensure(service, REF)
    world.provider.calls.clear()
    world.provider.resolve_error = UnavailableError("not to be asked: it would be waited for as well")
    world.provider.list_error = UnavailableError("the store is away")
    assert (await outcome(service, REF)).status is DOWNLOADED
    assert world.provider.calls == ["list"]


# metadata of a model that is there with its weights


async def test_metadata_of_a_changed_model_brings_no_weights(world: World) -> None:
    service = await world.start()
    await ensure(service, REF)
    world.provider.files["config.json"] = NEW
    world.provider.files["model.safetensors"] = b"other weights"
    world.provider.calls.clear()
    done = await outcome(service, REF, weights=False)
    assert (done.status, done.key) == (DOWNLOADED, replace(KEY, weights=False))
    assert fetched(world) == {"config.json", "empty.txt"}


async def test_a_full_entry_whose_weights_are_right_is_brought_up_to_date(world: World) -> None:
    service = await world.start()
    await ensure(service, REF)
    world.provider.files["config.json"] = NEW
    done = await outcome(service, REF, weights=False)
    assert (done.status, done.key) == (DOWNLOADED, replace(KEY, weights=False))
    assert [record.key for record in await service.records()] == [KEY]
    assert ((await service.find(REF)).root / "config.json").read_bytes() == NEW


async def test_commits_are_never_compared(tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:
        world = World(tmp_path / "cache", stack)
        service = await world.start()
        await ensure(service)
        world.provider.calls.clear()
        await ensure(service)
        await ensure(service, weights=False)
        assert set(world.provider.calls) == {"resolve"}


# the rule


def entry(*files: CachedFile) -> CachedEntry:
    return CachedEntry(KEY, Path("/cache"), files)


@pytest.mark.parametrize(
    ("cached", "listed", "changed"),
    [
        (CachedFile("a", 1, etag="x"), ListedFile("a", 1, etag="x"), False),
        (CachedFile("a", 1, etag="x"), ListedFile("a", 1, etag="y"), True),
        (CachedFile("a", 1, etag="x"), ListedFile("a", 2, etag="x"), True),
        (CachedFile("a", 1, etag="x"), ListedFile("b", 1, etag="x"), True),
        (CachedFile("a", 1, "sha256:1"), ListedFile("a", 1, "sha256:1", "x"), False),
        (CachedFile("a", 1, "sha256:1"), ListedFile("a", 1, "sha256:2", "x"), True),
        (CachedFile("a", 1, "sha256:1"), ListedFile("a", 1, "crc32c:2"), False),
        (CachedFile("a", 1), ListedFile("a", 1), False),
    ],
)
def test_what_counts_as_another_version(cached: CachedFile, listed: ListedFile, changed: bool) -> None:
    assert bool(changed_paths(entry(cached), Listing(KEY, (listed,)))) is changed
