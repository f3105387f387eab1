"""What an action would do, before it does it: what goes, what is freed, who uses it, what is protected."""

from __future__ import annotations

from collections.abc import Iterable, Sequence, Set
from dataclasses import dataclass, replace

from mx.core.eviction import EvictionPlan, Survivor
from mx.core.fleet import Fleet
from mx.core.model import EntryKey
from mx.core.server_state import Reaped
from mx.core.source import SourceSummary, WorkerKey
from mx.core.units import format_size


@dataclass(frozen=True, slots=True)
class Line:
    """One thing the action is about. ``goes`` False: it stays, and ``why`` says what protects it."""

    what: str
    goes: bool
    why: str
    bytes: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Preview:
    """``guards`` are names that must be typed first: things that somebody asked to keep, or reads now."""

    title: str
    verb: str
    lines: tuple[Line, ...]
    freed_bytes: int | None = None
    note: str = ""
    guards: tuple[str, ...] = ()

    @property
    def going(self) -> int:
        return sum(line.goes for line in self.lines)


def of_plan(plan: EvictionPlan, *, title: str, verb: str, about: Set[EntryKey] = frozenset()) -> Preview:
    """An eviction or a removal. Victims first, in the order they go. ``about``: of what stays, only these."""
    victims = [Line(str(one.key), True, one.reason, one.bytes) for one in plan.victims]
    survivors = [
        Line(str(one.key), False, one.reason, one.bytes)
        for one in plan.survivors
        if not about or one.key in about
    ]
    short = plan.target_bytes - plan.bytes_freed
    note = "" if plan.met or short <= 0 else f"{format_size(short)} short of the target: the rest must stay"
    return Preview(
        title=title, verb=verb, lines=(*victims, *survivors), freed_bytes=plan.bytes_freed, note=note
    )


def of_removal(plan: EvictionPlan, guarded: Iterable[Survivor]) -> Preview:
    """A removal that insists: of what goes, the ``guarded`` ones want their name typed."""
    victims = {one.key for one in plan.victims}
    why = {one.key: one.reason for one in guarded if one.key in victims}
    preview = of_plan(plan, title="Delete files and records", verb="delete")
    going = [Line(str(one.key), True, why.get(one.key, one.reason), one.bytes) for one in plan.victims]
    return replace(
        preview,
        lines=(*going, *(line for line in preview.lines if not line.goes)),
        guards=tuple(dict.fromkeys(key.name for key in why)),
    )


def readers_of(fleet: Fleet, keys: Sequence[WorkerKey]) -> dict[str, list[str]]:
    """Workers that pull from these now, by the worker id they pull from."""
    wanted = {key.worker_id for key in keys}
    found: dict[str, list[str]] = {}
    for report in fleet.running.values():
        for share in report.sources:
            if share.worker_id in wanted and not share.dropped:
                found.setdefault(share.worker_id, []).append(f"{report.worker_id} rank {report.worker_rank}")
    return found


def of_sources(fleet: Fleet, rows: Sequence[SourceSummary], *, title: str, verb: str) -> Preview:
    """Taking sources out of service. One that others pull from now wants its name typed."""
    readers = readers_of(fleet, [row.key for row in rows])
    lines = tuple(
        Line(
            f"{row.model_name} {row.worker_id} rank {row.worker_rank}",
            True,
            f"read now by {', '.join(readers[row.worker_id])}"
            if row.worker_id in readers
            else "read by nobody now",
        )
        for row in rows
    )
    return Preview(
        title=title,
        verb=verb,
        lines=lines,
        note="who reads from it goes on from other sources" if readers else "",
        guards=tuple(dict.fromkeys(row.worker_id for row in rows if row.worker_id in readers)),
    )


def of_reaping(found: Reaped) -> Preview:
    lines = [
        Line(
            f"{key.worker_id} rank {key.worker_rank}", True, f"no heartbeat for long; source {key.source_id}"
        )
        for key in found.removed
    ]
    lines += [
        Line(f"{key.worker_id} rank {key.worker_rank}", True, "no heartbeat: marked stale, not removed")
        for key in found.marked
    ]
    return Preview(
        title="Remove the records of dead sources",
        verb="reap",
        lines=tuple(lines),
        note="" if lines else f"all {found.seen} records are alive: there is nothing to remove",
    )
