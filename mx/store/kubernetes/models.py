"""``mx.ports.ModelStore`` over ModelCacheEntry objects.

A change asks the rule book about the record as the mirror knows it, and writes what it says under a test
that the object is still of that version: yes is proven by the write, no by a fresh look.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import Final, NoReturn, Self

from mx.core import transitions
from mx.core.eviction import EvictionRun
from mx.core.model import Claim, EntryKey, EntryStatus, ModelRecord, Pin, ProviderName, ReadLease
from mx.core.transitions import ClaimResult, Free
from mx.errors import InvalidArgumentError, PreconditionError, UnavailableError
from mx.logs import event_log
from mx.store.kubernetes.api import Answer, Object, Patch
from mx.store.kubernetes.claims import ClaimWatch
from mx.store.kubernetes.cluster import Cluster, closed_words
from mx.store.kubernetes.failures import INSTALL_KINDS
from mx.store.kubernetes.fence import Fence
from mx.store.kubernetes.mirror import Mirror, Mirrored
from mx.store.kubernetes.model_objects import (
    ModelValue,
    decode_model_object,
    decode_record,
    encode_record,
    lease_of,
    model_name,
    model_object,
    status_patch,
    token_of,
)
from mx.store.kubernetes.names import MODELS
from mx.store.kubernetes.runs import EvictionRuns
from mx.store.listing import model_order
from mx.store.watchers import Watchers

log = event_log(__name__)

# A patch meets another writer's change rarely, and each new try looks at what the other one made.
_TRIES: Final = 20
_PAGE: Final = 500  # records between two turns for others
_MOST: Final = (1 << 63) - 1

Rule = Callable[[ModelRecord | None], Awaitable[ModelRecord | None]]
_PROBE: Final = model_object(EntryKey(ProviderName.LOCAL, "/mx-probe", "", weights=True))


class KubernetesModelStore:
    """Models in one namespace. Several servers may have it open; one of them wins a claim."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._api = cluster.api
        self._claims = ClaimWatch(cluster.api.clock)
        self._names: dict[EntryKey, set[str]] = {}
        self._mirror: Mirror[ModelValue] = Mirror(
            cluster.api, MODELS, decode=decode_model_object, changed=self._index, rules=cluster.rules
        )
        self._fence = Fence(cluster.api, highest=self._highest_token)
        self._runs = EvictionRuns(cluster.api)
        self._watchers: Watchers[EntryKey] = Watchers(closed_words(cluster))
        self._closed = False

    @property
    def namespace(self) -> str:
        return self._api.namespace

    @classmethod
    async def open(cls, cluster: Cluster) -> Self:
        """See ``Cluster.join`` for what it raises."""
        await cluster.join(MODELS, _PROBE)
        store = cls(cluster)
        try:
            await store._mirror.start()
        except BaseException:
            await store.close()
            raise
        return store

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
        await self._ready()
        standing = transitions.standing(self._known(key), now_ms=now_ms, force=force)
        if standing is not Free.FREE:
            return standing
        answer: ClaimResult | None = None

        async def rule(record: ModelRecord | None) -> ModelRecord | None:
            nonlocal answer
            standing = transitions.standing(record, now_ms=now_ms, force=force)
            if standing is not Free.FREE:
                answer = standing
                return None
            claim = await self._new_claim(owner, lease_s, now_ms)
            answer = transitions.claimed(
                key, record, claim, requested_revision=requested_revision, now_ms=now_ms
            )
            return answer.record

        await self._change(key, rule, create=True, lease_s=lease_s)
        assert answer is not None
        return answer

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
        def rule(record: ModelRecord) -> ModelRecord | None:
            if not transitions.holds(record, claim):
                return None
            return transitions.refreshed(
                record,
                claim,
                lease_s=lease_s,
                now_ms=now_ms,
                bytes_done=bytes_done,
                bytes_total=bytes_total,
                files=files,
            )

        renewed = await self._change(key, _of_record(rule), lease_s=lease_s)
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

        def rule(record: ModelRecord) -> ModelRecord | None:
            if not transitions.holds(record, claim):
                return None
            return transitions.finished(
                record,
                status=status,
                message=message,
                bytes_on_disk=bytes_on_disk,
                files=files,
                retry_at_ms=retry_at_ms,
                now_ms=now_ms,
            )

        return await self._change(key, _of_record(rule)) is not None

    async def release(self, key: EntryKey, claim: Claim, *, now_ms: int) -> bool:
        def rule(record: ModelRecord) -> ModelRecord | None:
            return transitions.released(record) if transitions.holds(record, claim) else None

        return await self._change(key, _of_record(rule)) is not None

    async def touch(self, keys: Sequence[EntryKey], *, now_ms: int) -> None:
        self._require_open()

        def rule(record: ModelRecord) -> ModelRecord | None:
            later = record.last_used_at_ms < now_ms
            return transitions.touched(record, now_ms=now_ms) if later else None

        _require_storable(now_ms)
        changes = (self._change(key, _of_record(rule), confirm=False) for key in dict.fromkeys(keys))
        await asyncio.gather(*changes)

    async def get(self, key: EntryKey) -> ModelRecord | None:
        self._require_open()
        held = await self._look(key)
        return None if held is None else self._record(held)

    async def list_models(
        self, *, provider: ProviderName | None = None, name: str | None = None
    ) -> tuple[ModelRecord, ...]:
        await self._ready()
        keys = [key for key in self._names if provider in (None, key.provider) and name in (None, key.name)]
        records: list[ModelRecord] = []
        for number, key in enumerate(sorted(keys, key=model_order)):
            if number % _PAGE == _PAGE - 1:
                await asyncio.sleep(0)  # a listing of everything must not hold up a heartbeat
            if (record := self._known(key)) is not None:
                records.append(record)
        return tuple(records)

    async def put(self, record: ModelRecord, *, observed: ModelRecord | None = None) -> bool:
        async def rule(stored: ModelRecord | None) -> ModelRecord | None:
            return transitions.reconciled(stored, record, observed=observed)

        transitions.reconciled(None, record, observed=observed)  # raises for one that can't be put
        return await self._change(record.key, rule, create=observed is None) is not None

    async def mark_evicting(
        self,
        key: EntryKey,
        *,
        observed: ModelRecord,
        now_ms: int,
        owner: str = "eviction",
        lease_s: float = 60.0,
    ) -> Claim | None:
        async def rule(record: ModelRecord | None) -> ModelRecord | None:
            if record is None or not transitions.may_evict(record, observed, now_ms=now_ms):
                return None
            return transitions.evicting(record, await self._new_claim(owner, lease_s, now_ms))

        marked = await self._change(key, rule, lease_s=lease_s)
        return None if marked is None else marked.claim

    async def delete(
        self, key: EntryKey, *, token: int | None = None, observed: ModelRecord | None = None
    ) -> bool:
        self._require_open()
        held, fresh = self._held(key), False
        for _ in range(_TRIES):
            record = None if held is None else self._record(held)
            if held is None or not transitions.may_delete(record, token=token, observed=observed):
                if fresh:
                    return False
                held, fresh = await self._look(key), True
                continue
            try:
                deleted = await self._api.delete(MODELS, held.name, version=held.version)
            except Answer as answer:
                if not answer.is_conflict:
                    raise answer.error from answer
                held, fresh = await self._look(key), True
            else:
                self._mirror.removed(held.name, held.uid)
                return deleted
        raise _contended(key)

    async def pin(self, key: EntryKey, pin: Pin | None) -> bool:
        def rule(record: ModelRecord) -> ModelRecord | None:
            return None if record.status is EntryStatus.EVICTING else replace(record, pin=pin)

        return await self._change(key, _of_record(rule)) is not None

    async def lease(self, key: EntryKey, lease: ReadLease, *, now_ms: int) -> bool:
        def rule(record: ModelRecord) -> ModelRecord | None:
            return transitions.leased(record, lease, now_ms=now_ms)

        return await self._change(key, _of_record(rule)) is not None

    async def unlease(self, key: EntryKey, lease_id: str) -> None:
        def rule(record: ModelRecord) -> ModelRecord | None:
            kept = tuple(lease for lease in record.leases if lease.lease_id != lease_id)
            return None if kept == record.leases else replace(record, leases=kept)

        await self._change(key, _of_record(rule))

    async def record_eviction(self, run: EvictionRun) -> None:
        self._require_open()
        await self._runs.record(run)

    async def eviction_runs(self, *, limit: int) -> tuple[EvictionRun, ...]:
        self._require_open()
        return await self._runs.newest(limit)

    async def watch(self, tell: Callable[[EntryKey | None], None]) -> NoReturn:
        self._require_open()
        await self._watchers.watch(tell)

    async def check(self) -> None:
        self._require_open()
        await self._api.call("GET", MODELS, query={"limit": "1"})
        await self._ready()

    async def object_name(self, key: EntryKey) -> str | None:
        """Of the object that holds an entry, as it is at the API server."""
        self._require_open()
        held = await self._look(key)
        return None if held is None else held.name

    async def close(self) -> None:
        if not self._closed:
            self._closed = True
            self._watchers.close()
            await self._mirror.close()
            await self._cluster.leave()

    # --- changing -----------------------------------------------------------------------------------
    async def _change(
        self,
        key: EntryKey,
        rule: Rule,
        *,
        create: bool = False,
        confirm: bool = True,
        lease_s: float = 0.0,
    ) -> ModelRecord | None:
        """Replace a record by what the rule makes of it; None when there is none or the rule refuses.

        ``create``: one that is not there is made, and the rule is asked about None. ``confirm``: the
        mirror may be behind, so a no is asked for again.
        """
        self._require_open()
        held, fresh = self._held(key), False
        lost: ModelRecord | None = None  # what we wrote when no answer came
        for _ in range(_TRIES):
            if held is None and create:
                held, fresh = await self._create(key), True
                if held is None:
                    continue
            record = None if held is None else self._record(held)
            if lost is not None and record == lost:
                return lost
            changed = None if record is None and not create else await rule(record)
            if held is None or changed is None:
                if fresh or not confirm:
                    return None
                held, fresh = await self._look(key), True
                continue
            try:
                await self._write(held, record, changed, lease_s=lease_s)
            except Answer as answer:
                if not (answer.is_missing or answer.is_conflict):
                    raise answer.error from answer
                lost = changed if answer.again else None
                held, fresh = await self._look(key), True
            else:
                return changed
        raise _contended(key)

    async def _create(self, key: EntryKey) -> Mirrored[ModelValue] | None:
        """An object without a status, which is no record yet; somebody else's if they were faster."""
        try:
            return self._mirror.wrote(await self._api.create(MODELS, model_object(key)))
        except Answer as answer:
            if not answer.is_conflict:
                raise answer.error from answer
        return await self._look(key)

    async def _write(
        self,
        held: Mirrored[ModelValue],
        record: ModelRecord | None,
        changed: ModelRecord,
        *,
        lease_s: float,
    ) -> None:
        _require_storable(*_numbers(changed))
        name = model_name(changed.key)
        if held.name != name:
            held = await self._adopt(held, name, changed.key)
        previous = held.value.status
        same_claim = record is not None and record.claim == changed.claim
        status = encode_record(changed, previous=previous, same_claim=same_claim, lease_s=lease_s)
        patch = status_patch(previous, status, version=held.version)
        if not patch:
            return
        if changed.claim is None or same_claim:
            written = await self._api.patch(MODELS, name, patch)
        else:
            written = await self._write_claim(changed.key, changed.claim, status, patch)
        self._require_kept(written)
        self._mirror.wrote(written)

    async def _write_claim(self, key: EntryKey, claim: Claim, status: Object, patch: Patch) -> Object:
        text, lease, _ = lease_of(status)
        self._claims.writing(key, text, lease, expires_at_ms=claim.expires_at_ms)
        try:
            written = await self._api.patch(MODELS, model_name(key), patch)
        except Answer as answer:
            if not answer.again:
                self._claims.failed(key, text, lease)
            raise
        self._claims.wrote(key, text, lease, expires_at_ms=claim.expires_at_ms)
        return written

    async def _adopt(self, held: Mirrored[ModelValue], name: str, key: EntryKey) -> Mirrored[ModelValue]:
        """An object that an older server named otherwise: made anew under its name, the old one removed."""
        log.info("record of an older server taken over", object=held.name, into=name, model=str(key))
        body: Object = model_object(key)
        made = self._mirror.wrote(await self._api.create(MODELS, body))
        patch = status_patch({}, held.value.status, version=made.version)
        if patch:
            made = self._mirror.wrote(await self._api.patch(MODELS, name, patch))
        if await self._api.delete(MODELS, held.name, version=held.version):
            self._mirror.removed(held.name, held.uid)
        return made

    def _require_kept(self, written: Object) -> None:
        if "mx" not in (written.get("status") or {}):
            raise PreconditionError(
                f"the custom resource {MODELS.plural} is of another release: it drops what mx keeps in it",
                remedy=INSTALL_KINDS,
            )

    async def _new_claim(self, owner: str, lease_s: float, now_ms: int) -> Claim:
        claim = transitions.new_claim(owner, token=0, lease_s=lease_s, now_ms=now_ms)
        _require_storable(claim.expires_at_ms)
        return replace(claim, token=await self._fence.next())

    # --- looking ------------------------------------------------------------------------------------
    def _held(self, key: EntryKey) -> Mirrored[ModelValue] | None:
        """The object of a key; under the name that is its own, if there are several."""
        own = self._mirror.get(model_name(key))
        if own is not None and own.value.key == key:
            return own
        others = [self._mirror.get(name) for name in self._names.get(key, ())]
        return max((one for one in others if one is not None), key=lambda one: one.number, default=None)

    def _known(self, key: EntryKey) -> ModelRecord | None:
        held = self._held(key)
        return None if held is None else self._record(held)

    def _record(self, held: Mirrored[ModelValue]) -> ModelRecord | None:
        return decode_record(held.value, claims=self._claims)

    async def _look(self, key: EntryKey) -> Mirrored[ModelValue] | None:
        """As it is now, at the API server; an older server's name is looked up if we know one."""
        names = dict.fromkeys((model_name(key), *self._names.get(key, ())))
        for name in names:
            found = await self._api.read(MODELS, name)
            if found is not None:
                self._mirror.saw(found)
            elif (known := self._mirror.get(name)) is not None:
                self._mirror.removed(name, known.uid)
        return self._held(key)

    def _index(self, old: Mirrored[ModelValue] | None, new: Mirrored[ModelValue] | None) -> None:
        if old is not None and old.value.key is not None:
            names = self._names[old.value.key]
            names.discard(old.name)
            if not names:
                del self._names[old.value.key]
                if new is None:
                    self._claims.forget(old.value.key)
        if new is not None and new.value.key is not None:
            self._names.setdefault(new.value.key, set()).add(new.name)
            self._record(new)  # from now on its claim is watched
        for key in _changed(old, new):
            self._watchers.tell(key)
        if new is not None and new.value.key is None and old is None:
            log.warn("object is not laid out as a model and left alone", object=new.name)  # noqa: G010  # an EventLog

    def _highest_token(self) -> int:
        return max((token_of(one.value) for one in self._mirror), default=0)

    async def _ready(self) -> None:
        self._require_open()
        await self._mirror.ready()

    def _require_open(self) -> None:
        if self._closed:
            raise UnavailableError(closed_words(self._cluster))
        self._api.require_open()


def _changed(old: Mirrored[ModelValue] | None, new: Mirrored[ModelValue] | None) -> set[EntryKey]:
    """Whose record is another one now; an object without a status is none yet."""
    news = [
        (one.value.key, one.value.status)
        for one in (old, new)
        if one is not None and one.value.key is not None and one.value.status
    ]
    return set() if len(news) == 2 and news[0] == news[1] else {key for key, _ in news}


def _of_record(rule: Callable[[ModelRecord], ModelRecord | None]) -> Rule:
    """A rule about a record that is there."""

    async def asked(record: ModelRecord | None) -> ModelRecord | None:
        return None if record is None else rule(record)

    return asked


def _numbers(record: ModelRecord) -> tuple[int, ...]:
    claim = () if record.claim is None else (record.claim.expires_at_ms,)
    return (
        record.created_at_ms,
        record.last_used_at_ms,
        record.bytes_total,
        record.bytes_done,
        record.bytes_on_disk,
        record.files,
        record.attempts,
        record.retry_at_ms,
        *claim,
    )


def _require_storable(*numbers: int) -> None:
    """JSON numbers of more than 64 bits lose digits in an API server."""
    for number in numbers:
        if not -_MOST <= number <= _MOST:
            raise InvalidArgumentError(f"a value can't be stored: {number} does not fit 64 bits")


def _contended(key: EntryKey) -> UnavailableError:
    return UnavailableError(f"the record of {key} was changed by others again and again", remedy="try again")
