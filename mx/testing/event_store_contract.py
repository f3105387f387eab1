"""What every ``mx.ports.EventStore`` must do, as a test class to inherit from.

class TestMyEvents(EventStoreContract):
    @pytest.fixture
    async def events(self): ...           # nothing in it yet; closed afterwards
    @pytest.fixture
    async def beside(self, events): ...   # another one on the same events, where there can be
"""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from mx.core.feed import Event, EventKind, EventLevel
from mx.errors import UnavailableError
from mx.ports import EVENT_FOLD_S, EVENTS_KEPT, EventStore

NOW = 1_700_000_000_000
FOLD_MS = round(EVENT_FOLD_S * 1000)


def happened(
    what: str, *, at_ms: int = NOW, kind: EventKind = EventKind.SOURCE, subject: str = "w0", server: str = "a"
) -> Event:
    return Event(
        event_id=f"{at_ms:013d}-{what}",
        at_ms=at_ms,
        kind=kind,
        level=EventLevel.WARNING,
        subject=subject,
        text=f"{what} — “quoted”",
        server=server,
        fields={"bytes": 7, "ratio": 0.5, "ok": True, "from": "é"},
    )


class EventStoreContract:
    """Inherit, and provide the fixture ``events``."""

    @pytest.fixture
    async def events(self) -> Any:
        raise NotImplementedError("a contract suite needs events to run against")

    @pytest.fixture
    async def beside(self, events: EventStore) -> EventStore:
        return events

    async def test_nothing_happened_at_first(self, events: EventStore) -> None:
        assert await events.list_events(limit=10) == ()
        found, cursor = await events.since("")
        assert found == ()
        assert (await events.since(cursor))[0] == ()
        assert await events.append(()) == ()

    async def test_events_come_back_as_they_were_in_their_order(
        self, events: EventStore, beside: EventStore
    ) -> None:
        told = tuple(happened(f"e{number}", at_ms=NOW - number) for number in range(5))
        assert await events.append(told) == told
        assert await beside.list_events(limit=10) == told
        assert await beside.list_events(limit=2) == told[-2:]

    async def test_kinds_and_subjects_narrow(self, events: EventStore) -> None:
        one = happened("one", subject="vllm-12")
        two = happened("two", kind=EventKind.MODEL, subject="org/vllm")
        three = happened("three", kind=EventKind.STORE, subject="100%_")
        await events.append((one, two, three))
        assert await events.list_events(limit=10, subject="vllm") == (one, two)
        assert await events.list_events(limit=1, subject="vllm") == (two,)
        assert await events.list_events(limit=10, kinds={EventKind.MODEL, EventKind.STORE}) == (two, three)
        assert await events.list_events(limit=10, kinds={EventKind.MODEL}, subject="-12") == ()
        assert await events.list_events(limit=10, subject="%") == (three,)

    async def test_the_same_happening_is_kept_once(self, events: EventStore, beside: EventStore) -> None:
        first = happened("ready")
        assert await events.append((first,)) == (first,)
        again = happened("ready", at_ms=NOW + FOLD_MS - 1, server="b")
        assert await beside.append((again,)) == ()
        later = happened("ready", at_ms=NOW + FOLD_MS, server="b")
        other = happened("stale", at_ms=NOW)
        assert await beside.append((later, other)) == (later, other)
        assert await events.list_events(limit=10) == (first, later, other)

    async def test_of_many_who_tell_it_at_once_one_is_heard(
        self, events: EventStore, beside: EventStore
    ) -> None:
        kept = await asyncio.gather(
            *((events, beside)[n % 2].append((happened("ready", server=f"s{n}"),)) for n in range(16))
        )
        assert sum(map(len, kept)) == 1
        assert len(await events.list_events(limit=10)) == 1

    async def test_a_cursor_tells_what_came_after_it(self, events: EventStore, beside: EventStore) -> None:
        await events.append((happened("before"),))
        _, cursor = await beside.since("")
        told = tuple(happened(f"e{number}") for number in range(3))
        await events.append(told)
        found, cursor = await beside.since(cursor)
        assert found == told
        assert (await beside.since(cursor))[0] == ()
        last = happened("last")
        await events.append((last,))
        assert (await beside.since(cursor))[0] == (last,)

    async def test_the_oldest_go(self, events: EventStore) -> None:
        more = EVENTS_KEPT + 300  # a store may keep some more, to go in one step
        told = [happened(f"{number:016x}") for number in range(more)]
        for begin in range(0, more, 500):
            await events.append(told[begin : begin + 500])
        found = await events.list_events(limit=2 * more)
        assert EVENTS_KEPT <= len(found) < more
        assert found == tuple(told[-len(found) :])

    async def test_when_closed_everything_is_refused(self, events: EventStore) -> None:
        await events.close()
        await events.close()
        with pytest.raises(UnavailableError):
            await events.append((happened("late"),))
        with pytest.raises(UnavailableError):
            await events.list_events(limit=1)
        with pytest.raises(UnavailableError):
            await events.since("")
