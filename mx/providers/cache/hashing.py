"""Digests of files, computed while the bytes are still in the page cache."""

from __future__ import annotations

import hashlib
import importlib
import os
from collections.abc import Callable
from typing import Any, Protocol

import xxhash

from mx.errors import InvalidArgumentError, PreconditionError

_CHUNK_BYTES = 4 << 20
_LENGTHS = {"sha256": 64, "git-sha1": 40, "md5": 32, "crc32c": 8}


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


def check_digest(digest: str, *, of: str) -> None:
    """That a provider's digest can be checked here; InvalidArgumentError or PreconditionError if not."""
    algorithm, _, value = digest.partition(":")
    if not digest:
        return
    if len(value) != _LENGTHS.get(algorithm, -1) or not all(c in "0123456789abcdef" for c in value):
        raise InvalidArgumentError(f"{of}: {digest[:90]!r} is no digest that can be checked")
    if algorithm == "crc32c":
        _crc32c_library()


class FileHash:
    """Our fast digest, a cryptographic one and the provider's, over the bytes of one file so far."""

    def __init__(self, *, size_bytes: int, listed: str) -> None:
        self._listed = listed.partition(":")[0]
        self._strong = "git-sha1" if self._listed == "git-sha1" else "sha256"
        self._hashes: dict[str, _Hash] = {"xxh3": xxhash.xxh3_128()}
        for algorithm in {self._strong, self._listed} - {""}:
            self._hashes[algorithm] = _new(algorithm, size_bytes)
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
