"""One entry into this machine's cache: by us, or by another process of the same directory that we watch."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, replace

from mx.client.receive.access import Access, ChangedError
from mx.client.receive.count import Count, told
from mx.client.receive.pull import Pull
from mx.client.receive.rules import ReceiveRules
from mx.client.receive.streams import pinned
from mx.client.sync import SyncClient
from mx.core.cached import CachedEntry, StageHolder
from mx.core.model import EntryKey, ModelRef, ProviderName, is_commit
from mx.core.progress import EnsureUpdate, RateMeter
from mx.errors import (
    CancelledError,
    ConflictError,
    MxError,
    NotFoundError,
    PreconditionError,
    UnavailableError,
    error_of_code,
)
from mx.logs import event_log
from mx.providers.cache import DiskCache, DiskStaging

log = event_log(__name__)

_STAGINGS = 5  # of one call: content that keeps changing, or somebody who keeps taking over


@dataclass(frozen=True, slots=True)
class Lost:
    """The server has the entry no more: ask it again."""

    reason: str


class HolderWatch:
    """When the process that stages an entry may be replaced: pure, told what is seen and when."""

    def __init__(self, *, lease_s: float) -> None:
        self._lease_s = lease_s
        self._pulse = ""
        self._since_s = 0.0
        self._lived: set[str] = set()

    def may_replace(self, holder: StageHolder | None, *, now_s: float) -> bool:
        """Nobody there, let go, surely dead, or without a sign of life for ``lease_s`` by our clock."""
        if holder is None or holder.ended:
            return True
        self._lived.add(holder.stage)
        if holder.pulse != self._pulse:
            self._pulse, self._since_s = holder.pulse, now_s
        return now_s - self._since_s >= self._lease_s

    def waited_for(self, holder: StageHolder) -> bool:
        """Whether it lived when we came: then how it ended is our end too."""
        return holder.stage in self._lived


class Bring:
    """Synchronous; every method blocks."""

    def __init__(
        self,
        client: SyncClient,
        ref: ModelRef,
        *,
        cache: DiskCache,
        weights: bool,
        rules: ReceiveRules,
        stop: threading.Event,
        told: Callable[[EnsureUpdate], None],
    ) -> None:
        self._client = client
        self._ref = ref
        self._cache = cache
        self._weights = weights
        self._rules = rules
        self._stop = stop
        self._told = told
        self._stagings = 0
        self._judged: tuple[int, bool] | None = None  # an entry's time, and whether the server has the same

    def pinned_here(self) -> CachedEntry | None:
        """The entry of a full commit, if it is here: then nobody needs to be asked."""
        revision = self._ref.revision
        if revision is None or not is_commit(revision):
            return None
        return self._here(EntryKey(self._ref.provider, self._ref.name, revision, self._weights))

    def entry(self, done: EnsureUpdate) -> CachedEntry | Lost:
        """The entry that the server has made present; Lost when it has it no more."""
        try:
            key = self._with_commit(replace(done.key, weights=self._weights))
            return self._entry(key, bytes_total=done.bytes_total)
        except (NotFoundError, ChangedError) as error:
            return Lost(error.message)

    def _entry(self, key: EntryKey, *, bytes_total: int) -> CachedEntry:
        watch = HolderWatch(lease_s=self._rules.lease_s)
        meter = RateMeter()
        while True:
            if (entry := self._current(key)) is not None:
                self._point(key)
                return entry
            holder = self._cache.holder(key)
            if watch.may_replace(holder, now_s=time.monotonic()):
                if holder is not None and holder.failure is not None and watch.waited_for(holder):
                    code, words = holder.failure
                    raise error_of_code(code, words)
                entry = self._take(key, holder)
                if entry is not None:
                    return entry
            elif holder is not None:
                done = min(holder.bytes_done, bytes_total)
                rate = meter.read(done, now_s=time.monotonic())
                self._told(
                    told(key, "by another process here", bytes_done=done, bytes_total=bytes_total, rate=rate)
                )
            if self._stop.wait(self._rules.poll_s * (0.5 + self._rules.jitter() / 2)):
                raise CancelledError(f"waiting for {key} was stopped")

    def _take(self, key: EntryKey, holder: StageHolder | None) -> CachedEntry | None:
        """Receive it; None when another process was faster, or has taken over since."""
        access = self._access(key)
        try:
            listing = access.listing()
            staging = self._cache.begin_instead(listing, holder)
            if staging is None:
                return None
            self._stagings += 1
            count = Count(listing, staging.missing)
            try:
                return self._receive(access, staging, count)
            except (ConflictError, ChangedError) as error:
                log.info("staged anew", model=str(key), reason=error.message)
                staging.close()
                if self._stagings >= _STAGINGS:
                    raise UnavailableError(f"{key} was staged {_STAGINGS} times: {error.message}") from error
                return None
            except (CancelledError, NotFoundError):
                staging.close()  # no failure of its own: whoever waits goes on
                raise
            except MxError as error:
                staging.close(failure=error)
                raise
            finally:
                staging.close()
        finally:
            access.close()

    def _receive(self, access: Access, staging: DiskStaging, count: Count) -> CachedEntry:
        origin = f"from {self._client.target}"
        begin_s, had = time.monotonic(), count.bytes_done
        log.info(
            "receiving", model=str(staging.key), bytes=count.bytes_total, had=had, server=self._client.target
        )
        pull = Pull(
            self._client,
            access,
            staging,
            count,
            rules=self._rules,
            stop=self._stop,
            report=lambda: self._told(count.update(origin)),
        )
        pull.run()
        self._told(count.update(origin))
        try:
            entry = staging.publish(revision=self._ref.revision, fence=lambda: not self._stop.is_set())
        except PreconditionError as error:  # a file was taken away meanwhile
            raise ChangedError(error.message, remedy=error.remedy) from error
        except ConflictError:
            if self._stop.is_set():
                raise CancelledError(f"receiving {staging.key} was stopped") from None
            raise
        log.info(
            "received",
            model=str(staging.key),
            bytes=count.bytes_total - had,
            seconds=round(time.monotonic() - begin_s, 3),
        )
        return entry

    def _current(self, key: EntryKey) -> CachedEntry | None:
        """The entry that is here, if it is what the server has: without a commit its content may change."""
        entry = self._here(key)
        if entry is None or key.commit:
            return entry
        if self._judged is None or self._judged[0] != entry.completed_at_ms:
            access = self._access(key)
            try:
                self._judged = entry.completed_at_ms, access.same_as(entry)
            finally:
                access.close()
        return entry if self._judged[1] else None

    def _access(self, key: EntryKey) -> Access:
        return Access(self._client, key, holder=f"{socket.gethostname()}:{os.getpid()}", rules=self._rules)

    def _here(self, key: EntryKey) -> CachedEntry | None:
        entry = self._cache.entry(key)
        if entry is None and not key.weights:
            entry = self._cache.entry(replace(key, weights=True))
        return entry

    def _point(self, key: EntryKey) -> None:
        """What is here may have another name by now: a branch moved, a tag was asked for."""
        ref = self._ref
        if ref.provider is not ProviderName.HUGGING_FACE or ref.revision == key.commit:
            return
        if self._cache.resolve(ref.provider, ref.name, ref.revision) != key.commit:
            self._cache.point(key, ref.revision)

    def _with_commit(self, key: EntryKey) -> EntryKey:
        """Servers before 0.7 name the commit with the first bytes of a stream only."""
        if key.provider is not ProviderName.HUGGING_FACE or key.commit:
            return key
        files = self._client.list_files(pinned(key), weights=False)
        smallest = min(files, key=lambda file: file.size_bytes, default=None)
        if smallest is not None:
            pieces = self._client.stream_files(
                pinned(key), paths=(smallest.path,), chunk_bytes=1, silence_s=self._rules.silence_s
            )
            with closing(pieces):
                first = next(pieces, None)
            if first is not None and is_commit(first.commit):
                return replace(key, commit=first.commit)
        raise PreconditionError(
            f"{key}: the server does not say which commit it has",
            remedy="use a newer server, or an mx server",
        )
