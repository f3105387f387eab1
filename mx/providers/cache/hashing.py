"""Digests of files, computed while the bytes are still in the page cache."""

from __future__ import annotations

import os
from collections.abc import Callable

import xxhash

from mx.providers.digests import RunningDigest, new_digest

_CHUNK_BYTES = 4 << 20


class FileHash:
    """Our fast digest, a cryptographic one and the provider's, over the bytes of one file so far."""

    def __init__(self, *, size_bytes: int, listed: str) -> None:
        self._listed = listed.partition(":")[0]
        self._strong = "git-sha1" if self._listed == "git-sha1" else "sha256"
        self._hashes: dict[str, RunningDigest] = {"xxh3": xxhash.xxh3_128()}
        for algorithm in {self._strong, self._listed} - {""}:
            self._hashes[algorithm] = new_digest(algorithm, size_bytes=size_bytes)
        self.at = 0

    def advance(self, fd: int, until: int, *, progress: Callable[[int], None] | None = None) -> None:
        """Take in the file's bytes up to ``until``, or to its end if that comes first."""
        buffer = bytearray(max(1, min(_CHUNK_BYTES, until - self.at)))
        view = memoryview(buffer)
        while self.at < until:
            count = os.preadv(fd, [view[: until - self.at]], self.at)
            if count == 0:
                return
            for state in self._hashes.values():
                state.update(view[:count])
            self.at += count
            if progress is not None:
                progress(count)

    @property
    def xxh3(self) -> str:
        return self._hashes["xxh3"].hexdigest()

    @property
    def strong(self) -> str:
        return f"{self._strong}:{self._hashes[self._strong].hexdigest()}"

    @property
    def listed(self) -> str:
        """The digest in the provider's algorithm; empty when it names none."""
        return f"{self._listed}:{self._hashes[self._listed].hexdigest()}" if self._listed else ""
