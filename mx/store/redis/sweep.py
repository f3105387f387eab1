"""Holding our indexes against the keys they speak of: other servers write those without our knowing, and
keys expire. One server does it at a time; between two sweeps only listings over everything are behind.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mx.core.source import WorkerKey
from mx.store.redis.change import Change
from mx.store.redis.changes import model_changed, source_changed
from mx.store.redis.keys import (
    MODEL_INDEX,
    MODELS,
    SOURCE_ID_DIGITS,
    SOURCE_INDEX,
    SOURCES,
    WORKER_INDEX,
    index_key,
    packed_key,
    parse_model_key,
    parse_worker_member,
    peer_field,
    rank_field,
    source_key,
    source_member,
    static_field,
    worker_key,
    worker_member,
)
from mx.store.redis.left_alone import LeftAlone
from mx.store.redis.link import Link
from mx.store.redis.model_records import adopt_unprefixed
from mx.store.redis.source_reads import SourceReader

_PAGE = 250


@dataclass(slots=True)
class SweepReport:
    """What was not in the indexes, or in them for nothing."""

    sources_found: int = 0
    sources_gone: int = 0
    workers_mended: int = 0
    workers_gone: int = 0
    models_found: int = 0
    models_gone: int = 0

    @property
    def drift(self) -> int:
        return (
            self.sources_found
            + self.sources_gone
            + self.workers_mended
            + self.workers_gone
            + self.models_found
            + self.models_gone
        )


class Sweep:
    def __init__(self, link: Link, left_alone: LeftAlone) -> None:
        self._link = link
        self._left_alone = left_alone
        self._reader = SourceReader(link, left_alone)

    async def run(self) -> SweepReport:
        report = SweepReport()
        await self._sources(report)
        await self._workers_gone(report)
        await self._sources_gone(report)
        await self._models(report)
        await self._models_gone(report)
        return report

    async def _sources(self, report: SweepReport) -> None:
        length = len(SOURCES) + SOURCE_ID_DIGITS
        async for keys in self._link.scan(SOURCES):
            ids = [
                key[len(SOURCES) :].decode()
                for key in keys
                if len(key) == length and key.isascii() and b":" not in key[len(SOURCES) :]
            ]
            await self._adopt(ids, report)

    async def _adopt(self, source_ids: Sequence[str], report: SweepReport) -> None:
        """Sources and the status of their workers into the indexes."""
        sources = {source.source_id: source for source in await self._reader.sources(source_ids)}
        rows = await self._reader.rows(list(sources))
        members = [source_member(one.identity.model_name, one.source_id) for one in sources.values()]
        known = await self._scores(SOURCE_INDEX, members)
        for member in members:
            if member not in known:
                report.sources_found += 1
                await self._link.call("ZADD", SOURCE_INDEX, 0, member)
        told = await self._scores(WORKER_INDEX, [worker_member(row.key) for row in rows])
        for row in rows:
            if told.get(worker_member(row.key)) != row.status:
                report.workers_mended += 1
                change = Change().has(source_key(row.source_id), row.worker_id.encode())
                change.score(WORKER_INDEX, worker_member(row.key), row.status)
                await self._link.change(source_changed(change, self._link, row.key))

    async def _workers_gone(self, report: SweepReport) -> None:
        """Members whose record has expired, and what is left of them in their sources."""
        cursor, first = 0, True
        while cursor or first:
            first = False
            cursor, pairs = await self._link.call("ZSCAN", WORKER_INDEX, cursor, "COUNT", _PAGE)
            keys = [parse_worker_member(member) for member, _ in pairs]
            there = await self._link.calls(
                [("HEXISTS", worker_key(k.source_id, k.worker_id), rank_field(k.worker_rank)) for k in keys]
            )
            for key, exists in zip(keys, there, strict=True):
                if not exists:
                    report.workers_gone += 1
                    await self._forget(key)

    async def _forget(self, key: WorkerKey) -> None:
        worker, source = worker_key(key.source_id, key.worker_id), source_key(key.source_id)
        index = index_key(key.source_id)
        gone = Change().is_(worker, rank_field(key.worker_rank), None)
        gone.unscore(WORKER_INDEX, worker_member(key))
        await self._link.change(source_changed(gone, self._link, key))
        if await self._link.call("EXISTS", worker):
            return
        place = await self._reader.place(key)
        left = Change().len_(worker, 0).len_(source, place.source_fields)
        left.drop(packed_key(key.source_id, key.worker_id))
        if place.is_last_worker:
            left.drop(source).drop(index)
        else:
            left.delete(source, key.worker_id.encode())
            left.delete(index, static_field(key.worker_id, key.worker_rank))
            left.delete(index, peer_field(key.worker_id, key.worker_rank))
        await self._link.change(left)

    async def _sources_gone(self, report: SweepReport) -> None:
        async for members in self._reader.members():
            keys = [SOURCES + member.rpartition(b"\0")[2] for member in members]
            there = await self._link.calls([("EXISTS", key) for key in keys])
            for member, key, exists in zip(members, keys, there, strict=True):
                if not exists:
                    report.sources_gone += 1
                    await self._link.change(Change().len_(key, 0).unscore(SOURCE_INDEX, member))

    async def _models(self, report: SweepReport) -> None:
        async for keys in self._link.scan(MODELS):
            known = await self._link.calls([("SISMEMBER", MODEL_INDEX, key) for key in keys])
            for key, is_member in zip(keys, known, strict=True):
                if is_member:
                    continue
                if await self._link.call("TYPE", key) != b"hash":
                    self._left_alone.note(key, "key", "it is no hash")
                elif parse_model_key(key) is not None:
                    change = Change().has(key, b"status").include(MODEL_INDEX, key)
                    if await self._link.change(model_changed(change, self._link, key)):
                        report.models_found += 1
                    else:
                        self._left_alone.note(key, "record", "it has no status")
                elif await adopt_unprefixed(self._link, key.removeprefix(MODELS).decode(errors="replace")):
                    report.models_found += 1
                else:
                    self._left_alone.note(key, "key", "its provider is none that mx knows")

    async def _models_gone(self, report: SweepReport) -> None:
        mains = list(await self._link.call("SMEMBERS", MODEL_INDEX))
        there = await self._link.calls([("EXISTS", main) for main in mains])
        for main, exists in zip(mains, there, strict=True):
            if not exists:
                report.models_gone += 1
                change = Change().len_(main, 0).exclude(MODEL_INDEX, main)
                await self._link.change(model_changed(change, self._link, main))

    async def _scores(self, key: bytes, members: Sequence[bytes]) -> Mapping[bytes, int]:
        answers = await self._link.calls([("ZSCORE", key, member) for member in members])
        return {
            member: int(score) for member, score in zip(members, answers, strict=True) if score is not None
        }
