"""Reading sources: rows without their records, one whole record, what a heartbeat must know."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from mx.core.source import (
    PodReference,
    SourceEntry,
    SourceIdentity,
    SourceSummary,
    TensorSource,
    WorkerKey,
)
from mx.store.published import (
    UnreadableError,
    WorkerSummary,
    parse_identity,
    parse_record,
    parse_summary,
)
from mx.store.redis.change import Script
from mx.store.redis.failures import translate
from mx.store.redis.keys import (
    IDENTITY,
    SOURCE_INDEX,
    has_companions,
    index_key,
    packed_key,
    peer_field,
    source_key,
    static_field,
    worker_key,
)
from mx.store.redis.left_alone import LeftAlone
from mx.store.redis.link import Command, Link
from mx.store.redis.packed import STAMP_BYTES, unpack
from mx.store.redis.source_rows import Source, newer, parse_ours, parse_source

_PAGE = 250  # sources of one pipeline: some 250 kB of summaries
_THREAD_BYTES = 1 << 18  # above this a record is decoded beside the event loop

# Per rank its number, live status, and record where that counts: servers that know no live status
# write the record alone. The time is found as text, for decoding thousands of tensors takes long.
_STATUSES = Script("""
local function time(text) return tonumber(string.match(text, '"updated_at"%s*:%s*(-?%d+)') or 0) end
local found = {}
if redis.call('TYPE', KEYS[1]).ok ~= 'hash' then return found end
for _, name in ipairs(redis.call('HKEYS', KEYS[1])) do
  if string.find(name, '^%d+$') then
    local status = redis.call('HGET', KEYS[1], 'status:' .. name)
    local record = redis.call('HGET', KEYS[1], name)
    found[#found + 1] = name
    found[#found + 1] = status or ''
    found[#found + 1] = (not status or time(record) > time(status)) and record or ''
  end
end
return found
""")

# Lowest rank: its number, live status, packed copy if it is one of what lies there, else the record.
_RECORD = Script(f"""
local lowest
for _, name in ipairs(redis.call('HKEYS', KEYS[1])) do
  if string.find(name, '^%d+$') and (not lowest or tonumber(name) < tonumber(lowest)) then lowest = name end
end
if not lowest then return {{}} end
local record = redis.call('HGET', KEYS[1], lowest)
local status = redis.call('HGET', KEYS[1], 'status:' .. lowest) or ''
if KEYS[2] then
  local of = redis.call('HGET', KEYS[2], lowest .. ':of')
  if of and of == #record .. ' ' .. string.sub(record, 1, {STAMP_BYTES}) then
    return {{lowest, status, redis.call('HGET', KEYS[2], lowest) or '', ''}}
  end
end
return {{lowest, status, '', record}}
""")


@dataclass(frozen=True, slots=True)
class Seen:
    """One rank as it lay there: ``live`` is what counts, the texts are what a change must still find.

    ``summary_text`` is the source's field of this worker; ``represents``: it speaks for this rank;
    ``ours``: mx published it, so that our part must be there as well.
    """

    live: WorkerSummary
    status_text: bytes | None
    summary_text: bytes
    represents: bool
    ours: bool


@dataclass(frozen=True, slots=True)
class Place:
    """One worker and its source, as a removal must find them. Counts are of the fields of both hashes."""

    ranks: Mapping[int, WorkerSummary]
    status_texts: Mapping[int, bytes]
    worker_fields: int
    source_fields: int
    summary_text: bytes | None
    shown: WorkerSummary | None
    identity: SourceIdentity | None

    def live(self, rank: int) -> WorkerSummary | None:
        """What listings show of a rank."""
        if self.shown is not None and self.shown.worker_rank == rank:
            return newer(self.ranks.get(rank), self.shown)
        return self.ranks.get(rank)

    @property
    def is_last_worker(self) -> bool:
        return self.source_fields == (self.identity is not None) + (self.summary_text is not None)


class SourceReader:
    """Reads through one link. What can't be read counts as absent and is logged once."""

    def __init__(self, link: Link, left_alone: LeftAlone) -> None:
        self._link = link
        self.left_alone = left_alone

    async def pages(self, model_name: str | None = None) -> AsyncIterator[list[str]]:
        """Ids of all sources, or of those of one model, some at a time."""
        async for members in self.members(model_name):
            yield [member.rpartition(b"\0")[2].decode(errors="replace") for member in members]

    async def members(self, model_name: str | None = None) -> AsyncIterator[list[bytes]]:
        """Of the index of sources, in order, each once if it stays there."""
        begin, end = b"-", b"+"
        if model_name is not None:
            begin, end = b"[%s\0" % model_name.encode(), b"[%s\0\xff" % model_name.encode()
        while members := await self._link.call("ZRANGEBYLEX", SOURCE_INDEX, begin, end, "LIMIT", 0, _PAGE):
            yield members
            begin = b"(" + members[-1]

    async def sources(self, source_ids: Sequence[str]) -> list[Source]:
        commands: list[Command] = []
        for source_id in source_ids:
            commands += [("HGETALL", source_key(source_id)), ("HGETALL", index_key(source_id))]
        answers = await self._link.large(commands)
        found: list[Source] = []
        for place, source_id in enumerate(source_ids):
            fields = self._fields(source_key(source_id), answers[2 * place])
            index = self._fields(index_key(source_id), answers[2 * place + 1])
            source = parse_source(source_id, fields, index, self.left_alone)
            if source is not None:
                found.append(source)
        return found

    async def rows(self, source_ids: Sequence[str]) -> list[SourceSummary]:
        """All rows of these sources, in no order."""
        sources = await self.sources(source_ids)
        unclear = [(source, worker_id) for source in sources for worker_id in source.unclear]
        asked: dict[str, dict[str, dict[int, WorkerSummary]]] = {}
        if unclear:
            answers = await asyncio.gather(*(self.statuses(one.source_id, worker) for one, worker in unclear))
            for (source, worker_id), statuses in zip(unclear, answers, strict=True):
                asked.setdefault(source.source_id, {})[worker_id] = statuses
        return [row for source in sources for row in source.rows(asked.get(source.source_id, {}))]

    async def statuses(self, source_id: str, worker_id: str) -> dict[int, WorkerSummary]:
        """What the worker's own hash says, by rank."""
        return (await self._told(worker_key(source_id, worker_id)))[0]

    async def _told(self, key: bytes) -> tuple[dict[int, WorkerSummary], dict[int, bytes]]:
        """By rank what is known, and the live status as it lies there."""
        answer = iter(await self._link.run(_STATUSES, [key]))
        summaries, texts = {}, {}
        for rank, status, record in zip(answer, answer, answer, strict=True):
            try:
                summary = parse_summary(record or status)
            except UnreadableError as error:
                self.left_alone.note(key, f"rank {rank!r}", error)
                continue
            if b"%d" % summary.worker_rank == rank:
                summaries[summary.worker_rank] = summary
                texts[summary.worker_rank] = status
        return summaries, {rank: text for rank, text in texts.items() if text}

    async def look(self, key: WorkerKey) -> Seen | None:
        """None when the rank, its worker's place in the source or the source's identity is missing."""
        source = source_key(key.source_id)
        static = static_field(key.worker_id, key.worker_rank)
        (ranks, texts), (identity_text, summary_text), ours = await asyncio.gather(
            self._told(worker_key(key.source_id, key.worker_id)),
            self._link.call("HMGET", source, IDENTITY, key.worker_id.encode()),
            self._link.call("HEXISTS", index_key(key.source_id), static),
        )
        live = ranks.get(key.worker_rank)
        if live is None or identity_text is None or summary_text is None:
            return None
        status_text = texts.get(key.worker_rank)
        if summary_text.isdigit():
            return Seen(live, status_text, summary_text, int(summary_text) == key.worker_rank, bool(ours))
        shown = self._summary(source, summary_text)
        represents = shown is None or shown.worker_rank == key.worker_rank
        if represents and shown is not None:
            live = newer(live, shown)
        return Seen(live, status_text, summary_text, represents, bool(ours))

    async def place(self, key: WorkerKey) -> Place:
        """Read one after the other: whoever changes it meanwhile makes the removal start again."""
        worker, source = worker_key(key.source_id, key.worker_id), source_key(key.source_id)
        (ranks, texts), worker_fields, source_fields, (identity_text, summary_text) = await asyncio.gather(
            self._told(worker),
            self._link.call("HLEN", worker),
            self._link.call("HLEN", source),
            self._link.call("HMGET", source, IDENTITY, key.worker_id.encode()),
        )
        identity: SourceIdentity | None = None
        if identity_text is not None:
            try:
                identity = parse_identity(identity_text)
            except UnreadableError as error:
                self.left_alone.note(source, "identity", error)
        shown = self._summary(source, summary_text)
        return Place(ranks, texts, worker_fields, source_fields, summary_text, shown, identity)

    async def entry(self, source_id: str, worker_id: str) -> SourceEntry | None:
        """The full record of the lowest rank."""
        key = worker_key(source_id, worker_id)
        if has_companions(key):
            try:
                return await self._entry(source_id, worker_id, [key, packed_key(source_id, worker_id)])
            except UnreadableError as error:  # the copy perhaps, and the record itself is well
                self.left_alone.note(key, "packed copy", error)
        try:
            return await self._entry(source_id, worker_id, [key])
        except UnreadableError as error:
            self.left_alone.note(key, "record", error)
            return None

    async def _entry(self, source_id: str, worker_id: str, keys: Sequence[bytes]) -> SourceEntry | None:
        source = source_key(source_id)
        answer, (identity_text, summary_text) = await asyncio.gather(
            self._link.run(_RECORD, keys),
            self._link.call("HMGET", source, IDENTITY, worker_id.encode()),
        )
        if not answer or identity_text is None:
            return None
        rank_text, status_text, packed, record = answer
        decode, text = (unpack, packed) if packed else (parse_record, record)
        worker = await asyncio.to_thread(decode, text) if len(text) > _THREAD_BYTES else decode(text)
        if worker.worker_rank != int(rank_text):
            raise UnreadableError("it speaks of another rank than its field")
        live = parse_summary(status_text or record)
        if not packed and status_text:
            live = newer(live, parse_summary(record))
        shown = self._summary(source, summary_text)
        if shown is not None and shown.worker_rank == worker.worker_rank:
            live = newer(live, shown)
        fields = (static_field(worker_id, worker.worker_rank), peer_field(worker_id, worker.worker_rank))
        ours = parse_ours(*await self._link.call("HMGET", index_key(source_id), *fields))
        if not packed and ours.static and not ours.static.has_payload and worker.payload == TensorSource():
            worker = replace(worker, payload=None)
        return SourceEntry(
            source_id=source_id,
            worker_id=worker_id,
            identity=parse_identity(identity_text),
            worker=replace(
                worker,
                status=live.status,
                updated_at_ms=live.updated_at_ms,
                accelerator=live.accelerator,
                topology=live.topology,
            ),
            source_load=live.source_load,
            peer=ours.peer,
            pod=ours.static.pod if ours.static else PodReference(),
        )

    def _summary(self, key: bytes, text: bytes | None) -> WorkerSummary | None:
        if text is None or text.isdigit():
            return None
        try:
            return parse_summary(text)
        except UnreadableError as error:
            self.left_alone.note(key, "summary", error)
            return None

    def _fields(self, key: bytes, answer: Any) -> dict[bytes, bytes]:
        """Of a hash; empty for a key of another type, which is somebody else's."""
        if isinstance(answer, Exception):
            if "WRONGTYPE" not in str(answer):
                raise translate(answer, self._link.where)
            self.left_alone.note(key, "key", "it is no hash")
            return {}
        found: dict[bytes, bytes] = answer
        return found
