"""Finding sources through a Kubernetes Service, without a server of anybody's.

The Service knows which pods are ready, and whoever answers at its address is a source or says that it is
not. So there are no records to keep: publishing is listening at the port that the Service leads to.
"""

from __future__ import annotations

import socket
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from mx.config import Settings
from mx.core.source import (
    PeerRecord,
    PodReference,
    SourceEntry,
    SourceIdentity,
    SourceStatus,
    SourceSummary,
    WorkerKey,
    WorkerRecord,
    source_id,
)
from mx.core.transfer import TransferReport
from mx.errors import SettingsError

# Published workers listen here, plus the rank, where nothing else is said.
PUBLISHED_PORT: Final = 6555
# A Service without ready pods refuses at once; one that swallows connections must not hold up a start.
_PROBE_S: Final = 1.0
_PROBES: Final = 8


def service_endpoint(settings: Settings, rank: int) -> str:
    """Where sources of a rank answer: the pattern, and a port by rank where it names none."""
    worker = settings.worker
    resolved = worker.k8s_service_pattern.replace("{rank}", str(rank))
    host, colon, port = resolved.rpartition(":")
    if not colon:
        return f"{resolved}:{(worker.grpc_port or PUBLISHED_PORT) + rank}"
    if not host or not port.isdigit() or not 0 < int(port) < 65536:
        raise SettingsError(
            (f"worker.k8s_service_pattern {worker.k8s_service_pattern!r} names no host and port",),
            remedy="set MX_K8S_SERVICE_PATTERN to HOST or HOST:PORT; {rank} in it is replaced",
        )
    return resolved


def listening_port(settings: Settings, *, rank: int, device: int) -> int:
    """Where a source of this rank listens: as targets reckon, or plus its device where the pattern says."""
    worker = settings.worker
    base = worker.grpc_port or PUBLISHED_PORT
    return base + (max(device, 0) if ":" in worker.k8s_service_pattern else rank)


class ServiceClient:
    """What the transfer layer asks of a server, answered by a Service and by nobody."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def find_peers(self, identity: SourceIdentity, *, worker_rank: int) -> tuple[SourceSummary, ...]:
        """Addresses where something answers, without worker ids: who it is shows with the first call.

        A headless Service has one address per pod; any other has one, and a pod of its choice behind it.
        """
        endpoint = service_endpoint(self._settings, worker_rank)
        with ThreadPoolExecutor(_PROBES, thread_name_prefix="mx-service") as pool:
            endpoints = _addresses(endpoint)[: self._settings.transfer.max_sources]
            answers = list(pool.map(_answers, endpoints))
        return tuple(
            SourceSummary(
                source_id=source_id(identity),
                worker_id="",
                worker_rank=worker_rank,
                model_name=identity.model_name,
                status=SourceStatus.READY,
                updated_at_ms=0,
                worker_grpc_endpoint=one,
            )
            for one, there in zip(endpoints, answers, strict=True)
            if there
        )

    def get_source(self, source_id: str, worker_id: str) -> SourceEntry | None:
        """There are no records; open a session with the address instead."""
        return None

    def publish(
        self,
        identity: SourceIdentity,
        worker: WorkerRecord,
        *,
        worker_id: str,
        pod: PodReference = PodReference(),
    ) -> str:
        return source_id(identity)

    def announce(self, key: WorkerKey, peer: PeerRecord) -> bool:
        return True

    def update_status(self, key: WorkerKey, status: int, *, source_load: float | None = None) -> bool:
        """Readiness probes say what heartbeats say elsewhere."""
        return True

    def withdraw(self, key: WorkerKey) -> bool:
        return True

    def report_transfer(self, report: TransferReport) -> None:
        """Nobody keeps reports; the worker's own log has them."""

    def close(self) -> None:
        """Nothing is open."""


def _addresses(endpoint: str) -> list[str]:
    """One endpoint per address of a name with several; the endpoint itself otherwise."""
    host, _, port = endpoint.rpartition(":")
    try:
        found = socket.getaddrinfo(host.strip("[]"), int(port), socket.AF_INET, socket.SOCK_STREAM)
    except OSError:
        return [endpoint]
    addresses = dict.fromkeys(f"{one[4][0]}:{port}" for one in found)
    return [*addresses] if len(addresses) > 1 else [endpoint]


def _answers(endpoint: str) -> bool:
    host, _, port = endpoint.rpartition(":")
    try:
        with socket.create_connection((host.strip("[]"), int(port)), timeout=_PROBE_S):
            return True
    except OSError:
        return False
