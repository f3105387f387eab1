"""What a watcher knows of a fleet: the updates of a feed, taken in one after the other.

``apply`` is pure and cheap: of the tables only those that an update touches are copied. The same rules
make the server's snapshots, so that a snapshot with its changes equals a later snapshot.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any, assert_never

from mx.core.cache_view import CacheListing, CacheStats, ListedEntry
from mx.core.feed import (
    CacheChanged,
    Change,
    DownloadMoved,
    EntryChanged,
    EntryGone,
    Event,
    FeedPosition,
    FeedUpdate,
    FleetChanges,
    FleetSnapshot,
    LinkLost,
    Logged,
    Moving,
    ServerChanged,
    SourceChanged,
    SourceGone,
    TransferChanged,
)
from mx.core.model import EntryKey
from mx.core.server_state import ServerStatus
from mx.core.source import SourceSummary, WorkerKey
from mx.core.transfer import TransferReport, TransferState

# What a snapshot tells and a watcher keeps.
EVENTS_KEPT = 500
FINISHED_KEPT = 500

_NONE: Mapping[Any, Any] = MappingProxyType({})


@dataclass(frozen=True, slots=True, kw_only=True)
class Fleet:
    """The latest state. ``server`` None: nothing was told yet. ``lost`` None: the link stands.

    ``running`` transfers are in the order they were first told, ``finished`` ones in the order they
    ended, ``events`` oldest first. ``snapshots`` counts how often everything was told anew.
    """

    position: FeedPosition | None = None
    now_ms: int = 0
    server: ServerStatus | None = None
    cache: CacheStats | None = None
    entries: Mapping[EntryKey, ListedEntry] = field(default_factory=lambda: _NONE)
    downloads: Mapping[EntryKey, Moving] = field(default_factory=lambda: _NONE)
    sources: Mapping[WorkerKey, SourceSummary] = field(default_factory=lambda: _NONE)
    running: Mapping[str, TransferReport] = field(default_factory=lambda: _NONE)
    finished: Mapping[str, TransferReport] = field(default_factory=lambda: _NONE)
    events: tuple[Event, ...] = ()
    dropped: int = 0
    lost: LinkLost | None = None
    snapshots: int = 0

    @property
    def transfers(self) -> tuple[TransferReport, ...]:
        """Those under way, then the finished, the newest first of each."""
        return (*reversed(tuple(self.running.values())), *reversed(tuple(self.finished.values())))

    @property
    def listing(self) -> CacheListing:
        """The entries as ``list_models`` would list them now."""
        stats = self.cache
        return CacheListing(
            entries=tuple(self.entries.values()),
            used_bytes=0 if stats is None else stats.used_bytes,
            free_bytes=0 if stats is None else stats.free_bytes,
            disk_bytes=0 if stats is None else stats.disk_bytes,
            max_size_bytes=None if stats is None else stats.policy.max_size_bytes,
            now_ms=self.now_ms,
        )


NOTHING_TOLD = Fleet()


def apply(fleet: Fleet, update: FeedUpdate) -> Fleet:
    """What is known after an update."""
    match update:
        case FleetSnapshot():
            return _of_snapshot(fleet, update)
        case FleetChanges():
            changed = apply_changes(fleet, update.changes)
            return replace(changed, position=update.position, now_ms=update.now_ms, lost=None)
        case LinkLost():
            return replace(fleet, lost=update)
    assert_never(update)


def apply_changes(fleet: Fleet, changes: Iterable[Change]) -> Fleet:
    """The fleet after these changes, at the same position."""
    draft = _Draft(fleet)
    for change in changes:
        draft.take(change)
    return draft.done()


def snapshot_of(fleet: Fleet, *, dropped: int = 0) -> FleetSnapshot:
    """The snapshot that tells all of it; ValueError while nothing was told yet."""
    if fleet.server is None or fleet.position is None:
        raise ValueError("nothing is known of the fleet yet")
    return FleetSnapshot(
        position=fleet.position,
        now_ms=fleet.now_ms,
        server=fleet.server,
        cache=fleet.cache,
        entries=tuple(fleet.entries.values()),
        downloads=tuple(fleet.downloads.items()),
        sources=tuple(fleet.sources.values()),
        transfers=fleet.transfers,
        events=fleet.events,
        dropped=dropped,
    )


def _of_snapshot(fleet: Fleet, told: FleetSnapshot) -> Fleet:
    oldest_first = tuple(reversed(told.transfers))
    return Fleet(
        position=told.position,
        now_ms=told.now_ms,
        server=told.server,
        cache=told.cache,
        entries={entry.key: entry for entry in told.entries},
        downloads=dict(told.downloads),
        sources={source.key: source for source in told.sources},
        running={one.transfer_id: one for one in oldest_first if one.state is TransferState.RUNNING},
        finished={one.transfer_id: one for one in oldest_first if one.state is not TransferState.RUNNING},
        events=told.events,
        dropped=told.dropped,
        snapshots=fleet.snapshots + 1,
    )


class _Draft:
    """Takes changes in; a table is copied when the first change to it comes."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        self._tables: dict[str, dict[Any, Any]] = {}
        self._server, self._cache = fleet.server, fleet.cache
        self._logged: list[Event] = []

    def take(self, change: Change) -> None:
        match change:
            case EntryChanged(entry):
                self._table("entries")[entry.key] = entry
            case EntryGone(key):
                self._table("entries").pop(key, None)
            case DownloadMoved(key, None):
                self._table("downloads").pop(key, None)
            case DownloadMoved(key, moving):
                self._table("downloads")[key] = moving
            case CacheChanged(stats):
                self._cache = stats
            case SourceChanged(source):
                self._table("sources")[source.key] = source
            case SourceGone(key):
                self._table("sources").pop(key, None)
            case TransferChanged(report):
                self._take_transfer(report)
            case ServerChanged(status):
                self._server = status
            case Logged(event):
                self._logged.append(event)
            case _:
                assert_never(change)

    def done(self) -> Fleet:
        changed: dict[str, Any] = {**self._tables, "server": self._server, "cache": self._cache}
        return replace(self._fleet, **changed, events=self._events())

    def _table(self, name: str) -> dict[Any, Any]:
        if (table := self._tables.get(name)) is None:
            table = self._tables[name] = dict(getattr(self._fleet, name))
        return table

    def _take_transfer(self, report: TransferReport) -> None:
        running, finished = self._table("running"), self._table("finished")
        if report.state is TransferState.RUNNING:
            finished.pop(report.transfer_id, None)
            running[report.transfer_id] = report
            return
        running.pop(report.transfer_id, None)
        finished.pop(report.transfer_id, None)
        finished[report.transfer_id] = report
        if len(finished) > FINISHED_KEPT:
            del finished[next(iter(finished))]

    def _events(self) -> tuple[Event, ...]:
        known = self._fleet.events
        if not self._logged:
            return known
        # One that was told before a link was lost may come again after it.
        ids = {event.event_id for event in known}
        new = {event.event_id: event for event in self._logged if event.event_id not in ids}
        return (*known, *new.values())[-EVENTS_KEPT:]
