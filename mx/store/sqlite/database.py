"""One SQLite file: opening it, writing in groups, reading beside the writer, wording its errors.

Writes of concurrent callers share a transaction: each caller queues its change and asks the
writer's thread to commit; the thread takes whatever is queued by then, so a lone caller never
waits and a crowd pays for one commit. A second connection reads, since in WAL mode readers and
the writer don't wait for each other.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, Generic, NoReturn, TypeVar, cast

import aiosqlite

from mx.errors import IntegrityError, UnavailableError
from mx.store.sqlite.failures import (
    LEFT_ALONE,
    LIBRARY_ERRORS,
    REPLACE_FILE,
    concerns_file,
    primary_code,
    translate,
)
from mx.store.sqlite.schema import PROBE, migrate, small_tables

T = TypeVar("T")

_GROUP_MAX = 512  # changes per transaction: bounds how long the write lock is held (about 20 ms)
_MAGIC = b"SQLite format 3\x00"
_CHECK_WHOLE_BYTES = 64 << 20
_WATCH_S = 0.3  # between two looks for changes: some 20 µs each
_FETCH_CHUNK = 64  # rows per hop when a cursor is iterated; we fetch whole pages instead


class _Change(Generic[T]):
    """A change somebody waits for; the writer's thread fills in result or error."""

    __slots__ = ("error", "result", "run")

    def __init__(self, run: Callable[[sqlite3.Connection], T]) -> None:
        self.run = run
        self.result: T | None = None
        self.error: Exception | None = None


class _WriterConnection(sqlite3.Connection):
    """``commit`` carries out everything queued at that moment, in order, in one transaction."""

    queued: deque[_Change[Any]]
    failing: bool = False

    def commit(self) -> None:
        group: list[_Change[Any]] = []
        while self.queued and len(group) < _GROUP_MAX:
            group.append(self.queued.popleft())
        if not group:
            return
        error = self._carry_out(group)
        if error is not None and len(group) > 1 and not concerns_file(error):
            # One of them can't be stored: its neighbours must not suffer for it.
            for change in group:
                change.error = self._carry_out([change])
        else:
            for change in group:
                change.error = error

    def _carry_out(self, group: Sequence[_Change[Any]]) -> Exception | None:
        try:
            self.execute("BEGIN IMMEDIATE")
            for change in group:
                change.result = change.run(self)
            self.execute("COMMIT")
        except Exception as error:  # noqa: BLE001  # whatever it is must reach the one who waits
            if self.in_transaction:
                self.execute("ROLLBACK")
            self.failing = concerns_file(error)
            return error
        self.failing = False
        return None


class Database:
    """An open file. Raises UnavailableError from every call once it can't be used any more."""

    def __init__(
        self,
        path: Path,
        *,
        writer: aiosqlite.Connection,
        reader: aiosqlite.Connection,
        queued: deque[_Change[Any]],
    ) -> None:
        self.path = path
        self._writer = writer
        self._reader = reader
        self._queued = queued
        self._file = _file_number(path)
        self._closed = False

    @classmethod
    async def open(cls, path: Path, *, busy_timeout_s: float = 5.0) -> Database:
        """Open or create, switch to WAL, migrate.

        Raises UnavailableError (folder missing, locked, disk full), PermissionDeniedError (not
        writable), IntegrityError (not a database, damaged) or PreconditionError (newer schema).
        A file that can't be used is left exactly as it was.
        """
        path = _locate(path)
        # Apart from the connections: aiosqlite's thread outlives a connect that failed, and would
        # answer into a loop that may be closed by then.
        try:
            await asyncio.to_thread(_prepare, path, busy_timeout_s)
        except sqlite3.Error as error:
            raise translate(error, path, opening=True) from error
        queued: deque[_Change[Any]] = deque()
        try:
            writer = await aiosqlite.Connection(
                lambda: _open_writer(path, queued, busy_timeout_s), _FETCH_CHUNK
            )
            try:
                reader = await aiosqlite.Connection(lambda: _open_reader(path, busy_timeout_s), _FETCH_CHUNK)
            except BaseException:
                await writer.close()
                raise
        except sqlite3.Error as error:
            raise translate(error, path, opening=True) from error
        return cls(path, writer=writer, reader=reader, queued=queued)

    async def write(self, run: Callable[[sqlite3.Connection], T]) -> T:
        """Carry ``run`` out in a transaction shared with others; its result once it is committed.

        ``run`` executes in the writer's thread, may be called twice (the first time rolled back)
        and must neither commit nor wait. A cancelled caller's change is still carried out.
        """
        change = _Change(run)
        self._queued.append(change)
        try:
            await self._writer.commit()
            if change.error is not None:
                raise change.error
        except LIBRARY_ERRORS as error:
            raise translate(error, self.path) from error
        return cast("T", change.result)

    async def read(self, sql: str, parameters: Sequence[object] = ()) -> Sequence[tuple[Any, ...]]:
        """All rows of one query; sees everything that was committed before the call."""
        try:
            rows = await self._reader.execute_fetchall(sql, parameters)
        except LIBRARY_ERRORS as error:
            raise translate(error, self.path) from error
        return cast("Sequence[tuple[Any, ...]]", rows)

    async def watch(self, tell: Callable[[None], None]) -> NoReturn:
        """Tell None at first and after every change by anyone, ourselves included, until cancelled.

        SQLite counts changes and does not name them. Outlives outages; UnavailableError once closed.
        """
        seen: int | None = None
        while True:
            try:
                # Counts what other connections commit, and the writer is another one than the reader.
                ((version,),) = await self.read("PRAGMA data_version")
            except UnavailableError:
                if self._closed:
                    raise
            else:
                if version != seen:
                    seen = version
                    tell(None)
            await asyncio.sleep(_WATCH_S)

    async def check(self) -> None:
        """The write lock can be had and the file is still the one that was opened."""
        await self.write(self._probe)

    def _probe(self, connection: sqlite3.Connection) -> None:
        if _file_number(self.path) != self._file:
            # The old file lives on without a name: whatever is written there is lost at exit.
            raise sqlite3.OperationalError("the file was deleted or replaced while it was open")
        if isinstance(connection, _WriterConnection) and connection.failing:
            # An empty transaction would not notice that the disk is still full: write a page.
            connection.execute(PROBE)

    async def close(self) -> None:
        """Finish what is queued, then close; a second call does nothing."""
        self._closed = True
        try:
            await self._writer.close()
        finally:
            await self._reader.close()


def _prepare(path: Path, busy_timeout_s: float) -> None:
    """Create, migrate, verify and switch to WAL; whatever may refuse the file comes before the switch."""
    _require_database_or_nothing(path)
    with closing(sqlite3.connect(path, timeout=busy_timeout_s, isolation_level=None)) as connection:
        _require_sound(connection, path)
        migrate(connection, path=str(path))
        _enter_wal(connection, busy_timeout_s)


def _open_writer(path: Path, queued: deque[_Change[Any]], busy_timeout_s: float) -> _WriterConnection:
    connection = sqlite3.connect(
        path, timeout=busy_timeout_s, isolation_level=None, factory=_WriterConnection
    )
    connection.queued = queued
    # WAL with NORMAL survives the death of the process at any point; a power cut may cost the
    # last moments: workers publish again, claims died with their owners, and models are found again
    # on the disk. FULL would sync the disk on every heartbeat.
    connection.execute("PRAGMA synchronous = NORMAL")
    connection.execute("PRAGMA journal_size_limit = 67108864")
    return connection


def _require_database_or_nothing(path: Path) -> None:
    # SQLite takes a file of a few bytes for an empty database and overwrites it.
    try:
        with path.open("rb") as file:
            head = file.read(len(_MAGIC))
    except OSError:
        return  # SQLite names the reason
    if head and head != _MAGIC:
        raise IntegrityError(f"database {path} is not a SQLite database; {LEFT_ALONE}", remedy=REPLACE_FILE)


def _require_sound(connection: sqlite3.Connection, path: Path) -> None:
    # Reading it whole takes a second per few GB of blobs: above the limit only the small rows.
    pages, page_bytes = (
        connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("page_count", "page_size")
    )
    if pages * page_bytes <= _CHECK_WHOLE_BYTES:
        checks = ["PRAGMA quick_check"]
    else:
        checks = [f"PRAGMA quick_check('{table}')" for table in small_tables(connection)]
    for check in checks:
        found = connection.execute(check).fetchone()[0]
        if found != "ok":
            detail = str(found).splitlines()[-1]
            raise IntegrityError(f"database {path} is damaged ({detail}); {LEFT_ALONE}", remedy=REPLACE_FILE)


def _open_reader(path: Path, busy_timeout_s: float) -> sqlite3.Connection:
    connection = sqlite3.connect(path, timeout=busy_timeout_s, isolation_level=None)
    connection.execute("PRAGMA query_only = ON")
    return connection


def _enter_wal(connection: sqlite3.Connection, busy_timeout_s: float) -> None:
    # SQLite does not wait by itself while another process switches the same file.
    deadline = time.monotonic() + busy_timeout_s
    while True:
        try:
            mode = connection.execute("PRAGMA journal_mode = WAL").fetchone()[0]
            break
        except sqlite3.OperationalError as error:
            if primary_code(error) != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise
            time.sleep(0.02)
    if mode != "wal":
        raise sqlite3.OperationalError(
            f"the file system does not support write-ahead logging (journal mode stays {mode})"
        )


def _locate(path: Path) -> Path:
    """Absolute, so that a later change of folder does not matter and ``:memory:`` is a file name."""
    return path.expanduser().absolute()


def _file_number(path: Path) -> tuple[int, int] | None:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino
