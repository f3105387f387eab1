"""Digests that providers name, computed over bytes as they come."""

from __future__ import annotations

import hashlib
from typing import Protocol


class RunningDigest(Protocol):
    """The part of hashlib that is needed."""

    def update(self, data: bytes, /) -> None: ...

    def hexdigest(self) -> str: ...


def running_digest(digest: str, *, size_bytes: int) -> RunningDigest | None:
    """What computes the digest that ``algorithm:hex`` speaks of; None when mx can't or there is none.

    ``git-sha1`` is the name git gives to a blob: a header with its size comes before the bytes.
    """
    match digest.partition(":")[0]:
        case "sha256":
            return hashlib.sha256()
        case "git-sha1":
            return hashlib.sha1(b"blob %d\0" % size_bytes, usedforsecurity=False)
        case "md5":
            return hashlib.md5(usedforsecurity=False)
    return None
