"""Messages of the live feed ⇄ ``core`` values.

What a later release added and this one has no name for is left out, wherever it stands in a list.
Large snapshots and batches become several messages; ``Assembly`` puts them together again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from types import MappingProxyType
from typing import Any, TypeVar, assert_never

from google.protobuf.message import Message

from mx.core.feed import (
    CacheChanged,
    Change,
    DownloadMoved,
    EntryChanged,
    EntryGone,
    Event,
    EventKind,
    EventLevel,
    FeedPosition,
    FleetChanges,
    FleetSnapshot,
    Logged,
    Moving,
    ServerChanged,
    SourceChanged,
    SourceGone,
    TransferChanged,
)
from mx.core.model import EntryKey
from mx.errors import InvalidArgumentError
from mx.wire import admin_codec, cache_codec, models_admin_codec
from mx.wire.codec import build
from mx.wire.state_codec import decode_status, encode_status
from mx.wire.v1 import admin

V = TypeVar("V")

PART_BYTES = 1 << 20

# ---- updates -----------------------------------------------------------------------------------


def encode_snapshot_head(told: FleetSnapshot) -> admin.WatchUpdate:
    """The first part: everything but the lists. More parts follow."""
    head = build(
        admin.FeedSnapshot,
        position=encode_position(told.position),
        now_ms=told.now_ms,
        server=encode_status(told.server),
        cache=None if told.cache is None else cache_codec.encode_stats(told.cache),
        dropped=told.dropped,
    )
    return admin.WatchUpdate(snapshot=head, more=True)


def encode_snapshot_rest(told: FleetSnapshot, *, part_bytes: int = PART_BYTES) -> Iterator[admin.WatchUpdate]:
    """The lists, in parts of about that size; the last one says that it is the last."""
    items = _snapshot_items(told)
    for parts, last in _parts(items, part_bytes):
        part = admin.WatchUpdate(more=not last)
        part.snapshot.SetInParent()
        for name, item in parts:
            getattr(part.snapshot, name).append(item)
        yield part


def _snapshot_items(told: FleetSnapshot) -> Iterator[tuple[str, Message]]:
    for entry in told.entries:
        yield "entries", models_admin_codec.encode_entry(entry)
    for key, moving in told.downloads:
        yield "downloads", _encode_moved(key, moving)
    for source in told.sources:
        yield "sources", admin_codec.encode_row(source)
    for report in told.transfers:
        yield "transfers", admin_codec.encode_report(report)
    for event in told.events:
        yield "events", encode_event(event)


def encode_changes(told: FleetChanges, *, part_bytes: int = PART_BYTES) -> Iterator[admin.WatchUpdate]:
    """A batch, in parts of about that size."""
    position = encode_position(told.position)
    for parts, last in _parts((("", encode_change(one)) for one in told.changes), part_bytes):
        changes = build(
            admin.FeedChanges, position=position, now_ms=told.now_ms, changes=[item for _, item in parts]
        )
        yield admin.WatchUpdate(changes=changes, more=not last)


Item = tuple[str, Any]


def _parts(items: Iterable[Item], part_bytes: int) -> Iterator[tuple[list[Item], bool]]:
    """Lists of items of about that size, at least one, and whether it is the last."""
    part: list[Item] = []
    size = 0
    for item in items:
        item_bytes = item[1].ByteSize()
        if part and size + item_bytes > part_bytes:
            yield part, False
            part, size = [], 0
        part.append(item)
        size += item_bytes
    yield part, True


class Assembly:
    """Parts in, whole updates out."""

    def __init__(self) -> None:
        self._snapshot: admin.FeedSnapshot | None = None
        self._changes: admin.FeedChanges | None = None

    def take(self, part: admin.WatchUpdate) -> FleetSnapshot | FleetChanges | None:
        """The update that this part completes; None while more is to come, or for a kind that is unknown."""
        if part.HasField("snapshot"):
            if self._snapshot is None:
                self._snapshot = part.snapshot
            else:
                self._snapshot.MergeFrom(part.snapshot)
            if part.more:
                return None
            whole, self._snapshot = self._snapshot, None
            return decode_snapshot(whole)
        if part.HasField("changes"):
            if self._changes is None:
                self._changes = part.changes
            else:
                self._changes.changes.extend(part.changes.changes)
            if part.more:
                return None
            batch, self._changes = self._changes, None
            return decode_changes(batch)
        return None


def decode_snapshot(message: admin.FeedSnapshot) -> FleetSnapshot:
    return FleetSnapshot(
        position=decode_position(message.position),
        now_ms=message.now_ms,
        server=decode_status(message.server),
        cache=cache_codec.decode_stats(message.cache) if message.HasField("cache") else None,
        entries=_known(models_admin_codec.decode_entry, message.entries),
        downloads=_known(
            lambda one: (models_admin_codec.decode_key(one.key), _decode_moving(one.moving)),
            message.downloads,
        ),
        sources=_known(admin_codec.decode_row, message.sources),
        transfers=_known(admin_codec.decode_report, message.transfers),
        events=_known(decode_event, message.events),
        dropped=message.dropped,
    )


def decode_changes(message: admin.FeedChanges) -> FleetChanges:
    changes = (one for one in _known(decode_change, message.changes) if one is not None)
    return FleetChanges(decode_position(message.position), message.now_ms, tuple(changes))


def _known(decode: Callable[[Any], V], messages: Iterable[Any]) -> tuple[V, ...]:
    values: list[V] = []
    for message in messages:
        with suppress(InvalidArgumentError):
            values.append(decode(message))
    return tuple(values)


def encode_position(position: FeedPosition) -> admin.FeedPosition:
    return build(admin.FeedPosition, feed_id=position.feed_id, sequence=position.sequence)


def decode_position(message: admin.FeedPosition) -> FeedPosition:
    return FeedPosition(message.feed_id, message.sequence)


# ---- changes -----------------------------------------------------------------------------------


def encode_change(change: Change) -> admin.FeedChange:
    match change:
        case EntryChanged(entry):
            return admin.FeedChange(entry=models_admin_codec.encode_entry(entry))
        case EntryGone(key):
            return admin.FeedChange(entry_gone=models_admin_codec.encode_key(key))
        case DownloadMoved(key, moving):
            return admin.FeedChange(download=_encode_moved(key, moving))
        case CacheChanged(stats):
            return admin.FeedChange(cache=cache_codec.encode_stats(stats))
        case SourceChanged(source):
            return admin.FeedChange(source=admin_codec.encode_row(source))
        case SourceGone(worker):
            return admin.FeedChange(source_gone=admin_codec.encode_key(worker))
        case TransferChanged(report):
            return admin.FeedChange(transfer=admin_codec.encode_report(report))
        case ServerChanged(status):
            return admin.FeedChange(server=encode_status(status))
        case Logged(event):
            return admin.FeedChange(event=encode_event(event))
    assert_never(change)


def decode_change(message: admin.FeedChange) -> Change | None:
    """None for one that a later release added."""
    if message.HasField("transfer"):
        return TransferChanged(admin_codec.decode_report(message.transfer))
    if message.HasField("source"):
        return SourceChanged(admin_codec.decode_row(message.source))
    if message.HasField("entry"):
        return EntryChanged(models_admin_codec.decode_entry(message.entry))
    if message.HasField("download"):
        moved = message.download
        moving = _decode_moving(moved.moving) if moved.HasField("moving") else None
        return DownloadMoved(models_admin_codec.decode_key(moved.key), moving)
    if message.HasField("event"):
        return Logged(decode_event(message.event))
    if message.HasField("cache"):
        return CacheChanged(cache_codec.decode_stats(message.cache))
    if message.HasField("source_gone"):
        return SourceGone(admin_codec.decode_key(message.source_gone))
    if message.HasField("entry_gone"):
        return EntryGone(models_admin_codec.decode_key(message.entry_gone))
    if message.HasField("server"):
        return ServerChanged(decode_status(message.server))
    return None


def _encode_moved(key: EntryKey, moving: Moving | None) -> admin.DownloadMoved:
    numbers = None
    if moving is not None:
        numbers = build(
            admin.Moving,
            bytes_done=max(0, moving.bytes_done),
            bytes_total=moving.bytes_total,
            files_done=moving.files_done,
            files_total=moving.files_total,
            rate=moving.rate,
            eta_s=moving.eta_s,
            waiters=moving.waiters,
        )
    return build(admin.DownloadMoved, key=models_admin_codec.encode_key(key), moving=numbers)


def _decode_moving(message: admin.Moving) -> Moving:
    return Moving(
        message.bytes_done,
        message.bytes_total,
        message.files_done,
        message.files_total,
        rate=message.rate if message.HasField("rate") else None,
        eta_s=message.eta_s if message.HasField("eta_s") else None,
        waiters=message.waiters,
    )


# ---- events ------------------------------------------------------------------------------------


def encode_event(event: Event) -> admin.FeedEvent:
    return build(
        admin.FeedEvent,
        event_id=event.event_id,
        at_ms=event.at_ms,
        kind=event.kind.value,
        level=event.level.value,
        subject=event.subject,
        text=event.text,
        server=event.server,
        fields=[_encode_field(name, value) for name, value in (event.fields or {}).items()],
    )


def decode_event(message: admin.FeedEvent) -> Event:
    """A kind that a later release added is one of the server, a level an information."""
    fields = {one.name: _decode_field(one) for one in message.fields}
    return Event(
        event_id=message.event_id,
        at_ms=message.at_ms,
        kind=EventKind(message.kind) if message.kind in tuple(EventKind) else EventKind.SERVER,
        level=EventLevel(message.level) if message.level in tuple(EventLevel) else EventLevel.INFO,
        subject=message.subject,
        text=message.text,
        server=message.server,
        fields=MappingProxyType(fields) if fields else None,
    )


Value = str | int | float | bool


def _encode_field(name: str, value: Value) -> admin.EventField:
    match value:
        case bool():
            return build(admin.EventField, name=name, flag=value)
        case int():
            return build(admin.EventField, name=name, number=value)
        case float():
            return build(admin.EventField, name=name, real=value)
        case str():
            return build(admin.EventField, name=name, text=value)


def _decode_field(message: admin.EventField) -> Value:
    if message.HasField("number"):
        return message.number
    if message.HasField("real"):
        return message.real
    if message.HasField("flag"):
        return message.flag
    return message.text
