"""Workers as lanes: what each receives or serves now; and transfers that ended."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from mx.core import filters
from mx.core.filters import Field
from mx.core.fleet import Fleet
from mx.core.source import SourceStatus, SourceSummary, WorkerKey
from mx.core.transfer import STAGES, SourceShare, Strategy, TransferReport, TransferState
from mx.core.units import format_age, format_size
from mx.tui.cells import NOTHING, Cell, Column, Tone, fit, shorten_name
from mx.tui.facts import Facts
from mx.tui.moment import Moment, gbit
from mx.tui.pictures import bar, sparkline
from mx.tui.rates import Rates, worker_of
from mx.tui.rows import sources as source_rows

SPARK_WIDTH = 16


@dataclass(frozen=True, slots=True)
class Lane:
    """One worker. ``report`` is its running load; ``readers`` pull from it now, at ``serving`` Gbit/s."""

    key: WorkerKey
    model: str
    source: SourceSummary | None = None
    report: TransferReport | None = None
    readers: tuple[str, ...] = ()
    serving: float = 0.0


def lanes(fleet: Fleet, rates: Rates) -> list[Lane]:
    """Who moves something first, then the rest; in the order of model, worker, rank."""
    loads = {worker_of(report): report for report in fleet.running.values()}
    readers: dict[str, list[tuple[str, float]]] = {}
    for report in fleet.running.values():
        reader, rate = f"{report.worker_id} r{report.worker_rank}", rates.now(worker_of(report))
        moved = sum(share.bytes for share in report.sources) or 1
        for share in report.sources:
            if not share.dropped:
                part = rate * share.bytes / moved
                readers.setdefault(share.worker_id, []).append((reader, part))
    found: list[Lane] = []
    for key in {**fleet.sources, **loads}:
        source, load = fleet.sources.get(key), loads.get(key)
        served = readers.get(key.worker_id, ())
        model = source.model_name if source is not None else load.model_name if load is not None else ""
        names = tuple(name for name, _ in served)
        found.append(Lane(key, model, source, load, names, sum(rate for _, rate in served)))
    return sorted(
        found,
        key=lambda lane: (
            lane.report is None,
            not lane.readers,
            lane.model,
            lane.key.worker_id,
            lane.key.worker_rank,
        ),
    )


def stage_of(report: TransferReport) -> str:
    """The furthest stage that began; stages overlap."""
    begun = [stage for stage in STAGES if stage in report.stages_s]
    return begun[-1] if begun else "starting"


def state_of(lane: Lane, moment: Moment) -> Cell:
    if lane.report is not None:
        return Cell(f"▸ {stage_of(lane.report)}", Tone.ACCENT)
    if lane.source is None:
        return NOTHING
    if source_rows.is_problem(lane.source, moment):
        return source_rows.status_cell(lane.source, moment)
    if lane.readers:
        return Cell("◂ serving", Tone.OK)
    if lane.source.status == SourceStatus.INITIALIZING:
        return Cell("… loading", Tone.ACCENT)
    return Cell("· idle", Tone.DIM)


def is_problem(lane: Lane, moment: Moment) -> bool:
    dropped = lane.report is not None and any(share.dropped for share in lane.report.sources)
    return dropped or (lane.source is not None and source_rows.is_problem(lane.source, moment))


def _rate(lane: Lane, moment: Moment) -> Cell:
    if lane.report is not None:
        return Cell(gbit(moment.rates.now(lane.key)), Tone.STRONG)
    return Cell(gbit(lane.serving), Tone.DIM) if lane.readers else NOTHING


def _progress(lane: Lane) -> Cell:
    report = lane.report
    if report is None or not report.bytes_total:
        return NOTHING
    share = report.bytes_done / report.bytes_total
    return Cell(f"{bar(share, 6)} {int(share * 100):>3}%", Tone.ACCENT)


def _from(lane: Lane) -> Cell:
    if lane.report is None:
        return Cell(f"→ {', '.join(lane.readers)}", Tone.DIM) if lane.readers else Cell("")
    shares = lane.report.sources
    if not shares:
        return Cell(lane.report.strategy.value, Tone.DIM)
    words = [f"✗ {share.worker_id}" if share.dropped else share.worker_id for share in shares]
    return Cell(" · ".join(words), Tone.WARN if any(share.dropped for share in shares) else Tone.PLAIN)


def columns(moment: Moment) -> list[Column[Lane]]:
    def spark(lane: Lane) -> Cell:
        history = moment.rates.history(lane.key)
        return Cell(sparkline(history, SPARK_WIDTH), Tone.ACCENT) if history else Cell("")

    return [
        Column(
            title="MODEL",
            show=lambda a: Cell(a.model),
            width=14,
            field="model",
            elastic=True,
            shorten=shorten_name,
        ),
        Column(title="WORKER", show=lambda a: Cell(a.key.worker_id), width=10, field="worker", elastic=True),
        Column(title="RANK", show=lambda a: Cell(str(a.key.worker_rank)), width=4, field="rank", right=True),
        Column(title="RATE NOW", show=lambda a: _rate(a, moment), width=12, field="rate", right=True),
        Column(title="LAST 60 S", show=spark, width=SPARK_WIDTH, level=3),
        Column(title="STAGE", show=lambda a: state_of(a, moment), width=10, field="state"),
        Column(title="PROGRESS", show=_progress, width=11, field="progress", level=1),
        Column(title="FROM → TO", show=_from, width=24, elastic=True, level=2),
    ]


def fields(moment: Moment) -> dict[str, Field[Lane]]:
    def rate(lane: Lane) -> float:
        return moment.rates.now(lane.key) if lane.report is not None else lane.serving

    def progress(lane: Lane) -> float | None:
        report = lane.report
        return 100 * report.bytes_done / report.bytes_total if report and report.bytes_total else None

    return {
        "model": Field(lambda a: a.model),
        "worker": Field(lambda a: a.key.worker_id),
        "source": Field(lambda a: a.key.source_id),
        "rank": Field(lambda a: a.key.worker_rank, filters.number),
        "rate": Field(rate, filters.number),
        "state": Field(lambda a: state_of(a, moment).text.partition(" ")[2]),
        "progress": Field(progress, filters.number),
        "from": Field(lambda a: _from(a).text),
    }


def lane_facts(lane: Lane, moment: Moment) -> Facts:
    if lane.report is not None:
        return report_facts(lane.report, moment)
    pairs: list[tuple[str, Cell | str]] = [("state", state_of(lane, moment)), ("model", lane.model)]
    if lane.source is not None:
        pairs += [
            ("heartbeat", f"{moment.ago(lane.source.updated_at_ms)} ago"),
            ("load", "" if lane.source.source_load is None else f"{lane.source.source_load:.2f}"),
            ("accelerator", lane.source.accelerator),
        ]
    sections = (("read now by", lane.readers),) if lane.readers else ()
    key = lane.key
    return Facts(
        title=f"{key.worker_id} rank {key.worker_rank}",
        pairs=pairs,
        sections=sections,
        command=f"mx source show {key.source_id} {key.worker_id}",
    )


def lane_document(lane: Lane, moment: Moment) -> dict[str, object]:
    report = lane.report
    return {
        "model": lane.model,
        "source_id": lane.key.source_id,
        "worker_id": lane.key.worker_id,
        "worker_rank": lane.key.worker_rank,
        "state": state_of(lane, moment).text.partition(" ")[2],
        "gbit_s": moment.rates.now(lane.key) if report is not None else lane.serving,
        "bytes_done": None if report is None else report.bytes_done,
        "bytes_total": None if report is None else report.bytes_total,
        "readers": list(lane.readers),
    }


# ---- transfers that ended


def finished(fleet: Fleet) -> list[TransferReport]:
    """The newest first."""
    return list(fleet.finished.values())[::-1]


def outcome(report: TransferReport) -> Cell:
    match report.state:
        case TransferState.RUNNING:
            return Cell(f"▸ {stage_of(report)}", Tone.ACCENT)
        case TransferState.FAILED:
            return Cell("✗ failed", Tone.BAD)
        case TransferState.DONE if report.verified:
            return Cell("✓ verified", Tone.OK)
        case TransferState.DONE if report.strategy is not Strategy.PEER:
            return Cell("✓ loaded", Tone.OK)  # from files: digests are of what peers give
        case TransferState.DONE:
            return Cell("! unverified", Tone.WARN)


def went_wrong(report: TransferReport) -> bool:
    """Failed, unverified, or a source was lost on the way."""
    return not outcome(report).text.startswith("✓") or any(share.dropped for share in report.sources)


def report_columns(moment: Moment) -> list[Column[TransferReport]]:
    return [
        Column(title="STARTED", show=lambda r: Cell(moment.clock(r.started_at_ms)), width=11, field="age"),
        Column(
            title="MODEL",
            show=lambda r: Cell(r.model_name),
            width=12,
            field="model",
            elastic=True,
            shorten=shorten_name,
        ),
        Column(
            title="WORKER",
            show=lambda r: Cell(f"{r.worker_id} r{r.worker_rank}"),
            width=12,
            field="worker",
            elastic=True,
        ),
        Column(title="OUTCOME", show=outcome, width=12, field="state"),
        Column(
            title="SIZE", show=lambda r: Cell(format_size(r.bytes_done)), width=9, field="size", right=True
        ),
        Column(
            title="TOOK", show=lambda r: Cell(took(r.seconds)), width=8, field="took", right=True, level=2
        ),
        Column(
            title="RATE", show=lambda r: Cell(gbit(r.gbit_s)), width=13, field="rate", right=True, level=1
        ),
        Column(title="BY", show=lambda r: Cell(r.strategy.value, Tone.DIM), width=6, field="by", level=3),
        Column(title="FROM", show=_shares, width=24, elastic=True, level=4),
    ]


def took(seconds: float) -> str:
    return f"{seconds:.2f} s" if seconds < 10 else f"{seconds:.1f} s" if seconds < 60 else format_age(seconds)


def _shares(report: TransferReport) -> Cell:
    total = sum(share.bytes for share in report.sources) or 1
    return Cell(" · ".join(f"{share.worker_id} {share.bytes / total:.0%}" for share in report.sources))


def report_fields(moment: Moment) -> dict[str, Field[TransferReport]]:
    return {
        "age": Field(lambda r: moment.since_s(r.started_at_ms), filters.duration),
        "model": Field(lambda r: r.model_name),
        "worker": Field(lambda r: r.worker_id),
        "state": Field(lambda r: outcome(r).text.partition(" ")[2]),
        "size": Field(lambda r: r.bytes_done, filters.size),
        "took": Field(lambda r: r.seconds, filters.duration),
        "rate": Field(lambda r: r.gbit_s, filters.number),
        "by": Field(lambda r: r.strategy.value),
        "rank": Field(lambda r: r.worker_rank, filters.number),
    }


def report_facts(report: TransferReport, moment: Moment) -> Facts:
    share = report.bytes_done / report.bytes_total if report.bytes_total else 0.0
    pairs: list[tuple[str, Cell | str]] = [
        ("outcome", outcome(report)),
        ("reason", Cell(report.reason, Tone.BAD if report.state is TransferState.FAILED else Tone.PLAIN)),
        ("model", report.model_name),
        ("worker", f"{report.worker_id} rank {report.worker_rank}"),
        ("source id", report.source_id),
        ("by way of", report.strategy.value),
        (
            "moved",
            f"{format_size(report.bytes_done)} of {format_size(report.bytes_total)} ({int(share * 100)}%)",
        ),
        ("rate", gbit(report.gbit_s)),
        ("started", moment.date(report.started_at_ms)),
        ("took", took(report.seconds)),
        ("tensors", str(report.tensors or "")),
        ("segments", f"{report.segments}, {report.segments_reread} read again" if report.segments else ""),
        ("digests", f"{took(report.verify_cpu_s)} of processor time" if report.verify_cpu_s else ""),
    ]
    sections: list[tuple[str, tuple[str, ...]]] = []
    if report.stages_s:
        longest = max(report.stages_s.values()) or 1.0
        sections.append(("stages (they overlap)", tuple(_stage_lines(report.stages_s, longest))))
    if report.sources:
        total = sum(one.bytes for one in report.sources) or 1
        lines = tuple(_share_line(one, one.bytes / total) for one in report.sources)
        sections.append(("from", lines))
    return Facts(
        title=f"transfer {report.transfer_id}",
        pairs=pairs,
        sections=tuple(sections),
        command=f"mx transfer show {report.transfer_id}",
    )


def _share_line(share: SourceShare, part: float) -> str:
    fate = f"✗ dropped: {share.dropped}" if share.dropped else "✓ verified" if share.verified else ""
    size, rate = format_size(share.bytes), gbit(share.gbit_s)
    return f"{fit(share.worker_id, 18)} {part:>4.0%} {size:>9} {rate:>13}  {fate}".rstrip()


def _stage_lines(stages_s: Mapping[str, float], longest: float) -> list[str]:
    return [
        f"{name:<9} {took(seconds):>8}  {bar(seconds / longest, 16)}" for name, seconds in stages_s.items()
    ]


def report_document(report: TransferReport) -> dict[str, object]:
    return {
        "transfer_id": report.transfer_id,
        "model": report.model_name,
        "worker_id": report.worker_id,
        "worker_rank": report.worker_rank,
        "state": report.state.value,
        "strategy": report.strategy.value,
        "verified": report.verified,
        "bytes_done": report.bytes_done,
        "bytes_total": report.bytes_total,
        "seconds": report.seconds,
        "gbit_s": report.gbit_s,
        "reason": report.reason,
        "sources": [
            {"worker_id": one.worker_id, "bytes": one.bytes, "gbit_s": one.gbit_s, "dropped": one.dropped}
            for one in report.sources
        ],
    }
