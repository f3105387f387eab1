"""How the demo looks: a live table while it runs, the report after."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from mx.core.transfer import STAGES
from mx.core.units import format_rate, format_size
from mx.demo.fleet import Demo, DemoReport, Replica

COLUMNS = ("load", *STAGES)
_COLOURS = {"serving": "green", "failed": "red", "pulling": "cyan", "loading": "yellow"}
# In these states bytes move; in others the bytes are those of the state before, and have no rate.
_MOVING = ("loading", "pulling")
_STATE_WIDTH = max(map(len, (*_COLOURS, "comparing", "starting")))  # columns stay where they are


@contextmanager
def live(demo: Demo, console: Console) -> Iterator[None]:
    """Redraw the table four times a second while the body runs; nothing off a terminal."""
    if not console.is_terminal:
        yield
        return
    with Live(get_renderable=lambda: _table(demo), console=console, refresh_per_second=4, transient=True):
        yield


def _table(demo: Demo) -> Group:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    table.add_column("replica")
    table.add_column("state", width=_STATE_WIDTH)
    table.add_column("progress", width=24)
    table.add_column("bytes", justify="right")
    table.add_column("rate", justify="right")
    table.add_column("from")
    for replica in demo.replicas:
        table.add_row(*_row(replica))
    return Group(Text(f"mx demo  {demo.step}", style="bold"), table)


def _row(replica: Replica) -> tuple[Any, ...]:
    row: Any = replica.row
    state = Text(replica.state, style=_COLOURS.get(replica.state, ""))
    if row:
        return (
            replica.name,
            state,
            ProgressBar(total=1, completed=1, width=24),
            format_size(row["bytes"]),
            format_rate(row["gbit_s"] * 1e9 / 8),
            origin(row),
        )
    total = replica.total or 1
    moved = format_size(replica.done) if replica.done else ""
    rate = format_rate(replica.bytes_s) if replica.bytes_s and replica.state in _MOVING else ""
    bar = ProgressBar(
        total=total, completed=replica.done, width=24, complete_style=_COLOURS.get(replica.state, "default")
    )
    return replica.name, state, bar, moved, rate, ""


def origin(row: Any) -> str:
    """Who the bytes came from: the disk, or the peers with their shares."""
    if row["strategy"] == "disk":
        return "disk"
    total = row["bytes"] or 1
    return ", ".join(
        f"{share['worker_id']} {share['bytes'] / total:.0%}" for share in row["sources"] if share["bytes"]
    )


def report(report: DemoReport, console: Console) -> None:
    """The final tables: what each replica did, and where its time went."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for name in ("replica", "strategy"):
        table.add_column(name)
    for name in ("bytes", "tensors", "segments", "rate"):
        table.add_column(name, justify="right")
    table.add_column("from")
    table.add_column("verified")
    rows: tuple[Any, ...] = report.replicas
    for row in rows:
        table.add_row(
            row["name"], row["strategy"], format_size(row["bytes"]), str(row["tensors"]),
            str(row["segments"] or ""), format_rate(row["gbit_s"] * 1e9 / 8), origin(row),
            "yes" if row["verified"] else "NO",
        )  # fmt: skip
    console.print(table)
    console.print()
    stages = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    stages.add_column("seconds")
    shown = [stage for stage in COLUMNS if any(stage in row["stages_s"] for row in rows)]
    for stage in shown:
        stages.add_column(stage, justify="right")
    stages.add_column("all", justify="right")
    for row in rows:
        cells = [f"{row['stages_s'][stage]:.3f}" if stage in row["stages_s"] else "" for stage in shown]
        stages.add_row(row["name"], *cells, f"{row['seconds']:.3f}")
    console.print(stages)
    console.print()
    segments = sum(row["segments"] for row in rows)
    if report.verified:
        console.print(
            f"verified: {segments} segments by digest, and {rows[0]['tensors']} tensors on each of "
            f"{len(rows)} replicas against the file; {report.seconds:.1f} s in all"
        )
    else:
        console.print("NOT verified: at least one replica got bytes that nobody checked")
