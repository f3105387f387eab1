"""Reading and writing records of models in Redis: read, decide, write if nobody wrote meanwhile.

Other servers claim with scripts of their own on the same fields, which this respects and they do, too.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from dataclasses import replace

from mx.core.model import EntryKey, ModelRecord, ProviderName
from mx.errors import UnavailableError
from mx.store.published import UnreadableError
from mx.store.redis.change import Change
from mx.store.redis.changes import model_changed
from mx.store.redis.failures import translate
from mx.store.redis.keys import (
    MODEL_INDEX,
    PROVIDER_NAMES,
    model_extras_key,
    model_key,
    unprefixed_key,
)
from mx.store.redis.left_alone import LeftAlone
from mx.store.redis.link import Command, Link
from mx.store.redis.model_rows import EXTRAS, GONE, MEMBERS, Stored, decode, encode

# Each refusal means that somebody else got on: 64 who claim at once need a few.
ATTEMPTS = 100
_MARK_MS = 600_000  # of a deletion: many times the heartbeat by which an owner learns of it

Decide = Callable[[Stored], ModelRecord | None]


class ModelRecords:
    def __init__(self, link: Link, left_alone: LeftAlone) -> None:
        self._link = link
        self._left_alone = left_alone

    async def read(self, key: EntryKey) -> Stored:
        """UnavailableError for a record that can't be read: nobody knows what it says."""
        main = model_key(key)
        fields, (extras, mark) = await self._link.calls(
            [("HGETALL", main), ("HMGET", model_extras_key(main), EXTRAS, GONE)]
        )
        try:
            return replace(decode(key, fields, extras), deleted=mark is not None)
        except UnreadableError as error:
            self._left_alone.note(main, "record", error)
            raise UnavailableError(
                f"the record of {key} in {self._link.where} can't be read: {error}",
                remedy=f"redis-cli HGETALL '{main.decode()}' shows it; delete it if nobody needs it",
            ) from None

    async def page(self, keys: Sequence[EntryKey]) -> list[ModelRecord]:
        """Those that are there and can be read."""
        commands: list[Command] = []
        for key in keys:
            main = model_key(key)
            commands += [("HGETALL", main), ("HGET", model_extras_key(main), EXTRAS)]
        answers = iter(await self._link.large(commands))
        found: list[ModelRecord] = []
        for key, fields, extras in zip(keys, answers, answers, strict=True):
            try:
                for answer in (fields, extras):
                    if isinstance(answer, Exception):
                        if "WRONGTYPE" not in str(answer):
                            raise translate(answer, self._link.where)
                        raise UnreadableError("it is no hash")
                record = decode(key, fields, extras).record
            except UnreadableError as error:
                self._left_alone.note(model_key(key), "record", error)
                continue
            if record is not None:
                found.append(record)
        return found

    async def change(self, key: EntryKey, decide: Decide, *, told: bool = True) -> ModelRecord | None:
        """Put what is decided in the place of what lies there; None when nothing is to be done."""
        mine: dict[str, ModelRecord] = {}
        for _ in range(ATTEMPTS):
            stored = await self.read(key)
            if stored.revision in mine:  # written, and the answer was lost
                return mine[stored.revision]
            record = decide(stored)
            if record is None:
                return None
            revision = secrets.token_hex(6)
            mine[revision] = record
            if await self.write(key, stored, record, revision=revision, told=told):
                return record
        raise contended(key)

    async def write(
        self, key: EntryKey, stored: Stored, record: ModelRecord, *, revision: str = "", told: bool = True
    ) -> bool:
        """In the place of what was read, if that is still there."""
        main = model_key(key)
        more = model_extras_key(main)
        fields, extras = encode(record, revision=revision or secrets.token_hex(6))
        change = self._unchanged(main, stored)
        for name, value in fields.items():
            if stored.fields.get(name) != value:
                change.set(main, name, value)
        for name in MEMBERS:
            if name in stored.fields and name not in fields:
                change.delete(main, name)
        change.set(more, EXTRAS, extras)
        if stored.record is None:
            change.delete(more, GONE).keep(more).include(MODEL_INDEX, main)
        return await self._link.change(model_changed(change, self._link, main) if told else change)

    async def delete(self, key: EntryKey, stored: Stored) -> bool:
        """What was read, if it is still there; a mark stays for a while."""
        main = model_key(key)
        more = model_extras_key(main)
        change = self._unchanged(main, stored).drop(main)
        change.delete(more, EXTRAS).set(more, GONE, b"1").expire(more, _MARK_MS)
        change.exclude(MODEL_INDEX, main)
        return await self._link.change(model_changed(change, self._link, main))

    async def adopt_unprefixed(self, key: EntryKey) -> bool:
        """Give a record of builds before 0.4.0, without a provider in its key, its present name."""
        if key.commit or not key.weights or key.provider is ProviderName.LOCAL:
            return False
        return await adopt_unprefixed(self._link, key.name, key.provider)

    def _unchanged(self, main: bytes, stored: Stored) -> Change:
        change = Change()
        for name in MEMBERS:
            change.is_(main, name, stored.fields.get(name))
        return change.is_(model_extras_key(main), EXTRAS, stored.extras)


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


def contended(key: EntryKey) -> UnavailableError:
    return UnavailableError(
        f"the record of {key} was changed by others {ATTEMPTS} times in a row", remedy="try again"
    )
