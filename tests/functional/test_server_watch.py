"""The live feed of a server over gRPC: snapshot, changes, resuming, drain, and who may change what."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager

import pytest
from running import Running, running
from watching import Watcher, watching

from mx.client.grpc import GrpcClient
from mx.core.feed import EventKind, FeedPosition, FleetChanges, FleetSnapshot, LinkLost
from mx.core.model import EntryKey, ModelRef, Pin, ProviderName
from mx.core.source import SourceFilter, SourceStatus, WorkerKey
from mx.core.transfer import TransferState
from mx.errors import InvalidArgumentError, NotFoundError, PermissionDeniedError, UnavailableError
from mx.server import roles
from mx.testing import feed_samples as some
from mx.testing.samples import entry
from mx.wire.roles import WORKER
from mx.wire.v1 import admin

READY = SourceStatus.READY
ONE = entry()


@asynccontextmanager
async def served(**options: object) -> AsyncIterator[tuple[Running, GrpcClient]]:
    async with running(**options) as server:
        client = GrpcClient(server.server.listen, jitter=lambda: 0.0)
        try:
            yield server, client
        finally:
            await client.close()


async def publish(client: GrpcClient, *, status: int = READY) -> WorkerKey:
    await client.publish(ONE.identity, ONE.worker, worker_id=ONE.worker_id, pod=ONE.pod)
    await client.update_status(ONE.key, status)
    return ONE.key


async def test_a_watch_begins_with_everything_and_goes_on_with_changes() -> None:
    async with served() as (_, client):
        key = await publish(client)
        async with watching(client) as watcher:
            fleet = await watcher.until(lambda fleet: key in fleet.sources)
            assert isinstance(watcher.updates[0], FleetSnapshot)
            assert fleet.server is not None
            assert fleet.server.listen == (await client.status()).listen
            await client.report_transfer(some.transfer("t0", bytes_done=50))
            await watcher.until(lambda fleet: fleet.running["t0"].bytes_done == 50 if fleet.running else 0)
            await client.report_transfer(some.transfer("t0", TransferState.DONE, bytes_done=100))
            fleet = await watcher.until(lambda fleet: "t0" in fleet.finished)
            assert not fleet.running
            assert await client.withdraw(key)
            fleet = await watcher.until(lambda fleet: not fleet.sources)
            assert fleet.snapshots == 1


async def test_what_happened_is_told_in_words_and_remembered() -> None:
    async with served() as (_, client):
        async with watching(client) as watcher:
            await watcher.until(lambda fleet: fleet.server)
            await publish(client)
            await watcher.until(lambda fleet: any("serves" in one.text for one in fleet.events))
            await client.report_transfer(some.transfer("t0", TransferState.DONE, bytes_done=1 << 30))
            fleet = await watcher.until(
                lambda fleet: any(one.kind is EventKind.TRANSFER for one in fleet.events)
            )
            pull = next(one for one in fleet.events if one.kind is EventKind.TRANSFER)
            assert pull.text.startswith("pull w1 rank 0 1.00 GiB in 1s")
            assert pull.text.endswith("from w0 (100 %) verified")
            assert pull.fields is not None
            assert pull.fields["bytes"] == 1 << 30
        assert await client.list_events() == fleet.events
        assert await client.list_events(kinds=[EventKind.TRANSFER], limit=5) == (pull,)
        assert await client.list_events(subject="nobody") == ()


async def test_a_download_is_told_while_it_runs_and_when_it_is_done() -> None:
    async with served() as (server, client), watching(client) as watcher:
        await watcher.until(lambda fleet: fleet.server)
        key = EntryKey(ProviderName.HUGGING_FACE, "org/m", "")
        async with aclosing(client.ensure(ModelRef(ProviderName.HUGGING_FACE, "org/m"))) as updates:
            async for update in updates:
                key = update.key
        await watcher.until(lambda fleet: fleet.entries.get(key) and fleet.cache)
        await watcher.until(lambda fleet: fleet.entries[key].status == "downloaded")
        await watcher.until(lambda fleet: fleet.entries[key].disk_bytes and not fleet.downloads)
        await client.pin_model(key, Pin(None, "for the demo"))
        await watcher.until(lambda fleet: fleet.entries[key].pin)
        await client.pin_model(key, None)
        await watcher.until(lambda fleet: any("unpinned" in one.text for one in fleet.events))
        await client.remove_model(key.provider, key.name)
        await watcher.until(lambda fleet: key not in fleet.entries)
        assert server.services.feed.watchers == 1


async def test_who_comes_back_gets_what_he_missed_and_nothing_else() -> None:
    async with served() as (_, client):
        async with watching(client) as watcher:
            fleet = await watcher.until(lambda fleet: fleet.server)
        await publish(client)
        async with watching(client, resume=fleet.position) as again:
            await again.until(lambda fleet: ONE.key in fleet.sources)
            assert all(isinstance(update, FleetChanges) for update in again.updates)


@pytest.mark.parametrize("position", [FeedPosition("another life", 0), FeedPosition("", 1 << 60)])
async def test_who_comes_back_from_elsewhere_gets_everything(position: FeedPosition) -> None:
    async with served() as (_, client), watching(client, resume=position) as watcher:
        await watcher.until(lambda fleet: fleet.snapshots)


async def test_a_large_fleet_comes_in_parts() -> None:
    async with served() as (server, client):
        for number in range(3000):
            server.services.transfers.record(
                some.transfer(f"t{number}") if number else some.transfer("x" * (3 << 20))
            )
        async with watching(client) as watcher:
            fleet = await watcher.until(lambda fleet: fleet.server)
            assert len(fleet.running) == 3000
            assert fleet.snapshots == 1


async def test_a_drain_is_not_held_up_by_those_who_watch() -> None:
    async with served() as (server, client), watching(client) as watcher:
        await watcher.until(lambda fleet: fleet.server)
        loop = asyncio.get_running_loop()
        begin_s = loop.time()
        assert await server.server.drain(60.0)
        assert loop.time() - begin_s < 10.0
        fleet = await watcher.until(lambda fleet: fleet.lost)
        assert fleet.sources == {}


async def test_a_store_that_is_away_is_told_and_so_is_its_return() -> None:
    async with served() as (server, client), watching(client) as watcher:
        await watcher.until(lambda fleet: fleet.server)
        server.store.down = True
        server.server.readiness.doubt_store()
        fleet = await watcher.until(lambda fleet: fleet.server and not fleet.server.store_ok)
        await watcher.until(lambda fleet: any("does not answer" in one.text for one in fleet.events))
        server.store.down = False
        server.server.readiness.doubt_store()
        fleet = await watcher.until(lambda fleet: any("answers again" in one.text for one in fleet.events))
        assert fleet.server is not None
        assert fleet.server.store_ok


async def test_a_server_that_cannot_be_reached_is_told_and_asked_again() -> None:
    async with served() as (server, _):
        gone = server.server.listen
    client = GrpcClient(gone, jitter=lambda: 0.0)
    watcher = Watcher()
    task = asyncio.create_task(watcher.run(client, None))
    try:
        await watcher.until(lambda fleet: fleet.lost and fleet.lost.attempt >= 3)
        lost = [update for update in watcher.updates if isinstance(update, LinkLost)]
        assert [one.retry_in_s for one in lost[:3]] == [0.125, 0.25, 0.5]
        await client.close()
        assert isinstance(await watcher.fails(), UnavailableError)
    finally:
        task.cancel()
        await asyncio.wait({task})


async def test_a_person_marks_a_source_stale_and_has_the_dead_removed() -> None:
    async with served() as (server, client):
        key = await publish(client)
        assert await client.mark_stale(key)
        (row,) = await client.list_sources(SourceFilter())
        assert row.status == SourceStatus.STALE
        server.clock.advance(3600.0 + 91)
        planned = await client.reap_sources(dry_run=True)
        assert (planned.seen, planned.removed) == (1, (key,))
        assert await client.reap_sources(dry_run=True) == planned
        assert await client.reap_sources() == planned
        assert not await client.mark_stale(key)


async def test_questions_that_mean_nothing_are_refused() -> None:
    async with served() as (_, client):
        with pytest.raises(NotFoundError, match="no record"):
            await client.raw_source(ONE.key)
        with pytest.raises(NotFoundError, match="no record"):
            await client.raw_model(some.entry_key())
        with pytest.raises(InvalidArgumentError):
            await client.mark_stale(WorkerKey("", "", 0))


# Operators who may only look


def test_every_call_of_the_service_is_classed() -> None:
    methods = {method.name for method in admin.DESCRIPTOR.services_by_name["AdminService"].methods}
    classes = (roles.READS, roles.REPORTS, roles.SHARED, frozenset(roles.CHANGES))
    assert set().union(*classes) == methods
    assert sum(map(len, classes)) == len(methods)


async def test_on_a_read_only_server_operators_look_and_change_nothing() -> None:
    async with served(read_only=True) as (server, client):
        worker = GrpcClient(server.server.listen, role=WORKER)
        try:
            key = await publish(client)
            assert (await client.status()).read_only
            assert not (await worker.status()).read_only
            model = ModelRef(ProviderName.HUGGING_FACE, "org/m")
            refused = (
                client.withdraw(key),
                client.mark_stale(key),
                client.reap_sources(),
                client.pin_model(some.entry_key(), None),
                client.remove_model(model.provider, model.name),
                client.delete_model(model.provider, model.name),  # a published call
                client.run_eviction(await client.plan_eviction()),
                anext(client.ensure(model)),
                worker.mark_stale(key),
                worker.pin_model(some.entry_key(), None),
            )
            for call in refused:
                with pytest.raises(PermissionDeniedError, match="read-only"):
                    await call
            assert (await client.reap_sources(dry_run=True)).seen == 1
            await client.report_transfer(some.transfer())
            async with aclosing(worker.ensure(model)) as updates:
                assert [update.status async for update in updates][-1] == "downloaded"
            assert "1 record" in await worker.delete_model(model.provider, model.name)
            assert await worker.withdraw(key)
        finally:
            await worker.close()
