"""What loads are under way and how the last ones went, as workers report them."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, replace

from mx.core.transfer import TransferReport, TransferState
from mx.ports import Clock

FINISHED_KEPT = 1000
RUNNING_KEPT = 10_000  # a flood of new ids must not fill the memory
SILENT_AFTER_S = 60.0
NO_NEWS = "no news"


@dataclass(slots=True)
class _Transfer:
    order: int  # of the first report, so that rows keep their place while they run
    heard_s: float
    report: TransferReport


def _nobody(_report: TransferReport) -> None: ...


class TransfersService:
    """Reports in memory: bounded, lost with the process, never in anybody's way.

    ``tell`` (set by whoever wants to know) hears of each as it would be listed now.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._reported = 0
        self.tell: Callable[[TransferReport], None] = _nobody
        self._silent: set[str] = set()
        # Running ones in the order of their last news, finished ones in the order they ended.
        self._running: OrderedDict[str, _Transfer] = OrderedDict()
        self._finished: OrderedDict[str, _Transfer] = OrderedDict()

    def record(self, report: TransferReport) -> None:
        """Add a transfer or replace what was known of it.

        A running report that comes after the final one is late and ignored.
        """
        now_s = self._clock.monotonic_s()
        known = self._running.get(report.transfer_id) or self._finished.get(report.transfer_id)
        if known is None:
            self._reported += 1
            known = _Transfer(self._reported, now_s, report)
        elif report.state is TransferState.RUNNING and known.report.state is not TransferState.RUNNING:
            return
        known.heard_s = now_s
        known.report = report
        running = report.state is TransferState.RUNNING
        if not running:
            self._running.pop(report.transfer_id, None)
        into = self._running if running else self._finished
        into[report.transfer_id] = known
        into.move_to_end(report.transfer_id)
        while len(into) > (RUNNING_KEPT if running else FINISHED_KEPT):
            lost, transfer = into.popitem(last=False)
            self._silent.discard(lost)
            if running:
                self.tell(_given_up(transfer.report))
        self._silent.discard(report.transfer_id)
        self.tell(report)

    def look_for_silent(self) -> None:
        """Tell those under way that are listed as failed from now on, because there was no news."""
        silent_before_s = self._clock.monotonic_s() - SILENT_AFTER_S
        for transfer_id, transfer in self._running.items():
            if transfer.heard_s >= silent_before_s:
                return  # and so are all that come after it
            if transfer_id not in self._silent:
                self._silent.add(transfer_id)
                self.tell(_given_up(transfer.report))

    def recent(self, limit: int = 100) -> tuple[TransferReport, ...]:
        """Newest first by the time a transfer was first heard of; ``limit`` 0 means all that is kept.

        A running one without news for SILENT_AFTER_S is shown as failed; later news undoes that.
        """
        silent_before_s = self._clock.monotonic_s() - SILENT_AFTER_S
        known = [*self._running.values(), *self._finished.values()]
        known.sort(key=lambda transfer: transfer.order, reverse=True)
        return tuple(
            _shown(transfer, silent_before_s) for transfer in (known[:limit] if limit > 0 else known)
        )


def _shown(transfer: _Transfer, silent_before_s: float) -> TransferReport:
    report = transfer.report
    if report.state is TransferState.RUNNING and transfer.heard_s < silent_before_s:
        return _given_up(report)
    return report


def _given_up(report: TransferReport) -> TransferReport:
    return replace(report, state=TransferState.FAILED, reason=NO_NEWS)
