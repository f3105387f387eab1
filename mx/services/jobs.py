"""One job per entry and process: it claims and downloads, or follows whoever does; callers listen."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

from mx.core.cached import CachedEntry
from mx.core.counts import (
    CacheAnswer,
    ClaimLost,
    ClaimWon,
    DownloadEnded,
    DownloadStarted,
    ModelWanted,
)
from mx.core.feed import Moving
from mx.core.model import EntryKey, EntryStatus, ModelRecord
from mx.core.progress import EnsureUpdate, RateMeter, describe, time_left_s
from mx.core.transitions import is_claimed
from mx.core.units import format_age
from mx.errors import ErrorCode, InternalError, MxError, NotFoundError, UnavailableError
from mx.logs import event_log
from mx.ports import BackingOff, Clock, EntryCache, Held, ModelStore, NoTally, Provider, Ready, Tally, Won
from mx.services.downloads import Admit, ClaimLostError, Download, DownloadRules
from mx.services.threads import in_thread

log = event_log(__name__)

_FILES_GONE = "its files are gone from the cache"


@dataclass(frozen=True, slots=True)
class JobRules:
    """``poll_s`` at most between two looks at a record that somebody else works on; back-off doubles."""

    download: DownloadRules = field(default_factory=DownloadRules)
    poll_s: float = 1.0
    first_backoff_s: float = 5.0
    longest_backoff_s: float = 600.0

    def backoff_s(self, failures: int) -> float:
        """After so many failures in a row, the first of them included."""
        return min(self.longest_backoff_s, self.first_backoff_s * 2.0 ** min(max(failures - 1, 0), 30))


@dataclass(frozen=True, slots=True)
class JobTools:
    """What every job works with."""

    store: ModelStore
    cache: EntryCache
    clock: Clock
    owner: str
    rules: JobRules
    admit: Admit
    used: Callable[[EntryKey], None]
    changes: Callable[[CachedEntry], Awaitable[tuple[str, ...]]]
    tally: Tally = field(default_factory=NoTally)


class Job:
    """Brings one entry to DOWNLOADED or ERROR. Listeners get the newest update, not every one."""

    def __init__(
        self,
        key: EntryKey,
        provider: Provider,
        tools: JobTools,
        *,
        revision: str | None,
        force: bool,
        ended: Callable[[Job], None],
    ) -> None:
        self.key = key
        self.listeners = 0
        self.download: Download | None = None
        self.task: asyncio.Task[None] | None = None
        self.record_changed = asyncio.Event()
        self._provider = provider
        self._tools = tools
        self._revision = revision
        self._force = force
        self._ended = ended
        self._changed = asyncio.Event()
        self._latest = EnsureUpdate(key, EntryStatus.DOWNLOADING, "asking for the download")
        self._seen_removal = False
        self._answered = False

    async def listen(self) -> AsyncGenerator[EnsureUpdate, None]:
        """Updates from now on, ending with the last one. Leaving early ends only the listening."""
        while True:
            changed, update = self._changed, self._latest
            yield update
            if update.is_last:
                return
            # What came while the listener was busy is there already: then there is no wait.
            await changed.wait()

    @property
    def moving(self) -> Moving:
        """How far it is."""
        now = self._latest
        return Moving(
            now.bytes_done,
            now.bytes_total,
            now.files_done,
            now.files_total,
            rate=now.rate,
            eta_s=now.eta_s,
            waiters=self.listeners,
        )

    def end(self, update: EnsureUpdate) -> None:
        """Tell everybody how it ended; later words change nothing."""
        if not self._latest.is_last:
            self._ended(self)
            self._tell(update)

    def fail(self, message: str, code: ErrorCode | None = None) -> None:
        self.end(EnsureUpdate(self.key, EntryStatus.ERROR, message, code=code))

    async def run(self) -> None:
        """Until the end; never raises but when cancelled, and then hands the claim back."""
        try:
            while not self._latest.is_last:
                await self._step()
        except asyncio.CancelledError:
            self.fail("the download was stopped; ask again to go on", ErrorCode.UNAVAILABLE)
            raise
        except MxError as error:
            self.fail(str(error), error.code)
        except Exception:
            log.exception("download ended by a defect", model=str(self.key))
            self.fail(
                str(InternalError(f"{self.key}: a defect in mx ended the download")), ErrorCode.INTERNAL
            )

    async def _step(self) -> None:
        tools = self._tools
        result = await tools.store.claim(
            self.key,
            owner=tools.owner,
            lease_s=tools.rules.download.lease_s,
            now_ms=tools.clock.now_ms(),
            force=self._force,
            requested_revision=self._revision or "",
        )
        match result:
            case Won():
                await self._work(result)
            case Ready(record):
                await self._check_ready(record)
            case BackingOff(record):
                self._answer(CacheAnswer.REFUSED)
                self.fail(_backing_off(record, tools.clock.now_ms()))
            case Held(record):
                self._answer(CacheAnswer.WAIT)
                await self._follow(record)

    def _answer(self, answer: CacheAnswer) -> None:
        """What the caller met who began this job; those who join it later wait."""
        if not self._answered:
            self._answered = True
            self._tools.tally.add(ModelWanted(self.key, answer))

    async def _check_ready(self, record: ModelRecord) -> None:
        """A record is no proof: without its files, or with older ones, the entry is downloaded again."""
        entry = await in_thread(self._tools.cache.entry, self.key)
        changed = () if entry is None else await self._tools.changes(entry)
        if entry is not None and not changed:
            self._answer(CacheAnswer.HIT)
            self._tools.used(self.key)
            self.end(_downloaded(self.key, entry.total_bytes, len(entry.files), "already in the cache"))
            return
        log.warn("record without files", model=str(self.key), changed=len(changed))  # noqa: G010  # an EventLog
        message = f"{_named(changed)} changed at the provider" if changed else _FILES_GONE
        await self._tools.store.put(
            _to_download(record, message, now_ms=self._tools.clock.now_ms()), observed=record
        )

    async def _follow(self, record: ModelRecord) -> None:
        """Watch another owner's work until it ends, one way or another; then the next claim tells."""
        tools = self._tools
        meter = RateMeter()
        current: ModelRecord | None = record
        while current is not None and is_claimed(current, now_ms=tools.clock.now_ms()):
            self._seen_removal = current.status is EntryStatus.EVICTING
            self._tell(_followed(current, meter, now_s=tools.clock.monotonic_s()))
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(tools.rules.poll_s):
                    await self.record_changed.wait()
            self.record_changed.clear()
            try:
                current = await tools.store.get(self.key)
            except UnavailableError as error:
                # Nothing is known of the download: it goes on, and so does the wait.
                log.warn("record not read", model=str(self.key), error=str(error))  # noqa: G010  # an EventLog
        if current is None and not self._seen_removal:
            self.fail(f"{self.key} was deleted while it was being downloaded", ErrorCode.NOT_FOUND)
        elif current is not None and current.status is EntryStatus.ERROR:
            self.fail(current.message or f"the download of {self.key} failed")

    async def _work(self, won: Won) -> None:
        # Before anything is waited for: from here on the claim is handed back, whoever leaves.
        self.download = download = self._new_download(won)
        self._tools.tally.add(ClaimWon(self.key, won.taken_over))
        try:
            done = await in_thread(self._tools.cache.entry, self.key)
            # With files that are still right, the record alone was lost.
            fresh = done is not None and not await self._tools.changes(done)
            self._answer(CacheAnswer.HIT if fresh else CacheAnswer.MISS)
            if done is None or not fresh:
                log.info("download started", model=str(self.key), resumed=won.resumed, token=won.claim.token)
                with self._counted(won):
                    done = await download.run()
        except asyncio.CancelledError:
            await _to_the_end(self._hand_back(download))
            raise
        except ClaimLostError as error:
            await self._after_loss(error)
        except MxError as error:
            await self._finish_failed(download, error, failures=won.record.attempts + 1)
        except Exception:
            defect = InternalError(f"{self.key}: a defect in mx ended the download")
            await self._finish_failed(download, defect, failures=won.record.attempts + 1)
            raise
        else:
            await self._finish(download, bytes_total=done.total_bytes, files=len(done.files))
        finally:
            self.download = None

    @contextmanager
    def _counted(self, won: Won) -> Iterator[None]:
        """One download, in figures: that it began, and how it ended after how long."""
        tools = self._tools
        begin_s = tools.clock.monotonic_s()
        tools.tally.add(DownloadStarted(self.key, won.resumed))
        code: ErrorCode | None = ErrorCode.INTERNAL
        try:
            yield
            code = None
        except asyncio.CancelledError:
            code = ErrorCode.CANCELLED
            raise
        except MxError as error:
            code = error.code
            raise
        finally:
            tools.tally.add(DownloadEnded(self.key, tools.clock.monotonic_s() - begin_s, code))

    def _new_download(self, won: Won) -> Download:
        tools = self._tools
        return Download(
            self.key,
            won.claim,
            provider=self._provider,
            cache=tools.cache,
            store=tools.store,
            clock=tools.clock,
            rules=tools.rules.download,
            revision=self._revision,
            admit=tools.admit,
            report=self._tell,
            tally=tools.tally,
        )

    async def _finish(self, download: Download, *, bytes_total: int, files: int) -> None:
        usage = await in_thread(self._tools.cache.usage)
        on_disk = usage.entries.get(self.key)
        stored = await self._write_end(
            download,
            status=EntryStatus.DOWNLOADED,
            message="",
            bytes_on_disk=on_disk.total_bytes if on_disk else bytes_total,
            files=files,
        )
        if not stored:
            # The entry is whole on disk all the same; whoever owns the record now will find it so.
            log.warn("download finished without its claim", model=str(self.key))  # noqa: G010  # an EventLog
        log.info("download finished", model=str(self.key), bytes=bytes_total, files=files)
        self.end(_downloaded(self.key, bytes_total, files, "downloaded"))

    async def _finish_failed(self, download: Download, error: MxError, *, failures: int) -> None:
        retry_s = self._tools.rules.backoff_s(failures)
        log.error("download failed", model=str(self.key), error=str(error), code=error.code.value)
        await self._write_end(
            download,
            status=EntryStatus.ERROR,
            message=str(error),
            retry_at_ms=self._tools.clock.now_ms() + round(retry_s * 1000),
        )
        self.fail(str(error), error.code)

    async def _write_end(
        self,
        download: Download,
        *,
        status: EntryStatus,
        message: str,
        bytes_on_disk: int = 0,
        files: int = 0,
        retry_at_ms: int = 0,
    ) -> bool:
        """Write the record; an outage of the store is borne for one lease, then the claim expires anyway."""
        tools = self._tools
        give_up_s = tools.clock.monotonic_s() + tools.rules.download.lease_s
        while True:
            try:
                return await tools.store.finish(
                    self.key,
                    download.claim,
                    status=status,
                    message=message,
                    bytes_on_disk=bytes_on_disk,
                    files=files,
                    retry_at_ms=retry_at_ms,
                    now_ms=tools.clock.now_ms(),
                )
            except UnavailableError as error:
                if tools.clock.monotonic_s() >= give_up_s:
                    log.error("end of a download not stored", model=str(self.key), error=str(error))
                    return False
                await asyncio.sleep(tools.rules.poll_s)

    async def _after_loss(self, error: ClaimLostError) -> None:
        """Deleted: everybody is told. Taken over: the next claim says so, and we follow."""
        self._tools.tally.add(ClaimLost(self.key))
        log.warn("claim lost", model=str(self.key), reason=error.message)  # noqa: G010  # an EventLog
        if await self._tools.store.get(self.key) is None:
            raise NotFoundError(f"{self.key} was deleted while it was being downloaded")

    async def _hand_back(self, download: Download) -> None:
        try:
            async with asyncio.timeout(self._tools.rules.download.heartbeat_s):
                await self._tools.store.release(self.key, download.claim, now_ms=self._tools.clock.now_ms())
        except (MxError, TimeoutError) as error:
            log.warn("claim not handed back", model=str(self.key), error=str(error))  # noqa: G010  # an EventLog

    def _tell(self, update: EnsureUpdate) -> None:
        if self._latest.is_last:
            return
        self._latest = update
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()


async def _to_the_end(work: Coroutine[None, None, None]) -> None:
    """Finish a bounded piece of work although we are being cancelled."""
    await asyncio.wait([asyncio.ensure_future(work)])


def _downloaded(key: EntryKey, bytes_total: int, files: int, message: str) -> EnsureUpdate:
    return EnsureUpdate(
        key,
        EntryStatus.DOWNLOADED,
        message,
        bytes_done=bytes_total,
        bytes_total=bytes_total,
        files_done=files,
        files_total=files,
    )


def _followed(record: ModelRecord, meter: RateMeter, *, now_s: float) -> EnsureUpdate:
    if record.status is EntryStatus.EVICTING:
        return EnsureUpdate(
            record.key, EntryStatus.DOWNLOADING, "being removed; the download comes after that"
        )
    rate = meter.read(record.bytes_done, now_s=now_s) if record.bytes_total else None
    update = EnsureUpdate(
        record.key,
        EntryStatus.DOWNLOADING,
        "",
        bytes_done=record.bytes_done,
        bytes_total=record.bytes_total,
        files_total=record.files,
        rate=rate,
        eta_s=time_left_s(record.bytes_done, record.bytes_total, rate),
    )
    owner = record.claim.owner if record.claim else "another server"
    words = describe(update)
    message = f"{words}, by {owner}" if words else f"being downloaded by {owner}"
    return replace(update, message=message)


def _backing_off(record: ModelRecord, now_ms: int) -> str:
    wait = format_age((record.retry_at_ms - now_ms) / 1000)
    return f"{record.message or 'the last download failed'}; the next attempt may start in {wait}"


def _named(paths: tuple[str, ...]) -> str:
    return paths[0] if len(paths) == 1 else f"{paths[0]} and {len(paths) - 1} other files"


def _to_download(record: ModelRecord, message: str, *, now_ms: int) -> ModelRecord:
    return ModelRecord(
        record.key,
        EntryStatus.ERROR,
        record.created_at_ms,
        record.last_used_at_ms,
        message=message,
        retry_at_ms=now_ms,
        requested_revision=record.requested_revision,
    )
