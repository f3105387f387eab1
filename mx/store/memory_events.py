"""Events in this process: for tests and demos, and where the store is no place for a history."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Sequence

from mx.core.feed import Event, EventKind
from mx.core.feed_events import same_happening
from mx.errors import UnavailableError
from mx.ports import EVENT_FOLD_S, EVENTS_KEPT

_FOLD_MS = EVENT_FOLD_S * 1000


class MemoryEventStore:
    """``mx.ports.EventStore`` over a deque. Lost with the process."""

    def __init__(self) -> None:
        self._events: deque[tuple[int, Event]] = deque()
        # When each happening was told, so that adding one is no walk over all of them.
        self._times: dict[str, deque[int]] = {}
        self._number = 0
        self._closed = False

    async def append(self, events: Sequence[Event]) -> tuple[Event, ...]:
        self._require_open()
        kept: list[Event] = []
        for event in events:
            if not self._is_there(event):
                self._keep(event)
                kept.append(event)
        return tuple(kept)

    async def list_events(
        self, *, limit: int, kinds: Collection[EventKind] = (), subject: str = ""
    ) -> tuple[Event, ...]:
        self._require_open()
        found = (
            event
            for _, event in reversed(self._events)
            if (not kinds or event.kind in kinds) and subject in event.subject
        )
        newest = [event for event, _ in zip(found, range(limit), strict=False)]
        return tuple(reversed(newest))

    async def since(self, cursor: str) -> tuple[tuple[Event, ...], str]:
        self._require_open()
        after = self._number if not cursor else int(cursor)
        return tuple(event for number, event in self._events if number > after), str(self._number)

    async def close(self) -> None:
        self._closed = True

    def _is_there(self, event: Event) -> bool:
        times = self._times.get(same_happening(event.event_id), ())
        return any(abs(event.at_ms - at_ms) < _FOLD_MS for at_ms in times)

    def _keep(self, event: Event) -> None:
        self._number += 1
        self._events.append((self._number, event))
        self._times.setdefault(same_happening(event.event_id), deque()).append(event.at_ms)
        if len(self._events) > EVENTS_KEPT:
            _, oldest = self._events.popleft()
            happening = same_happening(oldest.event_id)
            times = self._times[happening]
            times.popleft()
            if not times:
                del self._times[happening]

    def _require_open(self) -> None:
        if self._closed:
            raise UnavailableError("the memory store is closed")
