"""Records that an older registry left: verified against the provider's listing, then kept as ours.

Such a record names a model of Hugging Face and no commit ("full, unknown revision"; storage contract, 3
and 6), or a version elsewhere whose files nobody has checked. What lies on the disk is compared with
what the provider lists, digest by digest, and nothing is downloaded: whole entries become entries,
under the commit that they are; of others the record says what is missing, and the next download
brings that alone. Where the provider can't be asked, the record is left as it is.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace

from mx.core.cached import CachedEntry
from mx.core.counts import OlderSettled
from mx.core.model import Claim, EntryKey, EntryStatus, ModelRecord
from mx.core.progress import EnsureUpdate
from mx.core.transitions import is_claimed, is_older
from mx.core.units import format_size
from mx.errors import MxError
from mx.logs import event_log
from mx.ports import Clock, EntryCache, ModelStore, NoTally, Providers, Ready, Won
from mx.services.downloads import Download, DownloadRules
from mx.services.threads import in_thread

log = event_log(__name__)

# Somebody else is at work on a commit, or failed a moment ago; it has a record of its own already.
_BUSY, _THERE = "busy", "there"


class _IncompleteError(Exception):
    """Files that the provider lists are not there, or are other ones."""


@dataclass(frozen=True, slots=True)
class OlderReport:
    """``verified`` are entries now, ``unfinished`` lack files, ``left`` could not be judged, and why."""

    verified: tuple[EntryKey, ...] = ()
    unfinished: tuple[EntryKey, ...] = ()
    without_files: tuple[EntryKey, ...] = ()
    left: tuple[tuple[EntryKey, str], ...] = ()

    @property
    def count(self) -> OlderSettled:
        return OlderSettled(len(self.verified), len(self.unfinished), len(self.without_files))


class OlderRecords:
    """One after the other: digests of terabytes are computed, and downloads come first."""

    def __init__(
        self,
        store: ModelStore,
        cache: EntryCache,
        clock: Clock,
        *,
        providers: Providers,
        owner: str,
        rules: DownloadRules,
    ) -> None:
        self._store = store
        self._cache = cache
        self._clock = clock
        self._providers = providers
        self._owner = owner
        self._rules = rules

    async def settle(self) -> OlderReport:
        """Judge every such record once; UnavailableError when the store can't be reached."""
        found: dict[str, list[EntryKey]] = {"verified": [], "unfinished": [], "without": []}
        left: list[tuple[EntryKey, str]] = []
        for record in await self._store.list_models():
            if not is_older(record) or is_claimed(record, now_ms=self._clock.now_ms()):
                continue
            try:
                for what, key in await self._settle(record):
                    found[what].append(key)
            except MxError as error:
                why = str(error)
                left.append((record.key, why))
                log.warn("older record left as it is", model=str(record.key), reason=why)  # noqa: G010  # an EventLog
        return OlderReport(
            tuple(found["verified"]), tuple(found["unfinished"]), tuple(found["without"]), tuple(left)
        )

    async def _settle(self, record: ModelRecord) -> list[tuple[str, EntryKey]]:
        commits = await in_thread(self._cache.commits, record.key.provider, record.key.name)
        if not commits:
            log.info("record of an older registry without files, dropped", model=str(record.key))
            await self._store.delete(record.key, observed=record)
            return [("without", record.key)]
        settled: list[tuple[str, EntryKey]] = []
        for commit in commits:
            key = replace(record.key, commit=commit)
            settled.append((await self._verify(key, record), key))
        if record.key.commit not in commits and all(what != _BUSY for what, _ in settled):
            # What it stood for has records of its own now.
            await self._store.delete(record.key, observed=record)
        return [(what, key) for what, key in settled if what not in (_BUSY, _THERE)]

    async def _verify(self, key: EntryKey, older: ModelRecord) -> str:
        """What became of one commit on the disk."""
        result = await self._store.claim(
            key, owner=self._owner, lease_s=self._rules.lease_s, now_ms=self._clock.now_ms()
        )
        if not isinstance(result, Won):
            return _THERE if isinstance(result, Ready) else _BUSY
        claim = result.claim
        try:
            entry = await in_thread(self._cache.entry, key) or await self._compare(key, claim)
        except _IncompleteError as error:
            await self._hand_back(key, claim)
            log.info("files of an older registry are not all there", model=str(key), missing=str(error))
            return "unfinished"
        except (MxError, asyncio.CancelledError):
            await asyncio.wait([asyncio.ensure_future(self._forget(key, claim, older))])
            raise
        await self._store.finish(
            key,
            claim,
            status=EntryStatus.DOWNLOADED,
            message="",
            bytes_on_disk=entry.total_bytes,
            files=len(entry.files),
            retry_at_ms=0,
            now_ms=self._clock.now_ms(),
        )
        if older.pin is not None:
            await self._store.pin(key, older.pin)
        log.info("files of an older registry verified", model=str(key), bytes=entry.total_bytes)
        return "verified"

    async def _compare(self, key: EntryKey, claim: Claim) -> CachedEntry:
        """The entry, made of what is there; _IncompleteError when that is not all."""
        return await Download(
            key,
            claim,
            provider=self._providers.get(key.provider),
            cache=self._cache,
            store=self._store,
            clock=self._clock,
            rules=self._rules,
            revision=key.commit or None,  # which branch meant it is not known
            admit=_only_what_is_there,
            report=_nobody,
            tally=NoTally(),
        ).run()

    async def _hand_back(self, key: EntryKey, claim: Claim) -> None:
        await self._store.release(key, claim, now_ms=self._clock.now_ms())

    async def _forget(self, key: EntryKey, claim: Claim, older: ModelRecord) -> None:
        """As before: a record that this pass made goes, the older one itself stays."""
        if key == older.key:
            await self._store.release(key, claim, now_ms=self._clock.now_ms())
            await self._store.put(older)
        else:
            await self._store.delete(key, token=claim.token)


async def _only_what_is_there(key: EntryKey, missing_bytes: int) -> None:
    if missing_bytes:
        raise _IncompleteError(f"{format_size(missing_bytes)} of {key} are missing")


def _nobody(_update: EnsureUpdate) -> None:
    return None
