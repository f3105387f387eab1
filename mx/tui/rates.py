"""Rates of transfers over the last minutes, from the reports that workers send. No clock, no Textual."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field

from mx.core.source import WorkerKey
from mx.core.transfer import TransferReport, TransferState

LANE_SECONDS = 60
TOTAL_SECONDS = 300
_SILENT_MS = 10_000  # a running transfer that says nothing for so long moves nothing that we know of


def worker_of(report: TransferReport) -> WorkerKey:
    """The one who receives."""
    return WorkerKey(report.source_id, report.worker_id, report.worker_rank)


@dataclass(slots=True)
class _Lane:
    transfer_id: str
    bytes_done: int
    seconds: float
    at_ms: int
    gbit_s: float = 0.0
    history: deque[float] = field(default_factory=lambda: deque(maxlen=LANE_SECONDS))


class Rates:
    """Gbit/s of each worker that receives, now and in the last minute, and of all together.

    Holds lanes of workers that moved something in the last minute: idle ones cost nothing.
    """

    def __init__(self) -> None:
        self._lanes: dict[WorkerKey, _Lane] = {}
        self._total: deque[float] = deque(maxlen=TOTAL_SECONDS)
        self._sampled_s: int | None = None
        self.peak_gbit_s = 0.0

    def note(self, reports: Iterable[TransferReport], *, now_ms: int) -> None:
        """Take reports in. The rate of one is what came since the last, over its own seconds."""
        for report in reports:
            key = worker_of(report)
            lane = self._lanes.get(key)
            if report.state is not TransferState.RUNNING:
                if lane is not None and lane.transfer_id == report.transfer_id:
                    lane.gbit_s = 0.0
                continue
            if lane is None:
                lane = self._lanes[key] = _Lane(report.transfer_id, 0, 0.0, now_ms)
            elif lane.transfer_id != report.transfer_id:
                lane.transfer_id, lane.bytes_done, lane.seconds = report.transfer_id, 0, 0.0
            moved, took_s = report.bytes_done - lane.bytes_done, report.seconds - lane.seconds
            if took_s > 0 and moved >= 0:
                lane.gbit_s = moved * 8 / took_s / 1e9
                lane.at_ms = now_ms
            lane.bytes_done, lane.seconds = report.bytes_done, report.seconds

    def sample(self, *, now_ms: int) -> None:
        """Write the rates down, once for each second that began since the last call."""
        now_s = now_ms // 1000
        last_s = self._sampled_s
        if last_s is not None and now_s <= last_s:
            return
        self._sampled_s = now_s
        seconds = 1 if last_s is None else min(now_s - last_s, TOTAL_SECONDS)
        total = 0.0
        for key, lane in list(self._lanes.items()):
            if now_ms - lane.at_ms > _SILENT_MS:
                lane.gbit_s = 0.0
            total += lane.gbit_s
            lane.history.extend([lane.gbit_s] * min(seconds, LANE_SECONDS))
            if not lane.gbit_s and len(lane.history) == LANE_SECONDS and not any(lane.history):
                del self._lanes[key]
        self._total.extend([total] * seconds)
        self.peak_gbit_s = max(self._total)

    def now(self, key: WorkerKey) -> float:
        lane = self._lanes.get(key)
        return 0.0 if lane is None else lane.gbit_s

    def history(self, key: WorkerKey) -> tuple[float, ...]:
        """Gbit/s, one value for each of the last seconds, the newest last."""
        lane = self._lanes.get(key)
        return () if lane is None else tuple(lane.history)

    @property
    def total_now(self) -> float:
        return sum(lane.gbit_s for lane in self._lanes.values())

    @property
    def total(self) -> tuple[float, ...]:
        return tuple(self._total)

    def __len__(self) -> int:
        return len(self._lanes)
