"""The feed: changes come in from all over the server, and everyone who watches gets them in one order.

Changes are coalesced by what they are about and cut into batches at most ten times a second. Batches are
numbered and lie in one bounded ring that all watchers share; a watcher is a place in it and nothing else.
Who falls out of the ring has missed something, is told how much, and gets everything anew.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncGenerator, Callable, Hashable
from contextlib import suppress
from dataclasses import dataclass, replace

from mx.core.feed import (
    CacheChanged,
    Change,
    DownloadMoved,
    EntryChanged,
    EntryGone,
    FeedPosition,
    FleetChanges,
    FleetSnapshot,
    Logged,
    ServerChanged,
    SourceChanged,
    SourceGone,
    TransferChanged,
)
from mx.core.fleet import Fleet, apply_changes, snapshot_of
from mx.errors import UnavailableError
from mx.ports import Clock

RING_CHANGES = 10_000
TICK_S = 0.1
# An empty batch: the link is alive.
ALIVE_S = 5.0
# Each costs a stream and a little memory; nobody looks with a thousand eyes.
MAX_WATCHERS = 1_000


@dataclass(frozen=True, slots=True)
class FeedRules:
    """``ring_changes`` are remembered for those who come back, ``tick_s`` lies between two batches at
    least, ``alive_s`` between two messages at most. A first snapshot waits ``first_s`` for the stores."""

    ring_changes: int = RING_CHANGES
    tick_s: float = TICK_S
    alive_s: float = ALIVE_S
    first_s: float = 3.0
    max_watchers: int = MAX_WATCHERS


Cut = Callable[[Fleet, tuple[Change, ...]], None]  # the fleet before a batch, and the batch


def _nobody(_before: Fleet, _changes: tuple[Change, ...]) -> None: ...


class Feed:
    """State, ring and watchers. Belongs to one event loop; ``tell`` is called from there only.

    ``cut`` hears of each batch, with the fleet as it was before.
    """

    def __init__(self, clock: Clock, *, rules: FeedRules = FeedRules(), cut: Cut = _nobody) -> None:
        self._clock = clock
        self._rules = rules
        self._heard_cut = cut
        self._feed_id = secrets.token_hex(8)
        self._fleet = Fleet(position=FeedPosition(self._feed_id, 0))
        self._pending: dict[Hashable, Change] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._last_cut_s = float("-inf")
        # Batches by number; that of the first one that is still there is ``_oldest``.
        self._ring: dict[int, FleetChanges] = {}
        self._oldest = self._next = 0
        self._ring_changes = 0
        self._sequence = 0
        self._changed = asyncio.Event()
        self._known = asyncio.Event()
        self._loaded = asyncio.Event()
        self._watchers = 0
        self._watched = asyncio.Event()
        self._ended = ""

    @property
    def fleet(self) -> Fleet:
        """As of the last batch."""
        return self._fleet

    @property
    def watchers(self) -> int:
        return self._watchers

    async def wait_watched(self) -> None:
        """Return once somebody watches."""
        await self._watched.wait()

    def tell(self, change: Change) -> None:
        """Take a change in; it replaces one to the same thing that was not yet told."""
        key = _key(change)
        self._pending.pop(key, None)
        self._pending[key] = change
        if self._timer is None:
            loop = asyncio.get_running_loop()
            due_s = max(self._last_cut_s + self._rules.tick_s, loop.time())
            self._timer = loop.call_at(due_s, self._cut)

    def loaded(self) -> None:
        """What the stores hold is told: first snapshots need not wait any more."""
        self._loaded.set()

    def flush(self) -> None:
        """Cut the batch now: for whoever needs what was told to be in the fleet."""
        if self._timer is not None:
            self._timer.cancel()
            self._cut()

    def end(self, why: str) -> None:
        """End every watch, and refuse new ones, with UnavailableError."""
        self._ended = why
        self._wake()

    async def watch(
        self, *, resume: FeedPosition | None = None
    ) -> AsyncGenerator[FleetSnapshot | FleetChanges, None]:
        """A snapshot (or the changes since ``resume``), then batches, the same object for everyone who
        is at the same place, and empty ones as a sign of life.

        UnavailableError when the server has too many watchers, or ends.
        """
        self._enter()
        try:
            async for update in self._told(resume):
                yield update
        finally:
            self._watchers -= 1
            if not self._watchers:
                self._watched.clear()

    async def _told(self, resume: FeedPosition | None) -> AsyncGenerator[FleetSnapshot | FleetChanges, None]:
        place = self._place_of(resume)
        sequence = resume.sequence if resume is not None else 0
        dropped = 0
        if place is None:
            await self._wait_known()
        while True:
            if self._ended:
                raise UnavailableError(self._ended, remedy="try again in a moment")
            if place is None or place < self._oldest:
                if place is not None:
                    dropped += self._sequence - sequence
                place, sequence = self._next, self._sequence
                yield replace(snapshot_of(self._fleet, dropped=dropped), now_ms=self._clock.now_ms())
                continue
            changed = self._changed
            if place < self._next:
                batch = self._ring[place]
                place += 1
                sequence = batch.position.sequence
                yield batch
                continue
            try:
                async with asyncio.timeout(self._rules.alive_s):
                    await changed.wait()
            except TimeoutError:
                yield FleetChanges(FeedPosition(self._feed_id, sequence), self._clock.now_ms(), ())

    def _enter(self) -> None:
        if self._ended:
            raise UnavailableError(self._ended, remedy="try again in a moment")
        if self._watchers >= self._rules.max_watchers:
            raise UnavailableError(
                f"{self._watchers} callers watch this server already", remedy="close some, or ask another"
            )
        self._watchers += 1
        self._watched.set()

    def _place_of(self, resume: FeedPosition | None) -> int | None:
        """Number of the batch that comes after a position; None when that is no longer known."""
        if resume is None or resume.feed_id != self._feed_id or resume.sequence > self._sequence:
            return None
        for number, batch in reversed(self._ring.items()):
            if batch.position.sequence <= resume.sequence:
                return number + 1
        first = self._ring.get(self._oldest)
        known_from = self._sequence if first is None else first.position.sequence - len(first.changes)
        return self._oldest if known_from <= resume.sequence else None

    async def _wait_known(self) -> None:
        """Until there is something to tell; a store that does not answer is waited for in vain."""
        await self._known.wait()
        with suppress(TimeoutError):
            async with asyncio.timeout(self._rules.first_s):
                await self._loaded.wait()
        self.flush()

    def _cut(self) -> None:
        self._timer = None
        self._last_cut_s = asyncio.get_running_loop().time()
        before = self._fleet
        changes = tuple(one for one in self._pending.values() if _is_news(before, one))
        self._pending.clear()
        if not changes:
            return
        self._sequence += len(changes)
        position, now_ms = FeedPosition(self._feed_id, self._sequence), self._clock.now_ms()
        self._fleet = replace(apply_changes(before, changes), position=position, now_ms=now_ms)
        self._ring[self._next] = FleetChanges(position, now_ms, changes)
        self._next += 1
        self._ring_changes += len(changes)
        while self._ring_changes > self._rules.ring_changes:
            self._ring_changes -= len(self._ring.pop(self._oldest).changes)
            self._oldest += 1
        if self._fleet.server is not None:
            self._known.set()
        self._wake()
        self._heard_cut(before, changes)

    def _wake(self) -> None:
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()
        if self._ended:
            self._known.set()
            self._loaded.set()


def _key(change: Change) -> Hashable:
    match change:
        case EntryChanged():
            return "entry", change.entry.key
        case EntryGone():
            return "entry", change.key
        case DownloadMoved():
            return "download", change.key
        case SourceChanged():
            return "source", change.source.key
        case SourceGone():
            return "source", change.key
        case TransferChanged():
            return "transfer", change.report.transfer_id
        case Logged():
            return "event", change.event.event_id
        case CacheChanged():
            return "cache"
        case ServerChanged():
            return "server"


def _is_news(fleet: Fleet, change: Change) -> bool:
    match change:
        case EntryChanged(entry):
            return fleet.entries.get(entry.key) != entry
        case EntryGone(key):
            return key in fleet.entries
        case DownloadMoved(key, moving):
            return fleet.downloads.get(key) != moving
        case SourceChanged(source):
            return fleet.sources.get(source.key) != source
        case SourceGone(key):
            return key in fleet.sources
        case ServerChanged(status):
            return fleet.server != status
        case CacheChanged(stats):
            return fleet.cache is None or replace(fleet.cache, now_ms=stats.now_ms) != stats
        case TransferChanged() | Logged():
            return True
