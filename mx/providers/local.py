"""Models in directories of this machine, and only below the roots that were opened to callers.

A name is resolved to its real path first; what counts is where that lies, so a link may lead
anywhere within the roots and nowhere else. Files are then opened folder by folder without following
links: what was checked is what is read, whoever changes the tree in between.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from mx.core.model import (
    EntryKey,
    ListedFile,
    Listing,
    ModelRef,
    ProviderName,
    is_kept_file,
    safe_relative_path,
)
from mx.errors import (
    InvalidArgumentError,
    MxError,
    NotFoundError,
    PermissionDeniedError,
    PreconditionError,
    UnavailableError,
)
from mx.ports import Progress
from mx.providers.landing import Landing, disk_error, in_thread, open_landing

_COPY_BYTES = 64 << 20  # of one step: bounds how long a cancelled copy goes on
_READ_BYTES = 4 << 20
_FICLONE = 0x40049409  # linux/fs.h: _IOW(0x94, 9, int)
_NOT_HERE = frozenset({errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTTY, errno.EPERM})


class LocalProvider:
    """``mx.ports.Provider`` over directories. Commits are "": a directory has no history.

    Files are cloned (reflink) where the file system can, hard-linked where it can and ``hard_links``
    allows it, copied elsewhere. A hard link shares its bytes with the original: whoever changes
    that in place changes the cached file too.
    """

    name = ProviderName.LOCAL

    def __init__(self, *, roots: Sequence[Path], hard_links: bool = True) -> None:
        self._roots = tuple(roots)
        self._hard_links = hard_links
        self._threads = ThreadPoolExecutor(max_workers=4, thread_name_prefix="mx-local")

    async def resolve(self, ref: ModelRef) -> str:
        if ref.revision is not None:
            raise InvalidArgumentError(
                f"{ref.name} is a directory; it has no revisions, and {ref.revision!r} is one"
            )
        await in_thread(self._threads, self._directory, ref.name)
        return ""

    async def list_files(self, key: EntryKey) -> Listing:
        files = await in_thread(self._threads, self._list, key)
        return Listing(key, files)

    async def fetch(
        self, key: EntryKey, file: ListedFile, into: Path, *, offset: int, progress: Progress
    ) -> None:
        source = await in_thread(self._threads, self._open_source, key, file, undo=os.close)
        try:
            if offset == 0 and await self._clone_or_link(source, file, into, progress=progress):
                pass
            else:
                async with open_landing(
                    file, into, offset=offset, threads=self._threads, progress=progress
                ) as landing:
                    await _copy(source, landing)
                    await landing.finish()
            _require_unchanged(source, file, key)
        finally:
            os.close(source)

    async def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def _clone_or_link(self, source: int, file: ListedFile, into: Path, *, progress: Progress) -> bool:
        if file.size_bytes == 0:
            return False
        async with open_landing(file, into, offset=0, threads=self._threads, progress=progress) as landing:
            if await landing.step(partial(_clone, source, file.size_bytes)):
                await landing.finish()
                return True
        # The cache opens what it verifies for writing (to sync it), so a link must allow that.
        if not self._hard_links or not os.access(f"/proc/self/fd/{source}", os.W_OK):
            return False
        try:
            linked = await in_thread(self._threads, _hard_link, source, into)
        except OSError as error:
            raise disk_error(error, into, file) from error
        if linked:
            progress(file.size_bytes)
        return linked

    def _real(self, path: str) -> tuple[Path, str]:
        """The root that a path really lies below, and the rest of it.

        The refusal is the same whether there is anything or not: it must not tell what exists.
        """
        if not self._roots:
            raise PermissionDeniedError(
                f"{path}: no directory of this machine is open to callers",
                remedy="providers.local.roots (MODEL_EXPRESS_PROVIDERS_LOCAL_ROOTS) names those that are",
            )
        real = os.path.realpath(path)
        for root in self._roots:
            top = os.path.realpath(root)
            if real == top or real.startswith(top.rstrip("/") + "/"):
                return Path(top), os.path.relpath(real, top)
        raise PermissionDeniedError(
            f"{path} is not below a directory that is open to callers",
            remedy="providers.local.roots (MODEL_EXPRESS_PROVIDERS_LOCAL_ROOTS) names those that are",
        )

    def _open(self, path: str, *, directory: bool) -> int:
        root, rest = self._real(path)
        try:
            return _open_below(root, rest, directory=directory)
        except OSError as error:
            raise _source_error(error, path) from error

    def _directory(self, name: str) -> None:
        os.close(self._open(name, directory=True))

    def _list(self, key: EntryKey) -> tuple[ListedFile, ...]:
        top = self._open(key.name, directory=True)
        try:
            found = sorted(self._walk(top, "", key), key=lambda file: file.path)
        except OSError as error:
            raise _source_error(error, key.name) from error
        finally:
            os.close(top)
        return tuple(found)

    def _walk(self, folder: int, prefix: str, key: EntryKey) -> Iterator[ListedFile]:
        with os.scandir(folder) as entries:
            for entry in entries:
                path = prefix + entry.name
                is_folder = entry.is_dir(follow_symlinks=False)
                # A folder is asked for as if it held a file of its own name, so hidden ones go.
                if not is_kept_file(path, weights=key.weights or is_folder):
                    continue
                if is_folder:
                    inner = os.open(entry.name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=folder)
                    try:
                        yield from self._walk(inner, f"{path}/", key)
                    finally:
                        os.close(inner)
                elif entry.is_file(follow_symlinks=False):
                    yield _listed(path, entry.stat(follow_symlinks=False))
                elif entry.is_symlink():
                    yield self._linked(path, key)

    def _linked(self, path: str, key: EntryKey) -> ListedFile:
        source = self._open(f"{key.name}/{path}", directory=False)
        try:
            return _listed(path, os.fstat(source))
        finally:
            os.close(source)

    def _open_source(self, key: EntryKey, file: ListedFile) -> int:
        source = self._open(f"{key.name}/{safe_relative_path(file.path)}", directory=False)
        try:
            _require_unchanged(source, file, key)
        except MxError:
            os.close(source)
            raise
        return source


def _open_below(root: Path, rest: str, *, directory: bool) -> int:
    """Open ``rest`` below ``root``, following no link on the way."""
    folder = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        *parents, last = rest.split("/")
        for part in parents:
            inner = os.open(part, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
            os.close(folder)
            folder = inner
        # O_NONBLOCK: a pipe must not hold us; it means nothing for files.
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
        found = os.open(last, flags | (os.O_DIRECTORY if directory else 0), dir_fd=folder)
    finally:
        os.close(folder)
    if not directory and not stat.S_ISREG(os.fstat(found).st_mode):
        os.close(found)
        raise OSError(errno.EISDIR, "it is no regular file")
    return found


def _listed(path: str, found: os.stat_result) -> ListedFile:
    try:
        path.encode()
    except UnicodeEncodeError:
        raise InvalidArgumentError(f"{path!r} is no UTF-8 name; rename the file") from None
    return ListedFile(safe_relative_path(path), found.st_size, etag=_etag(found))


def _etag(found: os.stat_result) -> str:
    return f"{found.st_mtime_ns:x}-{found.st_size:x}-{found.st_ino:x}"


def _require_unchanged(source: int, file: ListedFile, key: EntryKey) -> None:
    if _etag(os.fstat(source)) != file.etag:
        raise PreconditionError(
            f"{key}: {file.path} changed since it was listed",
            remedy="wait until it is written, then ask again",
        )


def _clone(source: int, size_bytes: int, into: int, offset: int) -> int:
    try:
        fcntl.ioctl(into, _FICLONE, source)
    except OSError as error:
        if error.errno in _NOT_HERE:
            return 0
        raise
    return size_bytes


def _hard_link(source: int, into: Path) -> bool:
    """Give the open file the name ``into`` as well; False where the file system or its rules don't."""
    folder = os.open(into.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.unlink(into.name, dir_fd=folder)
        # By descriptor, not by path: the very file that was checked. A folder descriptor makes
        # Python use linkat, which is what follows the link in /proc.
        os.link(f"/proc/self/fd/{source}", into.name, dst_dir_fd=folder)
    except OSError as error:
        if error.errno in _NOT_HERE or error.errno in (errno.EMLINK, errno.EACCES, errno.ENOENT):
            return False
        raise
    finally:
        os.close(folder)
    return True


async def _copy(source: int, landing: Landing) -> None:
    ranged = True
    while landing.missing_bytes:
        count = min(_COPY_BYTES, landing.missing_bytes)
        copy = _copy_range if ranged else _read_write
        try:
            moved = await landing.step(partial(copy, source, count))
        except _UnsupportedError:
            ranged = False
            continue
        if not moved:
            await landing.discard()
            raise PreconditionError(
                f"{landing.file.path} ended after {landing.offset} of {landing.file.size_bytes} bytes",
                remedy="wait until it is written, then ask again",
            )


class _UnsupportedError(Exception):
    """The kernel can't copy between these two files by itself."""


def _copy_range(source: int, count: int, into: int, offset: int) -> int:
    try:
        return os.copy_file_range(source, into, count, offset, offset)
    except OSError as error:
        if error.errno in _NOT_HERE:
            raise _UnsupportedError from error
        raise


def _read_write(source: int, count: int, into: int, offset: int) -> int:
    data = os.pread(source, min(count, _READ_BYTES), offset)
    view, at = memoryview(data), offset
    while view:
        written = os.pwrite(into, view, at)
        view, at = view[written:], at + written
    return len(data)


def _source_error(error: OSError, path: str) -> MxError:
    match error.errno:
        case errno.ENOENT | errno.ENOTDIR:
            return NotFoundError(f"{path} does not exist, or is no directory", remedy="check the path")
        case errno.EISDIR:
            return InvalidArgumentError(
                f"{path} is no regular file", remedy="name a directory of plain files"
            )
        case errno.EACCES | errno.EPERM:
            return PermissionDeniedError(f"{path} can't be read: {error.strerror}")
        case errno.ELOOP:
            return PermissionDeniedError(f"{path} became a link while it was read", remedy="try again")
    return UnavailableError(f"{path} can't be read: {error.strerror or error}")
