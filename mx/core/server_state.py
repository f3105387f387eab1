"""What a server says about itself: for people, for scripts and for the feed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from mx.core.source import WorkerKey


@dataclass(frozen=True, slots=True)
class ServerStatus:
    """A server and the store behind it; a published server has no such answer.

    ``read_only``: this caller may look and not change; the server refuses the rest.
    """

    version: str
    started_at_ms: int
    ready: bool
    draining: bool
    store_backend: str
    store_ok: bool
    store_latency_ms: float
    sources_by_status: Mapping[str, int]
    listen: str
    settings_file: str
    read_only: bool = False


@dataclass(frozen=True, slots=True)
class BackendState:
    """One store as it is now. ``facts`` are the backend's own words in its own order (keys, memory,
    replication, objects, file size), for people."""

    duty: str  # sources | models
    backend: str  # sqlite | memory | redis | kubernetes
    address: str  # without secrets
    ok: bool
    latency_ms: float
    facts: tuple[tuple[str, str], ...] = ()
    error: str = ""


@dataclass(frozen=True, slots=True)
class RawRecord:
    """A record as its backend holds it: ``text`` is YAML, secrets masked, long binary values shortened
    to their size and digest."""

    backend: str
    place: str  # key, object or table, as its own tool would name it
    text: str


@dataclass(frozen=True, slots=True)
class SettingRow:
    """One effective setting of a server. ``origin`` is default, file:PATH, env:NAME or flag."""

    key: str
    value: str
    origin: str


@dataclass(frozen=True, slots=True)
class Reaped:
    """What a pass of the reaper marked STALE and removed, or would; ``seen`` records in all."""

    seen: int
    marked: tuple[WorkerKey, ...] = ()
    removed: tuple[WorkerKey, ...] = ()
