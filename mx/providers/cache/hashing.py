"""Digests of files, computed while the bytes are still in the page cache."""

from __future__ import annotations

import hashlib
import importlib
import os
from collections.abc import Callable
from typing import Any, Protocol

import xxhash

from mx.core.model import ListedFile
from mx.errors import InvalidArgumentError, PreconditionError

_CHUNK_BYTES = 4 << 20
_LENGTHS = {"sha256": 64, "git-sha1": 40, "md5": 32, "crc32c": 8}
_STRONG = ("sha256", "git-sha1")  # what may name a blob


class _Hash(Protocol):
    def update(self, data: memoryview, /) -> object: ...

    def hexdigest(self) -> str: ...


class _Crc32c:
    """Through google-crc32c: in Python alone a model would take hours."""

    def __init__(self) -> None:
        self._library: Any = _crc32c_library()
        self._value = 0

    def update(self, data: memoryview, /) -> None:
        self._value = self._library.extend(self._value, bytes(data))

    def hexdigest(self) -> str:
        return f"{self._value:08x}"


def check_digests(file: ListedFile, *, of: str) -> None:
    """That a listing's digests can be checked here; InvalidArgumentError or PreconditionError if not."""
    algorithm, _, value = file.digest.partition(":")
    if file.digest and not _is_hex(value, _LENGTHS.get(algorithm, -1)):
        raise InvalidArgumentError(f"{of}: {file.digest[:90]!r} is no digest that can be checked")
    if file.xxh3 and not (_is_hex(file.xxh3, 32) and algorithm in _STRONG):
        raise InvalidArgumentError(
            f"{of}: {file.xxh3[:90]!r} is no digest, or stands beside none that is cryptographic"
        )
    if algorithm == "crc32c":
        _crc32c_library()


def _is_hex(text: str, length: int) -> bool:
    return len(text) == length and all(c in "0123456789abcdef" for c in text)


class FileHash:
    """Digests over the bytes of one file so far: our fast one, and a cryptographic one.

    ``listed`` is what the provider names: its algorithm is computed as well. ``vouched``: the fast
    digest that the bytes must have; then nothing else is computed, see ``ListedFile.xxh3``.
    """

    def __init__(self, *, size_bytes: int, listed: str, vouched: str = "") -> None:
        self._expected, self._vouched = listed, vouched
        algorithm = listed.partition(":")[0]
        self._strong = "git-sha1" if algorithm == "git-sha1" else "sha256"
        self._hashes: dict[str, _Hash] = {"xxh3": xxhash.xxh3_128()}
        if not vouched:
            for each in {self._strong, algorithm} - {""}:
                self._hashes[each] = _new(each, size_bytes)
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


def _new(algorithm: str, size_bytes: int) -> _Hash:
    match algorithm:
        case "sha256":
            return hashlib.sha256()
        case "git-sha1":
            # What git calls a blob: the digest covers a header with the size.
            return hashlib.sha1(b"blob %d\0" % size_bytes, usedforsecurity=False)
        case "md5":
            return hashlib.md5(usedforsecurity=False)
        case "crc32c":
            return _Crc32c()
    raise InvalidArgumentError(f"{algorithm!r} is no digest that can be checked")


def _crc32c_library() -> Any:
    try:
        return importlib.import_module("google_crc32c")
    except ImportError:
        raise PreconditionError(
            "files of this provider are checked with crc32c, and google-crc32c isn't installed",
            remedy="pip install google-crc32c",
        ) from None
