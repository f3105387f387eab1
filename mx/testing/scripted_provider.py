"""A provider with files from memory, that waits, fails and counts as told."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Mapping
from pathlib import Path

from mx.core.model import EntryKey, ListedFile, Listing, ModelRef, ProviderName, is_kept_file
from mx.errors import MxError, NotFoundError, PreconditionError
from mx.ports import Progress, Provider


class ScriptedProvider:
    """``mx.ports.Provider``. Every repository has the same ``files``; ``commit`` is what branches mean.

    ``gate`` holds fetches back after ``gate_after_bytes`` of a file until it is set. ``failures`` are
    raised by the next fetches, one each; ``resolve_error`` by every resolve while it is there, and
    ``list_error`` by every listing.
    ``lies`` makes the next fetches deliver wrong bytes. ``fetched_bytes`` and ``calls`` count.
    """

    def __init__(
        self,
        files: Mapping[str, bytes],
        *,
        name: ProviderName = ProviderName.HUGGING_FACE,
        commit: str = "a" * 40,
        piece_bytes: int = 1 << 16,
    ) -> None:
        self.files = dict(files)
        self._name = name
        self._piece_bytes = piece_bytes
        self.commit = commit
        self.gate = asyncio.Event()
        self.gate.set()
        self.gate_after_bytes = 0
        self.failures: list[MxError] = []
        self.resolve_error: MxError | None = None
        self.list_error: MxError | None = None
        self.lies = 0
        self.fetched_bytes = 0
        self.calls: list[str] = []

    @property
    def name(self) -> ProviderName:
        return self._name

    async def resolve(self, ref: ModelRef) -> str:
        self.calls.append("resolve")
        await asyncio.sleep(0)
        if self.resolve_error is not None:
            raise self.resolve_error
        if ref.revision is not None and len(ref.revision) == 40:
            return ref.revision
        return self.commit

    async def list_files(self, key: EntryKey) -> Listing:
        self.calls.append("list")
        await asyncio.sleep(0)
        kept = sorted(path for path in self.files if is_kept_file(path, weights=key.weights))
        if self.list_error is not None:
            raise self.list_error
        return Listing(key, tuple(self._listed(path) for path in kept))

    def _listed(self, path: str) -> ListedFile:
        content = self.files[path]
        return ListedFile(path, len(content), etag=hashlib.sha256(content).hexdigest()[:16])

    async def fetch(
        self, key: EntryKey, file: ListedFile, into: Path, *, offset: int, progress: Progress
    ) -> None:
        self.calls.append(f"fetch {file.path} from {offset}")
        if self.failures:
            raise self.failures.pop(0)
        if file.path not in self.files:
            raise NotFoundError(f"{key} has no file {file.path}")
        content = self.files[file.path]
        if self.lies:
            self.lies -= 1
            content = bytes(len(content))
        for start in range(offset, len(content), self._piece_bytes):
            if start >= self.gate_after_bytes:
                await self.gate.wait()
            piece = content[start : start + self._piece_bytes]
            with into.open("r+b") as out:
                out.seek(start)
                out.write(piece)
            self.fetched_bytes += len(piece)
            progress(len(piece))
            await asyncio.sleep(0)

    async def close(self) -> None:
        self.calls.append("close")


class FixedProviders:
    """``mx.ports.Providers`` with those it was given."""

    def __init__(self, *providers: Provider) -> None:
        self._providers = {provider.name: provider for provider in providers}

    def get(self, name: ProviderName) -> Provider:
        if name not in self._providers:
            raise PreconditionError(f"provider {name} is not set up here")
        return self._providers[name]
