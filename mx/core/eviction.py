"""What goes and what stays when the cache needs room: a pure plan over records, sizes and a policy."""

from __future__ import annotations

from dataclasses import dataclass

from mx.core.model import EntryKey


@dataclass(frozen=True, slots=True)
class Victim:
    """``bytes`` is what the disk gains: files shared with a survivor count nothing."""

    key: EntryKey
    bytes: int
    reason: str


@dataclass(frozen=True, slots=True)
class Survivor:
    key: EntryKey
    bytes: int
    reason: str


@dataclass(frozen=True, slots=True)
class EvictionPlan:
    """Victims in the order they go. ``target_bytes`` is what was to be freed; ``met`` whether that works."""

    victims: tuple[Victim, ...]
    survivors: tuple[Survivor, ...]
    bytes_freed: int
    target_bytes: int
    met: bool


@dataclass(frozen=True, slots=True)
class EvictionRun:
    """The record of one run: when, why, what went, what was refused at the last moment."""

    run_id: str
    started_at_ms: int
    trigger: str  # interval | room | command
    plan: EvictionPlan
    bytes_freed: int
    finished_at_ms: int
    failed: tuple[tuple[EntryKey, str], ...] = ()
