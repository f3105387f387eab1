"""The cache in a few lines: what it holds by kind, its limits, its last evictions."""

from __future__ import annotations

from mx.cli.cache_view import Document, run_document, span
from mx.cli.output import Column, Output
from mx.core.cache_view import CacheStats
from mx.core.units import format_age, format_size


def stats_document(stats: CacheStats) -> Document:
    policy = stats.policy
    return {
        "path": stats.root,
        "kinds": [
            {
                "kind": one.kind,
                "total": one.total,
                "active": one.active,
                "bytes": one.bytes,
                "reclaimable_bytes": one.reclaimable_bytes,
            }
            for one in stats.kinds
        ],
        "used_bytes": stats.used_bytes,
        "free_bytes": stats.free_bytes,
        "disk_bytes": stats.disk_bytes,
        "limits": {
            "evicts": stats.eviction_enabled,
            "max_size_bytes": policy.max_size_bytes,
            "min_free_space_bytes": policy.min_free_space_bytes,
            "max_models": policy.max_models,
            "unused_threshold_s": policy.unused_threshold_s,
            "high_water": policy.high_water,
            "low_water": policy.low_water,
            "grace_s": policy.grace_s,
        },
        "next_run_at_ms": stats.next_run_at_ms,
        "runs": [
            {
                **run_document(run),
                "run_id": run.run_id,
                "trigger": run.trigger,
                "started_at_ms": run.started_at_ms,
                "finished_at_ms": run.finished_at_ms,
            }
            for run in stats.runs
        ],
    }


def print_stats(out: Output, stats: CacheStats) -> None:
    columns = (
        Column("KIND"),
        Column("TOTAL", justify="right"),
        Column("ACTIVE", justify="right"),
        Column("SIZE", justify="right"),
        Column("RECLAIMABLE", justify="right"),
    )
    cells = [
        (
            one.kind,
            str(one.total) if one.kind != "other" else "-",
            str(one.active) if one.kind != "other" else "-",
            format_size(one.bytes),
            f"{format_size(one.reclaimable_bytes)}{_percent(one.reclaimable_bytes, one.bytes)}",
        )
        for one in stats.kinds
    ]
    out.table(columns, cells)
    out.fields(
        [
            ("cache", stats.root),
            (
                "disk",
                f"{format_size(stats.used_bytes)} used, {format_size(stats.free_bytes)} free of "
                f"{format_size(stats.disk_bytes)}",
            ),
            ("limits", _limits(stats)),
            ("next look", _next_look(stats)),
        ]
    )
    for run in stats.runs:
        ago = span(run.finished_at_ms, stats.now_ms)
        out.line(
            f"run {run.run_id[:8]}  {ago} ago  {run.trigger}  {len(run.plan.victims) - len(run.failed)} "
            f"evicted, {format_size(run.bytes_freed)} freed"
        )
        stayed = dict(run.failed)
        for victim in run.plan.victims:
            why = f"stayed: {stayed[victim.key]}" if victim.key in stayed else victim.reason
            out.line(f"  {victim.key}  {format_size(victim.bytes)}  {why}")


def _percent(part: int, whole: int) -> str:
    return f" ({100 * part // whole}%)" if whole else ""


def _limits(stats: CacheStats) -> str:
    policy, parts = stats.policy, []
    if policy.max_size_bytes is not None:
        parts.append(f"{format_size(policy.max_size_bytes)} at most")
    if policy.min_free_space_bytes is not None:
        parts.append(f"{format_size(policy.min_free_space_bytes)} stay free")
    if policy.max_models is not None:
        parts.append(f"{policy.max_models} models")
    if policy.unused_threshold_s is not None:
        parts.append(f"unused for {format_age(policy.unused_threshold_s)}")
    if not parts:
        return "none"
    marks = f"from {policy.high_water:.0%} down to {policy.low_water:.0%}"
    grace = f", never what was used within {format_age(policy.grace_s)}" if policy.grace_s else ""
    return f"{', '.join(parts)} ({marks}{grace})"


def _next_look(stats: CacheStats) -> str:
    if stats.next_run_at_ms is not None:
        return f"in {span(stats.now_ms, stats.next_run_at_ms)}"
    return "" if stats.eviction_enabled else "never by itself: mx cache evict"
