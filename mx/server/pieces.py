"""Files of the cache in pieces: read ahead by one block, in threads, in bounded memory."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator

from mx.core.cached import CachedEntry, CachedFile
from mx.errors import IntegrityError
from mx.ports import EntryCache
from mx.services.threads import in_thread

# A step to a thread costs more than 32 KiB: small pieces are cut from a block of this size.
_BLOCK_BYTES = 1024 * 1024


async def read_pieces(
    cache: EntryCache, entry: CachedEntry, file: CachedFile, *, piece_bytes: int
) -> AsyncGenerator[bytes, None]:
    """The file in pieces of at most ``piece_bytes``; one empty piece for an empty file.

    Two blocks are in memory at most. Raises what ``open_file`` raises, and IntegrityError when the
    file changes or can't be read; then its last piece was not given.
    """
    fd = await in_thread(cache.open_file, entry, file.path)
    ahead: asyncio.Task[bytes] | None = None
    try:
        begin = os.fstat(fd)
        if not file.size_bytes:
            yield b""
            return
        block_bytes = max(piece_bytes, _BLOCK_BYTES // piece_bytes * piece_bytes)
        offset = 0
        ahead = asyncio.ensure_future(in_thread(_pread, fd, _next(file, 0, block_bytes), 0))
        while offset < file.size_bytes:
            block = await _read(ahead, entry, file)
            want = _next(file, offset, block_bytes)
            offset += want
            if len(block) != want:
                raise _changed(entry, file)
            if offset < file.size_bytes:
                following = _next(file, offset, block_bytes)
                ahead = asyncio.ensure_future(in_thread(_pread, fd, following, offset))
            else:
                end = os.fstat(fd)
                if (end.st_size, end.st_mtime_ns) != (file.size_bytes, begin.st_mtime_ns):
                    raise _changed(entry, file)
            for at in range(0, want, piece_bytes):
                yield block if want <= piece_bytes else block[at : at + piece_bytes]
    finally:
        if ahead is not None and not ahead.done():
            # The descriptor must outlive the read: its number may be another file's in a moment.
            ahead.cancel()
            await asyncio.wait({ahead})
        os.close(fd)


def _next(file: CachedFile, offset: int, block_bytes: int) -> int:
    return min(block_bytes, file.size_bytes - offset)


def _pread(fd: int, want: int, offset: int) -> bytes:
    """So many bytes, fewer only at the end of the file: a network file system may give them in parts."""
    data = os.pread(fd, want, offset)
    while len(data) < want and (more := os.pread(fd, want - len(data), offset + len(data))):
        data += more
    return data


async def _read(ahead: asyncio.Task[bytes], entry: CachedEntry, file: CachedFile) -> bytes:
    try:
        return await ahead
    except OSError as error:
        raise IntegrityError(f"{file.path} of {entry.key} can't be read: {error.strerror}") from error


def _changed(entry: CachedEntry, file: CachedFile) -> IntegrityError:
    return IntegrityError(
        f"{file.path} of {entry.key} changed while it was read",
        remedy="nothing but mx may write into the cache",
    )
