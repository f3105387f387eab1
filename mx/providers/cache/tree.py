"""Folders held by descriptor: no step through a link, and every change announced before it happens.

A path from outside never reaches the operating system whole: each part is opened below the one
before it with O_NOFOLLOW, so neither ``..`` nor a planted link leads out of the root.
"""

from __future__ import annotations

import errno
import os
import stat
import uuid
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

# Told the name of every change before it is made; tests end the process there.
Step = Callable[[str], None]

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_NOFOLLOW | os.O_CLOEXEC
_LINKLESS = frozenset({errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EMLINK, errno.EXDEV, errno.ENOSYS})


def no_step(_name: str) -> None: ...


def fresh_name(suffix: str = "") -> str:
    """A name nobody else uses, marked as ours."""
    return f".mx-{uuid.uuid4().hex}{suffix}"


class Folder:
    """An open folder. Names are single parts; close it, or use it as a context manager.

    With a ``prefix`` every call names a folder below the open one anew, and so fails once that
    folder was renamed: how a download notices that it was taken over. ``only`` are the names that
    walks see; None sees all.
    """

    __slots__ = ("fd", "only", "path", "prefix", "step")

    def __init__(
        self, fd: int, path: Path, step: Step, *, prefix: str = "", only: frozenset[str] | None = None
    ) -> None:
        self.fd = fd
        self.path = path
        self.step = step
        self.prefix = prefix
        self.only = only

    def within(self, name: str) -> Folder:
        """The folder below by its name, not by what the name means now."""
        return Folder(os.dup(self.fd), self.path / name, self.step, prefix=f"{name}/")

    @classmethod
    def open_root(cls, root: Path, *, step: Step, only: frozenset[str] | None = None) -> Folder:
        """The root may itself be reached through links: where it is, is the operator's choice."""
        return cls(os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC), root, step, only=only)

    def __enter__(self) -> Folder:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    def child(self, *names: str, create: bool = False) -> Folder:
        """A folder below. FileNotFoundError without ``create``; a link on the way is an OSError."""
        here = Folder(os.dup(self.fd), self.path, self.step, prefix=self.prefix)
        for name in names:
            try:
                fd = (
                    _open_made(here, name) if create else os.open(here.prefix + name, _FOLDER, dir_fd=here.fd)
                )
            except OSError as error:
                error.filename = str(here.path / name)
                raise
            finally:
                here.close()
            here = Folder(fd, here.path / name, self.step)
        return here

    def find(self, *names: str) -> Folder | None:
        """The folder below, or None when there is none (or something else has its name)."""
        try:
            return self.child(*names)
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
                return None
            raise

    def entries(self) -> Iterator[os.DirEntry[str]]:
        """What lies here at this moment, in no order."""
        fd = os.open(self.prefix or ".", _FOLDER, dir_fd=self.fd)
        try:
            with os.scandir(fd) as found:
                yield from [entry for entry in found if self.only is None or entry.name in self.only]
        finally:
            os.close(fd)

    def names(self) -> list[str]:
        return sorted(entry.name for entry in self.entries())

    def lstat(self, name: str) -> os.stat_result | None:
        try:
            return os.stat(self.prefix + name, dir_fd=self.fd, follow_symlinks=False)
        except (FileNotFoundError, NotADirectoryError):
            return None

    def regular(self, name: str) -> os.stat_result | None:
        """The state of a regular file; None for anything else, links included."""
        found = self.lstat(name)
        return found if found is not None and stat.S_ISREG(found.st_mode) else None

    def readlink(self, name: str) -> str | None:
        try:
            return os.readlink(self.prefix + name, dir_fd=self.fd)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            if error.errno == errno.EINVAL:
                return None
            raise

    def open(self, name: str, flags: int = os.O_RDONLY) -> int:
        return os.open(self.prefix + name, flags | _FILE, 0o666, dir_fd=self.fd)

    def read(self, name: str, *, most_bytes: int) -> bytes | None:
        """A small file whole; None when there is none, it is no file, or it is larger than that."""
        try:
            fd = self.open(name, os.O_RDONLY | os.O_NONBLOCK)
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.ELOOP, errno.ENOTDIR, errno.ENXIO):
                return None
            raise
        found = os.fstat(fd)
        if not stat.S_ISREG(found.st_mode) or found.st_size > most_bytes:
            os.close(fd)
            return None
        with os.fdopen(fd, "rb") as file:
            return file.read(most_bytes + 1)

    def write(self, name: str, data: bytes, *, sync: bool = True) -> None:
        """A new file with these bytes, on the disk when this returns; FileExistsError if there is one."""
        self.step(f"write {name}")
        with os.fdopen(self.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL), "wb") as file:
            file.write(data)
            file.flush()
            if sync:
                os.fsync(file.fileno())

    def replace(self, name: str, data: bytes) -> None:
        """The file holds these bytes or the old ones, never a part, whenever the machine stops."""
        temporary = fresh_name(".tmp")
        try:
            self.write(temporary, data)
            self.rename(temporary, self, name)
        except BaseException:
            with suppress(OSError):
                os.unlink(self.prefix + temporary, dir_fd=self.fd)
            raise
        self.sync()

    def rename(self, name: str, into: Folder, new: str) -> None:
        self.step(f"rename {new}")
        os.rename(self.prefix + name, into.prefix + new, src_dir_fd=self.fd, dst_dir_fd=into.fd)

    def link(self, name: str, into: Folder, new: str) -> bool:
        """A second name for a file; False where the file system has none. FileExistsError if taken."""
        try:
            self.step(f"link {new}")
            os.link(
                self.prefix + name,
                into.prefix + new,
                src_dir_fd=self.fd,
                dst_dir_fd=into.fd,
                follow_symlinks=False,
            )
        except OSError as error:
            if error.errno in _LINKLESS:
                return False
            raise
        return True

    def symlink(self, target: str, name: str) -> None:
        self.step(f"symlink {name}")
        os.symlink(target, self.prefix + name, dir_fd=self.fd)

    def unlink(self, name: str) -> int:
        """Delete a file or link; the bytes the disk gains: none while it has another name."""
        found = self.lstat(name)
        if found is None:
            return 0
        self.step(f"unlink {name}")
        try:
            os.unlink(self.prefix + name, dir_fd=self.fd)
        except FileNotFoundError:
            return 0
        return found.st_blocks * 512 if found.st_nlink == 1 else 0

    def rmdir(self, name: str) -> bool:
        """Delete a folder if it is empty."""
        self.step(f"rmdir {name}")
        try:
            os.rmdir(self.prefix + name, dir_fd=self.fd)
        except FileNotFoundError:
            return True
        except OSError as error:
            if error.errno in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR, errno.EBUSY):
                return False
            raise
        return True

    def remove_tree(self, name: str) -> int:
        """Delete whatever has this name, links as links; the bytes the disk gains."""
        found = self.lstat(name)
        if found is None:
            return 0
        if not stat.S_ISDIR(found.st_mode):
            return self.unlink(name)
        freed = 0
        below = self.find(name)
        if below is not None:
            with below:
                for entry in below.entries():
                    freed += below.remove_tree(entry.name)
        self.rmdir(name)
        return freed

    def sync(self) -> None:
        """What was made, renamed and deleted here survives a power cut."""
        self.step(f"sync {self.path.name}")
        fd = os.open(self.prefix or ".", _FOLDER, dir_fd=self.fd)
        try:
            os.fsync(fd)
        except OSError as error:
            if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # some network file systems have none
                raise
        finally:
            os.close(fd)


@dataclass(frozen=True, slots=True)
class Site:
    """Where a cache is and what it takes from outside: ``now_ms`` and ``step``.

    ``only`` are the names below the root that belong to it, where others share the root.
    """

    root: Path
    now_ms: Callable[[], int]
    step: Step = no_step
    only: frozenset[str] | None = None

    def open(self) -> Folder:
        return Folder.open_root(self.root, step=self.step, only=self.only)


class Folders:
    """Folders below one folder, each opened once; for walks over many files."""

    def __init__(self, base: Folder) -> None:
        self._base = base
        self._open: dict[tuple[str, ...], Folder | None] = {}

    def __enter__(self) -> Folders:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for folder in self._open.values():
            if folder is not None:
                folder.close()
        self._open.clear()

    def of(self, path: str, *, create: bool = False) -> tuple[Folder | None, str]:
        """The folder that holds ``path`` (None when it is not there) and the last part."""
        *parents, name = path.split("/")
        key = tuple(parents)
        folder = self._open.get(key)
        if folder is None and (create or key not in self._open):
            folder = self._base.child(*parents, create=True) if create else self._base.find(*parents)
            self._open[key] = folder
        return folder, name

    def made(self, path: str) -> tuple[Folder, str]:
        folder, name = self.of(path, create=True)
        assert folder is not None
        return folder, name

    def regular(self, path: str) -> os.stat_result | None:
        folder, name = self.of(path)
        return None if folder is None else folder.regular(name)

    def sync(self) -> None:
        for folder in self._open.values():
            if folder is not None:
                folder.sync()


def _open_made(here: Folder, name: str) -> int:
    # Between mkdir and open a remover may take the empty folder away again.
    for _ in range(100):
        try:
            return os.open(here.prefix + name, _FOLDER, dir_fd=here.fd)
        except FileNotFoundError:
            here.step(f"mkdir {name}")
            with suppress(FileExistsError):
                os.mkdir(here.prefix + name, dir_fd=here.fd)
                here.sync()
    raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), name)
