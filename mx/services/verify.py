"""Verify entries: every digest anew, wrong files away, and single files fetched again."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import replace

from mx.core.cached import FaultKind, VerifyReport
from mx.core.model import EntryKey, EntryStatus, ModelRef, ProviderName
from mx.core.progress import EnsureUpdate, RateMeter, time_left_s
from mx.core.verification import EntryVerified, OnFault, Outcome, VerifyProgress, VerifyStep
from mx.errors import MxError, NotFoundError
from mx.logs import event_log
from mx.ports import Clock, EntryCache, ModelStore
from mx.services.models import ModelsService
from mx.services.removal import damaged
from mx.services.threads import in_thread

log = event_log(__name__)

_REPORT_S = 0.5


class _StoppedError(Exception):
    """Nobody waits for the digests any more."""


class _Reading:
    """Counts what a thread has read, and ends it when it is told to stop."""

    def __init__(self) -> None:
        self.bytes_read = 0
        self.stopped = False

    def __call__(self, count: int) -> None:
        self.bytes_read += count
        if self.stopped:
            raise _StoppedError


class Verification:
    """One run over some entries, one after the other: two at once would only share the disk."""

    def __init__(
        self,
        models: ModelsService,
        store: ModelStore,
        cache: EntryCache,
        clock: Clock,
        *,
        on_fault: OnFault,
        report_s: float = _REPORT_S,
    ) -> None:
        self._models = models
        self._store = store
        self._cache = cache
        self._clock = clock
        self._on_fault = on_fault
        self._report_s = report_s
        self._meter = RateMeter()
        self._bytes_total = self._bytes_before = self._entries_done = self._entries_total = 0

    async def run(self, keys: Sequence[EntryKey] | None = None) -> AsyncGenerator[VerifyStep, None]:
        """Steps: progress, and an EntryVerified for each entry. None takes all that the cache has.

        NotFoundError before the first step for a key that the cache has not.
        """
        recorded = await in_thread(self._cache.recorded)
        if keys is None:
            keys = sorted(recorded, key=lambda key: (key.provider, key.name, key.commit, not key.weights))
        for key in keys:
            if key not in recorded:
                raise NotFoundError(f"{key} is not in the cache", remedy="mx cache list shows what is")
        whole = {entry.key: entry for entry in await in_thread(self._cache.scan)}
        sizes = {key: whole[key].total_bytes if key in whole else 0 for key in keys}
        self._bytes_total, self._entries_total = sum(sizes.values()), len(keys)
        for key in keys:
            async with aclosing(self._one(key)) as steps:
                async for step in steps:
                    yield step
            self._bytes_before += sizes[key]
            self._entries_done += 1

    async def _one(self, key: EntryKey) -> AsyncGenerator[VerifyStep, None]:
        reading = _Reading()
        work = asyncio.ensure_future(in_thread(self._cache.verify, key, progress=reading))
        try:
            while not work.done():
                yield self._progress(key, reading.bytes_read)
                await asyncio.wait({work}, timeout=self._report_s)
        finally:
            reading.stopped = True
            await asyncio.wait({work})
            if not work.cancelled():
                work.exception()  # looked at: who left early does not care
        try:
            report = work.result()
        except NotFoundError:
            yield EntryVerified(key, Outcome.GONE, 0, 0, detail="it was removed while it was verified")
            return
        if report.sound and await in_thread(self._cache.entry, key) is not None:
            yield _verified(report, Outcome.SOUND)
            return
        async with aclosing(self._mend(report)) as steps:
            async for step in steps:
                yield step

    async def _mend(self, report: VerifyReport) -> AsyncGenerator[VerifyStep, None]:
        key = report.key
        record = await self._store.get(key)
        if key not in await in_thread(self._cache.recorded) or (
            record is not None and record.status is EntryStatus.EVICTING
        ):
            yield _verified(report, Outcome.GONE, detail="it was removed while it was verified")
            return
        log.error("entry is damaged", model=str(key), files=[fault.path for fault in report.faults])
        # Withdrawn before, and another entry has brought its files back since.
        detail = (
            "its files are right, but it was withdrawn; a download lets it in again" if report.sound else ""
        )
        if self._on_fault is OnFault.REPORT:
            yield _verified(report, Outcome.DAMAGED, detail=detail)
            return
        withdrawn = (key,) if report.sound else await self._quarantine(report)
        others = tuple(other for other in withdrawn if other != key)
        if self._on_fault is OnFault.QUARANTINE:
            yield _verified(report, Outcome.QUARANTINED, withdrawn=others, detail=detail)
            return
        failures: list[str] = []
        # Without weights first: once the whole entry is back it would answer for both.
        for each in sorted({key, *withdrawn}, key=lambda one: (one.weights, one.commit)):
            last: EnsureUpdate | None = None
            try:
                async with aclosing(self._fetch(each)) as updates:
                    async for last in updates:
                        if not last.is_last:
                            note = f"fetching {each}: {last.message}"
                            yield self._progress(key, report.bytes_read, note=note)
            except MxError as error:
                failures.append(f"{each}: {error}")
                continue
            if last is None or last.status is not EntryStatus.DOWNLOADED:
                failures.append(f"{each}: {last.message if last else 'nothing came'}")
            elif last.key != each:
                failures.append(f"{each} is no longer at {each.provider}; {last.key} was fetched instead")
        outcome = Outcome.QUARANTINED if failures else Outcome.REPAIRED
        yield _verified(report, outcome, withdrawn=others, detail="; ".join(failures))

    async def _quarantine(self, report: VerifyReport) -> tuple[EntryKey, ...]:
        """Bad files away; every entry that used them is an error that people see until it is mended."""
        key = report.key
        withdrawn: tuple[EntryKey, ...] = (key,)
        # Where only the name is lost, the bytes are right: a download gives them their name again.
        if bad := [fault.path for fault in report.faults if fault.kind is not FaultKind.LINK]:
            try:
                withdrawn = await in_thread(self._cache.condemn, key, bad)
            except NotFoundError:
                log.debug("condemned before", model=str(key))
        names = ", ".join(fault.path for fault in report.faults[:3])
        more = f" and {len(report.faults) - 3} more" if len(report.faults) > 3 else ""
        for each in withdrawn:
            record = await self._store.get(each)
            if record is not None and record.status in (EntryStatus.DOWNLOADED, EntryStatus.ERROR):
                message = f"verify found {names}{more} wrong or missing; a download mends it"
                await self._store.put(damaged(record, message), observed=record)
        return withdrawn

    def _fetch(self, key: EntryKey) -> AsyncGenerator[EnsureUpdate, None]:
        revision = key.commit if key.provider is ProviderName.HUGGING_FACE else None
        ref = ModelRef(key.provider, key.name, revision)
        return self._models.ensure(ref, weights=key.weights, force=True)

    def _progress(self, key: EntryKey, bytes_read: int, *, note: str = "") -> VerifyProgress:
        done = min(self._bytes_total, self._bytes_before + bytes_read)
        rate = self._meter.read(done, now_s=self._clock.monotonic_s())
        eta_s = time_left_s(done, self._bytes_total, rate)
        return VerifyProgress(
            key, done, self._bytes_total, self._entries_done, self._entries_total, rate, eta_s, note
        )


def _verified(
    report: VerifyReport, outcome: Outcome, *, withdrawn: tuple[EntryKey, ...] = (), detail: str = ""
) -> EntryVerified:
    done = EntryVerified(
        report.key, outcome, report.files, report.bytes_read, report.faults, report.extras, detail
    )
    return replace(done, withdrawn=withdrawn)
