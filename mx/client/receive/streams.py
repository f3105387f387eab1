"""A round over gRPC, where HTTP is not to be had: several streams, each with some of the files.

The published call names no offset: a file begins at its first byte, and what is there already is
passed over.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterable
from contextlib import closing

from mx.client.receive.landing import Halt, Landings
from mx.client.receive.rules import ReceiveRules
from mx.client.sync import SyncClient
from mx.core.cached import FilePiece, MissingFile
from mx.core.model import EntryKey, ListedFile, ModelRef, ProviderName
from mx.errors import PreconditionError, UnavailableError

# Small files share a stream: each stream costs a round trip and a lease at the server.
_BATCH_BYTES = 64 << 20
_BATCH_FILES = 200


class StreamRound:
    """``work`` is for as many threads as there are streams, each with a client of its own."""

    def __init__(
        self,
        key: EntryKey,
        missing: Iterable[MissingFile],
        landings: Landings,
        halt: Halt,
        *,
        rules: ReceiveRules,
    ) -> None:
        self._key = key
        self._batches = deque(batches(missing))
        self._landings = landings
        self._halt = halt
        self._rules = rules
        self._lock = threading.Lock()

    def work(self, client: SyncClient) -> None:
        self._halt.on_end(client.close)  # ends a stream that waits
        while (batch := self._take()) is not None:
            self._read(client, {file.path: file for file in batch})

    def _take(self) -> tuple[ListedFile, ...] | None:
        self._halt.check()
        with self._lock:
            return self._batches.popleft() if self._batches else None

    def _read(self, client: SyncClient, files: dict[str, ListedFile]) -> None:
        pieces = client.stream_files(
            pinned(self._key),
            paths=tuple(files),
            chunk_bytes=self._rules.stream_chunk_bytes,
            silence_s=self._rules.silence_s,
        )
        at: dict[str, int] = dict.fromkeys(files, 0)
        with closing(pieces):
            for piece in pieces:
                self._halt.check()
                file = files.get(piece.path)
                if file is None or piece.offset != at[piece.path] or piece.total_bytes != file.size_bytes:
                    raise PreconditionError(f"{self._key}: the server streams other files than it listed")
                self._require_commit(piece)
                at[piece.path] += len(piece.data)
                self._land(file, piece)
                if at[piece.path] == file.size_bytes:
                    self._landings.finish(file)
                    del files[piece.path]
        if files:
            raise UnavailableError(f"{self._key}: the server's stream ended without {next(iter(files))}")

    def _land(self, file: ListedFile, piece: FilePiece) -> None:
        landing = self._landings.of(file)
        known = landing.offset - piece.offset
        if known < len(piece.data):
            landing.append(memoryview(piece.data)[max(0, known) :])

    def _require_commit(self, piece: FilePiece) -> None:
        if piece.commit and self._key.commit and piece.commit != self._key.commit:
            raise PreconditionError(
                f"{self._key}: the server streams commit {piece.commit[:40]} in its place", remedy="ask again"
            )


def pinned(key: EntryKey) -> ModelRef:
    """What the published calls understand."""
    revision = key.commit if key.provider is ProviderName.HUGGING_FACE and key.commit else None
    return ModelRef(key.provider, key.name, revision)


def batches(missing: Iterable[MissingFile]) -> list[tuple[ListedFile, ...]]:
    """Large files by themselves, the largest first; small ones together."""
    found: list[list[ListedFile]] = []
    size = _BATCH_BYTES
    for one in sorted(missing, key=lambda each: each.file.size_bytes, reverse=True):
        if size + one.file.size_bytes > _BATCH_BYTES or len(found[-1]) >= _BATCH_FILES:
            found.append([])
            size = 0
        found[-1].append(one.file)
        size += one.file.size_bytes
    return [tuple(batch) for batch in found]
