"""The feed: the whole fleet once, then each change to it, in one order.

A server numbers changes from 1; ``FeedPosition.feed_id`` changes with every start of it, so a number
of another life is never mistaken for one of this. Who comes back with a position that is still
remembered gets the changes since; all others get a new snapshot.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from mx.core.cache_view import CacheStats, ListedEntry
from mx.core.model import EntryKey
from mx.core.server_state import ServerStatus
from mx.core.source import SourceSummary, WorkerKey
from mx.core.transfer import TransferReport


class EventKind(StrEnum):
    """What an event is about; also what ``mx events --kind`` takes."""

    SERVER = "server"
    STORE = "store"
    MODEL = "model"
    EVICTION = "eviction"
    SOURCE = "source"
    TRANSFER = "transfer"


class EventLevel(StrEnum):
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Something worth a line, for people. ``subject`` is the model, worker or run it is about; ``fields``
    are numbers and names for machines. ``event_id`` is unique over all servers of one store and sorts
    by time."""

    event_id: str
    at_ms: int
    kind: EventKind
    level: EventLevel
    subject: str
    text: str
    server: str = ""
    fields: Mapping[str, str | int | float | bool] | None = None


@dataclass(frozen=True, slots=True)
class FeedPosition:
    feed_id: str
    sequence: int


@dataclass(frozen=True, slots=True)
class Moving:
    """A download under way. ``rate`` in bytes per second; ``waiters`` callers of this server wait for it."""

    bytes_done: int
    bytes_total: int
    files_done: int = 0
    files_total: int = 0
    rate: float | None = None
    eta_s: float | None = None
    waiters: int = 0


# Changes: what they name replaces what was known of it.


@dataclass(frozen=True, slots=True)
class EntryChanged:
    entry: ListedEntry


@dataclass(frozen=True, slots=True)
class EntryGone:
    key: EntryKey


@dataclass(frozen=True, slots=True)
class DownloadMoved:
    """None: it no longer runs; how it ended is in the entry."""

    key: EntryKey
    moving: Moving | None


@dataclass(frozen=True, slots=True)
class CacheChanged:
    stats: CacheStats


@dataclass(frozen=True, slots=True)
class SourceChanged:
    source: SourceSummary


@dataclass(frozen=True, slots=True)
class SourceGone:
    key: WorkerKey


@dataclass(frozen=True, slots=True)
class TransferChanged:
    report: TransferReport


@dataclass(frozen=True, slots=True)
class ServerChanged:
    status: ServerStatus


@dataclass(frozen=True, slots=True)
class Logged:
    event: Event


Change = (
    EntryChanged
    | EntryGone
    | DownloadMoved
    | CacheChanged
    | SourceChanged
    | SourceGone
    | TransferChanged
    | ServerChanged
    | Logged
)


# What a watch yields.


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetSnapshot:
    """Everything at one position. ``cache`` None: this server has none that works. ``transfers`` are
    those under way and the last finished, newest first; ``events`` the last ones, oldest first.

    ``dropped`` counts changes that this watcher missed because it was too slow, since it began.
    """

    position: FeedPosition
    now_ms: int
    server: ServerStatus
    cache: CacheStats | None
    entries: tuple[ListedEntry, ...]
    downloads: tuple[tuple[EntryKey, Moving], ...]
    sources: tuple[SourceSummary, ...]
    transfers: tuple[TransferReport, ...]
    events: tuple[Event, ...]
    dropped: int = 0


@dataclass(frozen=True, slots=True)
class FleetChanges:
    """Changes in order up to ``position``; of several changes to one thing only the last is told.

    Empty ones come every few seconds: the link is alive. ``now_ms`` is the server's time.
    """

    position: FeedPosition
    now_ms: int
    changes: tuple[Change, ...]


@dataclass(frozen=True, slots=True)
class LinkLost:
    """The client lost the server and tries again by itself in ``retry_in_s``; what was told is as old
    as the last update. Told at each failed attempt; ``reason`` is one sentence without its remedy."""

    reason: str
    attempt: int
    retry_in_s: float


FeedUpdate = FleetSnapshot | FleetChanges | LinkLost
