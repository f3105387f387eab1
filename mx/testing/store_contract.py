"""What every ``mx.ports.SourceStore`` must do, as a test class to inherit from.

    class TestMyStore(SourceStoreContract):
        @pytest.fixture
        async def store(self): ...            # an empty, open store; closed afterwards
        @pytest.fixture
        async def beside(self, store): ...    # another one on the same records, where there can be

``mx.testing.store_life`` goes further and compares a store with the memory store.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import replace
from typing import Any

import pytest

from mx.core.source import (
    ArtifactSource,
    PeerRecord,
    SourceFilter,
    SourceIdentity,
    SourceStatus,
    SourceSummary,
    TransferEngineSession,
    WorkerKey,
    summarise,
)
from mx.errors import InvalidArgumentError, UnavailableError
from mx.ports import SourceStore
from mx.testing.samples import IDENTITY, PEER, entry
from mx.testing.watching import closing_ends_the_watch, watching

READY, STALE, INITIALIZING = SourceStatus.READY, SourceStatus.STALE, SourceStatus.INITIALIZING


async def scanned(store: SourceStore) -> list[SourceSummary]:
    """Every row, in key order; the counts must agree with them."""
    rows = [row async for row in store.scan()]
    assert dict(await store.count_by_status()) == Counter(row.status for row in rows)
    return sorted(rows, key=lambda row: (row.source_id, row.worker_id, row.worker_rank))


async def listed(
    store: SourceStore, query: SourceFilter | None = None, *, fresh_after_ms: int | None = None
) -> list[str]:
    """Worker ids of a listing, in its order."""
    rows = await store.list_sources(query or SourceFilter(), fresh_after_ms=fresh_after_ms)
    return [row.worker_id for row in rows]


class SourceStoreContract:
    """Inherit, and provide the fixture ``store``.

    ``any_worker_id`` False is for a store whose worker ids are names of objects; ``many`` are more records
    than it takes in one piece.
    """

    any_worker_id = True
    many = 1_200

    @pytest.fixture
    async def store(self) -> Any:
        raise NotImplementedError("a contract suite needs a store to run against")

    @pytest.fixture
    async def beside(self, store: SourceStore) -> SourceStore:
        return store

    # publish and get

    async def test_a_record_comes_back_as_it_was_published(self, store: SourceStore) -> None:
        published = entry(peer=PEER, source_load=0.25)
        await store.publish(published)
        assert await store.get(published.source_id, "w0") == published
        assert await scanned(store) == [summarise(published)]

    @pytest.mark.parametrize(
        "changes",
        [
            {"backend_metadata": None, "payload": None},
            {"backend_metadata": TransferEngineSession("host:1")},
            {"payload": ArtifactSource("a1", (1 << 64) - 1, 3, 4, 5)},
            {"topology": {}, "accelerator": "", "status": 77},
            {"worker_rank": (1 << 32) - 1, "updated_at_ms": 0},
        ],
    )
    async def test_every_form_of_worker_survives(self, store: SourceStore, changes: dict[str, Any]) -> None:
        published = entry()
        published = replace(published, worker=replace(published.worker, **changes))
        await store.publish(published)
        assert await store.get(published.source_id, "w0") == published

    async def test_publishing_again_replaces_status_payload_and_load(self, store: SourceStore) -> None:
        first = entry(source_load=0.5)
        await store.publish(first)
        second = entry(status=INITIALIZING, updated_at_ms=900)
        second = replace(second, worker=replace(second.worker, payload=None, agent_name="new"))
        await store.publish(second)
        assert await store.get(first.source_id, "w0") == second
        assert len(await scanned(store)) == 1

    async def test_publishing_again_keeps_what_was_announced(self, store: SourceStore) -> None:
        await store.publish(entry())
        assert await store.announce(entry().key, PEER)
        await store.publish(entry(updated_at_ms=2_000))
        found = await store.get(entry().source_id, "w0")
        assert found is not None
        assert found.peer == PEER

    async def test_a_new_peer_record_replaces_the_old_one_whole(self, store: SourceStore) -> None:
        await store.publish(entry(peer=PEER))
        bare = PeerRecord(endpoint="10.0.0.8:1", generation="g2")
        await store.publish(entry(peer=bare))
        assert [row.peer for row in await scanned(store)] == [bare]
        await store.announce(entry().key, PEER)
        assert [row.peer for row in await scanned(store)] == [PEER]

    async def test_announcing_an_unknown_worker_is_refused(self, store: SourceStore) -> None:
        await store.publish(entry())
        for key in _strangers(entry().key):
            assert not await store.announce(key, PEER)
        assert [row.peer for row in await scanned(store)] == [None]

    async def test_get_answers_the_lowest_rank(self, store: SourceStore) -> None:
        for rank in (7, 2, 11):
            await store.publish(entry(rank=rank))
        await store.publish(entry("w1", rank=0))
        found = await store.get(entry().source_id, "w0")
        assert found is not None
        assert found.worker.worker_rank == 2

    async def test_get_of_the_unknown_is_none(self, store: SourceStore) -> None:
        await store.publish(entry())
        assert await store.get(entry().source_id, "w1") is None
        assert await store.get("0" * 16, "w0") is None
        assert await store.get("", "") is None

    # heartbeats

    async def test_a_heartbeat_sets_status_load_and_time(self, store: SourceStore) -> None:
        published = entry(status=SourceStatus.UNKNOWN)
        await store.publish(published)
        assert await store.update_status(published.key, status=READY, source_load=0.0, now_ms=2_000)
        found = await store.get(published.source_id, "w0")
        expected = replace(published.worker, status=READY, updated_at_ms=2_000)
        assert found == replace(published, worker=expected, source_load=0.0)
        assert await scanned(store) == [summarise(found)]

    async def test_a_heartbeat_without_load_makes_it_unknown(self, store: SourceStore) -> None:
        await store.publish(entry(source_load=0.5))
        await store.update_status(entry().key, status=READY, source_load=None, now_ms=1_001)
        assert [row.source_load for row in await scanned(store)] == [None]

    async def test_an_older_heartbeat_changes_nothing_and_succeeds(self, store: SourceStore) -> None:
        await store.publish(entry(updated_at_ms=5_000, source_load=0.5))
        for status in (READY, STALE):
            assert await store.update_status(entry().key, status=status, source_load=1.0, now_ms=4_999)
        assert await scanned(store) == [summarise(entry(updated_at_ms=5_000, source_load=0.5))]

    async def test_a_heartbeat_of_the_same_moment_counts(self, store: SourceStore) -> None:
        await store.publish(entry(status=INITIALIZING))
        assert await store.update_status(entry().key, status=READY, source_load=None, now_ms=1_000)
        assert [row.status for row in await scanned(store)] == [READY]

    async def test_a_heartbeat_never_creates(self, store: SourceStore) -> None:
        await store.publish(entry())
        for key in _strangers(entry().key):
            assert not await store.update_status(key, status=READY, source_load=None, now_ms=9_000)
        assert await scanned(store) == [summarise(entry())]

    async def test_stale_returns_to_ready(self, store: SourceStore) -> None:
        await store.publish(entry())
        assert await store.mark_stale(entry().key, observed_ms=1_000, now_ms=2_000)
        assert await store.update_status(entry().key, status=READY, source_load=None, now_ms=2_001)
        assert await listed(store, SourceFilter(status=READY), fresh_after_ms=2_000) == ["w0"]

    # listings

    async def test_newest_first_and_equal_times_in_key_order(self, store: SourceStore) -> None:
        for worker_id, time_ms in (("b", 10), ("d", 30), ("c", 20), ("a", 20)):
            await store.publish(entry(worker_id, updated_at_ms=time_ms))
        await store.publish(entry("a", rank=1, updated_at_ms=20))
        assert await listed(store) == ["d", "a", "a", "c", "b"]
        assert await listed(store, SourceFilter(limit=2)) == ["d", "a"]

    async def test_each_filter_alone_and_all_together(self, store: SourceStore) -> None:
        other = SourceIdentity(model_name="org/Other", extra_parameters={"training_step": "7"})
        await store.publish(entry("a", updated_at_ms=10))
        await store.publish(entry("b", rank=1, updated_at_ms=20))
        await store.publish(entry("c", updated_at_ms=30, status=STALE, identity=other))
        await store.publish(entry("d", rank=1, updated_at_ms=40, identity=other))
        other_id = entry(identity=other).source_id
        cases = [
            (SourceFilter(source_id=other_id), ["d", "c"]),
            (SourceFilter(source_id="nope"), []),
            (SourceFilter(status=READY), ["d", "b", "a"]),
            (SourceFilter(status=SourceStatus.UNKNOWN), []),
            (SourceFilter(model_name="org/Other"), ["d", "c"]),
            (SourceFilter(model_name="org/other"), []),
            (SourceFilter(worker_rank=0), ["c", "a"]),
            (SourceFilter(min_updated_at_ms=20), ["d", "c", "b"]),
            (SourceFilter(min_training_step=7), ["d", "c"]),
            (SourceFilter(min_training_step=8), []),
            (SourceFilter(limit=1), ["d"]),
            (SourceFilter(other_id, READY, "org/Other", 1, 7, 40, 5), ["d"]),
            (SourceFilter(other_id, READY, "org/Other", 1, 7, 41, 5), []),
        ]
        for query, expected in cases:
            assert await listed(store, query) == expected, query

    async def test_training_steps_are_unsigned_64_bit(self, store: SourceStore) -> None:
        top = (1 << 64) - 1
        for worker_id, step in (("zero", 0), ("middle", 1 << 63), ("top", top)):
            identity = replace(IDENTITY, extra_parameters={"training_step": str(step)})
            await store.publish(entry(worker_id, identity=identity))
        await store.publish(entry("none"))
        assert sorted(await listed(store, SourceFilter(min_training_step=0))) == ["middle", "top", "zero"]
        assert sorted(await listed(store, SourceFilter(min_training_step=1))) == ["middle", "top"]
        assert await listed(store, SourceFilter(min_training_step=top)) == ["top"]

    async def test_old_ready_rows_are_left_out_before_the_limit(self, store: SourceStore) -> None:
        await store.publish(entry("fresh", updated_at_ms=5_000))
        await store.publish(entry("edge", updated_at_ms=4_000))
        await store.publish(entry("old", updated_at_ms=3_999))
        await store.publish(entry("initializing", updated_at_ms=1, status=INITIALIZING))
        assert await listed(store, SourceFilter(status=READY), fresh_after_ms=4_000) == ["fresh", "edge"]
        assert await listed(store, fresh_after_ms=4_000) == ["fresh", "edge", "initializing"]
        oldest = SourceFilter(status=READY, limit=3)
        assert await listed(store, oldest, fresh_after_ms=4_500) == ["fresh"]

    async def test_ready_without_a_time_is_never_fresh(self, store: SourceStore) -> None:
        await store.publish(entry("zero", updated_at_ms=0))
        await store.publish(entry("negative", updated_at_ms=-5))
        assert await listed(store, SourceFilter(status=READY), fresh_after_ms=-100) == []
        assert await listed(store, SourceFilter(status=READY)) == ["zero", "negative"]

    async def test_text_is_a_value_not_a_statement(self, store: SourceStore) -> None:
        nasty = "x' OR 1=1; DROP TABLE mx_worker; --"
        if not self.any_worker_id:
            for worker_id in (nasty, "w\x00nul"):
                with pytest.raises(InvalidArgumentError, match="worker_id"):
                    await store.publish(entry(worker_id))
                assert await store.get(entry().source_id, worker_id) is None
            return
        await store.publish(entry(nasty))
        await store.publish(entry("w\x00nul"))
        assert await store.get(entry().source_id, nasty) is not None
        assert await store.get(entry().source_id, "w\x00nul") is not None
        assert await listed(store, SourceFilter(model_name=nasty)) == []
        assert len(await scanned(store)) == 2

    # staleness and removal

    async def test_a_heartbeat_in_between_wins_over_the_reaper(self, store: SourceStore) -> None:
        await store.publish(entry())
        await store.update_status(entry().key, status=READY, source_load=None, now_ms=1_500)
        assert not await store.mark_stale(entry().key, observed_ms=1_000, now_ms=2_000)
        assert not await store.remove(entry().key, observed_ms=1_000)
        assert [(row.status, row.updated_at_ms) for row in await scanned(store)] == [(READY, 1_500)]

    async def test_marking_keeps_everything_but_status_and_time(self, store: SourceStore) -> None:
        published = entry(peer=PEER, source_load=0.5)
        await store.publish(published)
        assert await store.mark_stale(published.key, observed_ms=1_000, now_ms=2_000)
        expected = replace(published.worker, status=STALE, updated_at_ms=2_000)
        assert await store.get(published.source_id, "w0") == replace(published, worker=expected)

    async def test_marking_and_removing_the_unknown(self, store: SourceStore) -> None:
        await store.publish(entry())
        for key in _strangers(entry().key):
            assert not await store.mark_stale(key, observed_ms=1_000, now_ms=2_000)
            assert not await store.remove(key)
            assert not await store.remove(key, observed_ms=1_000)
        assert await scanned(store) == [summarise(entry())]

    async def test_removal_takes_one_rank_and_leaves_the_rest(self, store: SourceStore) -> None:
        for worker_id, rank in (("w0", 0), ("w0", 1), ("w1", 0)):
            await store.publish(entry(worker_id, rank=rank))
        assert await store.remove(entry().key, observed_ms=1_000)
        assert [str(row.key) for row in await scanned(store)] == [
            str(entry("w0", rank=1).key),
            str(entry("w1").key),
        ]
        assert await store.remove(entry("w0", rank=1).key)
        assert await store.get(entry().source_id, "w0") is None
        assert await store.remove(entry("w1").key)
        assert await scanned(store) == []

    async def test_a_removed_record_leaves_nothing_to_the_next(self, store: SourceStore) -> None:
        await store.publish(entry(peer=PEER, source_load=0.5))
        await store.remove(entry().key)
        assert not await store.update_status(entry().key, status=READY, source_load=None, now_ms=9_000)
        await store.publish(entry())
        assert await store.get(entry().source_id, "w0") == entry()

    # many at once

    async def test_concurrent_writers_lose_nothing(self, store: SourceStore) -> None:
        many = [entry(f"w{number:03}", rank=number % 4) for number in range(200)]
        await asyncio.gather(*(store.publish(one) for one in many))
        known = await asyncio.gather(
            *(
                store.update_status(one.key, status=READY, source_load=None, now_ms=2_000 + number)
                for number, one in enumerate(many)
            )
        )
        assert all(known)
        assert [row.updated_at_ms for row in await scanned(store)] == list(range(2_000, 2_200))

    async def test_a_scan_survives_changes_under_it(self, store: SourceStore) -> None:
        await asyncio.gather(*(store.publish(entry(f"w{number:04}")) for number in range(self.many)))
        seen = []
        async for row in store.scan():
            seen.append(row.worker_id)
            await store.remove(row.key, observed_ms=row.updated_at_ms)
        assert sorted(seen) == [f"w{number:04}" for number in range(self.many)]
        assert await scanned(store) == []

    async def test_a_cancelled_caller_does_no_harm(self, store: SourceStore) -> None:
        tasks = [asyncio.ensure_future(store.publish(entry(f"w{number}"))) for number in range(20)]
        await asyncio.sleep(0)
        for task in tasks[::2]:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await store.publish(entry("last"))
        workers = {row.worker_id for row in await scanned(store)}
        assert {f"w{number}" for number in range(1, 20, 2)} | {"last"} <= workers
        for row in await scanned(store):
            assert await store.get(row.source_id, row.worker_id) is not None

    # watching

    async def test_every_change_by_anyone_is_told(self, store: SourceStore, beside: SourceStore) -> None:
        first, second = entry(), entry("w1", rank=3)
        async with watching(store.watch) as told, watching(beside.watch) as told_beside:
            for one in (first, second):
                await told.after(beside.publish(one), one.key)
            await told.after(beside.announce(first.key, PEER), first.key)
            await told.after(
                beside.update_status(first.key, status=INITIALIZING, source_load=None, now_ms=1_500),
                first.key,
            )
            await told.after(beside.mark_stale(first.key, observed_ms=1_500, now_ms=2_000), first.key)
            await told.after(beside.remove(second.key), second.key)
            # One's own changes are told as well.
            await told_beside.after(beside.remove(first.key), first.key)
        assert await scanned(beside) == []

    async def test_a_watch_ends_with_its_store(self, store: SourceStore) -> None:
        await closing_ends_the_watch(store)

    # life of the store

    async def test_an_open_store_is_well(self, store: SourceStore) -> None:
        await store.check()

    async def test_a_closed_store_is_unavailable_not_empty(self, store: SourceStore) -> None:
        await store.publish(entry())
        await store.close()
        await store.close()
        with pytest.raises(UnavailableError):
            await store.check()
        with pytest.raises(UnavailableError):
            await store.get(entry().source_id, "w0")
        with pytest.raises(UnavailableError):
            await store.update_status(entry().key, status=READY, source_load=None, now_ms=2_000)
        with pytest.raises(UnavailableError):
            await scanned(store)


def _strangers(key: WorkerKey) -> tuple[WorkerKey, ...]:
    """Keys that differ in one part each."""
    return (
        replace(key, source_id="0" * 16),
        replace(key, worker_id="somebody"),
        replace(key, worker_rank=key.worker_rank + 1),
        replace(key, worker_id=key.worker_id.upper()),
    )
