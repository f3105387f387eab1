"""How far a download is: bytes, rate and time left, and the words for them."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from mx.core.model import EntryKey, EntryStatus
from mx.core.units import format_age, format_size
from mx.errors import ErrorCode


@dataclass(frozen=True, slots=True)
class EnsureUpdate:
    """One step of an ensure; the last one is DOWNLOADED or ERROR.

    Sizes in bytes, ``rate`` in bytes per second, ``eta_s`` in seconds; None is unknown. ``code`` says
    what kind of failure an ERROR is, where this process saw it.
    """

    key: EntryKey
    status: EntryStatus
    message: str
    bytes_done: int = 0
    bytes_total: int = 0
    files_done: int = 0
    files_total: int = 0
    rate: float | None = None
    eta_s: float | None = None
    code: ErrorCode | None = None

    @property
    def is_last(self) -> bool:
        return self.status in (EntryStatus.DOWNLOADED, EntryStatus.ERROR)


class RateMeter:
    """Bytes per second over the last ``window_s``; readings in the order of time."""

    def __init__(self, *, window_s: float = 10.0) -> None:
        self._window_s = window_s
        self._readings: deque[tuple[float, int]] = deque()

    def read(self, bytes_done: int, *, now_s: float) -> float | None:
        """Note where it stands; the rate, or None until two readings are apart in time.

        A count that went back (a file is fetched again) starts the window anew.
        """
        if self._readings and bytes_done < self._readings[-1][1]:
            self._readings.clear()
        self._readings.append((now_s, bytes_done))
        while len(self._readings) > 2 and self._readings[1][0] <= now_s - self._window_s:
            self._readings.popleft()
        then_s, then_bytes = self._readings[0]
        return (bytes_done - then_bytes) / (now_s - then_s) if now_s > then_s else None


def time_left_s(bytes_done: int, bytes_total: int, rate: float | None) -> float | None:
    """None while nothing moves."""
    return (bytes_total - bytes_done) / rate if rate else None


def describe(update: EnsureUpdate) -> str:
    """``"1.2 GiB of 15.3 GiB (7%), 3 of 12 files, 112 MiB/s, 2m 9s left"``; what is unknown is left out."""
    parts: list[str] = []
    if update.bytes_total:
        percent = 100 * update.bytes_done // update.bytes_total
        parts.append(
            f"{format_size(update.bytes_done)} of {format_size(update.bytes_total)} ({percent}%)",
        )
    if update.files_total:
        count = f"{update.files_done} of {update.files_total} files"
        parts.append(count if update.files_done else f"{update.files_total} files")
    if update.rate is not None:
        parts.append(f"{format_size(update.rate)}/s")
    if update.eta_s is not None:
        parts.append(f"{format_age(update.eta_s)} left")
    return ", ".join(parts)
