"""``mx.ports.StoreView`` over Redis: hashes as HGETALL shows them, and what INFO says."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mx.core.model import EntryKey
from mx.core.server_state import BackendState, RawRecord
from mx.core.source import WorkerKey
from mx.core.units import format_age, format_size
from mx.errors import MxError
from mx.store.described import Facts, described
from mx.store.raw_text import raw_yaml
from mx.store.redis.keys import (
    EVENTS,
    IDENTITY,
    MODEL_INDEX,
    SOURCE_INDEX,
    WORKER_INDEX,
    model_extras_key,
    model_key,
    rank_field,
    source_key,
    worker_key,
)
from mx.store.redis.link import Link

_COUNTED = (
    ("sources", "ZCARD", SOURCE_INDEX),
    ("workers", "ZCARD", WORKER_INDEX),
    ("models", "SCARD", MODEL_INDEX),
    ("events", "XLEN", EVENTS),
)
_KEPT_FROM_INFO = (
    ("version", "redis_version"),
    ("role", "role"),
    ("replicas", "connected_slaves"),
    ("primary", "master_host"),
    ("link to the primary", "master_link_status"),
    ("clients", "connected_clients"),
    ("eviction", "maxmemory_policy"),
    ("saving", "rdb_last_bgsave_status"),
    ("append-only file", "aof_enabled"),
)
_BYTES_FROM_INFO = (("memory", "used_memory"), ("memory limit", "maxmemory"))


class RedisView:
    def __init__(self, link: Link) -> None:
        self._link = link

    async def describe(self) -> BackendState:
        address = self._link.where.removeprefix("Redis at ")
        return await described("redis", address, self._link.probe, self._facts)

    async def raw_source(self, key: WorkerKey) -> RawRecord | None:
        place = worker_key(key.source_id, key.worker_id)
        fields = await self._hash(place)
        if rank_field(key.worker_rank) not in fields:
            return None
        source = source_key(key.source_id)
        names = (IDENTITY, key.worker_id.encode())
        told = dict(zip(names, await self._link.call("HMGET", source, *names), strict=True))
        return RawRecord("redis", _text(place), raw_yaml({**fields, source: told}))

    async def raw_model(self, key: EntryKey) -> RawRecord | None:
        place = model_key(key)
        fields = await self._hash(place)
        if not fields:
            return None
        extras = model_extras_key(place)
        record: dict[bytes, object] = {**fields}
        if more := await self._hash(extras):
            record[extras] = more
        return RawRecord("redis", _text(place), raw_yaml(record))

    async def _hash(self, key: bytes) -> dict[bytes, bytes]:
        if await self._link.call("TYPE", key) != b"hash":
            return {}
        (answer,) = await self._link.large([("HGETALL", key)])
        if isinstance(answer, Exception):  # it became something else this very moment
            return {}
        return dict(sorted(answer.items()))

    async def _facts(self) -> Facts:
        counts = [(what, str(await self._link.call(command, key))) for what, command, key in _COUNTED]
        try:
            told = await self._link.call("INFO")
        except MxError as error:  # this user may not ask
            return (*counts, ("INFO", f"not told: {error.message}"))
        return (*_told(_one(told)), *counts)


def _text(key: bytes) -> str:
    return key.decode("utf-8", "replace")


def _one(told: Mapping[str, Any]) -> Mapping[str, Any]:
    """What one node says; of a cluster the first."""
    first = next(iter(told.values()), None)
    return first if isinstance(first, Mapping) and "redis_version" in first else told


def _told(info: Mapping[str, Any]) -> Facts:
    facts = [(what, str(info[name])) for what, name in _KEPT_FROM_INFO if name in info]
    facts += [
        (what, format_size(int(info[name])) if int(info[name]) else "none")
        for what, name in _BYTES_FROM_INFO
        if name in info
    ]
    if "uptime_in_seconds" in info:
        facts.append(("up", format_age(int(info["uptime_in_seconds"]))))
    keys = [part for name, part in info.items() if name.startswith("db") and isinstance(part, Mapping)]
    return (*facts, ("keys", str(sum(int(part.get("keys", 0)) for part in keys))))
