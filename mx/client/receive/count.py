"""How far receiving is. Safe to be used from several threads."""

from __future__ import annotations

import threading
import time
from dataclasses import replace

from mx.core.cached import MissingFile
from mx.core.model import EntryKey, EntryStatus, Listing
from mx.core.progress import EnsureUpdate, RateMeter, describe, time_left_s


class Count:
    """Bytes and files; ``heard_s`` is when the last byte came."""

    def __init__(self, listing: Listing, missing: tuple[MissingFile, ...]) -> None:
        self._lock = threading.Lock()
        self._meter = RateMeter()
        self.key = listing.key
        self.bytes_total = listing.total_bytes
        self.bytes_done = listing.total_bytes - sum(each.missing_bytes for each in missing)
        self.files_total = len(listing.files)
        self.files_done = len(listing.files) - len(missing)
        self.heard_s = time.monotonic()

    def arrived(self, amount: int) -> None:
        with self._lock:
            self.bytes_done += amount
            if amount > 0:
                self.heard_s = time.monotonic()

    def file_accepted(self) -> None:
        with self._lock:
            self.files_done += 1
            self.heard_s = time.monotonic()

    def update(self, origin: str) -> EnsureUpdate:
        with self._lock:
            done = self.bytes_done
            rate = self._meter.read(done, now_s=time.monotonic()) if self.bytes_total else None
        return told(
            self.key,
            origin,
            bytes_done=done,
            bytes_total=self.bytes_total,
            files_done=self.files_done,
            files_total=self.files_total,
            rate=rate,
        )


def told(
    key: EntryKey,
    origin: str,
    *,
    bytes_done: int,
    bytes_total: int,
    files_done: int = 0,
    files_total: int = 0,
    rate: float | None = None,
) -> EnsureUpdate:
    """An update in words: where the bytes come from, and how far it is."""
    update = EnsureUpdate(
        key,
        EntryStatus.DOWNLOADING,
        "",
        bytes_done=bytes_done,
        bytes_total=bytes_total,
        files_done=files_done,
        files_total=files_total,
        rate=rate,
        eta_s=time_left_s(bytes_done, bytes_total, rate),
    )
    words = describe(update)
    return replace(update, message=f"{origin}: {words}" if words else origin)
