"""What mx needs from the outside, as Protocols over ``core`` values.

No protobuf, no torch, no library types. One port, one contract suite in ``mx/testing``,
run against every implementation.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from enum import Enum
from pathlib import Path
from typing import NoReturn, Protocol

from mx.core.cached import CachedEntry, CacheUsage, MissingFile, VerifyReport
from mx.core.counts import Count
from mx.core.eviction import EvictionRun
from mx.core.feed import Event, EventKind
from mx.core.model import (
    Claim,
    EntryKey,
    EntryStatus,
    ListedFile,
    Listing,
    ModelRecord,
    ModelRef,
    Pin,
    ProviderName,
    ReadLease,
)
from mx.core.server_state import BackendState, RawRecord
from mx.core.source import PeerRecord, SourceEntry, SourceFilter, SourceSummary, WorkerKey
from mx.core.tensors import Extents, Region
from mx.core.transitions import BackingOff as BackingOff
from mx.core.transitions import ClaimResult as ClaimResult
from mx.core.transitions import Held as Held
from mx.core.transitions import Ready as Ready
from mx.core.transitions import Won as Won


class Clock(Protocol):
    """Time as an input."""

    def now_ms(self) -> int:
        """Unix milliseconds, for stamps that others read."""
        ...

    def monotonic_s(self) -> float:
        """Seconds that never go back, for durations and deadlines."""
        ...


class Tally(Protocol):
    """Who keeps the figures."""

    def add(self, count: Count) -> None:
        """Take it in. Cheap, never fails, from any thread."""
        ...


class NoTally:
    """Nobody keeps figures."""

    def add(self, count: Count) -> None:
        return None


class SourceStore(Protocol):
    """Records of sources. Every method raises UnavailableError when the store can't be reached.

    A failure is never answered like an absence. All times come in as parameters.
    """

    async def publish(self, entry: SourceEntry) -> None:
        """Upsert by (source id, worker id, rank), atomically; replaces everything but ``peer``.

        A ``peer`` of None keeps what ``announce`` stored before.
        """
        ...

    async def announce(self, key: WorkerKey, peer: PeerRecord) -> bool:
        """Attach mx's own record to a published worker; False when there is no such record."""
        ...

    async def update_status(
        self, key: WorkerKey, *, status: int, source_load: float | None, now_ms: int
    ) -> bool:
        """Set status, load and time; False when there is no such record. Never creates one.

        An update older than what is stored changes nothing and is still True.
        """
        ...

    async def list_sources(
        self, query: SourceFilter, *, fresh_after_ms: int | None
    ) -> tuple[SourceSummary, ...]:
        """Rows that satisfy the filter, newest ``updated_at_ms`` first, cut to ``limit`` last.

        With ``fresh_after_ms``, READY rows whose time is older or not positive are left out.
        Answered from summaries: blobs and descriptors are not read.
        """
        ...

    async def get(self, source_id: str, worker_id: str) -> SourceEntry | None:
        """The full record of the lowest rank of that worker."""
        ...

    def scan(self) -> AsyncIterator[SourceSummary]:
        """Every row, in no order, in bounded memory; for the reaper and for views."""
        ...

    async def count_by_status(self) -> Mapping[int, int]:
        """How many rows each status has; statuses without one are left out."""
        ...

    async def mark_stale(self, key: WorkerKey, *, observed_ms: int, now_ms: int) -> bool:
        """STALE, if the record's time is still ``observed_ms``; a heartbeat in between wins."""
        ...

    async def remove(self, key: WorkerKey, *, observed_ms: int | None = None) -> bool:
        """Delete one record, and the source with its last one; only if unchanged since ``observed_ms``."""
        ...

    async def watch(self, tell: Callable[[WorkerKey | None], None]) -> NoReturn:
        """Call ``tell`` with the key of each record that changes, whoever changes it, until cancelled.

        None means that anything may have changed: it comes first, once the watch stands, and whenever
        a change may have been missed or can't be named. Heartbeats that repeat the status need not be
        told. A change is told within a second where the store allows it. Outlives outages; raises
        UnavailableError when the store is closed.
        """
        ...

    async def check(self) -> None:
        """Cheap round trip for readiness; raises UnavailableError."""
        ...

    async def close(self) -> None: ...


class ReadState(Enum):
    PENDING = "pending"
    DONE = "done"


class TransferBackend(Protocol):
    """Moves bytes from a remote agent's registered memory into ours, one-sided.

    Methods may be called from several threads. Every failure is an MxError:
    UnavailableError when the peer is at fault or gone, InvalidArgumentError when a range isn't
    registered here, InternalError otherwise.
    """

    @property
    def agent_name(self) -> str: ...

    @property
    def listen_port(self) -> int:
        """Port of the listen thread that published peers use; 0 when it is off."""
        ...

    def register(self, regions: Sequence[Region]) -> None:
        """Pin memory so that it can be read from and into; ranges already registered cost nothing."""
        ...

    def deregister(self, regions: Sequence[Region]) -> None: ...

    def local_metadata(self) -> bytes:
        """Blob that lets a peer reach what is registered at this moment."""
        ...

    def connect(self, metadata: bytes) -> str:
        """Load a peer's blob and connect; the peer's agent name."""
        ...

    def connect_endpoint(self, agent_name: str, host: str, port: int, *, deadline_s: float) -> None:
        """Fetch a published peer's blob from its listen thread; UnavailableError after the deadline."""
        ...

    def disconnect(self, agent_name: str) -> None:
        """Undo one connect; with the last one the peer is forgotten. No read of it may be in flight."""
        ...

    def prepare(self, agent_name: str, extents: Extents) -> object:
        """One read, checked and ready to be posted; nothing is written yet. ``release`` it in any case."""
        ...

    def post(self, handle: object) -> None:
        """Start a prepared read, once. May block until its bytes are there.

        When this raises, the hardware may still write until ``release`` answers True.
        """
        ...

    def poll(self, handle: object) -> ReadState:
        """Where a read stands; raises UnavailableError when it failed."""
        ...

    def release(self, handle: object) -> bool:
        """Free a read. False while the hardware may still write: keep the memory and call again."""
        ...

    def sever(self, agent_names: Collection[str]) -> None:
        """End every read in flight, of these peers and all others: then nothing writes here any more.

        For reads that ``release`` can't free. These peers are forgotten; other peers are connected
        and memory is registered as before, but ``local_metadata`` is new. Handles are void.
        Raises UnavailableError when reads can't be ended or no agent can be started again.
        """
        ...

    def close(self) -> None: ...


EVICTION_RUNS_KEPT = 100  # a run of 10,000 entries takes some 100 kB


class ModelStore(Protocol):
    """Records of cached models. Every method raises UnavailableError when the store can't be reached.

    ``now_ms`` is the store's own clock where it has one (Redis TIME); callers pass theirs for stores
    without. Conditional writes answer False when the condition no longer held. ``mx.core.transitions``
    is the rule book; each change is one atomic step over all processes that share the store.
    """

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
        """No record, an expired claim or an ERROR past its back-off (any with ``force``): ours.

        Tokens of a key strictly grow, also over ``delete``. ``owner`` names one process for its life.
        """
        ...

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
        """Extend the claim and note progress; None when ownership is lost: stop at once.

        A claim that expired and that nobody took is still its owner's. Extends one of
        ``mark_evicting`` as well, and notes no progress then.
        """
        ...

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
        """DOWNLOADED or ERROR, and the claim is gone; False when the token is not the newest.

        ERROR counts an attempt, DOWNLOADED forgets them. InvalidArgumentError for another status.
        """
        ...

    async def release(self, key: EntryKey, claim: Claim, *, now_ms: int) -> bool:
        """Hand a claim back unfinished (shutdown): the next caller wins it at once."""
        ...

    async def touch(self, keys: Sequence[EntryKey], *, now_ms: int) -> None:
        """Last used now, for records that exist; never creates one, never moves back."""
        ...

    async def get(self, key: EntryKey) -> ModelRecord | None: ...

    async def list_models(
        self, *, provider: ProviderName | None = None, name: str | None = None
    ) -> tuple[ModelRecord, ...]:
        """Ordered by provider, name, commit, and full entries before metadata."""
        ...

    async def put(self, record: ModelRecord, *, observed: ModelRecord | None = None) -> bool:
        """Write a record as reconciliation found it; False for one that is claimed or being evicted.

        With ``observed`` also False when the record is gone, or was claimed, finished or used since.
        Pin, leases and creation time of the stored record stay; last used never moves back.
        InvalidArgumentError for a record with a claim or with status EVICTING.
        """
        ...

    async def mark_evicting(
        self,
        key: EntryKey,
        *,
        observed: ModelRecord,
        now_ms: int,
        owner: str = "eviction",
        lease_s: float = 60.0,
    ) -> Claim | None:
        """EVICTING, if neither pinned, leased, claimed nor used since it was observed.

        The claim fences the removal: ``delete`` with its token when the files are gone, ``finish`` when
        they could not be removed. Until it expires the entry can't be claimed; after that another
        pass may mark it again, or a download take it.
        """
        ...

    async def delete(
        self, key: EntryKey, *, token: int | None = None, observed: ModelRecord | None = None
    ) -> bool:
        """Drop one record. A claim on it is void: its owner learns with the next refresh.

        With ``token`` only while that claim is the newest; with ``observed`` only if nobody claimed,
        finished or used the entry since.
        """
        ...

    async def pin(self, key: EntryKey, pin: Pin | None) -> bool:
        """Pin or unpin; False when there is no such record or it is being evicted."""
        ...

    async def lease(self, key: EntryKey, lease: ReadLease, *, now_ms: int) -> bool:
        """Add or renew a read lease of a DOWNLOADED entry; False when it can't be read. Counts as use."""
        ...

    async def unlease(self, key: EntryKey, lease_id: str) -> None: ...

    async def record_eviction(self, run: EvictionRun) -> None:
        """Keep a run, or replace the one of the same id. The newest EVICTION_RUNS_KEPT stay."""
        ...

    async def eviction_runs(self, *, limit: int) -> tuple[EvictionRun, ...]:
        """The newest first."""
        ...

    async def watch(self, tell: Callable[[EntryKey | None], None]) -> NoReturn:
        """As ``SourceStore.watch``, for records of models. Mere use (``touch``) need not be told."""
        ...

    async def check(self) -> None:
        """Cheap round trip for readiness; raises UnavailableError."""
        ...

    async def close(self) -> None: ...


EVENTS_KEPT = 5_000  # of a store; some 500 bytes each
# Servers of one store tell the same happening within seconds of each other, and it is kept once.
EVENT_FOLD_S = 15.0


class EventStore(Protocol):
    """What happened, in words, for later. Every method raises UnavailableError when the store can't be
    reached."""

    async def append(self, events: Sequence[Event]) -> tuple[Event, ...]:
        """Keep events in this order; those that were new.

        One is not kept when another with the same ``same_happening`` is there whose time is less than
        EVENT_FOLD_S away. The newest EVENTS_KEPT stay.
        """
        ...

    async def list_events(
        self, *, limit: int, kinds: Collection[EventKind] = (), subject: str = ""
    ) -> tuple[Event, ...]:
        """The last ``limit`` of these kinds (none: of all) with ``subject`` as a part of theirs, in the
        order they were kept."""
        ...

    async def since(self, cursor: str) -> tuple[tuple[Event, ...], str]:
        """Events kept after a cursor, some of them at a time, and the next cursor; "" has no events before
        it and is the cursor of now."""
        ...

    async def close(self) -> None: ...


class StoreView(Protocol):
    """How one backend holds what is in it, for people.

    Raises UnavailableError when it can't be reached; ``describe`` never does.
    """

    async def describe(self) -> BackendState:
        """As it is now; ``duty`` is the caller's business and empty."""
        ...

    async def raw_source(self, key: WorkerKey) -> RawRecord | None: ...

    async def raw_model(self, key: EntryKey) -> RawRecord | None: ...


class Duties(Protocol):
    """What one of several servers does at a time, by a lease: reaping, reconciling, evicting in one cache.

    Spares work and keeps order, and is no lock: a holder that froze may still be at it when the next
    one begins, so what is done under a duty must be safe when two do it. Every method raises
    UnavailableError when the store can't be reached.
    """

    async def take(self, duty: str, *, owner: str, lease_s: float, now_ms: int) -> bool:
        """Ours now, or still ours and extended; False while another owner's lease runs."""
        ...

    async def give_up(self, duty: str, *, owner: str) -> None:
        """The next one may take it at once. Nothing happens unless it is ours."""
        ...

    async def close(self) -> None: ...


Progress = Callable[[int], None]  # bytes that came since the last call


class Provider(Protocol):
    """One source of original files. Library errors become MxErrors here; credentials never leave."""

    @property
    def name(self) -> ProviderName: ...

    async def resolve(self, ref: ModelRef) -> str:
        """The commit behind a revision ("" where there is none).

        NotFoundError, PermissionDeniedError (gated), UnauthenticatedError, UnavailableError.
        """
        ...

    async def list_files(self, key: EntryKey) -> Listing:
        """All files to keep, sorted: dot files, README.md and images are left out (storage contract, 7)."""
        ...

    async def fetch(
        self, key: EntryKey, file: ListedFile, into: Path, *, offset: int, progress: Progress
    ) -> None:
        """Append bytes from ``offset`` to ``into`` until the file is whole; retries within bounds.

        PreconditionError when the file changed at the provider, IntegrityError when it ends short.
        """
        ...

    async def close(self) -> None: ...


class Providers(Protocol):
    """The providers of this process."""

    def get(self, name: ProviderName) -> Provider:
        """PreconditionError when this installation has none of that name."""
        ...


class Staging(Protocol):
    """One entry on its way into the cache. Synchronous: callers run it in threads.

    Several processes may stage the same entry (a dead owner that is not quite dead): each file is
    verified before it is installed, so the worst is work done twice.
    """

    @property
    def missing(self) -> tuple[MissingFile, ...]:
        """Files that have to come, each with the verified bytes that are there already."""
        ...

    def path_for(self, file: ListedFile) -> Path:
        """Where the bytes of a missing file are appended; on the cache's file system."""
        ...

    def accept(self, file: ListedFile) -> None:
        """Verify size and digest, sync to disk, install.

        IntegrityError when the bytes are wrong (they are thrown away then) or not all there yet.
        ConflictError when another owner has taken the download over: stop.
        """
        ...

    def checkpoint(self, file: ListedFile) -> int:
        """Make the bytes so far survive a power cut and another machine's takeover; how many they are.

        Cheap while a file grows: only bytes since the last call are read, from memory.
        """
        ...

    def close(self) -> None:
        """Let go: nobody writes any more, whoever comes next may go on at once. May be called twice."""
        ...

    def publish(self, *, revision: str | None, fence: Callable[[], bool]) -> CachedEntry:
        """Make the entry complete, and ``revision`` (None: the default one) point at it.

        ``fence`` is asked before anything is installed, and last, right before the completion
        record; ConflictError when it says no. The staging is closed afterwards.
        PreconditionError when a file is no longer there: stage again.
        """
        ...


class EntryCache(Protocol):
    """The cache on disk. Synchronous: callers run it in threads. Only complete entries are seen.

    Every method raises UnavailableError or ExhaustedError (no room) with the path when the disk
    refuses.
    """

    @property
    def root(self) -> Path:
        """The directory, on the machine that has it."""
        ...

    def entry(self, key: EntryKey) -> CachedEntry | None:
        """The complete entry; None when there is none or a file of it is gone."""
        ...

    def resolve(self, provider: ProviderName, name: str, revision: str | None) -> str | None:
        """The commit that a revision (None: the default one) meant when it was last downloaded."""
        ...

    def commits(self, provider: ProviderName, name: str) -> tuple[str, ...]:
        """Commits of which files lie here, whole or not, whoever brought them ("" where there are none)."""
        ...

    def point(self, key: EntryKey, revision: str | None) -> None:
        """Let a revision (None: the default one) mean this commit, for us and for other tools."""
        ...

    def open_file(self, entry: CachedEntry, path: str) -> int:
        """A descriptor for reading one file, never through a link that leaves the model's folder.

        NotFoundError when the file is gone, IntegrityError when it has another size than recorded.
        """
        ...

    def verify(self, key: EntryKey, *, progress: Callable[[int], None] | None = None) -> VerifyReport:
        """Compute every digest anew; NotFoundError for an entry that is not ``recorded``. Changes nothing.

        What ``progress`` raises ends it.
        """
        ...

    def condemn(self, key: EntryKey, paths: Collection[str]) -> tuple[EntryKey, ...]:
        """Throw single files away; the entries that are no longer complete (others may share them).

        ``begin`` then asks for these files only.
        """
        ...

    def begin(self, listing: Listing) -> Staging:
        """Start or resume an entry; what is there and verified is not asked for again."""
        ...

    def remove(self, key: EntryKey, *, moved: Callable[[], None] | None = None) -> int:
        """Delete the entry; the bytes that the disk gained. 0 when there is none.

        Files shared with other entries stay. It stops being complete before the first file goes.
        ``moved`` is called with each step, from the caller's thread: a slow disk is alive.
        """
        ...

    def scan(self) -> tuple[CachedEntry, ...]:
        """Every complete entry, in no order."""
        ...

    def recorded(self) -> tuple[EntryKey, ...]:
        """Every entry that was complete and that nobody removed, whatever became of its files."""
        ...

    def usage(self) -> CacheUsage:
        """Sizes of all entries and of the disk."""
        ...

    def identity(self) -> str:
        """Names this directory whatever path or host it is reached by; servers that share it agree."""
        ...

    def clean_abandoned(self, *, older_than_s: float) -> int:
        """Remove leftovers of dead downloads and deletes that nobody touched for that long; bytes gained."""
        ...
