"""Ensure, find, read and delete models: one download per entry, whoever asks and how many."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, replace
from types import TracebackType
from typing import NoReturn, Self

from mx.core.cached import CachedEntry
from mx.core.counts import CacheAnswer, ModelsRemoved, ModelWanted
from mx.core.feed import Moving
from mx.core.model import (
    EntryKey,
    EntryStatus,
    ModelRecord,
    ModelRef,
    Pin,
    ProviderName,
    canonical_name,
    check_revision,
    is_commit,
    is_weight_file,
)
from mx.core.progress import EnsureUpdate
from mx.errors import (
    DeadlineError,
    ErrorCode,
    MxError,
    NotFoundError,
    UnavailableError,
)
from mx.logs import event_log
from mx.ports import Clock, EntryCache, ModelStore, NoTally, Providers, Tally
from mx.services.eviction import EvictionService
from mx.services.freshness import SharedQuestions, changes
from mx.services.jobs import Job, JobRules, JobTools
from mx.services.older import OlderRecords, OlderReport
from mx.services.reads import ReadLeases
from mx.services.reconcile import ReconcileReport, reconcile
from mx.services.removal import DeleteReport, Moved, delete_model
from mx.services.shared_work import SharedWork
from mx.services.threads import in_thread
from mx.services.touches import TouchBatch

log = event_log(__name__)


@dataclass(frozen=True, slots=True)
class ModelsRules:
    """How the service waits. ``stop_when_alone``: a download whose last caller left is stopped."""

    job: JobRules
    resolve_timeout_s: float = 30.0
    read_lease_s: float = 60.0
    flush_s: float = 5.0
    stop_when_alone: bool = False
    abandoned_s: float = 86_400.0


class ModelsService:
    """Models of one cache. Use it as a context manager: leaving it stops its downloads, resumably.

    Every method raises UnavailableError when the store can't be reached, and InvalidArgumentError
    for a name or revision that can't be one.
    """

    def __init__(
        self,
        store: ModelStore,
        cache: EntryCache,
        clock: Clock,
        *,
        providers: Providers,
        eviction: EvictionService,
        touches: TouchBatch,
        owner: str,
        rules: ModelsRules,
        tally: Tally | None = None,
        shared: SharedWork | None = None,
    ) -> None:
        self._store = store
        self._cache = cache
        self._clock = clock
        self._providers = providers
        self._eviction = eviction
        self._touches = touches
        self._owner = owner
        self._rules = rules
        self._tally = tally or NoTally()
        self._shared = shared or SharedWork(None, clock, owner=owner)
        self._jobs: dict[EntryKey, Job] = {}
        self._tasks = asyncio.TaskGroup()
        self._resolving: SharedQuestions[ModelRef, str] = SharedQuestions(self._tasks)
        self._comparing: SharedQuestions[EntryKey, tuple[str, ...]] = SharedQuestions(self._tasks)
        self._older = OlderRecords(
            store, cache, clock, providers=providers, owner=owner, rules=rules.job.download
        )
        self._reads = ReadLeases(store, cache, clock, lease_s=rules.read_lease_s)
        self._tools = JobTools(
            store,
            cache,
            clock,
            owner,
            rules.job,
            self._admit,
            touches.add,
            self._changes,
            self._tally,
        )

    async def __aenter__(self) -> Self:
        await self._tasks.__aenter__()
        self._beside = (
            self._tasks.create_task(self._keep_flushing(), name="touches"),
            self._tasks.create_task(self._keep_watching(), name="changes of records"),
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for task in self._beside:
            task.cancel()
        self._resolving.cancel()
        self._comparing.cancel()
        for job in tuple(self._jobs.values()):
            if job.task is not None:
                job.task.cancel()
        # The body's own error leaves as it is: the group has no part in it.
        await self._tasks.__aexit__(None, None, None)
        with contextlib.suppress(UnavailableError):
            await self._touches.flush()

    # Ensure

    async def ensure(
        self, ref: ModelRef, *, weights: bool = True, force: bool = False
    ) -> AsyncGenerator[EnsureUpdate, None]:
        """Make a model present; updates, the last one DOWNLOADED or ERROR.

        A failed download is an update, not an error. Raised before the first update: what ``resolve``
        raises. ``force`` skips the back-off after a failure. Closing the iterator ends the wait, not
        the download (see ``stop_when_alone``).
        """
        ref = _checked(ref)
        key = wanted = await self._key(ref, weights=weights)
        if not weights:
            wanted, full = await self._without_weights(key)
            if full is not None:
                self._touches.add(full.key)
                self._tally.add(ModelWanted(key, CacheAnswer.HIT))
                yield _present(key, full)
                return
        job = self._join(wanted, revision=ref.revision, force=force)
        job.listeners += 1
        try:
            async for update in job.listen():
                if update.status is EntryStatus.DOWNLOADED:
                    await self._point(key, ref)
                yield replace(update, key=key)
        finally:
            job.listeners -= 1
            self._leave(job)

    async def resolve(self, ref: ModelRef) -> str:
        """The commit behind a revision; many callers at once cost one question.

        Without the provider, what the cache last knew. Raises NotFoundError, PermissionDeniedError,
        UnauthenticatedError, or UnavailableError when nothing is known here either.
        """
        ref = _checked(ref)
        return await self._resolving.ask(ref, lambda: self._ask_provider(ref))

    # Find and read

    async def find(self, ref: ModelRef, *, weights: bool | None = None) -> CachedEntry:
        """The complete entry in the cache, without asking the provider; NotFoundError.

        ``weights`` None takes the full entry where there is one, else the one without weights.
        """
        ref = _checked(ref)
        commit: str | None = ref.revision
        if commit is None or not is_commit(commit):
            commit = await in_thread(self._cache.resolve, ref.provider, ref.name, ref.revision)
        if commit is None and ref.provider is not ProviderName.HUGGING_FACE:
            commit = ""
        if commit is not None:
            for mode in (True, False) if weights is None else (weights,):
                entry = await self._whole(EntryKey(ref.provider, ref.name, commit, mode))
                if entry is not None:
                    self._touches.add(entry.key)
                    return entry
        raise NotFoundError(
            f"{ref} is not in the cache", remedy=f"mx model download {ref.name} brings it there"
        )

    @asynccontextmanager
    async def reading(
        self, ref: ModelRef, *, holder: str, weights: bool | None = None
    ) -> AsyncIterator[CachedEntry]:
        """The entry, protected from eviction while the body runs; NotFoundError."""
        entry = await self.find(ref, weights=weights)
        async with self._reads.hold(entry, holder=holder, tasks=self._tasks):
            yield entry

    @asynccontextmanager
    async def reading_entry(self, key: EntryKey, *, holder: str) -> AsyncIterator[CachedEntry]:
        """As ``reading``, by key; for one without weights the full entry serves too. NotFoundError."""
        key = replace(key, name=canonical_name(key.provider, key.name))
        entry = await self._whole(key)
        if entry is None and not key.weights:
            entry = await self._whole(replace(key, weights=True))
        if entry is None:
            raise NotFoundError(f"{key} is not in the cache", remedy="have it downloaded first")
        self._touches.add(entry.key)
        async with self._reads.hold(entry, holder=holder, tasks=self._tasks):
            yield entry

    async def records(
        self, *, provider: ProviderName | None = None, name: str | None = None
    ) -> tuple[ModelRecord, ...]:
        await self._touches.flush()
        return await self._store.list_models(provider=provider, name=name)

    async def pin(self, key: EntryKey, pin: Pin | None) -> None:
        """Pin, or unpin with None; NotFoundError when there is no such entry."""
        if not await self._store.pin(key, pin):
            raise NotFoundError(f"{key} has no record, or is being removed", remedy="mx cache list shows all")

    def moving(self) -> dict[EntryKey, Moving]:
        """The downloads under way in this process, and how many of its callers wait for each."""
        return {key: job.moving for key, job in self._jobs.items() if job.download is not None}

    # Delete and maintain

    async def forget(self, provider: ProviderName, name: str) -> DeleteReport:
        """Drop the records of a model, all revisions; files stay. Ends its downloads (wire, 6.5)."""
        name = canonical_name(provider, name)
        records = await self._store.list_models(provider=provider, name=name)
        gone = [record.key for record in records if await self._store.delete(record.key)]
        for key, job in tuple(self._jobs.items()):
            if (key.provider, key.name) == (provider, name):
                job.fail(f"{key} was deleted while it was being downloaded", ErrorCode.NOT_FOUND)
                if job.task is not None:
                    job.task.cancel()
        return DeleteReport(tuple(gone))

    async def delete(
        self,
        provider: ProviderName,
        name: str,
        *,
        commit: str | None = None,
        force: bool = False,
        moved: Moved | None = None,
    ) -> DeleteReport:
        """Remove a model's files and records, both or neither; one revision where ``commit`` is given.

        Raises ConflictError, nothing removed, when an entry is pinned (unless ``force``), read or
        being downloaded; NotFoundError when there is no such model.
        """
        name = canonical_name(provider, name)
        report = await delete_model(
            self._store,
            self._cache,
            self._clock,
            provider,
            name,
            commit=commit,
            force=force,
            owner=self._owner,
            moved=moved,
        )
        self._tally.add(ModelsRemoved(len(report.records), report.bytes_freed))
        return report

    async def reconcile(self) -> ReconcileReport:
        """Hold records and disk against each other, mend, and tell what was found."""
        report = await reconcile(self._store, self._cache, self._clock, owner=self._owner)
        cleaned = await in_thread(self._cache.clean_abandoned, older_than_s=self._rules.abandoned_s)
        report = replace(report, bytes_cleaned=cleaned)
        self._tally.add(report.count)
        return report

    async def settle_older(self) -> OlderReport:
        """Compare what an older registry knew with the disk and the provider's listing."""
        report = await self._older.settle()
        self._tally.add(report.count)
        return report

    async def run_older(self, interval_s: float) -> NoReturn:
        """``settle_older`` now and then every ``interval_s``, by one of the servers that share the cache."""
        turns = self._shared.turns("older registry", every_s=interval_s, place=self._cache_name)
        async with aclosing(turns):
            async for ours in turns:
                try:
                    if ours:
                        await self.settle_older()
                except MxError as error:
                    log.error("older records not settled", error=str(error), retry_s=interval_s)
        raise AssertionError("turns never end")

    async def run_reconcile(self, interval_s: float, *, looked: Callable[[], None] | None = None) -> NoReturn:
        """Now and then every ``interval_s``; outlives outages of the store.

        Of the servers that share the cache one does it. A store that lost everything has lost its turns
        too, so the next look makes the pass. ``looked`` is called when the first turn is over.
        """
        turns = self._shared.turns("reconcile", every_s=interval_s, place=self._cache_name)
        async with aclosing(turns):
            async for ours in turns:
                if ours:
                    try:
                        report = await self.reconcile()
                    except MxError as error:
                        log.error(
                            "reconcile failed", error=str(error), code=error.code.value, retry_s=interval_s
                        )
                    else:
                        report.write_to(log)
                if looked is not None:
                    looked()
        raise AssertionError("turns never end")

    async def _cache_name(self) -> str:
        return await in_thread(self._cache.identity)

    # Parts

    async def _key(self, ref: ModelRef, *, weights: bool) -> EntryKey:
        """The entry that is meant; a full commit that is here needs no provider.

        Where there are no commits it is always the same one: whether it changed is asked later.
        """
        pinned = ref.revision if ref.revision is not None and is_commit(ref.revision) else None
        if ref.provider is not ProviderName.HUGGING_FACE:
            pinned = ""
        if pinned is not None:
            known = EntryKey(ref.provider, ref.name, pinned, weights)
            if await self._whole(known) is not None:
                return known
        return EntryKey(ref.provider, ref.name, await self.resolve(ref), weights)

    async def _ask_provider(self, ref: ModelRef) -> str:
        try:
            async with asyncio.timeout(self._rules.resolve_timeout_s):
                return await self._providers.get(ref.provider).resolve(ref)
        except TimeoutError:
            limit_s = self._rules.resolve_timeout_s
            error = UnavailableError(f"{ref.provider} did not answer about {ref} within {limit_s:g} s")
        except (UnavailableError, DeadlineError) as refused:
            error = UnavailableError(refused.message, remedy=refused.remedy)
        commit = await in_thread(self._cache.resolve, ref.provider, ref.name, ref.revision)
        if commit is None or not await self._any(ref, commit):
            raise error
        log.warn("provider not reached, the cached commit is used", model=str(ref), error=str(error))  # noqa: G010  # an EventLog
        return commit

    async def _changes(self, entry: CachedEntry) -> tuple[str, ...]:
        limit_s = self._rules.resolve_timeout_s
        return await self._comparing.ask(entry.key, lambda: changes(entry, self._providers, limit_s=limit_s))

    async def _without_weights(self, key: EntryKey) -> tuple[EntryKey, CachedEntry | None]:
        """The entry to bring for a request of metadata, and the full one where that answers as it is."""
        full = await self._whole(replace(key, weights=True))
        if full is None:
            return key, None
        try:
            changed = await self._changes(full)
        except MxError:
            return key, None  # the download meets it too, and tells
        if not changed:
            return key, full
        # As long as its weights are right, the full entry is brought up to date: they cost nothing then,
        # and go with it when a newer version of the other files takes its place.
        return (key if any(map(is_weight_file, changed)) else full.key), None

    async def _any(self, ref: ModelRef, commit: str) -> bool:
        keys = (EntryKey(ref.provider, ref.name, commit, mode) for mode in (True, False))
        return any([await self._whole(key) is not None for key in keys])

    async def _whole(self, key: EntryKey) -> CachedEntry | None:
        return await in_thread(self._cache.entry, key)

    def _join(self, key: EntryKey, *, revision: str | None, force: bool) -> Job:
        job = self._jobs.get(key)
        if job is not None:
            self._tally.add(ModelWanted(key, CacheAnswer.WAIT))
        else:
            provider = self._providers.get(key.provider)
            job = Job(key, provider, self._tools, revision=revision, force=force, ended=self._drop)
            self._jobs[key] = job
            job.task = self._tasks.create_task(job.run(), name=f"ensure {key}")
        return job

    def _leave(self, job: Job) -> None:
        """The last one to leave ends a mere wait, and a download where settings say so."""
        alone = not job.listeners and self._jobs.get(job.key) is job
        if alone and job.task is not None and (job.download is None or self._rules.stop_when_alone):
            self._drop(job)
            job.task.cancel()

    def _drop(self, job: Job) -> None:
        if self._jobs.get(job.key) is job:
            del self._jobs[job.key]

    async def _admit(self, key: EntryKey, need_bytes: int) -> None:
        running = {
            other: job.download.missing_bytes for other, job in self._jobs.items() if job.download is not None
        }
        await self._eviction.make_room(key, need_bytes=need_bytes, running=running)

    async def _point(self, key: EntryKey, ref: ModelRef) -> None:
        """A present commit may have another name now: ``main`` moved back, or a tag was asked for."""
        if ref.provider is not ProviderName.HUGGING_FACE or ref.revision == key.commit:
            return
        try:
            known = await in_thread(self._cache.resolve, ref.provider, ref.name, ref.revision)
            if known != key.commit:
                await in_thread(self._cache.point, key, ref.revision)
        except MxError as error:  # the model is there; its name for offline tools can wait
            log.warn("revision not noted", model=str(ref), error=str(error))  # noqa: G010  # an EventLog

    async def _keep_watching(self) -> None:
        try:
            await self._store.watch(self._heard)
        except UnavailableError as error:  # closed: whoever waits looks for himself
            log.debug("watch ended", error=str(error))

    def _heard(self, key: EntryKey | None) -> None:
        """Followers of other servers' downloads look at once instead of at their next look."""
        heard = self._jobs.values() if key is None else [self._jobs[key]] if key in self._jobs else []
        for job in heard:
            job.record_changed.set()

    async def _keep_flushing(self) -> NoReturn:
        while True:
            await asyncio.sleep(self._rules.flush_s)
            try:
                await self._touches.flush()
            except MxError as error:
                log.debug("touches kept for later", error=str(error))


def _checked(ref: ModelRef) -> ModelRef:
    name = canonical_name(ref.provider, ref.name)
    return ModelRef(ref.provider, name, check_revision(ref.provider, ref.revision))


def _present(key: EntryKey, entry: CachedEntry) -> EnsureUpdate:
    size, files = entry.total_bytes, len(entry.files)
    message = "already in the cache, with weights"
    return EnsureUpdate(key, EntryStatus.DOWNLOADED, message, size, size, files, files)
