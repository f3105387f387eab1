"""The calls of ``mx.admin.v1.AdminService`` that show the fleet: live, in words, as stores hold it."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import aclosing
from typing import Any

import grpc.aio

from mx.core.feed import EventKind, FleetChanges, FleetSnapshot
from mx.errors import InvalidArgumentError
from mx.wire import admin_codec, feed_codec, models_admin_codec, state_codec
from mx.wire.v1 import admin
from mx.wiring import Services

Context = grpc.aio.ServicerContext[Any, Any]

# What a reply holds when the caller leaves the number open, and at most.
EVENTS_SHOWN, EVENTS_MOST = 100, 5_000
# Of encoded batches and snapshots: what many watchers wait for at the same time.
_ENCODED_BYTES = 32 << 20

Parts = tuple[Any, ...]  # bytes, which the serializer passes on; its type stubs know messages only


class Encoded:
    """Messages by position, so that fifty watchers cost one encoding. Bounded; the oldest go."""

    def __init__(self, limit_bytes: int = _ENCODED_BYTES) -> None:
        self._limit_bytes = limit_bytes
        self._parts: OrderedDict[tuple[str, int], Parts] = OrderedDict()
        self._bytes = 0

    def of(self, kind: str, sequence: int, encode: Callable[[], Iterable[admin.WatchUpdate]]) -> Parts:
        key = (kind, sequence)
        known = self._parts.get(key)
        if known is None:
            known = self._parts[key] = tuple(part.SerializeToString() for part in encode())
            self._bytes += sum(map(len, known))
            while self._bytes > self._limit_bytes and len(self._parts) > 1:
                _, oldest = self._parts.popitem(last=False)
                self._bytes -= sum(map(len, oldest))
        return known


class FeedCalls:
    def __init__(self, services: Services) -> None:
        self._feed = services.feed
        self._fleet_of = services
        self._encoded = Encoded()

    async def Watch(
        self, request: admin.WatchRequest, context: Context, /
    ) -> AsyncIterator[admin.WatchUpdate]:
        await context.send_initial_metadata(())
        resume = feed_codec.decode_position(request.resume) if request.HasField("resume") else None
        async with aclosing(self._feed.watch(resume=resume)) as updates:
            async for update in updates:
                match update:
                    case FleetSnapshot():
                        yield feed_codec.encode_snapshot_head(update)
                        parts = self._snapshot_rest(update)
                    case FleetChanges():
                        parts = self._changes(update)
                for part in parts:
                    yield part

    async def ListEvents(
        self, request: admin.ListEventsRequest, _context: Context, /
    ) -> admin.ListEventsResponse:
        limit = min(request.limit or EVENTS_SHOWN, EVENTS_MOST)
        kinds = tuple(map(_kind, request.kinds))
        events = await self._feed.list_events(limit=limit, kinds=kinds, subject=request.subject)
        return admin.ListEventsResponse(events=map(feed_codec.encode_event, events))

    async def GetBackendStates(
        self, _request: admin.GetBackendStatesRequest, _context: Context, /
    ) -> admin.GetBackendStatesResponse:
        return state_codec.encode_states(await self._fleet_of.inspection.states())

    async def GetRawSource(
        self, request: admin.GetRawSourceRequest, _context: Context, /
    ) -> admin.GetRawRecordResponse:
        key = admin_codec.decode_key(request.key)
        return state_codec.encode_raw(await self._fleet_of.inspection.raw_source(key))

    async def GetRawModel(
        self, request: admin.GetRawModelRequest, _context: Context, /
    ) -> admin.GetRawRecordResponse:
        key = models_admin_codec.decode_key(request.key)
        return state_codec.encode_raw(await self._fleet_of.inspection.raw_model(key))

    async def MarkSourceStale(
        self, request: admin.MarkSourceStaleRequest, _context: Context, /
    ) -> admin.MarkSourceStaleResponse:
        known = await self._fleet_of.sources.mark_stale(admin_codec.decode_key(request.key))
        return admin.MarkSourceStaleResponse(known=known)

    async def ReapSources(
        self, request: admin.ReapSourcesRequest, _context: Context, /
    ) -> admin.ReapSourcesResponse:
        return state_codec.encode_reaped(await self._fleet_of.sources.reap_once(dry_run=request.dry_run))

    async def ListSettings(
        self, _request: admin.ListSettingsRequest, _context: Context, /
    ) -> admin.ListSettingsResponse:
        return state_codec.encode_settings(self._fleet_of.setting_rows)

    def _snapshot_rest(self, told: FleetSnapshot) -> Parts:
        return self._encoded.of(
            "snapshot", told.position.sequence, lambda: feed_codec.encode_snapshot_rest(told)
        )

    def _changes(self, told: FleetChanges) -> Parts:
        if not told.changes:
            return tuple(part.SerializeToString() for part in feed_codec.encode_changes(told))
        return self._encoded.of("changes", told.position.sequence, lambda: feed_codec.encode_changes(told))


def _kind(text: str) -> EventKind:
    try:
        return EventKind(text)
    except ValueError:
        known = ", ".join(EventKind)
        raise InvalidArgumentError(f"there are no events of kind {text[:80]!r}; there are {known}") from None
