"""``mx.ports.ModelStore`` over Redis.

Rules are those of ``mx.core.transitions``, writes those of ``model_records``. Redis may lose a record:
flushed, restarted, failed over, full. That must not end a download, so an owner who finds neither his
record nor the mark of a deletion writes the record again.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import NoReturn

from mx.core import transitions
from mx.core.eviction import EvictionRun
from mx.core.model import Claim, EntryKey, EntryStatus, ModelRecord, Pin, ProviderName, ReadLease
from mx.core.transitions import ClaimResult, Free, Won
from mx.ports import EVICTION_RUNS_KEPT
from mx.store.eviction_runs import pack_run, unpack_run
from mx.store.listing import model_order
from mx.store.redis.change import Change, Script
from mx.store.redis.changes import watch_models
from mx.store.redis.failures import translate
from mx.store.redis.keys import FENCE, MODEL_INDEX, RUN_RECORDS, RUNS, parse_model_key
from mx.store.redis.left_alone import LeftAlone
from mx.store.redis.link import Link
from mx.store.redis.model_records import ATTEMPTS, ModelRecords, contended
from mx.store.redis.model_rows import Stored

_PAGE = 500  # records of one pipeline
_REMEMBERED_MOST = 1_024  # downloads of this process

# Tokens grow by one, and never fall behind the floor: a Redis that lost its memory, or some of it in
# a failover, must not give a token twice.
_NEXT_TOKEN = Script("""
local last = tonumber(redis.call('GET', KEYS[1]) or '0')
local token = string.format('%.0f', math.max(last + 1, tonumber(ARGV[1])))
redis.call('SET', KEYS[1], token)
return token
""")
# Tenths of a second since 1970: ten claims per second from the first one on would be needed to overtake it.
_FLOOR_MS = 100

_FORGET_RUNS = Script("""
local gone = redis.call('ZRANGE', KEYS[1], 0, -1 - tonumber(ARGV[1]))
for _, run in ipairs(gone) do
  redis.call('ZREM', KEYS[1], run)
  redis.call('HDEL', KEYS[2], run)
end
return #gone
""")

Rule = Callable[[ModelRecord | None], ModelRecord | None]


class RedisModelStore:
    """Models in Redis. Several servers may use it; one of them wins a claim."""

    def __init__(self, link: Link, *, left_alone: LeftAlone | None = None) -> None:
        self._link = link
        self._records = ModelRecords(link, left_alone or LeftAlone())
        self._downloads: OrderedDict[int, ModelRecord] = OrderedDict()  # won here, by token

    async def claim(
        self,
        key: EntryKey,
        *,
        owner: str,
        lease_s: float,
        now_ms: int,
        force: bool = False,
        requested_revision: str = "",
    ) -> ClaimResult:
        won: Won | None = None
        for _ in range(ATTEMPTS):
            stored = await self._records.read(key)
            if won is not None and stored.record == won.record:
                break  # written, and the answer was lost
            if stored.record is None and await self._records.adopt_unprefixed(key):
                continue
            standing = transitions.standing(stored.record, now_ms=now_ms, force=force)
            if standing is not Free.FREE:
                return standing
            claim = won.claim if won else await self._new_claim(owner, lease_s, now_ms)
            won = transitions.claimed(
                key, stored.record, claim, requested_revision=requested_revision, now_ms=now_ms
            )
            if await self._records.write(key, stored, won.record):
                break
        else:
            raise contended(key)
        self._remember(won.record, won.claim)
        return won

    async def refresh(
        self,
        key: EntryKey,
        claim: Claim,
        *,
        lease_s: float,
        now_ms: int,
        bytes_done: int,
        bytes_total: int,
        files: int,
    ) -> Claim | None:
        def rule(record: ModelRecord) -> ModelRecord:
            return transitions.refreshed(
                record,
                claim,
                lease_s=lease_s,
                now_ms=now_ms,
                bytes_done=bytes_done,
                bytes_total=bytes_total,
                files=files,
            )

        renewed = await self._change_held(key, claim, rule)
        if renewed is None:
            return None
        self._remember(renewed, claim)
        return renewed.claim

    async def finish(
        self,
        key: EntryKey,
        claim: Claim,
        *,
        status: EntryStatus,
        message: str,
        bytes_on_disk: int,
        files: int,
        retry_at_ms: int,
        now_ms: int,
    ) -> bool:
        def rule(record: ModelRecord) -> ModelRecord:
            return transitions.finished(
                record,
                status=status,
                message=message,
                bytes_on_disk=bytes_on_disk,
                files=files,
                retry_at_ms=retry_at_ms,
                now_ms=now_ms,
            )

        transitions.require_final(status)
        done = await self._change_held(key, claim, rule)
        self._downloads.pop(claim.token, None)
        return done is not None

    async def release(self, key: EntryKey, claim: Claim, *, now_ms: int) -> bool:
        self._downloads.pop(claim.token, None)
        return await self._change_held(key, claim, transitions.released) is not None

    async def touch(self, keys: Sequence[EntryKey], *, now_ms: int) -> None:
        def rule(record: ModelRecord | None) -> ModelRecord | None:
            if record is None or record.last_used_at_ms >= now_ms:
                return None
            return transitions.touched(record, now_ms=now_ms)

        await asyncio.gather(*(self._change(key, rule, told=False) for key in dict.fromkeys(keys)))

    async def get(self, key: EntryKey) -> ModelRecord | None:
        return (await self._records.read(key)).record

    async def list_models(
        self, *, provider: ProviderName | None = None, name: str | None = None
    ) -> tuple[ModelRecord, ...]:
        keys = [
            key
            for main in await self._link.call("SMEMBERS", MODEL_INDEX)
            if (key := parse_model_key(main)) is not None
            and provider in (None, key.provider)
            and name in (None, key.name)
        ]
        found: list[ModelRecord] = []
        for begin in range(0, len(keys), _PAGE):
            found += await self._records.page(keys[begin : begin + _PAGE])
        return tuple(sorted(found, key=lambda record: model_order(record.key)))

    async def put(self, record: ModelRecord, *, observed: ModelRecord | None = None) -> bool:
        written = await self._change(
            record.key, lambda stored: transitions.reconciled(stored, record, observed=observed)
        )
        return written is not None

    async def mark_evicting(
        self,
        key: EntryKey,
        *,
        observed: ModelRecord,
        now_ms: int,
        owner: str = "eviction",
        lease_s: float = 60.0,
    ) -> Claim | None:
        record = await self.get(key)
        if record is None or not transitions.may_evict(record, observed, now_ms=now_ms):
            return None
        claim = await self._new_claim(owner, lease_s, now_ms)
        marked = await self._change(
            key,
            lambda record: (
                transitions.evicting(record, claim)
                if record is not None and transitions.may_evict(record, observed, now_ms=now_ms)
                else None
            ),
        )
        return None if marked is None else claim

    async def delete(
        self, key: EntryKey, *, token: int | None = None, observed: ModelRecord | None = None
    ) -> bool:
        for _ in range(ATTEMPTS):
            stored = await self._records.read(key)
            if not transitions.may_delete(stored.record, token=token, observed=observed):
                return False
            if await self._records.delete(key, stored):
                return True
        raise contended(key)

    async def pin(self, key: EntryKey, pin: Pin | None) -> bool:
        def rule(record: ModelRecord | None) -> ModelRecord | None:
            if record is None or record.status is EntryStatus.EVICTING:
                return None
            return replace(record, pin=pin)

        return await self._change(key, rule) is not None

    async def lease(self, key: EntryKey, lease: ReadLease, *, now_ms: int) -> bool:
        leased = await self._change(
            key, lambda record: None if record is None else transitions.leased(record, lease, now_ms=now_ms)
        )
        return leased is not None

    async def unlease(self, key: EntryKey, lease_id: str) -> None:
        def rule(record: ModelRecord | None) -> ModelRecord | None:
            if record is None or all(lease.lease_id != lease_id for lease in record.leases):
                return None
            kept = tuple(lease for lease in record.leases if lease.lease_id != lease_id)
            return replace(record, leases=kept)

        await self._change(key, rule)

    async def record_eviction(self, run: EvictionRun) -> None:
        packed = await asyncio.to_thread(pack_run, run)
        name = run.run_id.encode()
        change = Change().score(RUNS, name, run.started_at_ms).set(RUN_RECORDS, name, packed)
        await self._link.change(change)
        await self._link.run(_FORGET_RUNS, [RUNS, RUN_RECORDS], [EVICTION_RUNS_KEPT])

    async def eviction_runs(self, *, limit: int) -> tuple[EvictionRun, ...]:
        newest = ("ZREVRANGEBYSCORE", RUNS, "+inf", "-inf", "LIMIT", 0, max(limit, 0))
        names = await self._link.call(*newest)
        if not names:
            return ()
        (packed,) = await self._link.large([("HMGET", RUN_RECORDS, *names)])
        if isinstance(packed, Exception):
            raise translate(packed, self._link.where)
        return await asyncio.to_thread(lambda: tuple(unpack_run(one) for one in packed if one is not None))

    async def watch(self, tell: Callable[[EntryKey | None], None]) -> NoReturn:
        await watch_models(self._link, tell)

    async def check(self) -> None:
        await self._link.probe()

    async def close(self) -> None:
        await self._link.close()

    # Parts

    async def _change(self, key: EntryKey, rule: Rule, *, told: bool = True) -> ModelRecord | None:
        """Replace a record by what the rule makes of it; None when the rule refuses."""
        return await self._records.change(key, lambda stored: rule(stored.record), told=told)

    async def _change_held(
        self, key: EntryKey, claim: Claim, rule: Callable[[ModelRecord], ModelRecord]
    ) -> ModelRecord | None:
        """As ``_change``, only while the claim holds; one that Redis has lost still does."""
        lost = self._downloads.get(claim.token)

        def held(stored: Stored) -> ModelRecord | None:
            record = stored.record
            if record is None and lost is not None and lost.key == key and not stored.deleted:
                record = lost
            return rule(record) if record is not None and transitions.holds(record, claim) else None

        return await self._records.change(key, held)

    def _remember(self, record: ModelRecord, claim: Claim) -> None:
        """Of a download that was won here, as it was last written; nothing of a removal."""
        if record.status is EntryStatus.DOWNLOADING:
            self._downloads[claim.token] = record
            self._downloads.move_to_end(claim.token)
            if len(self._downloads) > _REMEMBERED_MOST:
                self._downloads.popitem(last=False)

    async def _new_claim(self, owner: str, lease_s: float, now_ms: int) -> Claim:
        token = int(await self._link.run(_NEXT_TOKEN, [FENCE], [now_ms // _FLOOR_MS]))
        return transitions.new_claim(owner, token=token, lease_s=lease_s, now_ms=now_ms)
