"""``mx.ports.EventStore`` over Redis: one capped stream, outside what published servers look at."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from mx.core.feed import Event, EventKind
from mx.core.feed_events import same_happening
from mx.ports import EVENT_FOLD_S, EVENTS_KEPT
from mx.store.packed_event import pack_event, unpack_event
from mx.store.redis.change import Script
from mx.store.redis.keys import EVENTS, told_key
from mx.store.redis.link import Link

_FOLD_MS = round(EVENT_FOLD_S * 1000)
_SOME = 1_000
_FIELD = b"e"

# Both keys lie in one slot. The mark of a happening outlives every clock that may tell it again.
_APPEND = Script("""
local at, told = tonumber(ARGV[1]), redis.call('GET', KEYS[2])
if told and math.abs(at - tonumber(told)) < tonumber(ARGV[2]) then return 0 end
redis.call('SET', KEYS[2], ARGV[1], 'PX', 4 * tonumber(ARGV[2]))
redis.call('XADD', KEYS[1], 'MAXLEN', '~', ARGV[3], '*', 'e', ARGV[4])
return 1
""")


class RedisEventStore:
    def __init__(self, link: Link) -> None:
        self._link = link

    async def append(self, events: Sequence[Event]) -> tuple[Event, ...]:
        kept: list[Event] = []
        for event in events:
            keys = (EVENTS, told_key(same_happening(event.event_id)))
            arguments = (event.at_ms, _FOLD_MS, EVENTS_KEPT, pack_event(event).encode())
            if await self._link.run(_APPEND, keys, arguments):
                kept.append(event)
        return tuple(kept)

    async def list_events(
        self, *, limit: int, kinds: Collection[EventKind] = (), subject: str = ""
    ) -> tuple[Event, ...]:
        found: list[Event] = []
        until = b"+"
        while len(found) < limit:
            # What is asked for may be rare: the stream is read page by page, newest first.
            page = _rows(await self._link.call("XREVRANGE", EVENTS, until, b"-", "COUNT", _SOME))
            found += (
                event
                for _, event in page
                if event is not None and (not kinds or event.kind in kinds) and subject in event.subject
            )
            if len(page) < _SOME:
                break
            until = b"(" + page[-1][0]
        return tuple(reversed(found[:limit]))

    async def since(self, cursor: str) -> tuple[tuple[Event, ...], str]:
        if not cursor:
            last = _rows(await self._link.call("XREVRANGE", EVENTS, b"+", b"-", "COUNT", 1))
            return (), last[0][0].decode() if last else "0-0"
        rows = _rows(await self._link.call("XRANGE", EVENTS, b"(" + cursor.encode(), b"+", "COUNT", _SOME))
        events = tuple(event for _, event in rows if event is not None)
        return events, rows[-1][0].decode() if rows else cursor

    async def close(self) -> None:
        await self._link.close()


def _rows(answer: Any) -> list[tuple[bytes, Event | None]]:
    return [(number, unpack_event(fields.get(_FIELD, b""))) for number, fields in answer or ()]
