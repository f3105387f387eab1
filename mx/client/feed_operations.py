"""What a client says about the fleet: the feed, past events, stores and their records; see ``operations``."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence

from mx.client.operations import ADMIN, WALK_S, Call, Operation
from mx.client.retry import ONCE
from mx.core.feed import Event, EventKind, FeedPosition, FeedUpdate, LinkLost
from mx.core.model import EntryKey
from mx.core.server_state import BackendState, RawRecord, Reaped, SettingRow
from mx.core.source import WorkerKey
from mx.errors import CancelledError, DeadlineError, IntegrityError, InternalError, MxError, UnavailableError
from mx.wire import admin_codec, feed_codec, models_admin_codec, state_codec
from mx.wire.codec import build
from mx.wire.v1 import admin

# A server says something every 5 s.
SILENCE_S = 20.0
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.25, 5.0
# The link's fault, or the server's that was killed: another attempt may do better.
_MENDED = (UnavailableError, DeadlineError, CancelledError, InternalError, IntegrityError)


class Watching:
    """One watch over all its connections: where it is, and when it tries again. Waits for nothing."""

    def __init__(self, resume: FeedPosition | None, *, jitter: Callable[[], float] = random.random) -> None:
        self._position = resume
        self._jitter = jitter
        self._failed = 0
        self._parts = feed_codec.Assembly()

    def call(self) -> Call:
        """The next connection's request."""
        self._parts = feed_codec.Assembly()
        resume = None if self._position is None else feed_codec.encode_position(self._position)
        return Call(ADMIN, "Watch", build(admin.WatchRequest, resume=resume), ONCE, limit_s=math.inf)

    def take(self, message: admin.WatchUpdate) -> FeedUpdate | None:
        """The update that a message completes, if it does."""
        update = self._parts.take(message)
        if update is not None:
            self._failed = 0
            self._position = update.position
        return update

    def lost(self, failure: MxError) -> LinkLost:
        """What to tell, and how long to wait; raises what no further attempt would mend."""
        if not isinstance(failure, _MENDED):
            raise failure
        pause_s = min(_LONGEST_PAUSE_S, _FIRST_PAUSE_S * 2.0 ** min(self._failed, 10))
        self._failed += 1
        # Watchers that lost the same server must not come back in the same instant.
        return LinkLost(failure.message, self._failed, pause_s * (0.5 + self._jitter()))


def list_events(limit: int, kinds: Sequence[EventKind], subject: str) -> Operation[tuple[Event, ...]]:
    request = build(
        admin.ListEventsRequest, limit=limit, kinds=[kind.value for kind in kinds], subject=subject
    )
    reply: admin.ListEventsResponse = yield Call(ADMIN, "ListEvents", request)
    return tuple(map(feed_codec.decode_event, reply.events))


def backend_states() -> Operation[tuple[BackendState, ...]]:
    reply: admin.GetBackendStatesResponse = yield Call(
        ADMIN, "GetBackendStates", admin.GetBackendStatesRequest()
    )
    return state_codec.decode_states(reply)


def raw_source(key: WorkerKey) -> Operation[RawRecord]:
    request = admin.GetRawSourceRequest(key=admin_codec.encode_key(key))
    reply: admin.GetRawRecordResponse = yield Call(ADMIN, "GetRawSource", request)
    return state_codec.decode_raw(reply)


def raw_model(key: EntryKey) -> Operation[RawRecord]:
    request = admin.GetRawModelRequest(key=models_admin_codec.encode_key(key))
    reply: admin.GetRawRecordResponse = yield Call(ADMIN, "GetRawModel", request)
    return state_codec.decode_raw(reply)


def mark_stale(key: WorkerKey) -> Operation[bool]:
    request = admin.MarkSourceStaleRequest(key=admin_codec.encode_key(key))
    reply: admin.MarkSourceStaleResponse = yield Call(ADMIN, "MarkSourceStale", request)
    return reply.known


def reap_sources(*, dry_run: bool) -> Operation[Reaped]:
    request = build(admin.ReapSourcesRequest, dry_run=dry_run)
    reply: admin.ReapSourcesResponse = yield Call(ADMIN, "ReapSources", request, least_s=WALK_S)
    return state_codec.decode_reaped(reply)


def list_settings() -> Operation[tuple[SettingRow, ...]]:
    reply: admin.ListSettingsResponse = yield Call(ADMIN, "ListSettings", admin.ListSettingsRequest())
    return state_codec.decode_settings(reply)
