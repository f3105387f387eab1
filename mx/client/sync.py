"""The blocking twin of ``GrpcClient``, for engine processes and threads.

Calls go through gRPC's blocking stubs: no event loop of its own, safe to share between threads.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from types import TracebackType
from typing import Self
from uuid import uuid4

import grpc

from mx.client import feed_operations, model_operations, operations
from mx.client.address import grpc_target
from mx.client.base import ApiReply, ServerHealth, ServerStatus
from mx.client.connection import MAX_RETRIES, RETRY_DELAY_S, TIMEOUT_S, ended_early, failed
from mx.client.grpc import published_ensure
from mx.client.operations import NotOfferedError
from mx.client.retry import Attempts, usual
from mx.client.sync_connection import Silence, SyncConnection
from mx.core.cache_view import CacheListing, CacheStats, EntryDetail, Removed
from mx.core.cached import CachedFile, FilePiece, OpenedFiles
from mx.core.eviction import EvictionPlan, EvictionRun, EvictionStep, KeepLimits, Shrink
from mx.core.feed import Event, EventKind, FeedPosition, FeedUpdate
from mx.core.model import EntryKey, ModelRef, Pin, ProviderName
from mx.core.progress import EnsureUpdate
from mx.core.server_state import BackendState, RawRecord, Reaped, SettingRow
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
from mx.errors import MxError, UnavailableError
from mx.wire import cache_codec, model_codec


class SyncClient:
    """The methods of ``mx.client.base.Client``, blocking; parameters as for ``GrpcClient``."""

    def __init__(
        self,
        endpoint: str,
        *,
        timeout_s: float = TIMEOUT_S,
        max_retries: int = MAX_RETRIES,
        retry_delay_s: float = RETRY_DELAY_S,
        token: Callable[[], str | None] | None = None,
        role: str = "",
    ) -> None:
        self._target = grpc_target(endpoint)
        self._link = SyncConnection(
            self._target,
            timeout_s=timeout_s,
            rule=usual(max_retries, retry_delay_s),
            token=token,
            role=role,
        )

    @property
    def target(self) -> str:
        """host:port that calls go to."""
        return self._target

    def twin(self) -> SyncClient:
        """Another client of the same server, over a connection of its own."""
        link = self._link
        twin = SyncClient(self._target, timeout_s=link.timeout_s, token=link.token, role=link.role)
        twin._link.rule = link.rule
        return twin

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def health(self) -> ServerHealth:
        return self._link.run(operations.get_health())

    def send(self, action: str, *, payload: bytes | None = None) -> ApiReply:
        return self._link.run(operations.send(action, payload, uuid4().hex))

    def status(self) -> ServerStatus:
        return self._link.run(operations.get_status())

    def publish(
        self,
        identity: SourceIdentity,
        worker: WorkerRecord,
        *,
        worker_id: str,
        pod: PodReference = PodReference(),
    ) -> str:
        return self._link.run(operations.publish(identity, worker, worker_id=worker_id, pod=pod))

    def announce(self, key: WorkerKey, peer: PeerRecord) -> bool:
        return self._link.run(operations.announce(key, peer))

    def update_status(self, key: WorkerKey, status: int, *, source_load: float | None = None) -> bool:
        return self._link.run(operations.update_status(key, status, source_load=source_load))

    def list_sources(
        self, query: SourceFilter, *, identity: SourceIdentity | None = None
    ) -> tuple[SourceSummary, ...]:
        return self._link.run(operations.list_sources(query, identity))

    def find_peers(self, identity: SourceIdentity, *, worker_rank: int) -> tuple[SourceSummary, ...]:
        return self._link.run(operations.find_peers(identity, worker_rank))

    def get_source(self, source_id: str, worker_id: str) -> SourceEntry | None:
        return self._link.run(operations.get_source(source_id, worker_id))

    def withdraw(self, key: WorkerKey) -> bool:
        return self._link.run(operations.withdraw(key))

    def report_transfer(self, report: TransferReport) -> None:
        self._link.run(operations.report_transfer(report))

    def list_transfers(self, *, limit: int = 100) -> tuple[TransferReport, ...]:
        return self._link.run(operations.list_transfers(limit))

    def ensure(
        self, ref: ModelRef, *, weights: bool = True, force: bool = False
    ) -> Generator[EnsureUpdate, None, None]:
        call = model_operations.ensure(ref, weights=weights, force=force)
        attempts = Attempts(self._link.rule, timeout_s=math.inf, begin_s=time.monotonic())
        while True:
            try:
                for message in self._link.open(call):
                    update = model_operations.read_update(message, weights=weights)
                    attempts = Attempts(self._link.rule, timeout_s=math.inf, begin_s=time.monotonic())
                    yield update
                    if update.is_last:
                        return
                failure: MxError = ended_early(ref, self._target)
            except grpc.RpcError as error:
                failure = failed(error, call, self._target)
            if self._link.closed.is_set():
                raise self._link.was_closed()
            if isinstance(failure, NotOfferedError) and call.service == operations.ADMIN:
                call = published_ensure(ref, weights=weights, refused=failure)
                continue
            pause_s = attempts.pause_s(failure, time.monotonic())
            if pause_s is None:
                raise failure
            if self._link.closed.wait(pause_s):
                raise self._link.was_closed()

    def list_files(self, ref: ModelRef, *, weights: bool = True) -> tuple[CachedFile, ...]:
        return self._link.run(model_operations.list_files(ref, weights=weights))

    def open_files(self, key: EntryKey, *, holder: str = "") -> OpenedFiles:
        """A complete entry of the server, open for reading; NotFoundError. Renew it, and close it.

        A published server has no such call: NotOfferedError.
        """
        return self._link.run(model_operations.open_files(key, holder))

    def renew_files(self, ticket: str) -> None:
        """Another life for the ticket; NotFoundError when it has none left."""
        self._link.run(model_operations.renew_files(ticket))

    def close_files(self, ticket: str) -> None:
        self._link.run(model_operations.close_files(ticket))

    def stream_files(
        self, ref: ModelRef, *, paths: tuple[str, ...], chunk_bytes: int, silence_s: float
    ) -> Generator[FilePiece, None, None]:
        """Files one after another, in pieces; UnavailableError after ``silence_s`` without one.

        The published call, never tried again here. Closing the iterator ends the stream.
        """
        call = model_operations.stream_files(ref, paths=paths, chunk_bytes=chunk_bytes)
        stream = self._link.open(call)
        watch = Silence(stream, silence_s)
        try:
            for message in stream:
                watch.pause()  # the time that our caller takes is not the server's
                yield model_codec.decode_piece(message)
                watch.listen()
        except grpc.RpcError as error:
            if self._link.closed.is_set():
                raise self._link.was_closed() from error
            if watch.expired:
                raise UnavailableError(f"{self._target} sent nothing for {silence_s:g} s") from error
            raise failed(error, call, self._target) from error
        finally:
            watch.end()
            stream.cancel()

    def delete_model(self, provider: ProviderName, name: str) -> str:
        return self._link.run(model_operations.delete_model(provider, name))

    def list_models(self, *, provider: ProviderName | None = None, name: str | None = None) -> CacheListing:
        return self._link.run(model_operations.list_models(provider, name))

    def show_model(self, key: EntryKey) -> EntryDetail:
        return self._link.run(model_operations.show_model(key))

    def remove_model(
        self, provider: ProviderName, name: str, *, commit: str | None = None, force: bool = False
    ) -> Removed:
        call = model_operations.remove_model(provider, name, commit=commit, force=force)
        for update in self._link.follow(call):
            if (removed := model_operations.read_removal(update)) is not None:
                return removed
        raise ended_early(name, self._target)

    def plan_removal(
        self,
        *,
        provider: ProviderName | None = None,
        name: str | None = None,
        commit: str | None = None,
        force: bool = False,
    ) -> EvictionPlan:
        return self._link.run(model_operations.plan_removal(provider, name, commit=commit, force=force))

    def pin_model(self, key: EntryKey, pin: Pin | None) -> None:
        self._link.run(model_operations.pin_model(key, pin))

    def plan_eviction(self, goal: KeepLimits | Shrink = KeepLimits()) -> EvictionPlan:
        return self._link.run(model_operations.plan_eviction(goal))

    def run_eviction(
        self, plan: EvictionPlan, *, told: Callable[[EvictionStep], None] | None = None
    ) -> EvictionRun:
        for update in self._link.follow(model_operations.run_eviction(plan)):
            if (run := model_operations.read_run(update, told)) is not None:
                return run
        raise ended_early("the eviction", self._target)

    def verify_models(
        self, keys: Sequence[EntryKey] | None = None, *, on_fault: OnFault = OnFault.REPORT
    ) -> Iterator[VerifyStep]:
        updates = self._link.follow(model_operations.verify_models(keys, on_fault))
        return map(cache_codec.decode_verify_step, updates)

    def cache_stats(self, *, runs: int = 5) -> CacheStats:
        return self._link.run(model_operations.cache_stats(runs))

    # The fleet, live

    def watch(self, *, resume: FeedPosition | None = None) -> Generator[FeedUpdate, None, None]:
        """As ``Client.watch``, blocking; ``close`` from another thread ends it with UnavailableError."""
        watching = feed_operations.Watching(resume)
        while True:
            failure: MxError = ended_early("the fleet", self._target)
            try:
                with closing(self._link.follow(watching.call(), silence_s=feed_operations.SILENCE_S)) as told:
                    for message in told:
                        if (update := watching.take(message)) is not None:
                            yield update
            except MxError as error:
                failure = error
            if self._link.closed.is_set():
                raise failure
            lost = watching.lost(failure)
            yield lost
            if self._link.closed.wait(lost.retry_in_s):
                raise self._link.was_closed()

    def list_events(
        self, *, limit: int = 100, kinds: Sequence[EventKind] = (), subject: str = ""
    ) -> tuple[Event, ...]:
        return self._link.run(feed_operations.list_events(limit, kinds, subject))

    def backend_states(self) -> tuple[BackendState, ...]:
        return self._link.run(feed_operations.backend_states())

    def raw_source(self, key: WorkerKey) -> RawRecord:
        return self._link.run(feed_operations.raw_source(key))

    def raw_model(self, key: EntryKey) -> RawRecord:
        return self._link.run(feed_operations.raw_model(key))

    def mark_stale(self, key: WorkerKey) -> bool:
        return self._link.run(feed_operations.mark_stale(key))

    def reap_sources(self, *, dry_run: bool = False) -> Reaped:
        return self._link.run(feed_operations.reap_sources(dry_run=dry_run))

    def list_settings(self) -> tuple[SettingRow, ...]:
        return self._link.run(feed_operations.list_settings())

    def close(self) -> None:
        """End the connection; calls that wait in other threads end with UnavailableError."""
        self._link.close()
