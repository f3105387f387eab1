"""``mx.ports.EventStore`` over SQLite: for servers of one machine that share a file."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path

from mx.core.feed import Event, EventKind
from mx.core.feed_events import same_happening
from mx.ports import EVENT_FOLD_S, EVENTS_KEPT
from mx.store.packed_event import pack_event, unpack_event
from mx.store.sqlite.database import Database

_FOLD_MS = round(EVENT_FOLD_S * 1000)
_SOME = 1_000

_APPEND = """
    INSERT INTO mx_event (at_ms, kind, subject, happening, event)
    SELECT ?1, ?2, ?3, ?4, ?5 WHERE NOT EXISTS (
        SELECT 1 FROM mx_event WHERE happening = ?4 AND at_ms > ?1 - ?6 AND at_ms < ?1 + ?6
    )
"""
_NEWEST = """
    SELECT event FROM mx_event
    WHERE (?1 = '[]' OR kind IN (SELECT value FROM json_each(?1))) AND instr(subject, ?2) > 0
    ORDER BY id DESC LIMIT ?3
"""
_PRUNE = "DELETE FROM mx_event WHERE id <= (SELECT max(id) FROM mx_event) - ?"


class SqliteEventStore:
    """Events in one file. Several processes may have it open."""

    def __init__(self, database: Database) -> None:
        self._database = database

    @classmethod
    async def open(cls, path: Path) -> SqliteEventStore:
        """See ``Database.open`` for what it raises."""
        return cls(await Database.open(path))

    async def append(self, events: Sequence[Event]) -> tuple[Event, ...]:
        rows = [
            (
                event.at_ms,
                event.kind.value,
                event.subject,
                same_happening(event.event_id),
                pack_event(event),
                _FOLD_MS,
            )
            for event in events
        ]

        def run(connection: sqlite3.Connection) -> list[bool]:
            new = [connection.execute(_APPEND, row).rowcount == 1 for row in rows]
            if any(new):
                connection.execute(_PRUNE, (EVENTS_KEPT,))
            return new

        kept = await self._database.write(run) if rows else []
        return tuple(event for event, new in zip(events, kept, strict=True) if new)

    async def list_events(
        self, *, limit: int, kinds: Collection[EventKind] = (), subject: str = ""
    ) -> tuple[Event, ...]:
        wanted = json.dumps([kind.value for kind in kinds])
        rows = await self._database.read(_NEWEST, (wanted, subject, limit))
        return _events(text for (text,) in reversed(rows))

    async def since(self, cursor: str) -> tuple[tuple[Event, ...], str]:
        if not cursor:
            ((last,),) = await self._database.read("SELECT coalesce(max(id), 0) FROM mx_event")
            return (), str(last)
        rows = await self._database.read(
            "SELECT id, event FROM mx_event WHERE id > ? ORDER BY id LIMIT ?", (int(cursor), _SOME)
        )
        return _events(text for _, text in rows), str(rows[-1][0]) if rows else cursor

    async def close(self) -> None:
        await self._database.close()


def _events(texts: Iterable[str]) -> tuple[Event, ...]:
    return tuple(event for text in texts if (event := unpack_event(text)) is not None)
