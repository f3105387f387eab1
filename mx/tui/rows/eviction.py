"""The next eviction, entry by entry with reasons; the policy; and the runs that were."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mx.core import filters
from mx.core.cache_view import CacheStats
from mx.core.eviction import EvictionPlan, EvictionPolicy, EvictionRun
from mx.core.filters import Field
from mx.core.model import EntryKey
from mx.core.server_state import SettingRow
from mx.core.units import format_age, format_size
from mx.tui.cells import Cell, Column, Tone, shorten_name
from mx.tui.commands import target_of
from mx.tui.facts import Facts
from mx.tui.moment import Moment


@dataclass(frozen=True, slots=True)
class Judged:
    """One entry in a plan; ``turn`` counts victims in the order they go."""

    key: EntryKey
    goes: bool
    bytes: int
    reason: str
    turn: int


def judged(plan: EvictionPlan) -> list[Judged]:
    going = [Judged(v.key, True, v.bytes, v.reason, n) for n, v in enumerate(plan.victims, 1)]
    staying = [Judged(s.key, False, s.bytes, s.reason, 0) for s in plan.survivors]
    return going + staying


def columns() -> list[Column[Judged]]:
    return [
        Column(
            title="PLAN",
            show=lambda j: Cell(f"✗ {j.turn} evict", Tone.BAD) if j.goes else Cell("✓ keep", Tone.OK),
            width=9,
            field="plan",
        ),
        Column(
            title="MODEL",
            show=lambda j: Cell(str(j.key)),
            width=22,
            field="model",
            elastic=True,
            shorten=shorten_name,
        ),
        Column(title="SIZE", show=lambda j: Cell(format_size(j.bytes)), width=9, field="size", right=True),
        Column(title="WHY", show=lambda j: Cell(j.reason), width=26, field="why", elastic=True),
    ]


def fields() -> dict[str, Field[Judged]]:
    return {
        "plan": Field(lambda j: "evict" if j.goes else "keep"),
        "model": Field(lambda j: str(j.key)),
        "size": Field(lambda j: j.bytes, filters.size),
        "why": Field(lambda j: j.reason),
    }


def facts(row: Judged) -> Facts:
    return Facts(
        title=str(row.key),
        pairs=[
            ("plan", Cell(f"evict, as number {row.turn}", Tone.BAD) if row.goes else Cell("keep", Tone.OK)),
            ("frees" if row.goes else "size", format_size(row.bytes)),
            ("why", row.reason),
            ("provider", row.key.provider.value),
            ("revision", row.key.commit),
        ],
        command=f"mx cache show {target_of(row.key)}",
    )


def document(row: Judged) -> dict[str, object]:
    return {
        "model": row.key.name,
        "revision": row.key.commit,
        "plan": "evict" if row.goes else "keep",
        "bytes": row.bytes,
        "reason": row.reason,
    }


# ---- the policy

_OF_POLICY = "cache.eviction.policy"


def policy_lines(policy: EvictionPolicy, settings: Sequence[SettingRow]) -> list[tuple[str, str, str]]:
    """Limit, value, and where the value came from (empty while the settings were not told)."""
    origins: Mapping[str, str] = {row.key: row.origin for row in settings}
    most = "no limit" if policy.max_models is None else str(policy.max_models)
    values = (
        (f"{_OF_POLICY}.unused_threshold", "unused for", _span(policy.unused_threshold_s)),
        (f"{_OF_POLICY}.max_models", "most models", most),
        ("cache.max_size_bytes", "most bytes", _size(policy.max_size_bytes)),
        (f"{_OF_POLICY}.min_free_space_bytes", "least free", _size(policy.min_free_space_bytes)),
        (f"{_OF_POLICY}.high_water", "begins above", f"{policy.high_water:.0%} of the limit"),
        (f"{_OF_POLICY}.low_water", "ends below", f"{policy.low_water:.0%} of the limit"),
        (f"{_OF_POLICY}.grace_time", "grace", _span(policy.grace_s)),
    )
    return [(label, value, origins.get(key, "")) for key, label, value in values]


def _span(seconds: float | None) -> str:
    return "no limit" if seconds is None else format_age(seconds)


def _size(size: int | None) -> str:
    return "no limit" if size is None else format_size(size)


def next_run(stats: CacheStats, moment: Moment) -> str:
    if not stats.eviction_enabled:
        return "off: nothing is evicted by itself"
    if stats.next_run_at_ms is None:
        return "nobody looks at the limits by itself"
    return f"next run in {moment.until(stats.next_run_at_ms)}"


# ---- runs


def run_columns(moment: Moment) -> list[Column[EvictionRun]]:
    return [
        Column(title="RUN", show=lambda r: Cell(moment.clock(r.started_at_ms)), width=11, field="age"),
        Column(title="BY", show=lambda r: Cell(r.trigger, Tone.DIM), width=8, field="by"),
        Column(title="EVICTED", show=lambda r: Cell(str(_gone(r))), width=7, field="evicted", right=True),
        Column(
            title="FREED", show=lambda r: Cell(format_size(r.bytes_freed)), width=9, field="freed", right=True
        ),
        Column(title="OUTCOME", show=_outcome, width=24, elastic=True),
    ]


def _gone(run: EvictionRun) -> int:
    return len(run.plan.victims) - len(run.failed)


def _outcome(run: EvictionRun) -> Cell:
    if run.failed:
        key, reason = run.failed[0]
        return Cell(f"! {len(run.failed)} stayed: {key}: {reason}", Tone.WARN)
    if not run.plan.met:
        return Cell("! short of its target: the rest is pinned, in use or new", Tone.WARN)
    return Cell("✓ target met", Tone.OK)


def run_fields(moment: Moment) -> dict[str, Field[EvictionRun]]:
    return {
        "age": Field(lambda r: moment.since_s(r.started_at_ms), filters.duration),
        "by": Field(lambda r: r.trigger),
        "evicted": Field(lambda r: _gone(r), filters.number),
        "freed": Field(lambda r: r.bytes_freed, filters.size),
    }


def run_facts(run: EvictionRun, moment: Moment) -> Facts:
    took_s = (run.finished_at_ms - run.started_at_ms) / 1000
    victims = tuple(f"{format_size(v.bytes):>9}  {v.key}: {v.reason}" for v in run.plan.victims)
    stayed = tuple(f"{key}: {reason}" for key, reason in run.failed)
    return Facts(
        title=f"eviction run {run.run_id}",
        pairs=[
            ("outcome", _outcome(run)),
            ("started", f"{moment.date(run.started_at_ms)}, by {run.trigger}"),
            ("took", format_age(took_s)),
            ("freed", format_size(run.bytes_freed)),
            ("target", format_size(run.plan.target_bytes)),
        ],
        sections=tuple(
            (heading, lines) for heading, lines in (("evicted", victims), ("stayed", stayed)) if lines
        ),
        command="mx cache stats",
    )


def run_document(run: EvictionRun) -> dict[str, object]:
    return {
        "run_id": run.run_id,
        "started_at_ms": run.started_at_ms,
        "trigger": run.trigger,
        "evicted": _gone(run),
        "bytes_freed": run.bytes_freed,
        "failed": [{"model": key.name, "revision": key.commit, "reason": why} for key, why in run.failed],
    }
