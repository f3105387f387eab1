"""A missing file while its bytes come, in order: written and hashed with one look at each byte."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import AbstractContextManager
from threading import Lock

from mx.core.model import ListedFile
from mx.errors import IntegrityError
from mx.providers.cache.hashing import FileHash


class DiskPart:
    """Appends to one staged file; from one thread at a time. ``lock`` guards ``sums`` against checkpoints."""

    def __init__(
        self,
        file: ListedFile,
        fd: int,
        sums: FileHash,
        *,
        lock: Lock,
        errors: Callable[[], AbstractContextManager[None]],
    ) -> None:
        self.file = file
        self._fd = fd
        self._sums = sums
        self._lock = lock
        self._errors = errors

    @property
    def offset(self) -> int:
        """Bytes that are there, and hashed."""
        return self._sums.at

    @property
    def missing_bytes(self) -> int:
        return self.file.size_bytes - self._sums.at

    def append(self, data: memoryview) -> None:
        """Write what follows; IntegrityError when the file would be longer than it was listed."""
        if len(data) > self.missing_bytes:
            raise IntegrityError(
                f"{self.file.path}: more bytes came than the {self.file.size_bytes} that were listed"
            )
        with self._lock, self._errors():
            done = 0
            while done < len(data):
                done += os.pwrite(self._fd, data[done:], self._sums.at + done)
            self._sums.update(data)

    def close(self) -> None:
        """May be called twice."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)
