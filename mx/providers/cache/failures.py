"""The operating system's errors in our words: what happened, to which path, what to do."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mx.errors import (
    ConflictError,
    ExhaustedError,
    InvalidArgumentError,
    MxError,
    PermissionDeniedError,
    UnavailableError,
)

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_DENIED = frozenset({errno.EACCES, errno.EPERM, errno.EROFS})
_IN_THE_WAY = frozenset({errno.ELOOP, errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENOTEMPTY})


def translate(error: OSError, *, what: str, root: Path) -> MxError:
    """The one table from errno to our errors."""
    reason = (error.strerror or str(error)).lower()
    path = error.filename if isinstance(error.filename, str) else ""
    at = f" at {path!r}" if path else ""
    if error.errno in _FULL:
        return ExhaustedError(
            f"{what}: no room in the cache {root} ({reason})",
            remedy="free space there (mx cache evict), or put the cache on a larger disk",
        )
    if error.errno in _DENIED:
        return PermissionDeniedError(
            f"{what}: the cache {root} denies it{at} ({reason})",
            remedy="let this user write there, or set cache.directory to another folder",
        )
    if error.errno in (errno.ENAMETOOLONG, errno.EILSEQ):
        return InvalidArgumentError(f"{what}: the cache {root} can't hold a name this long or of this kind")
    if error.errno in _IN_THE_WAY:
        return ConflictError(
            f"{what}: a link, file or folder is in the way below {root}{at} ({reason})",
            remedy="mx neither follows nor replaces it: move it away",
        )
    return UnavailableError(f"{what}: the cache {root} can't be used{at} ({reason})")


@contextmanager
def disk_errors(what: str, root: Path) -> Iterator[None]:
    """Everything the disk refuses inside becomes an MxError that says what was being done."""
    try:
        yield
    except OSError as error:
        raise translate(error, what=what, root=root) from error
