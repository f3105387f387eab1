"""Moves the weights of one rank: the front door of this package for an inference engine.

engine = TransferEngine(settings, client=…, identity=…, worker_rank=0)   NIXL starts in the background
engine.prefetch()            find and connect sources while the model is built
engine.pull(local)           → Loaded | Skipped | Failed
engine.publish(local)        serve others; heartbeat in the background
engine.close()               withdraw, wait for readers, free the memory
"""

from __future__ import annotations

import hashlib
import logging
import secrets
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from typing import Protocol

from mx.config import Settings
from mx.core.plan import merge_regions
from mx.core.selection import is_same_host, order_sources
from mx.core.source import SourceEntry, SourceIdentity, SourceSummary
from mx.core.swarm import Limits
from mx.core.tensors import HOST_DEVICE, Region, layout_digest
from mx.core.transfer import Strategy, TransferReport, TransferState
from mx.errors import DeadlineError, MxError
from mx.ports import TransferBackend
from mx.transfer.agent import DeviceKind, start_nixl
from mx.transfer.book import FetchResult, Progress, Target
from mx.transfer.connector import Connector
from mx.transfer.digests import XXH3, Digester, host_digest
from mx.transfer.fetcher import Fetcher
from mx.transfer.host import host_id
from mx.transfer.opening import open_session
from mx.transfer.outcome import Failed, Loaded, LocalTensors, Outcome, Skipped
from mx.transfer.publication import Publication, Worker
from mx.transfer.publisher import SourceRegistry
from mx.transfer.report import Load, Reporter, ReportSink, files_report, summary
from mx.transfer.session import Candidate, Session

log = logging.getLogger(__name__)

# UCX looks at every device of the machine; 0.5 s here, and some drivers take their time.
AGENT_START_S = 120.0


class EngineClient(SourceRegistry, ReportSink, Protocol):
    """What this package asks of a server; ``client/sync`` provides it."""

    def find_peers(self, identity: SourceIdentity, *, worker_rank: int) -> tuple[SourceSummary, ...]: ...

    def get_source(self, source_id: str, worker_id: str) -> SourceEntry | None: ...


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
        self._device = HOST_DEVICE if device_kind == "cpu" else device_id
        self._worker = Worker(
            identity=identity,
            worker_id=worker_id or secrets.token_hex(4),
            rank=worker_rank,
            generation=secrets.token_hex(8),
            device=self._device,
            accelerator=device_kind,
        )
        self._host_id = host_id()
        self._digest = digester or (XXH3, host_digest)
        make = backend or (
            lambda name: start_nixl(settings, name, device_kind=device_kind, device=self._device)
        )
        self._starter = ThreadPoolExecutor(1, thread_name_prefix="mx-agent")
        agent_name = f"mx-{self.worker_id}-r{worker_rank}-{self._worker.generation[:6]}"
        self._backend: Future[TransferBackend] = self._starter.submit(make, agent_name)
        self._reporter = Reporter(client) if client is not None else None
        self._connector: Connector | None = None
        self._regions: tuple[Region, ...] = ()
        self._local: LocalTensors | None = None
        # Memory that a read which can't be ended may still write to, with what is registered of it.
        self._quarantine: list[tuple[LocalTensors, tuple[Region, ...]]] = []
        self._publication: Publication | None = None
        self._closed = False

    @property
    def worker_id(self) -> str:
        return self._worker.worker_id

    def wait_started(self) -> None:
        """Return once the agent is there; raises the MxError that kept it from starting."""
        try:
            self._backend.result(AGENT_START_S)
        except TimeoutError as error:
            raise DeadlineError(f"the transfer agent did not start within {AGENT_START_S:g} s") from error

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
                retries=self._settings.worker.k8s_source_retries,
                backoff_s=self._settings.worker.k8s_source_backoff_s,
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
        rows = client.find_peers(self._worker.identity, worker_rank=self._worker.rank)
        ordered = order_sources(
            [row for row in rows if row.worker_id != self.worker_id],
            policy=worker.source_selector,
            target=self._settings.pod.name or self.worker_id,
            host_id=self._host_id,
            topology=worker.topology,
            levels=worker.topology_levels,
            load_weight=(
                worker.topology_load_weight
                if worker.source_selector == "topology_aware"
                else worker.load_weight
            ),
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
        local = local.without_empty()
        load = Load(self._worker.key, self._worker.identity.model_name, local, self._worker.generation)
        if self._client is None:
            return Skipped("no mx server is configured")
        if not local.descriptors:
            return Skipped("the model has no tensors to fill")
        if obstacle := self._obstacle(local):
            return Failed(obstacle, mutated=False, blame="local")
        digest: Future[str] = Future()
        # Discovery goes on while the digest is computed; only the first connection waits for it.
        connector = self._connector or self._connect_sources(layout=digest.result)
        self._connector = None
        try:
            layout = layout_digest(local.descriptors)
            digest.set_result(layout)
            self.wait_started()
            agent_s = load.seconds
            begun = time.monotonic()
            regions = self._register(local)
            register_s = time.monotonic() - begun
            fetcher = self._fetcher(
                load, regions, layout, connector, on_progress, agent_s=agent_s, register_s=register_s
            )
            result = fetcher.run(deadline_s=deadline_s or self._settings.transfer.timeout_s)
            begun = time.monotonic()
            fetcher.close_sessions(reason=result.reason, keep_agents=result.unsafe)
        except MxError as error:
            return Failed(error.message, mutated=False, blame="local")
        finally:
            if not digest.done():
                digest.set_result("")  # a connection that waits for it learns that nobody wants it
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
        return self._conclude(local, result, load.finished(result, stages), connector)

    def _obstacle(self, local: LocalTensors) -> str:
        """Why this memory can't be filled now."""
        if self._publication is not None:
            return "this worker serves its tensors to peers; they can't be overwritten under readers"
        held = {tensor.addr for old, _ in self._quarantine for tensor in old.descriptors if tensor.size}
        if any(tensor.addr in held for tensor in local.descriptors):
            return "a read of an earlier pull may still write into this memory; build the model anew"
        return ""

    def _fetcher(
        self,
        load: Load,
        regions: tuple[Region, ...],
        layout: str,
        connector: Connector,
        on_progress: Callable[[int, int], None] | None,
        *,
        agent_s: float,
        register_s: float,
    ) -> Fetcher:
        transfer = self._settings.transfer

        def told(progress: Progress) -> None:
            reached = {
                "agent": agent_s,
                "discover": connector.discover_s,
                "connect": connector.connect_s,
                "register": register_s,
            }
            self._send(load.running(progress, reached))
            if on_progress is not None:
                on_progress(progress.bytes_done, progress.bytes_total)

        return Fetcher(
            self._backend.result(),
            Target(load.local.descriptors, regions, layout, self._device),
            segment_bytes=transfer.segment_bytes,
            limits=Limits(window_max=transfer.window_max, stall_s=transfer.stall_timeout_s),
            digest=self._digest if transfer.verify else None,
            digest_threads=transfer.digest_threads,
            start=_stable_number(self.worker_id),
            inbox=connector.inbox,
            on_progress=told,
            on_lost=connector.lost,
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
            self._quarantine.append((local, self._regions))
            self._regions, self._local = (), None
            reason += "; a read could not be ended, its memory is kept aside"
        else:
            self._deregister()
        if result.local_fault:
            self._send(replace(report, state=TransferState.FAILED, reason=reason))
            return Failed(reason, mutated=result.mutated, blame="local")
        if not result.mutated and not result.refused and not connector.reasons:
            return Skipped(f"no peer holds rank {self._worker.rank} of {self._worker.identity.model_name}")
        self._send(replace(report, state=TransferState.FAILED, reason=reason))
        if not result.mutated and not result.refused:
            return Skipped(reason)
        return Failed(reason, mutated=result.mutated, blame="source")

    # --- registration -----------------------------------------------------------------------------
    def _register(self, local: LocalTensors) -> tuple[Region, ...]:
        if self._local is not None and self._local.descriptors == local.descriptors:
            return self._regions
        self._deregister()
        page = 4096 if self._device == HOST_DEVICE else 1
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

        What was published before is withdrawn first. Raises an MxError when the memory can't be
        registered or no port can be bound.
        """
        local = local.without_empty()
        self._unpublish(timeout_s=self._settings.transfer.stall_timeout_s)
        regions = self._register(local)
        self._publication = Publication(
            self._settings,
            self._worker,
            backend=self._backend.result(),
            local=local,
            regions=regions,
            digest=self._digest,
            registry=self._client,
        )

    def _unpublish(self, *, timeout_s: float) -> None:
        if self._publication is not None:
            self._publication.close(timeout_s=timeout_s)
            self._publication = None

    def wait_published(self, timeout_s: float) -> bool:
        """True once the server lists this worker as READY."""
        return self._publication is not None and self._publication.wait_published(timeout_s)

    @property
    def bytes_served(self) -> int:
        """Bytes that mx peers said they read from this worker."""
        return self._publication.bytes_served if self._publication else 0

    # --- reports --------------------------------------------------------------------------------------
    def report_files(self, strategy: Strategy, *, bytes_total: int, seconds: float, reason: str) -> None:
        """Tell the server that the weights came from files, and why not from a peer."""
        key, name = self._worker.key, self._worker.identity.model_name
        self._send(files_report(key, name, strategy, bytes_total=bytes_total, seconds=seconds, reason=reason))

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
        self._unpublish(timeout_s=max(end - time.monotonic(), 0.1))
        if self._reporter is not None:
            self._reporter.close(timeout_s=max(end - time.monotonic(), 0.5))
        self._starter.shutdown(wait=False)
        if self._backend.done() and self._backend.exception() is None:
            self._backend.result().close()  # ends the agent, and with it reads that nothing else could end
        self._quarantine.clear()


def _stable_number(text: str) -> int:
    """The same in every process, unlike ``hash``; different for different texts."""
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=4).digest())
