"""One published source of this process: the manifest, the worker's gRPC server, the record at the server."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass

import grpc

from mx.config import Settings
from mx.core.source import (
    NixlMetadata,
    PeerRecord,
    PodReference,
    SourceIdentity,
    TensorSource,
    WorkerKey,
    WorkerRecord,
    source_id,
)
from mx.core.tensors import Region
from mx.errors import UnavailableError
from mx.ports import TransferBackend
from mx.transfer import peer
from mx.transfer.digests import Digester
from mx.transfer.host import advertised_ipv4, host_id
from mx.transfer.outcome import LocalTensors
from mx.transfer.publisher import Publisher, SourceRegistry
from mx.transfer.served import Offer, ServedSource
from mx.transfer.service import listening_port, service_endpoint

log = logging.getLogger(__name__)

# Peers come from other hosts; an explicit worker.host narrows it to that one.
ANY_HOST = "0.0.0.0"  # noqa: S104


@dataclass(frozen=True, slots=True)
class Worker:
    """Who publishes. ``device`` is HOST_DEVICE or an ordinal; ``generation`` changes with the process."""

    identity: SourceIdentity
    worker_id: str
    rank: int
    generation: str
    device: int
    accelerator: str

    @property
    def key(self) -> WorkerKey:
        return WorkerKey(source_id(self.identity), self.worker_id, self.rank)


class Publication:
    """Serves ``local`` from construction on and says so to ``registry``, if there is one.

    Raises UnavailableError when no port can be bound, SettingsError for a host without an address.
    """

    def __init__(
        self,
        settings: Settings,
        worker: Worker,
        *,
        backend: TransferBackend,
        local: LocalTensors,
        regions: Sequence[Region],
        digest: tuple[str, Digester],
        registry: SourceRegistry | None,
    ) -> None:
        routed = settings.worker.metadata_backend == "k8s-service"
        facing = service_endpoint(settings, worker.rank) if routed else settings.worker.server_address
        host = advertised_ipv4(settings.worker.host, server_address=facing)
        offer = Offer(
            source_id=worker.key.source_id,
            worker_id=worker.worker_id,
            worker_rank=worker.rank,
            generation=worker.generation,
            tensors=local.descriptors,
            regions=tuple(regions),
            agent_name=backend.agent_name,
            agent_metadata=backend.local_metadata(),
            metadata_endpoint=f"{host}:{backend.listen_port}" if backend.listen_port else "",
            accelerator=worker.accelerator,
            digest_kind=digest[0],
        )
        self._local = local  # the memory lives as long as it is offered
        self._served = ServedSource(
            offer,
            digester=digest[1],
            segment_bytes=settings.transfer.segment_bytes,
            transfer_timeout_s=settings.transfer.timeout_s,
        )
        base = settings.worker.grpc_port
        wanted = base + max(worker.device, 0) if base else 0
        if routed:
            wanted = listening_port(settings, rank=worker.rank, device=worker.device)
        self._server, port = _serve(settings.worker.host or ANY_HOST, wanted, self._served)
        if routed and port != wanted:
            self._served.close()
            self._server.stop(grace=0.2).wait()
            raise UnavailableError(
                f"port {wanted} of this worker is in use, and the Service leads to no other",
                remedy="set MX_WORKER_GRPC_PORT to the port that the Service leads to",
            )
        self._served.start()
        self._publisher: Publisher | None = None
        if registry is not None:
            self._publisher = _publisher(settings, worker, self._served, f"{host}:{port}", registry)
            self._publisher.start()

    def wait_published(self, timeout_s: float) -> bool:
        """True once the server lists this worker as READY."""
        return self._publisher is not None and self._publisher.wait_published(timeout_s)

    @property
    def bytes_served(self) -> int:
        """Bytes that mx peers said they read."""
        return self._served.bytes_served

    def close(self, *, timeout_s: float) -> None:
        """Withdraw and wait for readers, side by side, for at most ``timeout_s``; then serve no more."""
        end = time.monotonic() + timeout_s
        if self._publisher is not None:
            self._publisher.leave()
        # From here on nobody new begins to read, though the server may list us a moment longer.
        if not self._served.drain(deadline_s=timeout_s):
            log.warning("readers cut off", extra={"fields": {"leases": self._served.active_leases}})
        if self._publisher is not None:
            self._publisher.withdraw(timeout_s=max(end - time.monotonic(), 0.1))
        self._served.close()
        self._server.stop(grace=0.2).wait()


def _serve(host: str, port: int, served: ServedSource) -> tuple[grpc.Server, int]:
    return peer.serve(host, port, source=lambda: served)


def _publisher(
    settings: Settings, worker: Worker, served: ServedSource, endpoint: str, registry: SourceRegistry
) -> Publisher:
    pod, by_worker, offer = settings.pod, settings.worker.p2p_metadata, served.offer
    record = WorkerRecord(
        worker_rank=worker.rank,
        backend_metadata=None if by_worker else NixlMetadata(offer.agent_metadata),
        payload=None if by_worker else TensorSource(offer.tensors),
        metadata_endpoint=offer.metadata_endpoint,
        agent_name=offer.agent_name,
        worker_grpc_endpoint=endpoint if by_worker else "",
        accelerator=offer.accelerator,
        topology=settings.worker.topology,
    )
    return Publisher(
        registry,
        identity=worker.identity,
        worker=record,
        key=worker.key,
        peer=PeerRecord(endpoint, worker.generation, host_id(), offer.layout_digest),
        pod=PodReference(pod.name, pod.uid, pod.namespace),
        heartbeat_s=settings.worker.heartbeat_interval_s,
        give_up_s=settings.worker.publish_timeout_s,
        load=served.load,
    )
