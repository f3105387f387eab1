"""Sources for the feed, equal to the store's."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import NoReturn

from mx.core.feed import SourceChanged, SourceGone
from mx.core.source import SourceFilter, SourceSummary, WorkerKey
from mx.ports import SourceStore
from mx.services.feed import Feed
from mx.services.feed_follow import Heard, follow


class SourceFeed:
    """``read_once`` is set when the store was read for the first time."""

    def __init__(self, store: SourceStore, feed: Feed) -> None:
        self._store = store
        self._feed = feed
        self._heard: Heard[WorkerKey] = Heard()
        self.read_once = asyncio.Event()

    async def watch(self) -> NoReturn:
        await self._store.watch(self._heard.tell)

    async def run(self) -> NoReturn:
        await follow("sources", self._heard, self._feed, self.read)

    def look(self) -> None:
        """Read everything again, soon."""
        self._heard.tell(None)

    async def read(self, keys: Sequence[WorkerKey] | None) -> None:
        if keys is None:
            found = await self._list(SourceFilter())
            known = frozenset(self._feed.fleet.sources)
        else:
            found = {}
            for source_id in {key.source_id for key in keys}:
                found |= await self._list(SourceFilter(source_id=source_id))
            known = frozenset(keys)
        for row in found.values():
            self._feed.tell(SourceChanged(row))
        for key in known - found.keys():
            self._feed.tell(SourceGone(key))
        self.read_once.set()

    async def _list(self, query: SourceFilter) -> dict[WorkerKey, SourceSummary]:
        return {row.key: row for row in await self._store.list_sources(query, fresh_after_ms=None)}
