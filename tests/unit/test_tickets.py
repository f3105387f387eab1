"""Tickets: who has one, how long it lives, and that its entry stays as long."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from itertools import count
from pathlib import Path

import pytest

from mx.core.model import EntryKey, ModelRef, ProviderName
from mx.errors import ConflictError, ExhaustedError, NotFoundError, UnavailableError
from mx.services.tickets import FileTickets
from mx.testing.clock import FakeClock
from mx.testing.model_services import ModelBench, model_bench
from mx.testing.scripted_provider import ScriptedProvider

REF = ModelRef(ProviderName.HUGGING_FACE, "org/model")


class World:
    def __init__(self, folder: Path) -> None:
        self.clock = FakeClock()
        files = {"config.json": b"{}", "model.safetensors": b"weights"}
        self.bench: ModelBench = model_bench(self.clock, folder=folder, provider=ScriptedProvider(files))
        numbers = count(1)
        self.tickets = FileTickets(
            self.bench.models, self.clock, life_s=60, most=3, new_secret=lambda: f"secret-{next(numbers)}"
        )

    async def download(self, *, weights: bool = True) -> EntryKey:
        async for update in self.bench.models.ensure(REF, weights=weights):
            last = update
        return last.key

    async def leases(self, key: EntryKey) -> int:
        record = await self.bench.store.get(key)
        return 0 if record is None else len(record.leases)


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    world = World(tmp_path)
    async with world.bench.models, world.tickets:
        yield world


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.005)


async def test_a_ticket_names_the_files_and_is_found_by_its_secret(world: World) -> None:
    key = await world.download()
    ticket = await world.tickets.open(key, holder="me")
    assert [file.path for file in ticket.files] == ["config.json", "model.safetensors"]
    assert world.tickets.find("secret-1") is ticket
    assert "secret" not in repr(ticket)


async def test_without_weights_the_full_entry_serves_less_its_weights(world: World) -> None:
    key = await world.download()
    metadata = EntryKey(key.provider, key.name, key.commit, weights=False)
    ticket = await world.tickets.open(metadata, holder="me")
    assert [file.path for file in ticket.files] == ["config.json"]
    assert ticket.entry.key == key


async def test_the_entry_is_leased_while_the_ticket_lives(world: World) -> None:
    key = await world.download()
    ticket = await world.tickets.open(key, holder="reader")
    assert await world.leases(key) == 1
    with pytest.raises(ConflictError, match="reader"):
        await world.bench.models.delete(key.provider, key.name)
    world.tickets.close(ticket.secret)
    assert not ticket.open
    async with asyncio.timeout(10):
        while await world.leases(key):
            await asyncio.sleep(0.005)
    await world.bench.models.delete(key.provider, key.name)


async def test_it_dies_unless_it_is_renewed(world: World) -> None:
    ticket = await world.tickets.open(await world.download(), holder="me")
    world.clock.advance(59)
    assert world.tickets.renew(ticket.secret) is ticket
    world.clock.advance(59)
    assert world.tickets.find(ticket.secret) is ticket
    world.clock.advance(1)
    for ask in (world.tickets.find, world.tickets.renew):
        with pytest.raises(NotFoundError, match="expired"):
            ask(ticket.secret)


async def test_its_end_comes_by_itself_and_gives_the_lease_back(tmp_path: Path) -> None:
    world = World(tmp_path)
    brief = FileTickets(world.bench.models, world.clock, life_s=0.05)
    async with world.bench.models, brief:
        key = await world.download()
        ticket = await brief.open(key, holder="me")
        world.clock.advance(1)
        await until(lambda: not ticket.open)
        await until(lambda: brief.count == 0)
        async with asyncio.timeout(10):
            while await world.leases(key):
                await asyncio.sleep(0.005)


async def test_what_is_not_there_gives_no_ticket(world: World) -> None:
    key = EntryKey(ProviderName.HUGGING_FACE, "org/other", "f" * 40)
    with pytest.raises(NotFoundError, match="not in the cache"):
        await world.tickets.open(key, holder="me")
    assert world.tickets.count == 0


async def test_unknown_secrets_are_refused_and_closing_them_is_no_error(world: World) -> None:
    for secret in ("", "secret-1", "x" * 100_000):
        with pytest.raises(NotFoundError):
            world.tickets.find(secret)
        world.tickets.close(secret)


async def test_there_are_only_so_many(world: World) -> None:
    key = await world.download()
    opened = [await world.tickets.open(key, holder=str(n)) for n in range(3)]
    with pytest.raises(ExhaustedError, match="3 readers"):
        await world.tickets.open(key, holder="one more")
    world.tickets.close(opened[0].secret)
    async with asyncio.timeout(10):
        while True:
            try:
                await world.tickets.open(key, holder="one more")
                break
            except ExhaustedError:
                await asyncio.sleep(0.005)


async def test_a_store_that_is_away_is_told(world: World) -> None:
    key = await world.download()

    class Away:
        def reading_entry(self, key: EntryKey, *, holder: str) -> object:
            raise UnavailableError("the store is away")

    async with FileTickets(Away(), world.clock) as tickets:  # type: ignore[arg-type]
        with pytest.raises(UnavailableError, match="away"):
            await tickets.open(key, holder="me")
        assert tickets.count == 0


async def test_leaving_ends_every_ticket(tmp_path: Path) -> None:
    world = World(tmp_path)
    async with world.bench.models:
        async with world.tickets:
            key = await world.download()
            ticket = await world.tickets.open(key, holder="me")
        assert not ticket.open
        assert await world.leases(key) == 0
