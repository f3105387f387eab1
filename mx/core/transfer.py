"""What a finished or running transfer reports: the same numbers for log, server, CLI and metrics."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType


class Strategy(StrEnum):
    """Which step of the load chain delivered the weights."""

    PEER = "peer"
    SERVER = "server"
    DISK = "disk"


class TransferState(StrEnum):
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"


STAGES = ("agent", "discover", "connect", "register", "plan", "read", "verify", "finalize")


@dataclass(frozen=True, slots=True)
class SourceShare:
    """What one source gave. ``dropped`` holds the reason when it was given up."""

    worker_id: str
    endpoint: str
    bytes: int
    gbit_s: float
    segments: int
    verified: bool
    dropped: str = ""


@dataclass(frozen=True, slots=True)
class TransferReport:
    """One load of one rank.

    ``stages_s`` holds seconds per stage in the order of STAGES, and stages overlap. ``agent`` is the
    wait for the transfer library to start, where that had not finished before. ``read`` is wall time
    from the first read posted to the last one finished; ``verify`` is what verification added after
    that. ``verify_cpu_s`` is the time spent computing digests, most of it during reads. While a load
    runs the stages are those that it has reached, and the last one is where it is.
    """

    transfer_id: str
    model_name: str
    source_id: str
    worker_id: str
    worker_rank: int
    strategy: Strategy
    state: TransferState
    bytes_total: int
    bytes_done: int
    verified: bool
    started_at_ms: int
    seconds: float
    stages_s: Mapping[str, float] = field(default_factory=lambda: MappingProxyType({}))
    sources: tuple[SourceShare, ...] = ()
    segments: int = 0
    segments_reread: int = 0
    tensors: int = 0
    verify_cpu_s: float = 0.0
    reason: str = ""

    @property
    def gbit_s(self) -> float:
        """Bits moved over the time of the read stage, or over all of it when nothing was read."""
        seconds = self.stages_s.get("read") or self.seconds
        return self.bytes_done * 8 / seconds / 1e9 if seconds > 0 else 0.0
