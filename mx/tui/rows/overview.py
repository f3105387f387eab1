"""The panels of the overview: each a few lines that fit a width and a height."""

from __future__ import annotations

from collections import Counter

from mx.core.cache_view import KindStats
from mx.core.source import SourceStatus
from mx.core.transfer import TransferState
from mx.core.units import format_age, format_size
from mx.tui.cells import Cell, Tone, fit, shorten_middle
from mx.tui.moment import Moment, gbit
from mx.tui.pictures import bar, plot
from mx.tui.rows import events, eviction
from mx.tui.rows import sources as source_rows

_NAME_LEAST = 22  # less of a name says too little; then numbers go first
Lines = list[list[Cell | str]]


def _note(text: str) -> Lines:
    return [[Cell(text, Tone.DIM)]]


def cache_lines(moment: Moment, width: int, height: int) -> Lines:
    stats = moment.fleet.cache
    if stats is None:
        return _note("this server has no cache")
    limit = stats.policy.max_size_bytes
    whole = limit or (stats.used_bytes + stats.free_bytes)
    share = stats.used_bytes / whole if whole else 0.0
    over = share > stats.policy.high_water
    used = f"{format_size(stats.used_bytes)} of {format_size(whole)}"
    lines: Lines = [
        [
            Cell("size    ", Tone.DIM),
            f"{used:<22} ",
            Cell(bar(share, max(4, min(24, width - 38))), Tone.WARN if over else Tone.OK),
            f" {share:>4.0%}",
            Cell(" ! over" if over else "", Tone.WARN),
        ]
    ]
    floor = stats.policy.min_free_space_bytes
    low = floor is not None and stats.free_bytes < floor
    free = format_size(stats.free_bytes) + ("" if floor is None else f", at least {format_size(floor)}")
    lines.append(
        [
            Cell("free    ", Tone.DIM),
            f"{free:<22} ",
            Cell("! too little", Tone.WARN) if low else Cell("✓ ok", Tone.OK),
        ]
    )
    lines.append([Cell("models  ", Tone.DIM), _models(moment, stats.kinds, stats.policy.max_models)])
    lines.append([Cell("evicts  ", Tone.DIM), eviction.next_run(stats, moment)])
    return lines[:height]


def _models(moment: Moment, kinds: tuple[KindStats, ...], most: int | None) -> str:
    entries = moment.fleet.entries.values()
    total = next((kind.total for kind in kinds if kind.kind == "models"), len(entries))
    pinned = sum(entry.pin is not None for entry in entries)
    read = sum(bool(entry.readers) for entry in entries)
    of = "" if most is None else f" of {most}"
    return f"{total}{of} · {pinned} pinned · {read} being read"


def transfer_lines(moment: Moment, width: int, height: int) -> Lines:
    rates, fleet = moment.rates, moment.fleet
    running = len(fleet.running)
    lines: Lines = [
        [
            Cell("now ", Tone.DIM),
            Cell(gbit(rates.total_now), Tone.STRONG),
            Cell("  peak ", Tone.DIM),
            gbit(rates.peak_gbit_s),
            Cell("  in flight ", Tone.DIM),
            f"{running} {'pull' if running == 1 else 'pulls'}",
        ]
    ]
    drawn = plot(rates.total, max(4, width - 1), max(1, height - 2)) if any(rates.total) else []
    lines += [[Cell(line, Tone.ACCENT)] for line in drawn] or _note("nothing was moved in the last minutes")
    done = Counter(report.state for report in fleet.finished.values())
    dropped = sum(any(share.dropped for share in report.sources) for report in fleet.finished.values())
    failed = done[TransferState.FAILED]
    lines.append(
        [
            Cell("ended ", Tone.DIM),
            f"{done[TransferState.DONE]} ok · {dropped} lost a source · ",
            Cell(f"{failed} failed", Tone.BAD if failed else Tone.PLAIN),
        ]
    )
    return lines if height > 2 else [lines[0], lines[-1]][:height]


def download_lines(moment: Moment, width: int, height: int) -> Lines:
    downloads = moment.fleet.downloads
    if not downloads:
        return _note("none · 2 then e has the server get a model")
    lines: Lines = []
    for key, moving in list(downloads.items())[: height - (len(downloads) > height)]:
        share = moving.bytes_done / moving.bytes_total if moving.bytes_total else 0.0
        rate = "" if moving.rate is None else f"{format_size(moving.rate)}/s"
        left = "" if moving.eta_s is None else f"{format_age(moving.eta_s)} left"
        wait = f"{moving.waiters} wait" if moving.waiters > 1 else ""
        parts = [part for part in (rate, left, wait) if part]
        while parts and len("  ".join(parts)) > width - 17 - _NAME_LEAST:
            parts.pop()
        tail = "  ".join(parts)
        name = shorten_middle(str(key), max(8, width - 17 - len(tail)))
        percent = f" {int(share * 100):>3}%  "
        lines.append([f"{name}  ", Cell(bar(share, 8), Tone.ACCENT), percent, Cell(tail, Tone.DIM)])
    if len(downloads) > height:
        lines.append([Cell(f"and {len(downloads) - len(lines)} more", Tone.DIM)])
    return lines


def source_lines(moment: Moment, width: int, height: int) -> Lines:
    sources = list(moment.fleet.sources.values())
    if not sources:
        return _note("none · a worker appears once it has loaded: vllm serve MODEL --load-format mx")
    by_status = Counter(row.status for row in sources)
    late = [row for row in sources if row.status == SourceStatus.READY and source_rows.is_late(row, moment)]
    stale = by_status[SourceStatus.STALE]
    lines: Lines = [
        [
            Cell(f"✓ ready {by_status[SourceStatus.READY] - len(late)}", Tone.OK),
            Cell(f"   … loading {by_status[SourceStatus.INITIALIZING]}", Tone.ACCENT),
            Cell(f"   ✗ stale {stale}", Tone.BAD if stale else Tone.DIM),
            Cell(f"   ! silent {len(late)}", Tone.WARN if late else Tone.DIM),
        ]
    ]
    troubled = sorted(
        (row for row in sources if source_rows.is_problem(row, moment)), key=lambda row: row.updated_at_ms
    )
    for row in troubled[: height - 1]:
        age = moment.ago(row.updated_at_ms)
        text = f"! {row.model_name}  {row.worker_id} rank {row.worker_rank}  no heartbeat for {age}"
        lines.append([Cell(fit(text, width).rstrip(), Tone.WARN)])
    models = Counter(row.model_name for row in sources)
    for name, count in models.most_common(max(0, height - len(lines))):
        lines.append([Cell(f"  {shorten_middle(name, width - 16)}", Tone.DIM), f"  {count} workers"])
    return lines[:height]


def event_lines(moment: Moment, width: int, height: int) -> Lines:
    found = moment.fleet.events[-height:]
    if not found:
        return _note("nothing happened yet")
    lines: Lines = []
    for event in reversed(found):
        sign = events.level_cell(event)
        text = events.text_cell(event)
        lines.append(
            [
                Cell(f"{moment.clock(event.at_ms):<11} ", Tone.DIM),
                Cell(f"{sign.text[:1]} ", sign.tone),
                Cell(f"{event.kind.value:<9} ", Tone.DIM),
                Cell(fit(text.text, max(8, width - 24)).rstrip(), text.tone),
            ]
        )
    return lines
