"""Moves the weights of one rank: the front door of this package for an inference engine.

engine = TransferEngine(settings, client=…, identity=…, worker_rank=0)   NIXL starts in the background
engine.prefetch()            find and connect sources while the model is built
engine.pull(local)           → Loaded | Skipped | Failed
engine.publish(local)        serve others; heartbeat in the background
engine.close()               withdraw, wait for readers, free the memory
"""

from __future__ import annotations

import logging
import secrets
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Literal, Protocol

import grpc

from mx.config import Settings
from mx.core.plan import merge_regions
from mx.core.selection import is_same_host, order_sources
from mx.core.source import (
    NixlMetadata,
    PeerRecord,
    PodReference,
    SourceEntry,
    SourceIdentity,
    SourceSummary,
    TensorSource,
    WorkerKey,
    WorkerRecord,
    source_id,
)
from mx.core.swarm import Limits
from mx.core.tensors import HOST_DEVICE, Region, TensorDescriptor, layout_digest
from mx.core.transfer import Strategy, TransferReport, TransferState
from mx.errors import MxError, UnavailableError
from mx.ports import TransferBackend
from mx.transfer import peer
from mx.transfer.connector import Connector
from mx.transfer.digests import XXH3, Digester, host_digest
from mx.transfer.fetcher import Fetcher, FetchResult, Target
from mx.transfer.host import advertised_ipv4, host_id
from mx.transfer.publisher import Publisher, SourceRegistry
from mx.transfer.report import Reporter, ReportSink
from mx.transfer.served import Offer, ServedSource
from mx.transfer.session import Candidate, Session, open_session

log = logging.getLogger(__name__)

# Peers come from other hosts; an explicit worker.host narrows it to that one.
ANY_HOST = "0.0.0.0"  # noqa: S104

DeviceKind = Literal["cpu", "cuda"]


class EngineClient(SourceRegistry, ReportSink, Protocol):
    """What this package asks of a server; ``client/sync`` provides it."""

    def find_peers(self, identity: SourceIdentity, *, worker_rank: int) -> tuple[SourceSummary, ...]: ...

    def get_source(self, source_id: str, worker_id: str) -> SourceEntry | None: ...


@dataclass(frozen=True, slots=True)
class LocalTensors:
    """Tensors of this process. ``keepalive`` owns the memory for as long as it is registered."""

    descriptors: tuple[TensorDescriptor, ...]
    keepalive: object


@dataclass(frozen=True, slots=True)
class Loaded:
    report: TransferReport


@dataclass(frozen=True, slots=True)
class Skipped:
    """Nothing was tried and nothing was touched."""

    reason: str


@dataclass(frozen=True, slots=True)
class Failed:
    """``mutated``: bytes of the target may have changed, rebuild before anything else loads it."""

    reason: str
    mutated: bool
    blame: Literal["source", "local"]


Outcome = Loaded | Skipped | Failed


class TransferEngine:
    """One rank of one replica. Methods are for one thread, except ``close``."""

    def __init__(
        self,
        settings: Settings,
        *,
        client: EngineClient | None,
        identity: SourceIdentity,
        worker_rank: int,
        device_kind: DeviceKind = "cpu",
        device_id: int = 0,
        worker_id: str = "",
        backend: Callable[[str], TransferBackend] | None = None,
        digester: tuple[str, Digester] | None = None,
    ) -> None:
        """``backend`` makes one for an agent name, NIXL when None. ``digester`` is (kind, function).

        Host memory is digested with XXH3; for device memory pass what the device computes.
        """
        self._settings = settings
        self._client = client
        self._identity = identity
        self._rank = worker_rank
        self._device_kind = device_kind
        self._device = HOST_DEVICE if device_kind == "cpu" else device_id
        self._source_id = source_id(identity)
        self.worker_id = worker_id or secrets.token_hex(4)
        self._generation = secrets.token_hex(8)
        self._host_id = host_id()
        self._digest_kind, self._digester = digester or (XXH3, host_digest)
        self._make_backend = backend or self._nixl
        self._starter = ThreadPoolExecutor(1, thread_name_prefix="mx-agent")
        agent_name = f"mx-{self.worker_id}-r{worker_rank}-{self._generation[:6]}"
        self._backend: Future[TransferBackend] = self._starter.submit(self._make_backend, agent_name)
        self._reporter = Reporter(client) if client is not None else None
        self._connector: Connector | None = None
        self._regions: tuple[Region, ...] = ()
        self._local: LocalTensors | None = None
        self._quarantine: list[LocalTensors] = []  # memory that a lost read may still write to
        self._served: ServedSource | None = None
        self._server: grpc.Server | None = None
        self._publisher: Publisher | None = None
        self._closed = False

    def _nixl(self, agent_name: str) -> TransferBackend:
        from mx.transfer.nixl import NixlBackend

        transfer = self._settings.transfer
        base = self._settings.worker.metadata_port
        wanted = base + max(self._device, 0) if base else 0
        memory = "DRAM" if self._device_kind == "cpu" else "VRAM"
        for port in (wanted, 0) if wanted else (0,):
            try:
                return NixlBackend(
                    agent_name,
                    memory=memory,
                    engine=transfer.nixl_backend,
                    progress_delay_us=transfer.progress_delay_us,
                    listen_port=(port or _free_port()) if transfer.listen else 0,
                )
            except UnavailableError as error:
                if not port or not transfer.listen:
                    raise
                log.info("NIXL listen port in use", extra={"fields": {"port": port, "reason": error.message}})
        raise AssertionError("unreachable")

    def wait_started(self) -> None:
        """Return once the agent is there; raises the MxError that kept it from starting."""
        self._backend.result()

    def blob(self) -> bytes:
        """Agent metadata with what is registered now, as peers get it."""
        return self._backend.result().local_metadata()

    # --- pull ---------------------------------------------------------------------------------
    def prefetch(self) -> None:
        """Begin discovery and connections; costs nothing when there is no server."""
        if self._client is not None and self._connector is None:
            self._connector = self._connect_sources(layout=lambda: "")

    def _connect_sources(self, *, layout: Callable[[], str]) -> Connector:
        """``layout`` answers this target's layout digest, or "" when it is not known yet."""
        client = self._client
        assert client is not None
        transfer = self._settings.transfer

        def connect(candidate: Candidate) -> Session:
            return open_session(
                candidate,
                backend=self._backend.result(),
                layout=layout(),
                target_id=self.worker_id,
                segment_bytes=transfer.segment_bytes,
                record=lambda row: client.get_source(row.source_id, row.worker_id),
                deadline_s=transfer.stall_timeout_s,
            )

        connector = Connector(
            discover=lambda: self._candidates(client),
            connect=connect,
            ready=self.wait_started,
            max_sources=transfer.max_sources,
        )
        connector.start()
        return connector

    def _candidates(self, client: EngineClient) -> tuple[Candidate, ...]:
        worker = self._settings.worker
        rows = client.find_peers(self._identity, worker_rank=self._rank)
        ordered = order_sources(
            [row for row in rows if row.worker_id != self.worker_id],
            policy=worker.source_selector,
            target=self._settings.pod.name or self.worker_id,
            host_id=self._host_id,
            topology=worker.topology,
            levels=worker.topology_levels,
            load_weight=worker.load_weight,
        )
        return tuple(Candidate(row, 0 if is_same_host(row, self._host_id) else 1) for row in ordered)

    def pull(
        self,
        local: LocalTensors,
        *,
        deadline_s: float | None = None,
        on_progress: Callable[[int, int], None] | None = None,
    ) -> Outcome:
        """Fill ``local`` from peers and verify it. Never raises for a peer's or the server's fault.

        ``on_progress`` gets (bytes verified, bytes in all) a few times a second.
        """
        started, started_ms = time.monotonic(), time.time_ns() // 1_000_000
        if self._client is None:
            return Skipped("no mx server is configured")
        if not local.descriptors:
            return Skipped("the model has no tensors to fill")
        digest: Future[str] = Future()
        # Discovery goes on while the digest is computed; only the first connection waits for it.
        connector = self._connector or self._connect_sources(layout=digest.result)
        self._connector = None
        layout = layout_digest(local.descriptors)
        digest.set_result(layout)
        try:
            self.wait_started()
            agent_s = time.monotonic() - started
            begun = time.monotonic()
            regions = self._register(local)
            register_s = time.monotonic() - begun
            fetcher = self._fetcher(local, regions, layout, connector, started_ms, on_progress)
            result = fetcher.run(deadline_s=deadline_s or self._settings.transfer.timeout_s)
            begun = time.monotonic()
            fetcher.close_sessions(reason=result.reason)
        except MxError as error:
            return Failed(error.message, mutated=False, blame="local")
        finally:
            connector.stop()
        stages = {
            "agent": agent_s,
            "discover": connector.discover_s,
            "connect": connector.connect_s,
            "register": register_s,
            "plan": result.plan_s,
            "read": result.read_s,
            "verify": result.verify_s,
            "finalize": time.monotonic() - begun,
        }
        report = self._report(local, result, stages, started_ms, time.monotonic() - started)
        return self._conclude(local, result, report, connector)

    def _fetcher(
        self,
        local: LocalTensors,
        regions: tuple[Region, ...],
        layout: str,
        connector: Connector,
        started_ms: int,
        on_progress: Callable[[int, int], None] | None,
    ) -> Fetcher:
        transfer = self._settings.transfer

        def progress(done: int, total: int) -> None:
            self._progress(local, done, total, started_ms)
            if on_progress is not None:
                on_progress(done, total)

        return Fetcher(
            self._backend.result(),
            Target(local.descriptors, regions, layout, self._device),
            segment_bytes=transfer.segment_bytes,
            limits=Limits(window_max=transfer.window_max, stall_s=transfer.stall_timeout_s),
            digester=self._digester if transfer.verify else None,
            digest_threads=transfer.digest_threads,
            start=int(self.worker_id, 16) if _is_hex(self.worker_id) else hash(self.worker_id) & 0xFFFF,
            inbox=connector.inbox,
            on_progress=progress,
            on_lost=connector.lost,
            # Peers that read from this agent would lose it.
            severable=self._served is None,
        )

    def _conclude(
        self, local: LocalTensors, result: FetchResult, report: TransferReport, connector: Connector
    ) -> Outcome:
        if result.complete:
            self._send(report)
            log.info("weights pulled from peers", extra={"fields": summary(report)})
            return Loaded(report)
        reason = (
            "; ".join(dict.fromkeys((*connector.reasons, result.reason)))
            if connector.reasons
            else result.reason
        )
        if result.unsafe:
            self._quarantine.append(local)
            reason += "; a read could not be ended, its memory is kept aside"
        else:
            self._deregister()
        if result.local_fault:
            self._send(replace(report, state=TransferState.FAILED, reason=reason))
            return Failed(reason, mutated=result.mutated, blame="local")
        if not result.mutated and not result.refused and not connector.reasons:
            return Skipped(f"no peer holds rank {self._rank} of {self._identity.model_name}")
        self._send(replace(report, state=TransferState.FAILED, reason=reason))
        if not result.mutated and not result.refused:
            return Skipped(reason)
        return Failed(reason, mutated=result.mutated, blame="source")

    # --- registration -----------------------------------------------------------------------------
    def _register(self, local: LocalTensors) -> tuple[Region, ...]:
        if self._local is not None and self._local.descriptors == local.descriptors:
            return self._regions
        self._deregister()
        page = 4096 if self._device_kind == "cpu" else 1
        regions = merge_regions(
            ((tensor.addr, tensor.size) for tensor in local.descriptors),
            device=self._device,
            page_bytes=page,
            slice_bytes=self._settings.transfer.region_slice_bytes,
        )
        self._backend.result().register(regions)
        self._regions, self._local = regions, local
        return regions

    def _deregister(self) -> None:
        if self._regions:
            self._backend.result().deregister(self._regions)
        self._regions, self._local = (), None

    # --- publish ------------------------------------------------------------------------------------
    def publish(self, local: LocalTensors) -> None:
        """Serve these tensors from now on and say so; returns before the server has heard of it.

        Raises an MxError when the memory can't be registered or no port can be bound.
        """
        worker = self._settings.worker
        regions = self._register(local)
        backend = self._backend.result()
        host = advertised_ipv4(worker.host, server_address=worker.server_address)
        offer = Offer(
            source_id=self._source_id,
            worker_id=self.worker_id,
            worker_rank=self._rank,
            generation=self._generation,
            tensors=local.descriptors,
            regions=regions,
            agent_name=backend.agent_name,
            agent_metadata=backend.local_metadata(),
            metadata_endpoint=f"{host}:{backend.listen_port}" if backend.listen_port else "",
            accelerator=self._device_kind,
            digest_kind=self._digest_kind,
        )
        self._served = ServedSource(
            offer,
            digester=self._digester,
            segment_bytes=self._settings.transfer.segment_bytes,
            transfer_timeout_s=self._settings.transfer.timeout_s,
        )
        self._served.start()
        if self._server is None:
            wanted = worker.grpc_port + max(self._device, 0) if worker.grpc_port else 0
            listen = worker.host or ANY_HOST
            self._server, self._grpc_port = peer.serve(listen, wanted, source=lambda: self._served)
        if self._client is not None:
            self._publisher = self._make_publisher(
                self._client, self._served.offer, f"{host}:{self._grpc_port}"
            )
            self._publisher.start()

    def _make_publisher(self, client: EngineClient, offer: Offer, endpoint: str) -> Publisher:
        worker, pod = self._settings.worker, self._settings.pod
        served_by_worker = worker.p2p_metadata
        record = WorkerRecord(
            worker_rank=self._rank,
            backend_metadata=None if served_by_worker else NixlMetadata(offer.agent_metadata),
            payload=None if served_by_worker else TensorSource(offer.published_tensors),
            metadata_endpoint=offer.metadata_endpoint,
            agent_name=offer.agent_name,
            worker_grpc_endpoint=endpoint if served_by_worker else "",
            accelerator=offer.accelerator,
            topology=worker.topology,
        )
        return Publisher(
            client,
            identity=self._identity,
            worker=record,
            key=WorkerKey(self._source_id, self.worker_id, self._rank),
            peer=PeerRecord(endpoint, self._generation, self._host_id, offer.layout_digest),
            pod=PodReference(pod.name, pod.uid, pod.namespace),
            heartbeat_s=worker.heartbeat_interval_s,
            give_up_s=worker.publish_timeout_s,
        )

    def wait_published(self, timeout_s: float) -> bool:
        """True once the server lists this worker as READY."""
        return self._publisher is not None and self._publisher.wait_published(timeout_s)

    @property
    def bytes_served(self) -> int:
        """Bytes that mx peers said they read from this worker."""
        return self._served.bytes_served if self._served else 0

    # --- reports --------------------------------------------------------------------------------------
    def report_disk(self, *, bytes_total: int, seconds: float, reason: str) -> None:
        """Tell the server that the engine's own loader delivered the weights, and why no peer did."""
        report = TransferReport(
            transfer_id=secrets.token_hex(8),
            model_name=self._identity.model_name,
            source_id=self._source_id,
            worker_id=self.worker_id,
            worker_rank=self._rank,
            strategy=Strategy.DISK,
            state=TransferState.DONE,
            bytes_total=bytes_total,
            bytes_done=bytes_total,
            verified=False,
            started_at_ms=time.time_ns() // 1_000_000 - int(seconds * 1000),
            seconds=seconds,
            reason=reason,
        )
        self._send(report)

    def _progress(self, local: LocalTensors, done: int, total: int, started_ms: int) -> None:
        running = self._report(local, None, {}, started_ms, time.time() - started_ms / 1000)
        self._send(replace(running, bytes_done=done, bytes_total=total))

    def _report(
        self,
        local: LocalTensors,
        result: FetchResult | None,
        stages: dict[str, float],
        started_ms: int,
        seconds: float,
    ) -> TransferReport:
        total = sum(tensor.size for tensor in local.descriptors)
        return TransferReport(
            transfer_id=f"{self._generation}-{started_ms:x}",
            model_name=self._identity.model_name,
            source_id=self._source_id,
            worker_id=self.worker_id,
            worker_rank=self._rank,
            strategy=Strategy.PEER,
            state=TransferState.DONE if result else TransferState.RUNNING,
            bytes_total=total,
            bytes_done=result.bytes_done if result else 0,
            verified=bool(result and result.verified),
            started_at_ms=started_ms,
            seconds=seconds,
            stages_s=stages,
            sources=result.shares if result else (),
            segments=result.segments if result else 0,
            segments_reread=result.rereads if result else 0,
            tensors=len(local.descriptors),
            verify_cpu_s=result.verify_cpu_s if result else 0.0,
        )

    def _send(self, report: TransferReport) -> None:
        if self._reporter is not None:
            self._reporter.send(report)

    # --- the end ----------------------------------------------------------------------------------------
    def close(self, *, timeout_s: float = 5.0) -> None:
        """Withdraw, wait for readers for at most ``timeout_s``, then free everything. Idempotent."""
        if self._closed:
            return
        self._closed = True
        end = time.monotonic() + timeout_s
        if self._connector is not None:
            self._connector.stop()
        if self._publisher is not None:
            self._publisher.withdraw(timeout_s=max(end - time.monotonic(), 0.1))
        if self._served is not None:
            if not self._served.drain(deadline_s=max(end - time.monotonic(), 0.1)):
                log.warning("readers cut off", extra={"fields": {"leases": self._served.active_leases}})
            self._served.close()
        if self._server is not None:
            self._server.stop(grace=0.2).wait()
        if self._reporter is not None:
            self._reporter.close(timeout_s=max(end - time.monotonic(), 0.5))
        self._starter.shutdown(wait=True)
        if self._backend.exception() is None and not self._quarantine:
            self._backend.result().close()


def summary(report: TransferReport) -> dict[str, object]:
    """The one line that a load leaves in the log."""
    return {
        "model": report.model_name,
        "strategy": report.strategy.value,
        "bytes": report.bytes_done,
        "seconds": round(report.seconds, 3),
        "gbit_s": round(report.gbit_s, 1),
        "verified": report.verified,
        "segments": report.segments,
        "reread": report.segments_reread,
        "sources": ",".join(share.worker_id for share in report.sources if share.bytes),
    }


def _is_hex(text: str) -> bool:
    return bool(text) and all(c in "0123456789abcdef" for c in text)


def _free_port() -> int:
    import socket

    with socket.socket() as probe:
        probe.bind(("", 0))
        return int(probe.getsockname()[1])
