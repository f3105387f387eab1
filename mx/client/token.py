"""The bearer token of a client, from a file that Kubernetes rewrites now and then."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path


class TokenFile:
    """Reads the token again after ``ttl_s`` or when the file's time changes; None when there is no file."""

    def __init__(
        self, path: Path, *, ttl_s: float = 60.0, now_s: Callable[[], float] = time.monotonic
    ) -> None:
        self._path = path
        self._ttl_s = ttl_s
        self._now_s = now_s
        self._token: str | None = None
        self._stamp_ns = -1
        self._read_s = 0.0

    def __call__(self) -> str | None:
        try:
            stamp_ns = self._path.stat().st_mtime_ns
            now_s = self._now_s()
            if stamp_ns != self._stamp_ns or now_s - self._read_s >= self._ttl_s:
                self._token = self._path.read_text(encoding="utf-8").strip() or None
                self._stamp_ns, self._read_s = stamp_ns, now_s
        except (OSError, UnicodeDecodeError):
            self._token, self._stamp_ns = None, -1
        return self._token
