"""Values of the feed as JSON, both ways: what recordings hold and what ``--format json`` shows.

A value is an object with the names of its fields; the unions say in ``type`` which one it is. Who
reads ignores fields that it does not know, and takes the default of those that are not there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import MISSING, fields, is_dataclass
from enum import Enum
from functools import cache
from types import MappingProxyType, NoneType, UnionType
from typing import Any, TypeVar, Union, cast, get_args, get_origin, get_type_hints

from mx.core import feed
from mx.errors import IntegrityError

T = TypeVar("T")
Json = dict[str, Any]

# What a type is called in JSON; a name is never given to another type.
_NAMES: dict[type, str] = {
    feed.EntryChanged: "entry",
    feed.EntryGone: "entry_gone",
    feed.DownloadMoved: "download",
    feed.CacheChanged: "cache",
    feed.SourceChanged: "source",
    feed.SourceGone: "source_gone",
    feed.TransferChanged: "transfer",
    feed.ServerChanged: "server",
    feed.Logged: "event",
    feed.FleetSnapshot: "snapshot",
    feed.FleetChanges: "changes",
    feed.LinkLost: "link_lost",
}
_TYPES = {name: kind for kind, name in _NAMES.items()}


def to_json(value: Any) -> Any:
    """Any value of ``mx.core`` that the feed carries, as what ``json.dumps`` takes."""
    if isinstance(value, Enum):
        return value.value
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, Mapping):
        return {str(key): to_json(one) for key, one in value.items()}
    if isinstance(value, (tuple, list)):
        return [to_json(one) for one in value]
    if is_dataclass(value) and not isinstance(value, type):
        kind = type(value)
        shown = {name: to_json(getattr(value, name)) for name in _field_names(kind)}
        return {"type": _NAMES[kind], **shown} if kind in _NAMES else shown
    raise TypeError(f"{type(value).__name__} is no value of the feed")


def update_from_json(data: Any) -> feed.FeedUpdate:
    """A FeedUpdate; IntegrityError for what is none."""
    return cast(feed.FeedUpdate, from_json(cast(Any, feed.FeedUpdate), data))


def event_document(event: feed.Event) -> dict[str, object]:
    """An event as commands and screens show it to programs: every member, ``fields`` always an object."""
    return {**to_json(event), "fields": to_json(event.fields or {})}


def event_from_json(data: Any) -> feed.Event:
    """IntegrityError for what is none."""
    return from_json(feed.Event, data)


def from_json(kind: type[T], data: Any) -> T:
    """A value of ``kind``; IntegrityError for what is none."""
    try:
        return cast(T, _reader(cast(Any, kind))(data))
    except (TypeError, ValueError, KeyError, AttributeError) as error:
        raise IntegrityError(f"this is no {getattr(kind, '__name__', 'update of a feed')}: {error}") from None


@cache
def _field_names(kind: type) -> tuple[str, ...]:
    return tuple(one.name for one in fields(kind))


@cache
def _reader(kind: Any) -> Callable[[Any], Any]:
    origin, parts = get_origin(kind), get_args(kind)
    if origin in (Union, UnionType):
        return _union_reader(parts)
    if origin is tuple:
        return _tuple_reader(parts)
    if origin is not None and issubclass(origin, Mapping):
        read = _reader(parts[1])
        return lambda data: MappingProxyType({_text(key): read(one) for key, one in data.items()})
    if is_dataclass(kind):
        return _value_reader(kind)
    if issubclass(kind, Enum):
        return cast(Callable[[Any], Any], kind)
    return _plain_reader(kind)


def _union_reader(parts: tuple[Any, ...]) -> Callable[[Any], Any]:
    """``X | None``, one of the named types, or plain values of several types."""
    rest = tuple(part for part in parts if part is not NoneType)
    if len(rest) == 1:
        read = _reader(rest[0])
        return lambda data: None if data is None else read(data)
    if all(is_dataclass(part) for part in rest):

        def choose(data: Any) -> Any:
            found = _TYPES[data["type"]]
            if found not in rest:
                raise ValueError(f"{data['type']!r} has no place here")
            return _reader(found)(data)

        return choose

    def keep(data: Any) -> Any:
        if not isinstance(data, rest):
            raise TypeError(f"{type(data).__name__} where one of {len(rest)} other types belongs")
        return data

    return keep


def _tuple_reader(parts: tuple[Any, ...]) -> Callable[[Any], Any]:
    if len(parts) == 2 and parts[1] is Ellipsis:
        each = _reader(parts[0])
        return lambda data: tuple(map(each, _list(data)))
    readers = tuple(map(_reader, parts))
    return lambda data: tuple(read(one) for read, one in zip(readers, _list(data), strict=True))


def _value_reader(kind: Any) -> Callable[[Any], Any]:
    hints = get_type_hints(kind)
    readers = {one.name: _reader(hints[one.name]) for one in fields(kind)}
    needed = {one.name for one in fields(kind) if one.default is MISSING and one.default_factory is MISSING}

    def read(data: Any) -> Any:
        if lacking := needed - data.keys():
            raise ValueError(f"a {kind.__name__} without {', '.join(sorted(lacking))}")
        return kind(**{name: reader(data[name]) for name, reader in readers.items() if name in data})

    return read


def _plain_reader(kind: Any) -> Callable[[Any], Any]:
    def read(data: Any) -> Any:
        if kind is float and type(data) is int:
            return float(data)
        if not isinstance(data, kind) or (kind is int and isinstance(data, bool)):
            raise TypeError(f"{type(data).__name__} where {kind.__name__} belongs")
        return data

    return read


def _list(data: Any) -> list[Any]:
    if not isinstance(data, list):
        raise TypeError(f"{type(data).__name__} where a list belongs")
    return data


def _text(key: Any) -> str:
    if not isinstance(key, str):
        raise TypeError("a key that is no text")
    return key
