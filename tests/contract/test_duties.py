"""Duties in memory and in SQLite under their contract."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from mx.store.memory_duties import MemoryDuties
from mx.store.sqlite import SqliteDuties
from mx.testing.duties_contract import DutiesContract


class TestMemoryDuties(DutiesContract):
    @pytest.fixture
    async def duties(self) -> MemoryDuties:
        return MemoryDuties()


class TestSqliteDuties(DutiesContract):
    @pytest.fixture
    async def duties(self, tmp_path: Path) -> AsyncIterator[SqliteDuties]:
        duties = await SqliteDuties.open(tmp_path / "mx.db")
        yield duties
        await duties.close()

    @pytest.fixture
    async def beside(self, duties: SqliteDuties, tmp_path: Path) -> AsyncIterator[SqliteDuties]:
        beside = await SqliteDuties.open(tmp_path / "mx.db")
        yield beside
        await beside.close()
