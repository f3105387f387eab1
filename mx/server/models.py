"""``model_express.model.ModelService`` over ModelsService (wire contract, section 6).

A failed download is an update with status ERROR and the call ends well; only what is wrong before
the first update is an RPC error.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing
from typing import Any

import grpc.aio

from mx.core.cached import CachedEntry, CachedFile
from mx.core.model import ProviderName, is_weight_file
from mx.core.progress import EnsureUpdate
from mx.errors import IntegrityError, InternalError, NotFoundError
from mx.ports import EntryCache
from mx.server.pieces import read_pieces
from mx.services.models import ModelsService
from mx.wire import model_codec
from mx.wire.chunks import ChunkWriter
from mx.wire.codec import build
from mx.wire.v1 import model

Context = grpc.aio.ServicerContext[Any, Any]

# A waiting caller hears at least this often that its download goes on.
SILENCE_S = 10.0
DEFAULT_CHUNK_BYTES = 32 * 1024
# A ceiling below gRPC's default limit of 4 MiB a message. Each stream holds about four chunks: with
# 2 MiB sixteen of them stay below 150 MiB together, and larger ones are not faster.
MAX_CHUNK_BYTES = 2 * 1024 * 1024


class ModelService:
    """``silence_s`` bounds the time between two updates of a download; ``served`` hears of bytes sent."""

    def __init__(
        self,
        models: ModelsService,
        cache: EntryCache,
        *,
        silence_s: float = SILENCE_S,
        served: Callable[[int], None] = lambda _: None,
    ) -> None:
        self._served = served
        self._models = models
        self._cache = cache
        self._silence_s = silence_s

    async def EnsureModelDownloaded(
        self, request: model.ModelDownloadRequest, context: Context, /
    ) -> AsyncIterator[model.ModelStatusUpdate]:
        # Resolving a revision may take longer than published clients wait for headers.
        await context.send_initial_metadata(())
        ref = model_codec.decode_ref(request)
        updates = self._models.ensure(ref, weights=not request.ignore_weights)
        async with aclosing(never_silent(updates, within_s=self._silence_s)) as told:
            async for update in told:
                yield model_codec.encode_update(update)

    async def ListModelFiles(
        self, request: model.ModelFilesRequest, _context: Context, /
    ) -> model.ModelFileList:
        entry = await self._models.find(model_codec.decode_ref(request), weights=_needed(request))
        return model_codec.encode_file_list(entry.key, _chosen(entry, request))

    async def StreamModelFiles(
        self, request: model.ModelFilesRequest, context: Context, /
    ) -> AsyncIterator[Any]:
        """Messages that are serialized already, see ``mx.wire.chunks``."""
        ref = model_codec.decode_ref(request)
        size = min(request.chunk_size or DEFAULT_CHUNK_BYTES, MAX_CHUNK_BYTES)
        async with self._models.reading(ref, holder=context.peer(), weights=_needed(request)) as entry:
            files = _chosen(entry, request)
            if not files:
                raise NotFoundError(f"{entry.key} has none of the files that were asked for")
            commit = entry.key.commit if entry.key.provider is ProviderName.HUGGING_FACE else ""
            for file in files:
                chunks = ChunkWriter(
                    file.path,
                    total_bytes=file.size_bytes,
                    is_last_file=file is files[-1],
                    commit=commit if file is files[0] else "",
                )
                async with aclosing(self._messages(entry, file, chunks, size)) as messages:
                    async for message in messages:
                        yield message

    async def DeleteModel(
        self, request: model.DeleteModelRequest, _context: Context, /
    ) -> model.DeleteModelResponse:
        report = await self._models.forget(model_codec.decode_provider(request.provider), request.model_name)
        count = len(report.records)
        message = f"{count} record{'s' if count != 1 else ''} of {request.model_name} dropped; files stay"
        return build(model.DeleteModelResponse, success=True, message=message)

    async def _messages(
        self, entry: CachedEntry, file: CachedFile, chunks: ChunkWriter, size: int
    ) -> AsyncGenerator[bytes, None]:
        """One file from its beginning to its end; InternalError when it is not what was recorded."""
        offset = 0
        try:
            async with aclosing(read_pieces(self._cache, entry, file, piece_bytes=size)) as pieces:
                async for data in pieces:
                    yield chunks.message(data, offset=offset)
                    offset += len(data)
                    self._served(len(data))
        except IntegrityError as error:  # the contract's code for a cache that is not in order
            raise InternalError(error.message, remedy=error.remedy) from error


def _needed(request: model.ModelFilesRequest) -> bool | None:
    """An entry without weights can't answer for the whole model, but for files named one by one."""
    return None if request.ignore_weights or request.HasField("file_selector") else True


def _chosen(entry: CachedEntry, request: model.ModelFilesRequest) -> tuple[CachedFile, ...]:
    """The files asked for, sorted; NotFoundError when a selected one is missing."""
    files = entry.files
    if request.HasField("file_selector"):
        wanted = set(request.file_selector.paths)
        if missing := sorted(wanted - {file.path for file in files}):
            more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
            raise NotFoundError(f"{entry.key} has no file {missing[0][:200]!r}{more}")
        files = tuple(file for file in files if file.path in wanted)
    if request.ignore_weights:
        files = tuple(file for file in files if not is_weight_file(file.path))
    return files


async def never_silent(
    updates: AsyncGenerator[EnsureUpdate, None], *, within_s: float
) -> AsyncGenerator[EnsureUpdate, None]:
    """The updates, the newest one again whenever ``within_s`` went by without news. Closes ``updates``.

    Nothing is made up before the first one: until then an error may still be the answer.
    """
    newest: EnsureUpdate | None = None
    following: asyncio.Task[EnsureUpdate] | None = None
    try:
        while newest is None or not newest.is_last:
            following = following or asyncio.ensure_future(anext(updates))
            done, _ = await asyncio.wait({following}, timeout=within_s)
            if done:
                finished, following = following, None
                newest = finished.result()
            if newest is not None:
                yield newest
    finally:
        if following is not None:
            following.cancel()
            await asyncio.wait({following})
        await updates.aclose()
