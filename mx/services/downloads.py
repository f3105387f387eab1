"""One download under one claim: list, admit, fetch, verify, publish, with a heartbeat beside it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import NoReturn

from mx.core.cached import CachedEntry, MissingFile
from mx.core.counts import BytesFetched
from mx.core.model import Claim, EntryKey, EntryStatus, ListedFile
from mx.core.progress import EnsureUpdate, RateMeter, describe, time_left_s
from mx.errors import ConflictError, IntegrityError, MxError, PreconditionError, UnavailableError
from mx.logs import event_log
from mx.ports import Clock, EntryCache, ModelStore, Provider, Staging, Tally
from mx.services.threads import in_thread

log = event_log(__name__)

# A file that changed at the provider, or that left the cache meanwhile: list and stage again.
_STAGE_ATTEMPTS = 3


@dataclass(frozen=True, slots=True)
class DownloadRules:
    """Times of a claim (storage contract, section 3) and how much goes on at once."""

    lease_s: float = 30.0
    heartbeat_s: float = 10.0
    report_s: float = 0.5
    parallel_files: int = 8


class ClaimLostError(ConflictError):
    """Somebody else owns the download now, or nobody does."""


Admit = Callable[[EntryKey, int], Awaitable[None]]


class Download:
    """One attempt. ``run`` ends with the entry, an MxError, or ClaimLostError; bytes that came stay."""

    def __init__(
        self,
        key: EntryKey,
        claim: Claim,
        *,
        provider: Provider,
        cache: EntryCache,
        store: ModelStore,
        clock: Clock,
        rules: DownloadRules,
        revision: str | None,
        admit: Admit,
        report: Callable[[EnsureUpdate], None],
        tally: Tally,
    ) -> None:
        self.key = key
        self.claim = claim
        self._provider = provider
        self._cache = cache
        self._store = store
        self._clock = clock
        self._rules = rules
        self._revision = revision
        self._admit = admit
        self._report = report
        self._tally = tally
        self._alive_until_s = clock.monotonic_s() + rules.lease_s
        self._lost = False
        self._count = _Count()
        self._meter = RateMeter()
        self._staging: Staging | None = None
        self._in_flight: dict[str, ListedFile] = {}

    @property
    def missing_bytes(self) -> int:
        """Bytes still to come; 0 before they are known."""
        return max(0, self._count.bytes_total - self._count.bytes_done)

    async def run(self) -> CachedEntry:
        try:
            async with asyncio.TaskGroup() as tasks:
                beside = [
                    tasks.create_task(self._keep_claim(), name=f"claim of {self.key}"),
                    tasks.create_task(self._keep_reporting(), name=f"progress of {self.key}"),
                    tasks.create_task(self._keep_bytes(), name=f"checkpoints of {self.key}"),
                ]
                try:
                    return await self._stage_and_publish()
                finally:
                    for task in beside:
                        task.cancel()
        except BaseExceptionGroup as group:
            raise _cause(group) from group

    async def _stage_and_publish(self) -> CachedEntry:
        for attempt in range(1, _STAGE_ATTEMPTS + 1):
            listing = await self._provider.list_files(self.key)
            self._staging = staging = await in_thread(self._cache.begin, listing)
            try:
                missing = staging.missing
                left_bytes = sum(each.missing_bytes for each in missing)
                self._count.start(
                    bytes_total=listing.total_bytes,
                    bytes_done=listing.total_bytes - left_bytes,
                    files_total=len(listing.files),
                    files_done=len(listing.files) - len(missing),
                )
                self._meter.read(self._count.bytes_done, now_s=self._clock.monotonic_s())
                await self._refresh()  # others that need room see how much this one will take
                await self._admit(self.key, left_bytes)
                await self._fetch_all(staging, missing)
                await self._refresh()  # the token is still the newest
                return await in_thread(staging.publish, revision=self._revision, fence=self._is_ours)
            except PreconditionError as error:
                if attempt == _STAGE_ATTEMPTS:
                    raise
                log.info("staged again", model=str(self.key), reason=error.message)
            finally:
                await in_thread(staging.close)
        raise AssertionError("the last attempt raises or returns")

    async def _fetch_all(self, staging: Staging, missing: tuple[MissingFile, ...]) -> None:
        at_once = asyncio.Semaphore(self._rules.parallel_files)

        async def fetch(one: MissingFile) -> None:
            async with at_once:
                self._in_flight[one.file.path] = one.file
                try:
                    await self._fetch_one(staging, one)
                finally:
                    self._in_flight.pop(one.file.path, None)

        async with asyncio.TaskGroup() as tasks:
            # The largest first: it is the one that everything waits for in the end.
            for one in sorted(missing, key=lambda each: each.missing_bytes, reverse=True):
                tasks.create_task(fetch(one), name=f"fetch {one.file.path}")

    async def _fetch_one(self, staging: Staging, one: MissingFile) -> None:
        """Fetch and verify; bytes that turn out wrong are fetched once more from the start."""
        file = one.file
        into = staging.path_for(file)
        await self._provider.fetch(self.key, file, into, offset=one.offset, progress=self._fetched)
        try:
            await in_thread(staging.accept, file)
        except IntegrityError as error:
            log.info("fetched again", model=str(self.key), file=file.path, reason=error.message)
            self._count.add(-file.size_bytes)
            into = staging.path_for(file)
            await self._provider.fetch(self.key, file, into, offset=0, progress=self._fetched)
            await in_thread(staging.accept, file)
        self._count.file_done()

    def _fetched(self, count: int) -> None:
        """Called from any thread."""
        self._count.add(count)
        self._tally.add(BytesFetched(self.key, count))

    async def _keep_claim(self) -> NoReturn:
        while True:
            await asyncio.sleep(self._rules.heartbeat_s)
            await self._refresh()

    async def _refresh(self) -> None:
        """Extend the claim. An outage of the store is borne for as long as the lease lasts."""
        asked_s = self._clock.monotonic_s()
        try:
            async with asyncio.timeout(self._rules.lease_s):
                renewed = await self._store.refresh(
                    self.key,
                    self.claim,
                    lease_s=self._rules.lease_s,
                    now_ms=self._clock.now_ms(),
                    bytes_done=self._count.bytes_done,
                    bytes_total=self._count.bytes_total,
                    files=self._count.files_total,
                )
        except (UnavailableError, TimeoutError) as error:
            if not self._is_ours():
                self._lose(f"the store could not be reached for {self._rules.lease_s:g} s")
            log.warn("claim not extended", model=str(self.key), error=str(error))  # noqa: G010  # an EventLog
            return
        if renewed is None:
            self._lose("the download was deleted or taken over")
        self.claim = renewed
        self._alive_until_s = asked_s + self._rules.lease_s

    def _lose(self, why: str) -> NoReturn:
        self._lost = True
        raise ClaimLostError(f"{self.key}: {why}")

    def _is_ours(self) -> bool:
        """Whether the claim holds by our own clock; asked from a thread too."""
        return not self._lost and self._clock.monotonic_s() < self._alive_until_s

    async def _keep_bytes(self) -> NoReturn:
        """Note which bytes are safe, so that whoever takes over goes on from there."""
        while True:
            await asyncio.sleep(self._rules.heartbeat_s)
            for file in tuple(self._in_flight.values()):
                if self._staging is not None and file.path in self._in_flight:
                    try:
                        await in_thread(self._staging.checkpoint, file)
                    except MxError as error:
                        log.debug("no checkpoint", model=str(self.key), file=file.path, error=str(error))

    async def _keep_reporting(self) -> NoReturn:
        while True:
            self._report(self._progress())
            await asyncio.sleep(self._rules.report_s)

    def _progress(self) -> EnsureUpdate:
        count = self._count
        rate = None
        if count.bytes_total:
            rate = self._meter.read(count.bytes_done, now_s=self._clock.monotonic_s())
        update = EnsureUpdate(
            self.key,
            EntryStatus.DOWNLOADING,
            "",
            bytes_done=count.bytes_done,
            bytes_total=count.bytes_total,
            files_done=count.files_done,
            files_total=count.files_total,
            rate=rate,
            eta_s=time_left_s(count.bytes_done, count.bytes_total, rate),
        )
        return replace(update, message=describe(update) or "listing files")


class _Count:
    """Bytes and files so far. ``add`` may be called from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.bytes_done = 0
        self.bytes_total = 0
        self.files_done = 0
        self.files_total = 0

    def start(self, *, bytes_total: int, bytes_done: int, files_total: int, files_done: int) -> None:
        with self._lock:
            self.bytes_total, self.bytes_done = bytes_total, bytes_done
            self.files_total, self.files_done = files_total, files_done

    def add(self, amount: int) -> None:
        with self._lock:
            self.bytes_done += amount

    def file_done(self) -> None:
        with self._lock:
            self.files_done += 1


def _cause(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """The one to tell: a lost claim before what it caused, mx's errors before others."""
    leaves: list[BaseException] = []
    open_groups: list[BaseExceptionGroup[BaseException]] = [group]
    while open_groups:
        for error in open_groups.pop().exceptions:
            if isinstance(error, BaseExceptionGroup):
                open_groups.append(error)
            else:
                leaves.append(error)

    def rank(error: BaseException) -> int:
        return 0 if isinstance(error, ClaimLostError) else 1 if isinstance(error, MxError) else 2

    return min(leaves, key=rank)
