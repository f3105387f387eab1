"""``mx source``: who serves which weights."""

from __future__ import annotations

import asyncio
import sys
from enum import StrEnum
from typing import Annotated

import typer

from mx.cli.options import Invocation, invocation_of, with_client
from mx.cli.output import Cell, Column
from mx.cli.pick import pick
from mx.cli.source_view import (
    Row,
    SourceDetail,
    describe,
    detail_document,
    endpoint_of,
    row_document,
    status_name,
    status_style,
)
from mx.client.base import Client
from mx.core import filters
from mx.core.source import SourceEntry, SourceFilter, SourceStatus, SourceSummary
from mx.core.units import format_age
from mx.errors import CancelledError, NotFoundError, UsageError

app = typer.Typer(no_args_is_help=True)

# Full records carry blobs and descriptors, megabytes each in central mode.
_PARALLEL_READS = 8


class StatusChoice(StrEnum):
    UNKNOWN = "unknown"
    INITIALIZING = "initializing"
    READY = "ready"
    STALE = "stale"


@app.callback()
def source() -> None:
    """Sources: sets of workers that hold the same weights and serve them to others."""


def _fields() -> dict[str, filters.Field[Row]]:
    column, number = filters.Field, filters.number
    return {
        "model": column(lambda row: row[0].model_name),
        "source": column(lambda row: row[0].source_id),
        "worker": column(lambda row: row[0].worker_id),
        "rank": column(lambda row: row[0].worker_rank, number),
        "status": column(lambda row: status_name(row[0].status)),
        "age": column(lambda row: row[1], filters.duration),
        "accelerator": column(lambda row: row[0].accelerator),
        "load": column(lambda row: row[0].source_load, number),
        "step": column(lambda row: row[0].training_step, number),
        "endpoint": column(lambda row: endpoint_of(row[0])),
    }


def _aged(rows: tuple[SourceSummary, ...], run: Invocation) -> list[Row]:
    """Rows with the seconds since their last heartbeat, by this machine's clock against the server's."""
    now_ms = run.now() * 1000
    return [(row, max(0.0, (now_ms - row.updated_at_ms) / 1000)) for row in rows]


@app.command("list")
def list_(
    ctx: typer.Context,
    model: Annotated[
        str | None, typer.Option("--model", metavar="NAME", help="This model only, exact name.")
    ] = None,
    status: Annotated[
        StatusChoice | None, typer.Option("--status", case_sensitive=False, help="This status only.")
    ] = None,
    rank: Annotated[int | None, typer.Option("--rank", min=0, metavar="RANK", help="This rank only.")] = None,
    conditions: Annotated[
        list[str] | None,
        typer.Option(
            "--filter", metavar="EXPR", help="As age>90s, load<0.5, model~llama, !text; repeatable."
        ),
    ] = None,
    sort: Annotated[
        str, typer.Option("--sort", metavar="FIELD[:desc]", help="Order of the rows.", show_default=True)
    ] = "model",
    limit: Annotated[
        int, typer.Option("--limit", min=0, metavar="COUNT", help="First rows only; 0 means all.")
    ] = 0,
    wide: Annotated[
        bool, typer.Option("--wide", "-w", help="Every column, however narrow the terminal.")
    ] = False,
) -> None:
    """List workers that hold weights, one row for each rank.

    --status ready leaves out workers without a recent heartbeat, as a target would see them.
    Columns for --filter and --sort: model source worker rank status age accelerator load step endpoint.

    JSON: {sources: [{source_id, worker_id, worker_rank, model_name, status, age_s, ...}]}.
    """
    run = invocation_of(ctx)
    fields = _fields()
    # Said before the server is asked: a typo should not cost a round trip.
    filters.select([], conditions or (), fields)
    filters.arrange([], sort, fields)
    query = SourceFilter(
        model_name=model, worker_rank=rank, status=SourceStatus[status.name] if status is not None else None
    )
    found = with_client(ctx, lambda client: client.list_sources(query))
    # Within equal keys: by source, then by rank.
    rows = sorted(_aged(found, run), key=lambda row: (row[0].source_id, row[0].worker_id, row[0].worker_rank))
    rows = filters.arrange(filters.select(rows, conditions or (), fields), sort, fields)
    shown = rows[:limit] if limit else rows
    narrowed = bool(conditions) or query != SourceFilter()
    document = {"sources": [row_document(row, age) for row, age in shown]}
    run.out.emit(
        document, human=lambda: _print_rows(run, shown, total=len(rows), wide=wide, narrowed=narrowed)
    )


_COLUMNS = (
    Column("MODEL", elastic=True),
    Column("SOURCE"),
    Column("WORKER"),
    Column("RANK", justify="right"),
    Column("STATUS"),
    Column("HEARTBEAT", justify="right"),
    Column("LOAD", justify="right", optional=True),
    Column("ACCELERATOR", optional=True),
    Column("ENDPOINT", optional=True),
)


def _print_rows(run: Invocation, rows: list[Row], *, total: int, wide: bool, narrowed: bool) -> None:
    if not rows:
        hint = "a worker started with `--load-format mx` appears here once it has loaded"
        run.out.say("no source matches the conditions" if narrowed else f"no sources; {hint}")
        return
    cells = [
        (
            row.model_name,
            row.source_id,
            row.worker_id,
            str(row.worker_rank),
            Cell(status_name(row.status), status_style(row.status)),
            format_age(age),
            "-" if row.source_load is None else f"{row.source_load:.2f}",
            row.accelerator or "-",
            endpoint_of(row) or "-",
        )
        for row, age in rows
    ]
    run.out.table(_COLUMNS, cells, wide=wide)
    if total > len(rows):
        run.out.say(f"{len(rows)} of {total} rows; --limit 0 shows all")


@app.command()
def show(
    ctx: typer.Context,
    source_id: Annotated[
        str, typer.Argument(metavar="ID", help="Source id, the beginning of one, or a model name.")
    ],
    worker: Annotated[
        str | None, typer.Argument(metavar="WORKER", help="Worker id, or the beginning of one.")
    ] = None,
) -> None:
    """Show a source: its identity, and each worker's full record.

    JSON: {source_id, model_name, identity, workers: [{worker_id, status, ..., record, peer, pod}]}.
    """
    run = invocation_of(ctx)
    detail = with_client(ctx, lambda client: _read(client, source_id, worker, run))
    run.out.emit(detail_document(detail), human=lambda: describe(run.out, detail))


async def _find(client: Client, wanted: str, worker: str | None) -> list[SourceSummary]:
    """The rows of one source, or of one worker of it. Raises NotFoundError, UsageError."""
    rows = await client.list_sources(SourceFilter())
    models = {row.source_id: row.model_name for row in rows}
    chosen = pick(wanted, models, noun="source", listing="mx source list")
    rows_of = [row for row in rows if row.source_id == chosen]
    if worker is not None:
        workers = {row.worker_id: "" for row in rows_of}
        worker_id = pick(
            worker, workers, noun=f"worker of source {chosen}", listing=f"mx source show {chosen}"
        )
        rows_of = [row for row in rows_of if row.worker_id == worker_id]
    return sorted(rows_of, key=lambda row: (row.worker_rank, row.worker_id))


async def _read(client: Client, wanted: str, worker: str | None, run: Invocation) -> SourceDetail:
    rows = await _find(client, wanted, worker)
    gate = asyncio.Semaphore(_PARALLEL_READS)

    async def read(worker_id: str) -> SourceEntry | None:
        async with gate:
            return await client.get_source(rows[0].source_id, worker_id)

    async with asyncio.TaskGroup() as group:
        tasks = [
            group.create_task(read(worker_id)) for worker_id in dict.fromkeys(row.worker_id for row in rows)
        ]
    entries = {entry.key: entry for task in tasks if (entry := task.result()) is not None}
    return SourceDetail(rows=tuple(_aged(tuple(rows), run)), entries=entries)


@app.command()
def withdraw(
    ctx: typer.Context,
    source_id: Annotated[
        str, typer.Argument(metavar="ID", help="Source id, the beginning of one, or a model name.")
    ],
    worker: Annotated[
        str | None,
        typer.Argument(metavar="WORKER", help="Worker id, or the beginning of one; without it all."),
    ] = None,
    rank: Annotated[int | None, typer.Option("--rank", min=0, metavar="RANK", help="This rank only.")] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be withdrawn, and stop.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Remove records of a source so that no new target chooses it. Weights and running reads stay.

    A worker that is alive publishes itself again with its next heartbeat.

    JSON: {success, dry_run, source_id, withdrawn: [{worker_id, worker_rank, model_name, status}]}.
    """
    run = invocation_of(ctx)
    rows = with_client(ctx, lambda client: _find(client, source_id, worker))
    doomed = [row for row in rows if rank is None or row.worker_rank == rank]
    if not doomed:
        raise NotFoundError(
            f"source {rows[0].source_id} has no rank {rank}",
            remedy=f"`mx source show {rows[0].source_id}` lists them",
        )
    if not (dry_run or yes):
        _confirm(run, doomed)
    withdrawn = doomed if dry_run else with_client(ctx, lambda client: _withdraw(client, doomed))
    document = {
        "success": True,
        "dry_run": dry_run,
        "source_id": doomed[0].source_id,
        "withdrawn": [
            {
                "worker_id": row.worker_id,
                "worker_rank": row.worker_rank,
                "model_name": row.model_name,
                "status": status_name(row.status),
            }
            for row in withdrawn
        ],
    }
    run.out.emit(document, human=lambda: _print_withdrawn(run, withdrawn, doomed, dry_run=dry_run))


def _confirm(run: Invocation, doomed: list[SourceSummary]) -> None:
    """Ask on stderr, No being the default. Raises UsageError when nobody is there to answer."""
    what = f"{len(doomed)} record{'s' * (len(doomed) != 1)} of {doomed[0].model_name} ({doomed[0].source_id})"
    if not sys.stdin.isatty():
        raise UsageError(
            f"withdrawing {what} needs a yes", remedy="give --yes, or --dry-run to see the records"
        )
    if not typer.confirm(f"withdraw {what}?", default=False, err=True):
        raise CancelledError("nothing was withdrawn")


async def _withdraw(client: Client, rows: list[SourceSummary]) -> list[SourceSummary]:
    """Those that were still there."""
    return [row for row in rows if await client.withdraw(row.key)]


def _print_withdrawn(
    run: Invocation, withdrawn: list[SourceSummary], doomed: list[SourceSummary], *, dry_run: bool
) -> None:
    verb = "would withdraw" if dry_run else "withdrew"
    for row in withdrawn:
        run.out.line(f"{verb} {row.key}  {row.model_name}  {status_name(row.status)}")
    if gone := len(doomed) - len(withdrawn):
        run.out.say(f"{gone} left on their own in the meantime")
