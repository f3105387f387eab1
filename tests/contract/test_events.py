"""Events in memory and in SQLite under their contract."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from mx.store.memory_events import MemoryEventStore
from mx.store.sqlite import SqliteEventStore
from mx.testing.event_store_contract import EventStoreContract


class TestMemoryEvents(EventStoreContract):
    @pytest.fixture
    async def events(self) -> MemoryEventStore:
        return MemoryEventStore()


class TestSqliteEvents(EventStoreContract):
    @pytest.fixture
    async def events(self, tmp_path: Path) -> AsyncIterator[SqliteEventStore]:
        events = await SqliteEventStore.open(tmp_path / "mx.db")
        yield events
        await events.close()

    @pytest.fixture
    async def beside(self, events: SqliteEventStore, tmp_path: Path) -> AsyncIterator[SqliteEventStore]:
        beside = await SqliteEventStore.open(tmp_path / "mx.db")
        yield beside
        await beside.close()
