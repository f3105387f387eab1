"""SQLite's errors in our words: what happened, to which file, what to do."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from mx.errors import (
    IntegrityError,
    InvalidArgumentError,
    MxError,
    PermissionDeniedError,
    UnavailableError,
)

# sqlite3 raises the first three; aiosqlite a plain ValueError once the connection is closed.
LIBRARY_ERRORS = (sqlite3.Error, OverflowError, UnicodeError, ValueError)


def primary_code(error: Exception) -> int:
    return int(getattr(error, "sqlite_errorcode", None) or 0) & 0xFF


_FILE_CODES = frozenset(
    {
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_LOCKED,
        sqlite3.SQLITE_READONLY,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_CORRUPT,
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_PERM,
        sqlite3.SQLITE_NOTADB,
        sqlite3.SQLITE_NOMEM,
    }
)


def concerns_file(error: Exception) -> bool:
    """Whether the next change would fail just as well."""
    return primary_code(error) in _FILE_CODES


LEFT_ALONE = "it was left as it is"
REPLACE_FILE = (
    "set database.path to another file, or stop every mx server that uses this one, move it aside with "
    "its -wal and -shm files and start again: running workers publish themselves anew, and models in the "
    "cache are found again without their pins"
)
OTHER_FILE = "set database.path to a file on a local disk that this user may write"


def translate(error: Exception, path: Path, *, opening: bool = False) -> MxError:
    """The one table from SQLite's errors to ours. While running, every one means unavailable."""
    code = primary_code(error)
    if isinstance(error, (OverflowError, UnicodeError)):
        return InvalidArgumentError(f"a value can't be stored: {error}")
    if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
        what = "is not a SQLite database" if code == sqlite3.SQLITE_NOTADB else "is damaged"
        kind = IntegrityError if opening else UnavailableError
        return kind(f"database {path} {what}; {LEFT_ALONE}", remedy=REPLACE_FILE)
    if code in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM):
        denied = PermissionDeniedError if opening else UnavailableError
        return denied(f"database {path} can't be written: {error}", remedy=OTHER_FILE)
    if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return UnavailableError(
            f"database {path} is locked by another process",
            remedy=f"end the process that holds it (lsof {path} names it), or try again later",
        )
    if code == sqlite3.SQLITE_FULL:
        return UnavailableError(
            f"database {path} can't grow: the disk is full", remedy=f"free space on {path.parent}"
        )
    if code == sqlite3.SQLITE_CANTOPEN:
        return _cannot_open(path, opening=opening)
    if opening and code == sqlite3.SQLITE_ERROR:
        return IntegrityError(
            f"database {path} holds tables that this mx did not make ({error}); {LEFT_ALONE}",
            remedy=REPLACE_FILE,
        )
    if isinstance(error, ValueError):
        return UnavailableError(f"database {path} is closed")
    return UnavailableError(f"database {path} failed: {error}", remedy=OTHER_FILE if opening else "")


def _cannot_open(path: Path, *, opening: bool) -> MxError:
    if path.is_dir():
        return UnavailableError(
            f"database {path} can't be opened: it is a folder", remedy="set database.path to a file"
        )
    if not path.parent.is_dir():
        return UnavailableError(
            f"database {path} can't be opened: there is no folder {path.parent}",
            remedy=f"create it (mkdir -p {path.parent}), or set database.path",
        )
    denied = PermissionDeniedError if opening else UnavailableError
    return denied(f"database {path} can't be opened: {path.parent} or the file denies it", remedy=OTHER_FILE)
