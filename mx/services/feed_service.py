"""The live feed of one server: what is read, heard and counted becomes changes, and some of them events."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from dataclasses import replace
from types import TracebackType
from typing import NoReturn, Self

from mx.core.counts import Count
from mx.core.feed import (
    Change,
    DownloadMoved,
    Event,
    EventKind,
    FeedPosition,
    FleetChanges,
    FleetSnapshot,
    Logged,
    ServerChanged,
    TransferChanged,
)
from mx.core.feed_events import Teller
from mx.core.fleet import Fleet
from mx.core.model import EntryKey
from mx.core.server_state import ServerStatus
from mx.errors import MxError, UnavailableError
from mx.logs import event_log
from mx.ports import Clock, EntryCache, EventStore, ModelStore, SourceStore
from mx.services.eviction import EvictionService
from mx.services.feed import Feed, FeedRules
from mx.services.feed_entries import EntryFeed
from mx.services.feed_sources import SourceFeed
from mx.services.history import History
from mx.services.models import ModelsService
from mx.services.transfers import TransfersService

log = event_log(__name__)

_DOWNLOADS_S = 0.5
_SILENT_S = 5.0
_STATUS_S = 5.0
_DEFECT_S = 10.0


class FeedService:
    """Use it as a context manager: leaving it ends every watch.

    ``always`` follows the stores from the start, so that events are kept while nobody watches; else the
    first watch begins with that. ``name`` is this server in events, ``owner`` in claims.
    """

    def __init__(
        self,
        *,
        sources: SourceStore,
        models_store: ModelStore,
        models: ModelsService,
        eviction: EvictionService,
        transfers: TransfersService,
        cache: EntryCache,
        events: EventStore,
        clock: Clock,
        name: str,
        owner: str,
        always: bool = True,
        rules: FeedRules = FeedRules(),  # a frozen value
    ) -> None:
        self._clock = clock
        self._teller = Teller(name)
        self._models = models
        self._transfers = transfers
        self._always = always
        self._loading = True
        self._open = False
        self._feed = Feed(clock, rules=rules, cut=self._cut)
        self._history = History(events, tell=self._log, watched=lambda: self._feed.watchers > 0)
        self._sources = SourceFeed(sources, self._feed)
        self._entries = EntryFeed(models_store, cache, eviction, self._feed, clock, owner=owner)
        self._group = asyncio.TaskGroup()
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Self:
        await self._group.__aenter__()
        self._open = True
        if self._always:
            self._begin()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open = False
        self._feed.end("the server is shutting down")
        for task in self._tasks:
            task.cancel()
        await self._group.__aexit__(None, None, None)
        await self._history.write_last()

    @property
    def fleet(self) -> Fleet:
        """As of the last batch."""
        return self._feed.fleet

    @property
    def watchers(self) -> int:
        return self._feed.watchers

    async def watch(
        self, *, resume: FeedPosition | None = None
    ) -> AsyncGenerator[FleetSnapshot | FleetChanges, None]:
        """See ``Feed.watch``. A server's status must have been told by then, or is waited for."""
        if not self._open:
            raise UnavailableError("nothing is told here yet, or any more")
        self._begin()
        if not self._feed.watchers:
            self._sources.look()
            self._entries.look()
            self._history.wake()
        async with contextlib.aclosing(self._feed.watch(resume=resume)) as updates:
            async for update in updates:
                yield update

    async def list_events(
        self, *, limit: int, kinds: Sequence[EventKind] = (), subject: str = ""
    ) -> tuple[Event, ...]:
        self._feed.flush()
        return await self._history.list_events(limit=limit, kinds=kinds, subject=subject)

    def tell_status(self, status: ServerStatus) -> None:
        self._feed.tell(ServerChanged(status))

    async def keep_status(
        self, ask: Callable[[], Awaitable[ServerStatus]], *, changed: Callable[[], Awaitable[object]]
    ) -> NoReturn:
        """Tell a server's status now, when it ``changed``, and every few seconds while somebody watches."""
        while True:
            try:
                self.tell_status(await ask())
            except MxError as error:  # the store went away while it was asked; that it did is told soon
                log.debug("status not told", error=str(error))
            waiting = asyncio.ensure_future(changed())
            watched = asyncio.ensure_future(self._feed.wait_watched())
            try:
                await asyncio.wait({waiting, watched}, return_when=asyncio.FIRST_COMPLETED)
                await asyncio.wait({waiting}, timeout=_STATUS_S)
            finally:
                waiting.cancel()
                watched.cancel()

    def tell_started(self, version: str) -> None:
        self._history.add(self._teller.started(version, now_ms=self._clock.now_ms()))

    def end_watches(self, why: str) -> None:
        """End every watch with UnavailableError, and refuse new ones."""
        self._feed.end(why)

    def counted(self, count: Count) -> None:
        """A run of eviction is over."""
        self._entries.counted(count)
        event = self._teller.event_of_count(count, now_ms=self._clock.now_ms())
        if event is not None:
            self._history.add(event)

    def _begin(self) -> None:
        if self._tasks:
            return
        self._transfers.tell = lambda report: self._feed.tell(TransferChanged(report))
        for report in reversed(self._transfers.recent(0)):
            self._feed.tell(TransferChanged(report))
        runs: dict[str, Callable[[], Awaitable[None]]] = {
            "load": self._load,
            "sources": self._sources.run,
            "changes of sources": self._watching(self._sources.watch),
            "entries": self._entries.run,
            "changes of entries": self._watching(self._entries.watch),
            "sizes": self._entries.keep_measuring,
            "downloads": self._keep_downloads,
            "silent transfers": self._keep_silent,
            "events": self._history.run,
        }
        for name, run in runs.items():
            self._tasks.append(self._group.create_task(_as_task(run), name=f"feed: {name}"))

    def _watching(self, watch: Callable[[], Awaitable[NoReturn]]) -> Callable[[], Awaitable[None]]:
        async def run() -> None:
            try:
                await watch()
            except MxError as error:  # closed: the end of this server
                log.debug("watch ended", error=str(error))

        return run

    async def _load(self) -> None:
        """Everything as it is when the feed begins: no news, so no events are made of it."""
        await self._sources.read_once.wait()
        await self._entries.read_once.wait()
        self._feed.flush()
        self._loading = False
        await self._history.read_once.wait()
        self._feed.loaded()

    async def _keep_downloads(self) -> NoReturn:
        told: dict[EntryKey, DownloadMoved] = {}
        while True:
            await self._feed.wait_watched()
            now = {key: DownloadMoved(key, moving) for key, moving in self._models.moving().items()}
            for change in now.values():
                self._feed.tell(change)
            for key in told.keys() - now.keys():
                self._feed.tell(DownloadMoved(key, None))
            told = now
            await asyncio.sleep(_DOWNLOADS_S)

    async def _keep_silent(self) -> NoReturn:
        while True:
            await asyncio.sleep(_SILENT_S)
            self._transfers.look_for_silent()

    def _cut(self, before: Fleet, changes: tuple[Change, ...]) -> None:
        if self._loading:
            # What was there before this server began; transfers and its own state are news.
            before = replace(before, entries=self._feed.fleet.entries, sources=self._feed.fleet.sources)
        for event in self._teller.events_of(before, changes, now_ms=self._clock.now_ms()):
            self._history.add(event)

    def _log(self, event: Event) -> None:
        self._feed.tell(Logged(event))


async def _as_task(run: Callable[[], Awaitable[None]]) -> None:
    while True:
        try:
            return await run()
        except Exception:  # a server must outlive a defect in what only looks at it
            log.exception("defect in the feed", retry_s=_DEFECT_S)
            await asyncio.sleep(_DEFECT_S)
