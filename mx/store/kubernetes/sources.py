"""``mx.ports.SourceStore`` over ModelMetadata objects.

Listings are answered from the mirror. A change is one patch that tests what it was decided upon; where
a test fails, or the mirror says that there is nothing to change, the object itself is asked.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from dataclasses import replace
from typing import Final, NoReturn, Self

from mx.core.source import (
    PeerRecord,
    SourceEntry,
    SourceFilter,
    SourceIdentity,
    SourceStatus,
    SourceSummary,
    WorkerKey,
    WorkerRecord,
)
from mx.errors import UnavailableError
from mx.logs import event_log
from mx.store.kubernetes import configmaps
from mx.store.kubernetes.api import Answer, Object, Patch
from mx.store.kubernetes.cluster import Cluster, closed_words
from mx.store.kubernetes.heartbeats import Heartbeat, Heartbeats
from mx.store.kubernetes.mirror import Mirror, Mirrored
from mx.store.kubernetes.names import (
    SOURCES,
    from_date,
    is_worker_id,
    require_worker_id,
    source_name,
    to_date,
)
from mx.store.kubernetes.source_objects import (
    RankRow,
    SourceValue,
    decode_source,
    encode_peer,
    encode_rank,
    encode_stamp,
    ranks_of,
    source_object,
    stamp_patch,
    status_of,
)
from mx.store.kubernetes.spill import Spill
from mx.store.listing import select_rows
from mx.store.watchers import Watchers

log = event_log(__name__)

# A patch meets another writer's change rarely, and each new try looks at what the other one made.
TRIES: Final = 20
_LOOKS: Final = 7  # within 2.5 s a publication under way is done
_PAGE: Final = 500  # rows between two turns for others
_ABANDONED_MS: Final = 600_000

_PROBE: Final = source_object(
    SourceEntry("0" * 16, "mx-probe", SourceIdentity("mx/probe"), WorkerRecord(0)), namespace=""
)


class KubernetesSourceStore:
    """Sources in one namespace. Several servers may have it open."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._api = cluster.api
        self._by_source: dict[str, dict[str, SourceValue]] = {}
        self._mirror: Mirror[SourceValue] = Mirror(
            cluster.api, SOURCES, decode=decode_source, changed=self._index, rules=cluster.rules
        )
        self._spill = Spill(cluster.api)
        self._heartbeats = Heartbeats(self._beat)
        self._watchers: Watchers[WorkerKey] = Watchers(closed_words(cluster))
        self._closed = False

    @property
    def namespace(self) -> str:
        return self._api.namespace

    @classmethod
    async def open(cls, cluster: Cluster) -> Self:
        """See ``Cluster.join`` for what it raises."""
        await cluster.join(SOURCES, _PROBE)
        store = cls(cluster)
        try:
            await store._mirror.start()
        except BaseException:
            await store.close()
            raise
        return store

    async def publish(self, entry: SourceEntry) -> None:
        self._require_open()
        require_worker_id(entry.worker_id)
        wanted = source_object(entry, namespace=self._api.namespace)
        for _ in range(TRIES):
            found = await self._begin(wanted)
            if found is None:
                continue
            try:
                await self._publish(entry, wanted, found)
            except Answer as answer:
                self._missed(found, answer)
            else:
                return
        raise _contended(wanted["metadata"]["name"])

    async def announce(self, key: WorkerKey, peer: PeerRecord) -> bool:
        def decide(row: RankRow) -> Patch:
            path, value = f"{row.place}/mx/peer", encode_peer(peer)
            if row.has_mx:
                return [{"op": "add", "path": path, "value": value}]
            mx = {"publishedAt": row.published_at, "peer": value}
            return [{"op": "add", "path": f"{row.place}/mx", "value": mx}]

        return await self._change(key, decide)

    async def update_status(
        self, key: WorkerKey, *, status: int, source_load: float | None, now_ms: int
    ) -> bool:
        self._require_open()
        return await self._heartbeats.beat(key, Heartbeat(status, source_load, now_ms))

    async def list_sources(
        self, query: SourceFilter, *, fresh_after_ms: int | None
    ) -> tuple[SourceSummary, ...]:
        await self._ready()
        if query.source_id is None:
            values: Iterator[SourceValue] = (one.value for one in self._mirror)
        else:
            values = iter(self._by_source.get(query.source_id, {}).values())
        rows = (row.summary for value in values for row in value.rows)
        return select_rows(rows, query, fresh_after_ms=fresh_after_ms)

    async def get(self, source_id: str, worker_id: str) -> SourceEntry | None:
        self._require_open()
        name = _name(source_id, worker_id)
        if name is None:
            return None
        for attempt in range(_LOOKS):
            found = await self._api.read(SOURCES, name)
            ranks = {} if found is None else ranks_of(found)
            if found is None or not ranks:
                return None
            if (entry := await self._spill.decode(found, min(ranks))) is not None:
                return entry
            await asyncio.sleep(0.02 * 2.0**attempt)  # it is being published again
        raise UnavailableError(
            f"the tensors of {name} are not those that its worker published last",
            remedy="they come right when the worker publishes again; restart it to hasten that",
        )

    async def scan(self) -> AsyncIterator[SourceSummary]:
        await self._ready()
        for number, one in enumerate(self._mirror, 1):
            for row in one.value.rows:
                yield row.summary
            if not one.value.rows:
                await self._sweep(one)
            if number % _PAGE == 0:
                await asyncio.sleep(0)

    async def count_by_status(self) -> Mapping[int, int]:
        await self._ready()
        return Counter(row.summary.status for one in self._mirror for row in one.value.rows)

    async def mark_stale(self, key: WorkerKey, *, observed_ms: int, now_ms: int) -> bool:
        def decide(row: RankRow) -> Patch | bool:
            if row.summary.updated_at_ms != observed_ms:
                return False
            return self._stamped(row, SourceStatus.STALE, row.summary.source_load, now_ms)

        return await self._change(key, decide)

    async def remove(self, key: WorkerKey, *, observed_ms: int | None = None) -> bool:
        def decide(row: RankRow) -> bool:
            return observed_ms is None or row.summary.updated_at_ms == observed_ms

        return await self._change(key, decide, removing=True)

    async def watch(self, tell: Callable[[WorkerKey | None], None]) -> NoReturn:
        self._require_open()
        await self._watchers.watch(tell)

    async def check(self) -> None:
        self._require_open()
        await self._api.call("GET", SOURCES, query={"limit": "1"})
        await self._ready()

    async def close(self) -> None:
        if not self._closed:
            self._closed = True
            self._watchers.close()
            await self._heartbeats.close()
            await self._mirror.close()
            await self._cluster.leave()

    # --- publishing -------------------------------------------------------------------------------
    async def _begin(self, wanted: Object) -> Object | None:
        """The object, made if there is none; None when it went away between two looks."""
        name = wanted["metadata"]["name"]
        if self._mirror.get(name) is None:
            try:
                found = await self._api.create(SOURCES, wanted)
            except Answer as answer:
                if not answer.is_conflict:
                    raise answer.error from answer
            else:
                self._mirror.wrote(found)
                return found
        found_before = await self._api.read(SOURCES, name)
        if found_before is None and (known := self._mirror.get(name)) is not None:
            self._mirror.removed(name, known.uid)
        return found_before

    async def _publish(self, entry: SourceEntry, wanted: Object, found: Object) -> None:
        """Large parts first, since the status names them; one patch of the status makes all of it seen."""
        rank = entry.worker.worker_rank
        ranks = ranks_of(found)
        before = ranks.get(rank)
        tensors, blob = await self._spill.write(entry, found)
        found = await self._with_spec(wanted, found)
        ranks[rank] = encode_rank(
            entry,
            published_at=to_date(self._api.clock.now_ms()),
            tensors=tensors,
            blob=blob,
        )
        if entry.peer is None and before is not None and "peer" in before["mx"]:
            ranks[rank]["mx"]["peer"] = before["mx"]["peer"]
        status = status_of(
            ranks,
            previous=found.get("status") or {},
            generation=found["metadata"].get("generation", 1),
            now=to_date(entry.worker.updated_at_ms),
        )
        await self._write_status(found, status)
        if before is not None:
            await self._spill.forget(before, keep=ranks[rank])

    async def _with_spec(self, wanted: Object, found: Object) -> Object:
        """Bring what lies outside the status up to date, where it is not."""
        metadata = found["metadata"]
        patch: Patch = [_test_version(found)]
        for member in ("labels", "ownerReferences"):
            if (value := wanted["metadata"].get(member)) is not None and metadata.get(member) != value:
                patch.append({"op": "add", "path": f"/metadata/{member}", "value": value})
        if found.get("spec") != wanted["spec"]:
            patch.append({"op": "add", "path": "/spec", "value": wanted["spec"]})
        if len(patch) == 1:
            return found
        found = await self._api.patch(SOURCES, metadata["name"], patch, status=False)
        self._mirror.wrote(found)
        return found

    async def _write_status(self, found: Object, status: Object) -> None:
        patch = [_test_version(found), {"op": "add", "path": "/status", "value": status}]
        self._mirror.wrote(await self._api.patch(SOURCES, found["metadata"]["name"], patch))

    # --- changing one rank --------------------------------------------------------------------------
    async def _change(
        self, key: WorkerKey, decide: Callable[[RankRow], Patch | bool], *, removing: bool = False
    ) -> bool:
        """Carry out what ``decide`` makes of the rank: a patch, or an answer at once.

        The mirror may be behind: what it says no to is asked for again. ``removing``: yes removes the rank.
        """
        self._require_open()
        name = _name(key.source_id, key.worker_id)
        if name is None:
            return False
        held = self._mirror.get(name)
        fresh = False
        for _ in range(TRIES):
            row = None if held is None else held.value.row(key.worker_rank)
            verdict = False if row is None else decide(row)
            if held is None or row is None or verdict is False:
                if fresh:
                    return False
                held, fresh = await self._look(name), True
                continue
            if verdict is True and not removing:
                return True
            try:
                if removing:
                    await self._remove(held, row)
                else:
                    assert not isinstance(verdict, bool)
                    await self._patch(held, row, verdict)
            except Answer as answer:
                if not (answer.is_missing or answer.is_conflict):
                    raise answer.error from answer
                held, fresh = await self._look(name), True
            else:
                return True
        raise _contended(name)

    async def _patch(self, held: Mirrored[SourceValue], row: RankRow, patch: Patch) -> None:
        """The same rank must lie there still, and nobody may have heard of it since."""
        tests: Patch = [
            {"op": "test", "path": f"{row.place}/worker/workerRank", "value": row.summary.worker_rank}
        ]
        if row.updated_at:
            tests.append({"op": "test", "path": f"{row.place}/worker/updatedAt", "value": row.updated_at})
        self._mirror.wrote(await self._api.patch(SOURCES, held.name, tests + patch))

    async def _remove(self, held: Mirrored[SourceValue], row: RankRow) -> None:
        if len(held.value.rows) == 1:
            if not await self._api.delete(SOURCES, held.name, version=held.version):
                raise Answer(404, _contended(held.name), again=False)
            self._mirror.removed(held.name, held.uid)
        else:
            found = await self._api.call("GET", SOURCES, held.name)
            ranks = ranks_of(found)
            if (
                found["metadata"]["resourceVersion"] != held.version
                or ranks.pop(row.summary.worker_rank, None) is None
            ):
                raise Answer(409, _contended(held.name), again=False)
            now = to_date(self._api.clock.now_ms())
            generation = found["metadata"].get("generation", 1)
            await self._write_status(
                found, status_of(ranks, previous=found["status"], generation=generation, now=now)
            )
        await configmaps.delete(self._api, row.config_maps)

    async def _look(self, name: str) -> Mirrored[SourceValue] | None:
        found = await self._api.read(SOURCES, name)
        if found is not None:
            return self._mirror.saw(found)
        if (known := self._mirror.get(name)) is not None:
            self._mirror.removed(name, known.uid)
        return None

    async def _beat(self, key: WorkerKey, heartbeat: Heartbeat) -> bool:
        def decide(row: RankRow) -> Patch | bool:
            if row.summary.updated_at_ms > heartbeat.now_ms:
                return True
            return self._stamped(row, heartbeat.status, heartbeat.source_load, heartbeat.now_ms)

        return await self._change(key, decide)

    def _stamped(self, row: RankRow, status: int, source_load: float | None, now_ms: int) -> Patch:
        return stamp_patch(row, encode_stamp(status, source_load, now_ms))

    async def _sweep(self, one: Mirrored[SourceValue]) -> None:
        """An object that was begun and never published: its server died, or it is somebody else's."""
        now_ms = self._api.clock.now_ms()
        if one.value.worker_id and now_ms - from_date(one.value.created) > _ABANDONED_MS:
            try:
                await self._api.delete(SOURCES, one.name, version=one.version)
            except Answer:
                return
            self._mirror.removed(one.name, one.uid)

    # --- parts ----------------------------------------------------------------------------------
    def _index(self, old: Mirrored[SourceValue] | None, new: Mirrored[SourceValue] | None) -> None:
        if old is not None:
            workers = self._by_source[old.value.source_id]
            del workers[old.name]
            if not workers:
                del self._by_source[old.value.source_id]
        if new is not None:
            self._by_source.setdefault(new.value.source_id, {})[new.name] = new.value
        for key in _changed(old, new):
            self._watchers.tell(key)
        if new is not None and old is None and not new.value.worker_id:
            log.warn("object is not laid out as a source and left alone", object=new.name)  # noqa: G010  # an EventLog

    def _missed(self, found: Object, answer: Answer) -> None:
        """Somebody changed or removed the object meanwhile; any other answer is an error."""
        if answer.is_missing:
            self._mirror.removed(found["metadata"]["name"], found["metadata"]["uid"])
        elif not answer.is_conflict:
            raise answer.error from answer

    async def _ready(self) -> None:
        self._require_open()
        await self._mirror.ready()

    def _require_open(self) -> None:
        if self._closed:
            raise UnavailableError(closed_words(self._cluster))
        self._api.require_open()


def _changed(old: Mirrored[SourceValue] | None, new: Mirrored[SourceValue] | None) -> Iterator[WorkerKey]:
    """Ranks that came, went, or are no longer what they were; a heartbeat alone is no news."""
    before = {} if old is None else {row.summary.key: _news(row) for row in old.value.rows}
    after = {} if new is None else {row.summary.key: _news(row) for row in new.value.rows}
    return (key for key in before | after if before.get(key) != after.get(key))


def _news(row: RankRow) -> tuple[object, ...]:
    return replace(row.summary, updated_at_ms=0, source_load=None), row.published_at, row.config_maps


def _name(source_id: str, worker_id: str) -> str | None:
    """None for ids that no object can have."""
    return source_name(source_id, worker_id) if is_worker_id(source_id) and is_worker_id(worker_id) else None


def _test_version(found: Object) -> Object:
    return {"op": "test", "path": "/metadata/resourceVersion", "value": found["metadata"]["resourceVersion"]}


def _contended(name: str) -> UnavailableError:
    return UnavailableError(f"{name} was changed by others again and again", remedy="try again")
