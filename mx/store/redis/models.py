"""``mx.ports.ModelStore`` over Redis.

A change reads the record, asks the rule book and writes if nobody wrote meanwhile; who is refused
begins again. Other servers claim with scripts of their own on the same fields, which this respects
and they do, too.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import NoReturn

from mx.core import transitions
from mx.core.eviction import EvictionRun
from mx.core.model import Claim, EntryKey, EntryStatus, ModelRecord, Pin, ProviderName, ReadLease
from mx.core.transitions import ClaimResult, Free, Won
from mx.errors import UnavailableError
from mx.ports import EVICTION_RUNS_KEPT
from mx.store.eviction_runs import pack_run, unpack_run
from mx.store.listing import model_order
from mx.store.published import UnreadableError
from mx.store.redis.change import Change, Script
from mx.store.redis.changes import model_changed, watch_models
from mx.store.redis.failures import translate
from mx.store.redis.keys import (
    FENCE,
    MODEL_INDEX,
    PROVIDER_NAMES,
    RUN_RECORDS,
    RUNS,
    model_extras_key,
    model_key,
    parse_model_key,
    unprefixed_key,
)
from mx.store.redis.left_alone import LeftAlone
from mx.store.redis.link import Link
from mx.store.redis.model_rows import EXTRAS, MEMBERS, Stored, decode, encode

_PAGE = 500  # records of one pipeline
# Each refusal means that somebody else got on: 64 who claim at once need a few.
_ATTEMPTS = 100

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
        self._left_alone = left_alone or LeftAlone()

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
        for _ in range(_ATTEMPTS):
            stored = await self._read(key)
            if won is not None and stored.record == won.record:
                return won  # written, and the answer was lost
            if stored.record is None and await self._adopt_unprefixed(key):
                continue
            standing = transitions.standing(stored.record, now_ms=now_ms, force=force)
            if standing is not Free.FREE:
                return standing
            claim = won.claim if won else await self._new_claim(owner, lease_s, now_ms)
            won = transitions.claimed(
                key, stored.record, claim, requested_revision=requested_revision, now_ms=now_ms
            )
            if await self._write(key, stored, won.record):
                return won
        raise _contended(key)

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
        renewed = await self._change(
            key,
            lambda record: (
                transitions.refreshed(
                    record,
                    claim,
                    lease_s=lease_s,
                    now_ms=now_ms,
                    bytes_done=bytes_done,
                    bytes_total=bytes_total,
                    files=files,
                )
                if record is not None and transitions.holds(record, claim)
                else None
            ),
        )
        return None if renewed is None else renewed.claim

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
        transitions.require_final(status)
        done = await self._change(
            key,
            lambda record: (
                transitions.finished(
                    record,
                    status=status,
                    message=message,
                    bytes_on_disk=bytes_on_disk,
                    files=files,
                    retry_at_ms=retry_at_ms,
                    now_ms=now_ms,
                )
                if record is not None and transitions.holds(record, claim)
                else None
            ),
        )
        return done is not None

    async def release(self, key: EntryKey, claim: Claim, *, now_ms: int) -> bool:
        def rule(record: ModelRecord | None) -> ModelRecord | None:
            held = record is not None and transitions.holds(record, claim)
            return transitions.released(record) if held and record is not None else None

        return await self._change(key, rule) is not None

    async def touch(self, keys: Sequence[EntryKey], *, now_ms: int) -> None:
        def rule(record: ModelRecord | None) -> ModelRecord | None:
            if record is None or record.last_used_at_ms >= now_ms:
                return None
            return transitions.touched(record, now_ms=now_ms)

        await asyncio.gather(*(self._change(key, rule, told=False) for key in dict.fromkeys(keys)))

    async def get(self, key: EntryKey) -> ModelRecord | None:
        return (await self._read(key)).record

    async def list_models(
        self, *, provider: ProviderName | None = None, name: str | None = None
    ) -> tuple[ModelRecord, ...]:
        keys = {
            main: key
            for main in await self._link.call("SMEMBERS", MODEL_INDEX)
            if (key := parse_model_key(main)) is not None
            and provider in (None, key.provider)
            and name in (None, key.name)
        }
        found: list[ModelRecord] = []
        mains = list(keys)
        for begin in range(0, len(mains), _PAGE):
            page = [(main, keys[main]) for main in mains[begin : begin + _PAGE]]
            found += await self._records(page)
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
        for _ in range(_ATTEMPTS):
            stored = await self._read(key)
            if not transitions.may_delete(stored.record, token=token, observed=observed):
                return False
            main, change = model_key(key), self._unchanged(key, stored)
            change.drop(main).drop(model_extras_key(main)).exclude(MODEL_INDEX, main)
            if await self._link.change(model_changed(change, self._link, main)):
                return True
        raise _contended(key)

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
        mine: dict[str, ModelRecord] = {}
        for _ in range(_ATTEMPTS):
            stored = await self._read(key)
            if stored.revision in mine:  # written, and the answer was lost
                return mine[stored.revision]
            record = rule(stored.record)
            if record is None:
                return None
            revision = secrets.token_hex(6)
            mine[revision] = record
            if await self._write(key, stored, record, revision=revision, told=told):
                return record
        raise _contended(key)

    async def _read(self, key: EntryKey) -> Stored:
        main = model_key(key)
        fields, extras = await self._link.calls([("HGETALL", main), ("HGET", model_extras_key(main), EXTRAS)])
        try:
            return decode(key, fields, extras)
        except UnreadableError as error:
            self._left_alone.note(main, "record", error)
            raise UnavailableError(
                f"the record of {key} in {self._link.where} can't be read: {error}",
                remedy=f"redis-cli HGETALL '{main.decode()}' shows it; delete it if nobody needs it",
            ) from None

    async def _records(self, page: Iterable[tuple[bytes, EntryKey]]) -> list[ModelRecord]:
        commands = []
        keys = list(page)
        for main, _ in keys:
            commands += [("HGETALL", main), ("HGET", model_extras_key(main), EXTRAS)]
        answers = await self._link.large(commands)
        found: list[ModelRecord] = []
        for place, (main, key) in enumerate(keys):
            fields, extras = answers[2 * place], answers[2 * place + 1]
            try:
                for answer in (fields, extras):
                    if isinstance(answer, Exception):
                        if "WRONGTYPE" not in str(answer):
                            raise translate(answer, self._link.where)
                        raise UnreadableError("it is no hash")
                record = decode(key, fields, extras).record
            except UnreadableError as error:
                self._left_alone.note(main, "record", error)
                continue
            if record is not None:
                found.append(record)
        return found

    async def _write(
        self, key: EntryKey, stored: Stored, record: ModelRecord, *, revision: str = "", told: bool = True
    ) -> bool:
        """In the place of what was read, if that is still there."""
        main = model_key(key)
        fields, extras = encode(record, revision=revision or secrets.token_hex(6))
        change = self._unchanged(key, stored)
        for name, value in fields.items():
            if stored.fields.get(name) != value:
                change.set(main, name, value)
        for name in MEMBERS:
            if name in stored.fields and name not in fields:
                change.delete(main, name)
        change.set(model_extras_key(main), EXTRAS, extras)
        if stored.record is None:
            change.include(MODEL_INDEX, main)
        return await self._link.change(model_changed(change, self._link, main) if told else change)

    def _unchanged(self, key: EntryKey, stored: Stored) -> Change:
        main, change = model_key(key), Change()
        for name in MEMBERS:
            change.is_(main, name, stored.fields.get(name))
        return change.is_(model_extras_key(main), EXTRAS, stored.extras)

    async def _new_claim(self, owner: str, lease_s: float, now_ms: int) -> Claim:
        token = int(await self._link.run(_NEXT_TOKEN, [FENCE], [now_ms // _FLOOR_MS]))
        return transitions.new_claim(owner, token=token, lease_s=lease_s, now_ms=now_ms)

    async def _adopt_unprefixed(self, key: EntryKey) -> bool:
        """Give a record of builds before 0.4.0, without a provider in its key, its present name."""
        if key.commit or not key.weights or key.provider is ProviderName.LOCAL:
            return False
        return await adopt_unprefixed(self._link, key.name, key.provider)


async def adopt_unprefixed(link: Link, name: str, provider: ProviderName | None = None) -> bool:
    """Rename such a record if its provider is the one asked for (any, with None)."""
    old = unprefixed_key(name)
    fields = await link.call("HGETALL", old)
    found = PROVIDER_NAMES.get(fields.get(b"provider", b"").decode(errors="replace"))
    if found is None or provider not in (None, found):
        return False
    main = model_key(EntryKey(found, name, "", True))
    change = Change().is_(main, b"status", None)
    for field, value in fields.items():
        change.is_(old, field, value)
    for field, value in fields.items():
        change.set(main, field, value)
    change.include(MODEL_INDEX, main).drop(old)
    return await link.change(change)


def _contended(key: EntryKey) -> UnavailableError:
    return UnavailableError(
        f"the record of {key} was changed by others {_ATTEMPTS} times in a row", remedy="try again"
    )
