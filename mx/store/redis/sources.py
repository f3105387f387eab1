"""``mx.ports.SourceStore`` over Redis.

The keys of the storage contract are the truth, for other servers write them as well; what lies under
``mx:idx:`` only finds it faster. So a listing of one identity reads two hashes, whatever else is
stored, and a heartbeat is one script that puts one small text in the place of another.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import replace
from typing import NoReturn

from mx.core.source import (
    PeerRecord,
    SourceEntry,
    SourceFilter,
    SourceStatus,
    SourceSummary,
    WorkerKey,
)
from mx.errors import InvalidArgumentError, UnavailableError
from mx.store.listing import select_rows
from mx.store.published import WorkerSummary, dump_identity, dump_record, dump_summary, summary_of
from mx.store.redis.change import Change
from mx.store.redis.changes import source_changed, watch_sources
from mx.store.redis.keys import (
    IDENTITY,
    SOURCE_INDEX,
    WORKER_INDEX,
    has_companions,
    index_key,
    packed_key,
    peer_field,
    rank_field,
    source_key,
    source_member,
    stamp_field,
    static_field,
    status_field,
    worker_key,
    worker_member,
)
from mx.store.redis.left_alone import LeftAlone
from mx.store.redis.link import Link
from mx.store.redis.packed import pack, stamp
from mx.store.redis.source_reads import Seen, SourceReader
from mx.store.redis.source_rows import Static, dump_peer, dump_static

_SEEN_MOST = 16_384  # workers whose last status is remembered: a kilobyte each
# Somebody else changed the record each time: heartbeats of one worker are not that many.
_ATTEMPTS = 20

Rule = Callable[[WorkerSummary], WorkerSummary | None]


class RedisSourceStore:
    """Sources in Redis. Several servers may use it; keys expire ``ttl_s`` after the last heartbeat."""

    def __init__(self, link: Link, *, ttl_s: float, left_alone: LeftAlone | None = None) -> None:
        self._link = link
        self._ttl_ms = round(ttl_s * 1000)
        self._reader = SourceReader(link, left_alone or LeftAlone())
        # A worker's heartbeats reach one server as a rule: it knows what to replace without asking.
        self._seen: OrderedDict[WorkerKey, Seen] = OrderedDict()

    async def publish(self, entry: SourceEntry) -> None:
        if entry.worker_id.encode() == IDENTITY:
            raise InvalidArgumentError(f"worker id {entry.worker_id} is reserved in Redis")
        key, rank, name = entry.key, entry.worker.worker_rank, entry.worker_id.encode()
        worker, source = worker_key(key.source_id, key.worker_id), source_key(key.source_id)
        index, packed = index_key(key.source_id), packed_key(key.source_id, key.worker_id)
        record, summary = dump_record(entry.worker), dump_summary(summary_of(entry))
        change = Change().set(worker, rank_field(rank), record).set(worker, status_field(rank), summary)
        change.expire(worker, self._ttl_ms)
        if has_companions(worker):
            change.set(packed, rank_field(rank), pack(entry.worker))
            change.set(packed, stamp_field(rank), stamp(record)).expire(packed, self._ttl_ms)
        # A worker is found through its source: that comes last.
        static = Static(
            entry.worker.worker_grpc_endpoint, entry.pod, has_payload=entry.worker.payload is not None
        )
        change.set(index, static_field(key.worker_id, rank), dump_static(static))
        if entry.peer is not None:
            change.set(index, peer_field(key.worker_id, rank), dump_peer(entry.peer))
        change.expire(index, self._ttl_ms)
        change.set(source, IDENTITY, dump_identity(entry.identity)).set(source, name, summary)
        change.expire(source, self._ttl_ms)
        change.score(SOURCE_INDEX, source_member(entry.identity.model_name, key.source_id), 0)
        self._indexed(change, key, int(entry.worker.status))
        await self._link.change(change)
        self._remember(key, Seen(summary_of(entry), summary, summary, represents=True, ours=True))

    async def announce(self, key: WorkerKey, peer: PeerRecord) -> bool:
        worker, source = worker_key(key.source_id, key.worker_id), source_key(key.source_id)
        change = Change().has(worker, rank_field(key.worker_rank)).has(source, IDENTITY)
        change.set(index_key(key.source_id), peer_field(key.worker_id, key.worker_rank), dump_peer(peer))
        change.expire(index_key(key.source_id), self._ttl_ms)
        self._told(change, key)
        return await self._link.change(change)

    async def update_status(
        self, key: WorkerKey, *, status: int, source_load: float | None, now_ms: int
    ) -> bool:
        def rule(live: WorkerSummary) -> WorkerSummary | None:
            if live.updated_at_ms > now_ms:
                return None
            return replace(live, status=status, source_load=source_load, updated_at_ms=now_ms)

        return await self._renew(key, rule, ttl=True) is not None

    async def list_sources(
        self, query: SourceFilter, *, fresh_after_ms: int | None
    ) -> tuple[SourceSummary, ...]:
        if query.source_id is not None:
            rows = await self._reader.rows([query.source_id])
        else:
            rows = []
            async for source_ids in self._reader.pages(query.model_name):
                rows += select_rows(
                    await self._reader.rows(source_ids),
                    replace(query, limit=0),
                    fresh_after_ms=fresh_after_ms,
                )
        return select_rows(rows, query, fresh_after_ms=fresh_after_ms)

    async def get(self, source_id: str, worker_id: str) -> SourceEntry | None:
        return await self._reader.entry(source_id, worker_id)

    async def scan(self) -> AsyncIterator[SourceSummary]:
        async for source_ids in self._reader.pages():
            for row in await self._reader.rows(source_ids):
                yield row

    async def count_by_status(self) -> Mapping[int, int]:
        known = [int(status) for status in SourceStatus]
        *counts, total = await self._link.calls(
            [("ZCOUNT", WORKER_INDEX, status, status) for status in known] + [("ZCARD", WORKER_INDEX)]
        )
        found = Counter({status: count for status, count in zip(known, counts, strict=True) if count})
        if found.total() != total:  # numbers of a later version of the wire
            for begin, end in ((b"-inf", b"(%d" % min(known)), (b"(%d" % max(known), b"+inf")):
                others = await self._link.call("ZRANGEBYSCORE", WORKER_INDEX, begin, end, "WITHSCORES")
                found.update(int(float(score)) for score in others[1::2])
        return found

    async def mark_stale(self, key: WorkerKey, *, observed_ms: int, now_ms: int) -> bool:
        def rule(live: WorkerSummary) -> WorkerSummary | None:
            if live.updated_at_ms != observed_ms:
                return None
            return replace(live, status=int(SourceStatus.STALE), updated_at_ms=now_ms)

        return await self._renew(key, rule, ttl=False) is True

    async def remove(self, key: WorkerKey, *, observed_ms: int | None = None) -> bool:
        for _ in range(_ATTEMPTS):
            change = await self._removal(key, observed_ms)
            if change is None:
                return False
            if await self._link.change(change):
                self._seen.pop(key, None)
                return True
        raise _contended(key)

    async def watch(self, tell: Callable[[WorkerKey | None], None]) -> NoReturn:
        await watch_sources(self._link, tell)

    async def check(self) -> None:
        await self._link.probe()

    async def close(self) -> None:
        await self._link.close()

    async def _renew(self, key: WorkerKey, rule: Rule, *, ttl: bool) -> bool | None:
        """Replace the live status by what the rule makes of it: True; False when it refuses.

        None when there is no such record.
        """
        remembered = self._seen.get(key)
        was_ours = remembered is not None and remembered.ours
        for _ in range(_ATTEMPTS):
            seen = remembered or await self._reader.look(key)
            if seen is None or (was_ours and not seen.ours):  # a part of it was lost: publish it anew
                self._seen.pop(key, None)
                return None
            live = rule(seen.live)
            if live is None:
                if remembered is None:
                    return False
            elif await self._link.change(self._status_change(key, seen, live, ttl=ttl)):
                text = dump_summary(live)
                summary_text = text if seen.represents else seen.summary_text
                self._remember(key, Seen(live, text, summary_text, seen.represents, seen.ours))
                return True
            # What was remembered may be out of date, and is no ground for a refusal.
            remembered = None
        raise _contended(key)

    def _status_change(self, key: WorkerKey, seen: Seen, live: WorkerSummary, *, ttl: bool) -> Change:
        worker, source = worker_key(key.source_id, key.worker_id), source_key(key.source_id)
        name, field, text = key.worker_id.encode(), status_field(key.worker_rank), dump_summary(live)
        change = Change().has(worker, rank_field(key.worker_rank)).is_(worker, field, seen.status_text)
        change.has(source, IDENTITY).is_(source, name, seen.summary_text)
        if seen.ours:
            change.has(index_key(key.source_id), static_field(key.worker_id, key.worker_rank))
        change.set(worker, field, text)
        if seen.represents:
            change.set(source, name, text)
        if ttl:
            for renewed in (
                worker,
                packed_key(key.source_id, key.worker_id),
                source,
                index_key(key.source_id),
            ):
                change.expire(renewed, self._ttl_ms)
        if live.status != seen.live.status or seen.status_text is None:
            self._indexed(change, key, live.status)
        return change

    async def _removal(self, key: WorkerKey, observed_ms: int | None) -> Change | None:
        """None when there is no such record, or another one than was observed."""
        worker, source = worker_key(key.source_id, key.worker_id), source_key(key.source_id)
        name, rank = key.worker_id.encode(), key.worker_rank
        place = await self._reader.place(key)
        live = place.live(rank)
        if live is None or (observed_ms is not None and live.updated_at_ms != observed_ms):
            return None
        change = Change()
        # Found no more first, gone afterwards.
        change.is_(source, name, place.summary_text).len_(source, place.source_fields)
        change.len_(worker, place.worker_fields)
        change.is_(worker, status_field(rank), place.status_texts.get(rank))
        others = [summary for other, summary in place.ranks.items() if other != rank]
        if not others:
            change.delete(source, name)
        elif place.shown is None or place.shown.worker_rank == rank:
            heir = max(others, key=lambda summary: summary.updated_at_ms)
            change.set(source, name, place.status_texts.get(heir.worker_rank) or dump_summary(heir))
        index = index_key(key.source_id)
        for field in (static_field(key.worker_id, rank), peer_field(key.worker_id, rank)):
            change.delete(index, field)
        if not others and place.is_last_worker:
            change.drop(source).drop(index)
            if place.identity is not None:
                member = source_member(place.identity.model_name, key.source_id)
                change.unscore(SOURCE_INDEX, member)
        packed = packed_key(key.source_id, key.worker_id)
        change.delete(worker, rank_field(rank)).delete(worker, status_field(rank))
        change.delete(packed, rank_field(rank)).delete(packed, stamp_field(rank))
        change.unscore(WORKER_INDEX, worker_member(key))
        return self._told(change, key)

    def _indexed(self, change: Change, key: WorkerKey, status: int) -> Change:
        return self._told(change.score(WORKER_INDEX, worker_member(key), status), key)

    def _told(self, change: Change, key: WorkerKey) -> Change:
        return source_changed(change, self._link, key)

    def _remember(self, key: WorkerKey, seen: Seen) -> None:
        self._seen[key] = seen
        self._seen.move_to_end(key)
        if len(self._seen) > _SEEN_MOST:
            self._seen.popitem(last=False)


def _contended(key: WorkerKey) -> UnavailableError:
    return UnavailableError(
        f"the record of {key} was changed by others {_ATTEMPTS} times in a row", remedy="try again"
    )
