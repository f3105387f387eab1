"""A file that bytes arrive for: opened safely, appended in threads, checked at the end.

Receiving and writing overlap: while a thread writes (and hashes) one batch, the next one gathers,
so a file on its way holds two batches in memory at most.
"""

from __future__ import annotations

import asyncio
import errno
import os
import stat
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import Executor
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import TypeVar

from mx.core.model import ListedFile
from mx.core.units import format_size
from mx.errors import (
    ExhaustedError,
    IntegrityError,
    InternalError,
    MxError,
    PermissionDeniedError,
    UnavailableError,
)
from mx.ports import Progress
from mx.providers.digests import Bytes, running_digest

T = TypeVar("T")

_BATCH_BYTES = 4 << 20
_READ_BYTES = 8 << 20
_PARTS = 1024  # what one pwritev takes (IOV_MAX)


async def in_thread(
    threads: Executor, call: Callable[..., T], *args: object, undo: Callable[[T], None] | None = None
) -> T:
    """Run a short blocking call. A cancelled caller leaves only when it has ended: it may be writing.

    ``undo`` takes the result that a cancelled caller will not see.
    """
    return await to_the_end(asyncio.get_running_loop().run_in_executor(threads, call, *args), undo=undo)


async def to_the_end(future: asyncio.Future[T], *, undo: Callable[[T], None] | None = None) -> T:
    """The result; when we are cancelled in between, CancelledError, but not before there is one."""
    cancelled = False
    while not future.done():
        try:
            await asyncio.wait({future})
        except asyncio.CancelledError:
            cancelled = True
    if cancelled:
        # Looking at the exception also keeps asyncio from complaining that nobody did.
        if not future.cancelled() and future.exception() is None and undo is not None:
            undo(future.result())
        raise asyncio.CancelledError
    return future.result()


class Landing:
    """One file being filled; see ``open_landing``."""

    def __init__(
        self, file: ListedFile, into: Path, *, fd: int, threads: Executor, progress: Progress, verify: bool
    ) -> None:
        self.file = file
        self.offset = 0
        self._into = into
        self._fd = fd
        self._threads = threads
        self._progress = progress
        self._digest = running_digest(file.digest, size_bytes=file.size_bytes) if verify else None
        self._parts: list[Bytes] = []
        self._gathered = 0
        self._written = 0
        self._broken = False
        self._writing: asyncio.Task[None] | None = None

    @property
    def missing_bytes(self) -> int:
        return self.file.size_bytes - self.offset

    async def resume(self, offset: int) -> None:
        """Take the first ``offset`` bytes of the file over, and drop what comes after them."""
        await self._run(os.ftruncate, self._fd, offset)
        while self._digest is not None and self.offset < offset:
            data = await self._run(os.pread, self._fd, min(_READ_BYTES, offset - self.offset), self.offset)
            if not data:
                raise UnavailableError(f"{self._into} was cut by somebody else while it was resumed")
            await self._run(self._digest.update, data)
            self.offset += len(data)
        self.offset = self._written = offset

    async def add(self, data: Bytes) -> None:
        """Append bytes; returns before they are written. IntegrityError when there are too many."""
        if len(data) > self.missing_bytes:
            raise IntegrityError(
                f"{self.file.path}: more bytes came than the {self.file.size_bytes} that were listed"
            )
        self.offset += len(data)
        self._parts.append(data)
        self._gathered += len(data)
        if self._gathered >= _BATCH_BYTES:
            await self._settle()
            self._writing = asyncio.create_task(self._write(self._take()), name="write a batch")

    async def step(self, move: Callable[[int, int], int]) -> int:
        """Let ``move(fd, offset)`` put bytes there, in a thread; how many. Not where digests count."""
        moved = await self._run(move, self._fd, self.offset)
        self.offset += moved
        self._written = self.offset
        if moved:
            self._progress(moved)
        return moved

    async def flush(self) -> None:
        """Write everything that came. After a failure nothing more is written: it would leave a hole."""
        await self._settle()
        if self._gathered and not self._broken:
            await self._write(self._take())

    async def finish(self) -> None:
        """The file is whole: IntegrityError, and nothing is kept, when its digest is another one."""
        await self.flush()
        found = await self._run(os.fstat, self._fd)
        if found.st_size != self.file.size_bytes:
            raise IntegrityError(
                f"{self.file.path}: {found.st_size} bytes are on disk, {self.file.size_bytes} were listed"
            )
        if self._digest is None:
            return
        algorithm, _, expected = self.file.digest.partition(":")
        actual = self._digest.hexdigest()
        if actual != expected:
            await self.discard()
            raise IntegrityError(
                f"{self.file.path}: the bytes that came have {algorithm} {actual}, not {expected}",
                remedy="download again; if it happens again, a proxy or mirror on the way changes files",
            )

    async def discard(self) -> None:
        """Throw away what is there, so that nothing resumes from it."""
        await self._settle()
        self._take()
        self.offset = self._written = 0
        await self._run(os.ftruncate, self._fd, 0)

    async def close(self) -> None:
        """Keep what came as far as the disk takes it; never raises an MxError."""
        await to_the_end(asyncio.create_task(self._close(), name="close a landing"))

    async def _close(self) -> None:
        try:
            with suppress(MxError):
                await self.flush()
        finally:
            os.close(self._fd)

    def _take(self) -> list[Bytes]:
        parts, self._parts, self._gathered = self._parts, [], 0
        return parts

    async def _settle(self) -> None:
        writing, self._writing = self._writing, None
        if writing is not None:
            await to_the_end(writing)

    async def _write(self, parts: Sequence[Bytes]) -> None:
        try:
            written = await self._run(self._write_now, parts, self._written)
        except MxError:
            self._broken = True
            raise
        self._written += written
        self._progress(written)

    def _write_now(self, parts: Sequence[Bytes], begin: int) -> int:
        offset = begin
        for at in range(0, len(parts), _PARTS):
            some = parts[at : at + _PARTS]
            written = os.pwritev(self._fd, some, offset)
            rest = memoryview(b"".join(some))[written:] if written < sum(map(len, some)) else None
            offset += written
            while rest:
                written = os.pwrite(self._fd, rest, offset)
                rest, offset = rest[written:], offset + written
        if self._digest is not None:
            for part in parts:
                self._digest.update(part)
        return offset - begin

    async def _run(self, call: Callable[..., T], *args: object) -> T:
        try:
            return await in_thread(self._threads, call, *args)
        except OSError as error:
            raise disk_error(error, self._into, self.file) from error


@asynccontextmanager
async def open_landing(
    file: ListedFile,
    into: Path,
    *,
    offset: int,
    threads: Executor,
    progress: Progress,
    verify: bool = False,
) -> AsyncIterator[Landing]:
    """``into`` with its first ``offset`` bytes kept. What arrived is on disk when the body ends.

    ``verify``: ``finish`` also compares the digest that the listing names.
    """
    try:
        fd = await in_thread(threads, _open, into, offset, undo=os.close)
    except OSError as error:
        raise disk_error(error, into, file) from error
    landing = Landing(file, into, fd=fd, threads=threads, progress=progress, verify=verify)
    try:
        await landing.resume(offset)
        yield landing
    finally:
        await landing.close()


def _open(into: Path, offset: int) -> int:
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
    fd = os.open(into, flags, 0o644)
    found = os.fstat(fd)
    if stat.S_ISREG(found.st_mode) and found.st_nlink == 1 and found.st_size >= offset:
        return fd
    os.close(fd)
    if not stat.S_ISREG(found.st_mode):
        raise InternalError(f"{into} is no regular file; it was left as it is")
    if found.st_size < offset:
        raise InternalError(f"{into} holds {found.st_size} bytes, fewer than the {offset} to resume from")
    if offset:
        raise InternalError(f"{into} has other names; bytes can't be appended to it")
    # Somebody else's file by another name (a hard link made earlier): never write into it.
    os.unlink(into)
    return os.open(into, flags | os.O_EXCL, 0o644)


def disk_error(error: OSError, path: Path, file: ListedFile) -> MxError:
    """What the disk refused, in our words."""
    reason = error.strerror or str(error)
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return ExhaustedError(
            f"{file.path} ({format_size(file.size_bytes)}) does not fit at {path.parent}: {reason}",
            remedy="free space, or evict models: mx cache evict",
        )
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS, errno.ELOOP):
        return PermissionDeniedError(f"{path} can't be written: {reason}", remedy="mend the cache directory")
    return UnavailableError(f"{path} can't be written: {reason}")
