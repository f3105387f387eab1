"""Events on their way into the store, and those of other servers on their way out of it.

An event is told once the store has taken it, so that of several servers that saw the same one only one
tells it. With the store away it is told at once, and written when the store is back.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import NoReturn

from mx.core.feed import Event, EventKind
from mx.core.fleet import EVENTS_KEPT
from mx.errors import MxError
from mx.logs import event_log
from mx.ports import EventStore

log = event_log(__name__)

# Beyond this the oldest go: a store that is away for days must not fill the memory.
QUEUED_MAX = 1_000
_TAIL_S = 1.0
_RETRY_S = 5.0
# More than a store gives at a time, so that what this server wrote comes back as nothing new.
_TOLD_KEPT = 20 * EVENTS_KEPT


class History:
    """``tell`` hears of every event, of this server and of others, once. ``watched`` says whether anybody
    wants to know of those of others now. ``read_once`` is set when the past was told, or can't be read."""

    def __init__(
        self,
        store: EventStore,
        *,
        tell: Callable[[Event], None],
        watched: Callable[[], bool],
        tail_s: float = _TAIL_S,
        retry_s: float = _RETRY_S,
    ) -> None:
        self._store = store
        self._tell_feed = tell
        self._watched = watched
        self._tail_s = tail_s
        self._retry_s = retry_s
        self._queued: deque[Event] = deque(maxlen=QUEUED_MAX)
        self._told: dict[str, None] = {}
        self._news = asyncio.Event()
        self.read_once = asyncio.Event()
        self._cursor = ""  # nothing is read on from: the newest events are read anew

    def add(self, event: Event) -> None:
        """Queue one; never in anybody's way."""
        self._queued.append(event)
        self._news.set()

    async def list_events(self, *, limit: int, kinds: Sequence[EventKind], subject: str) -> tuple[Event, ...]:
        """As far back as the store goes, what is queued included."""
        with suppress(MxError):
            await self._write()
        return await self._store.list_events(limit=limit, kinds=frozenset(kinds), subject=subject)

    async def _load(self) -> None:
        """Tell the newest that the store remembers."""
        _, cursor = await self._store.since("")
        for event in await self._store.list_events(limit=EVENTS_KEPT):
            self._tell(event)
        self._cursor = cursor

    async def run(self) -> NoReturn:
        """Write and read on until cancelled; outlives outages of the store."""
        failing = not await self._begin()
        while True:
            pause_s = self._retry_s if failing else self._tail_s if self._watched() else None
            with suppress(TimeoutError):
                async with asyncio.timeout(pause_s):
                    await self._news.wait()
            self._news.clear()
            try:
                await self._write()
                if self._watched() or failing:
                    await self._read()
                else:  # it may be days until somebody watches again, and they want the newest
                    self._cursor = ""
            except MxError as error:
                say = log.debug if failing else log.error
                say("events not stored", error=str(error), queued=len(self._queued))
                failing = True
                for event in tuple(self._queued):
                    self._tell(event)
            else:
                failing = False

    async def _begin(self) -> bool:
        """Tell the past before anything new; whether the store let it be read."""
        try:
            await self._load()
        except MxError as error:
            log.warn("past events not read", error=str(error))  # noqa: G010  # an EventLog
            return False
        finally:
            self.read_once.set()
        return True

    def wake(self) -> None:
        """Somebody began to watch."""
        self._news.set()

    async def write_last(self) -> None:
        """What is still queued, at the end of a life."""
        with suppress(MxError):
            await self._write()

    async def _write(self) -> None:
        while self._queued:
            batch = tuple(self._queued)
            kept = await self._store.append(batch)
            for event in batch:
                with suppress(ValueError):  # another caller wrote it, or it fell out of the queue
                    self._queued.remove(event)
            for event in kept:
                self._tell(event)

    async def _read(self) -> None:
        if not self._cursor:
            await self._load()
            return
        events, self._cursor = await self._store.since(self._cursor)
        for event in events:
            self._tell(event)

    def _tell(self, event: Event) -> None:
        if event.event_id in self._told:
            return
        self._told[event.event_id] = None
        while len(self._told) > _TOLD_KEPT:
            del self._told[next(iter(self._told))]
        self._tell_feed(event)
