"""Digests of files, computed while the bytes are still in the page cache."""

from __future__ import annotations

import os
from collections.abc import Callable

import xxhash

from mx.core.model import ListedFile
from mx.errors import InvalidArgumentError
from mx.providers.digests import RunningDigest, check_digest, is_hex, new_digest

_CHUNK_BYTES = 4 << 20
_STRONG = ("sha256", "git-sha1")  # what may name a blob


def check_digests(file: ListedFile, *, of: str) -> None:
    """That a listing's digests can be checked here; InvalidArgumentError or PreconditionError if not."""
    check_digest(file.digest, of=of)
    if file.xxh3 and not (is_hex(file.xxh3, digits=32) and file.digest.partition(":")[0] in _STRONG):
        raise InvalidArgumentError(
            f"{of}: {file.xxh3[:90]!r} is no digest, or stands beside none that is cryptographic"
        )


class FileHash:
    """Digests over the bytes of one file so far: our fast one, and a cryptographic one.

    ``listed`` is what the provider names: its algorithm is computed as well. ``vouched``: the fast
    digest that the bytes must have; then nothing else is computed, see ``ListedFile.xxh3``.
    """

    def __init__(self, *, size_bytes: int, listed: str, vouched: str = "") -> None:
        self._expected, self._vouched = listed, vouched
        algorithm = listed.partition(":")[0]
        self._strong = "git-sha1" if algorithm == "git-sha1" else "sha256"
        self._hashes: dict[str, RunningDigest] = {"xxh3": xxhash.xxh3_128()}
        if not vouched:
            for each in {self._strong, algorithm} - {""}:
                self._hashes[each] = new_digest(each, size_bytes=size_bytes)
        self.at = 0

    @classmethod
    def of(cls, file: ListedFile) -> FileHash:
        return cls(size_bytes=file.size_bytes, listed=file.digest, vouched=file.xxh3)

    def advance(self, fd: int, until: int, *, progress: Callable[[int], None] | None = None) -> None:
        """Take in the file's bytes up to ``until``, or to its end if that comes first."""
        buffer = bytearray(max(1, min(_CHUNK_BYTES, until - self.at)))
        view = memoryview(buffer)
        while self.at < until:
            count = os.preadv(fd, [view[: until - self.at]], self.at)
            if count == 0:
                return
            self.update(view[:count])
            if progress is not None:
                progress(count)

    def update(self, data: memoryview) -> None:
        """Take in the bytes that follow."""
        for state in self._hashes.values():
            state.update(data)
        self.at += len(data)

    @property
    def xxh3(self) -> str:
        return self._hashes["xxh3"].hexdigest()

    @property
    def strong(self) -> str:
        """The cryptographic one; where the fast one is vouched for, as it was told."""
        if self._vouched:
            return self._expected
        return f"{self._strong}:{self._hashes[self._strong].hexdigest()}"

    def fits(self) -> bool:
        """Whether these are the bytes that were listed, as far as the listing says."""
        if self._vouched:
            return self.xxh3 == self._vouched
        algorithm, _, value = self._expected.partition(":")
        return not algorithm or self._hashes[algorithm].hexdigest() == value
