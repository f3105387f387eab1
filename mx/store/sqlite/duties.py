"""``mx.ports.Duties`` over SQLite: for servers of one machine that share a file."""

from __future__ import annotations

from pathlib import Path

from mx.store.sqlite.database import Database

_TAKE = """
    INSERT INTO mx_duty (duty, owner, expires_at_ms) VALUES (?1, ?2, ?3)
    ON CONFLICT (duty) DO UPDATE SET owner = excluded.owner, expires_at_ms = excluded.expires_at_ms
    WHERE owner = excluded.owner OR expires_at_ms <= ?4
"""
_GIVE_UP = "DELETE FROM mx_duty WHERE duty = ? AND owner = ?"
_HELD = "SELECT 1 FROM mx_duty WHERE duty = ? AND owner <> ? AND expires_at_ms > ?"


class SqliteDuties:
    """Duties in one file. Several processes may have it open."""

    def __init__(self, database: Database) -> None:
        self._database = database

    @classmethod
    async def open(cls, path: Path) -> SqliteDuties:
        """See ``Database.open`` for what it raises."""
        return cls(await Database.open(path))

    async def take(self, duty: str, *, owner: str, lease_s: float, now_ms: int) -> bool:
        # Most who ask find somebody at it: they need no write lock.
        if await self._database.read(_HELD, (duty, owner, now_ms)):
            return False
        values = (duty, owner, now_ms + round(lease_s * 1000), now_ms)
        return await self._database.write(lambda connection: connection.execute(_TAKE, values).rowcount == 1)

    async def give_up(self, duty: str, *, owner: str) -> None:
        await self._database.write(lambda connection: connection.execute(_GIVE_UP, (duty, owner)).rowcount)

    async def close(self) -> None:
        await self._database.close()
