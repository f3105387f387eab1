"""The one interface that CLI, TUI and engines call; ``grpc`` and ``embedded`` implement it."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from mx.core.cache_view import CacheListing, CacheStats, EntryDetail, Removed
from mx.core.cached import CachedFile
from mx.core.eviction import EvictionPlan, EvictionRun, EvictionStep, KeepLimits, Shrink
from mx.core.feed import Event, EventKind, FeedPosition, FeedUpdate
from mx.core.model import EntryKey, ModelRef, Pin, ProviderName
from mx.core.progress import EnsureUpdate
from mx.core.server_state import BackendState, RawRecord, Reaped, SettingRow
from mx.core.server_state import ServerStatus as ServerStatus
from mx.core.source import (
    PeerRecord,
    PodReference,
    SourceEntry,
    SourceFilter,
    SourceIdentity,
    SourceSummary,
    WorkerKey,
    WorkerRecord,
)
from mx.core.transfer import TransferReport
from mx.core.verification import OnFault, VerifyStep


@dataclass(frozen=True, slots=True)
class ServerHealth:
    """Answer of HealthService: ``status`` is exactly ``ok`` when the server can serve."""

    version: str
    status: str
    uptime_s: int


@dataclass(frozen=True, slots=True)
class ApiReply:
    """Answer of ApiService. ``data`` is the raw reply, ``error`` names what went wrong."""

    success: bool
    data: bytes | None
    error: str | None


class Client(Protocol):
    """A connection to a server, or to the same services in this process.

    Every method raises UnavailableError when the server can't be reached, DeadlineError when it
    takes longer than the client's timeout, and the MxError that the server answered.
    """

    async def health(self) -> ServerHealth: ...

    async def send(self, action: str, *, payload: bytes | None = None) -> ApiReply: ...

    async def status(self) -> ServerStatus: ...

    async def publish(
        self,
        identity: SourceIdentity,
        worker: WorkerRecord,
        *,
        worker_id: str,
        pod: PodReference = PodReference(),
    ) -> str:
        """Advertise a worker; the source id. InvalidArgumentError carries the server's in-band message."""
        ...

    async def announce(self, key: WorkerKey, peer: PeerRecord) -> bool:
        """mx's own record beside the published one. False when the record is unknown; on a published
        server, which has no such call, PreconditionError."""
        ...

    async def update_status(self, key: WorkerKey, status: int, *, source_load: float | None = None) -> bool:
        """Heartbeat. False when the server does not know the worker."""
        ...

    async def list_sources(
        self, query: SourceFilter, *, identity: SourceIdentity | None = None
    ) -> tuple[SourceSummary, ...]:
        """Rows of matching sources; ``identity`` restricts to its source id."""
        ...

    async def find_peers(self, identity: SourceIdentity, *, worker_rank: int) -> tuple[SourceSummary, ...]:
        """READY, fresh rows with their peer record, in one call; falls back to the published calls."""
        ...

    async def get_source(self, source_id: str, worker_id: str) -> SourceEntry | None: ...

    async def withdraw(self, key: WorkerKey) -> bool:
        """Remove a record at once; on a published server mark it STALE."""
        ...

    async def report_transfer(self, report: TransferReport) -> None:
        """Tell the server how a load goes or went; a published server has no such call and is skipped."""
        ...

    async def list_transfers(self, *, limit: int = 100) -> tuple[TransferReport, ...]: ...

    def ensure(
        self, ref: ModelRef, *, weights: bool = True, force: bool = False
    ) -> AsyncGenerator[EnsureUpdate, None]:
        """Have the server make a model present; updates, the last one DOWNLOADED or ERROR.

        No bound but the server's own. ``force`` skips the back-off after a failure. A published server
        tells words without numbers, and knows no local models (PreconditionError).
        """
        ...

    async def list_files(self, ref: ModelRef, *, weights: bool = True) -> tuple[CachedFile, ...]:
        """Files of an entry in the server's cache, sizes only; NotFoundError."""
        ...

    async def delete_model(self, provider: ProviderName, name: str) -> str:
        """Drop the records of a model, files stay (the published call); what the server says to it."""
        ...

    # A published server has none of these: PreconditionError.

    async def list_models(
        self, *, provider: ProviderName | None = None, name: str | None = None
    ) -> CacheListing: ...

    async def show_model(self, key: EntryKey) -> EntryDetail:
        """One entry with its files and readers; NotFoundError."""
        ...

    async def remove_model(
        self, provider: ProviderName, name: str, *, commit: str | None = None, force: bool = False
    ) -> Removed:
        """Files and records, both or neither. ConflictError when an entry is pinned (unless ``force``),
        read or being downloaded; NotFoundError."""
        ...

    async def plan_removal(
        self,
        *,
        provider: ProviderName | None = None,
        name: str | None = None,
        commit: str | None = None,
        force: bool = False,
    ) -> EvictionPlan:
        """What ``remove_model`` would do now, to one model or to all; NotFoundError for one that is not
        there."""
        ...

    async def pin_model(self, key: EntryKey, pin: Pin | None) -> None:
        """Pin, or unpin with None; NotFoundError."""
        ...

    async def plan_eviction(self, goal: KeepLimits | Shrink = KeepLimits()) -> EvictionPlan: ...

    async def run_eviction(
        self, plan: EvictionPlan, *, told: Callable[[EvictionStep], None] | None = None
    ) -> EvictionRun:
        """Carry a plan out. What was used or pinned since stays, and ``failed`` says why.

        ``told`` hears how far it is, not of every entry.
        """
        ...

    def verify_models(
        self, keys: Sequence[EntryKey] | None = None, *, on_fault: OnFault = OnFault.REPORT
    ) -> AsyncGenerator[VerifyStep, None]:
        """Compute the digests of entries anew (None: of all), and mend as asked; an ``EntryVerified``
        for each, with progress in between. NotFoundError for an entry that is not there."""
        ...

    async def cache_stats(self, *, runs: int = 5) -> CacheStats:
        """The cache in short, with its last evictions."""
        ...

    # The fleet, live. On a published server each is PreconditionError.

    def watch(self, *, resume: FeedPosition | None = None) -> AsyncGenerator[FeedUpdate, None]:
        """A snapshot, then changes as they happen, until it is closed; with ``resume`` the changes since
        that position where the server still has them.

        A lost link is told as ``LinkLost`` and mended by itself, with back-off; then changes go on, or a
        new snapshot comes. Ends with what the server answers to the first call (denied, no such call).
        """
        ...

    async def list_events(
        self, *, limit: int = 100, kinds: Sequence[EventKind] = (), subject: str = ""
    ) -> tuple[Event, ...]:
        """Past events, oldest first, the last ``limit`` that match: of these kinds (none: all), with
        ``subject`` as a part of theirs. As far back as the server keeps them, over restarts."""
        ...

    async def backend_states(self) -> tuple[BackendState, ...]:
        """The stores as they are now; an outage is an answer, not an error."""
        ...

    async def raw_source(self, key: WorkerKey) -> RawRecord:
        """A source's record as its backend holds it; NotFoundError."""
        ...

    async def raw_model(self, key: EntryKey) -> RawRecord:
        """A model's record as its backend holds it; NotFoundError."""
        ...

    async def mark_stale(self, key: WorkerKey) -> bool:
        """STALE until its next heartbeat; False when there is no such record."""
        ...

    async def reap_sources(self, *, dry_run: bool = False) -> Reaped:
        """One pass of the reaper now, or what it would do."""
        ...

    async def list_settings(self) -> tuple[SettingRow, ...]:
        """Every effective setting of the server with its origin, secrets masked."""
        ...

    async def close(self) -> None: ...
