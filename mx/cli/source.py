"""``mx source``: who serves which weights."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import replace
from enum import StrEnum
from typing import Annotated

import typer

from mx.cli import live, raw_view
from mx.cli.live import WatchOption
from mx.cli.options import Invocation, invocation_of, with_client
from mx.cli.output import Cell, Column
from mx.cli.source_acts import SourceId, choose_rows, find_rows, reap, stale, withdraw
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
from mx.core.fleet import Fleet
from mx.core.server_state import RawRecord
from mx.core.source import SourceEntry, SourceFilter, SourceStatus, SourceSummary, matches
from mx.core.units import format_age
from mx.errors import UsageError

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
    watch: WatchOption = False,
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
    narrowed = bool(conditions) or query != SourceFilter()

    def wanted(found: Iterable[SourceSummary], run: Invocation) -> list[Row]:
        # Within equal keys: by source, then by rank.
        ordered = sorted(found, key=lambda row: (row.source_id, row.worker_id, row.worker_rank))
        rows = filters.select(_aged(tuple(ordered), run), conditions or (), fields)
        return filters.arrange(rows, sort, fields)

    def document(found: Iterable[SourceSummary], run: Invocation) -> dict[str, object]:
        return {"sources": [row_document(row, age) for row, age in wanted(found, run)[: limit or None]]}

    def print_all(found: Iterable[SourceSummary], run: Invocation) -> None:
        rows = wanted(found, run)
        _print_rows(run, rows[: limit or None], total=len(rows), wide=wide, narrowed=narrowed)

    def of_fleet(fleet: Fleet) -> list[SourceSummary]:
        return [row for row in fleet.sources.values() if matches(row, query, fresh_after_ms=None)]

    if watch:
        live.watch(
            ctx,
            live.Rows(
                select=lambda fleet: {
                    row.key: row for row, _ in wanted(of_fleet(fleet), run)[: limit or None]
                },
                row=lambda row, fleet: row_document(row, max(0.0, (fleet.now_ms - row.updated_at_ms) / 1000)),
                whole=lambda fleet: document(of_fleet(fleet), run),
                print=lambda run, fleet: print_all(of_fleet(fleet), run),
            ),
        )
        return
    found = with_client(ctx, lambda client: client.list_sources(query))
    run.out.emit(document(found, run), human=lambda: print_all(found, run))


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


app.command("withdraw")(withdraw)
app.command("stale")(stale)
app.command("reap")(reap)


@app.command()
def show(
    ctx: typer.Context,
    source_id: SourceId,
    worker: Annotated[
        str | None, typer.Argument(metavar="WORKER", help="Worker id, or the beginning of one.")
    ] = None,
    raw: Annotated[bool, typer.Option("--raw", help="The records as the store holds them, as YAML.")] = False,
    watch: WatchOption = False,
) -> None:
    """Show a source: its identity, and each worker's full record.

    JSON: {source_id, model_name, identity, workers: [{worker_id, status, ..., record, peer, pod}]};
    with --raw {records: [{backend, place, text}]}.
    """
    run = invocation_of(ctx)
    if raw and watch:
        raise UsageError("--raw and --watch exclude each other")
    if raw:
        raw_view.show(run, with_client(ctx, lambda client: _raw(client, source_id, worker)))
        return
    if watch:
        live.watch(ctx, _watched(source_id, worker, run))
        return
    detail = with_client(ctx, lambda client: _read(client, source_id, worker, run))
    run.out.emit(detail_document(detail), human=lambda: describe(run.out, detail))


async def _read(client: Client, wanted: str, worker: str | None, run: Invocation) -> SourceDetail:
    rows = await find_rows(client, wanted, worker)
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


async def _raw(client: Client, wanted: str, worker: str | None) -> list[RawRecord]:
    return [await client.raw_source(row.key) for row in await find_rows(client, wanted, worker)]


def _watched(wanted: str, worker: str | None, run: Invocation) -> live.Whole[SourceDetail]:
    def subject(fleet: Fleet) -> object:
        """All but heartbeats, which change nothing in the records; NotFoundError when it is gone."""
        rows = choose_rows(tuple(fleet.sources.values()), wanted, worker)
        return [replace(row, updated_at_ms=0, source_load=None) for row in rows]

    def show_now(run: Invocation, detail: SourceDetail, fleet: Fleet) -> None:
        rows = tuple(fleet.sources.get(row.key, row) for row, _ in detail.rows)
        describe(run.out, replace(detail, rows=tuple(_aged(rows, run))))

    return live.Whole(
        subject=subject,
        read=lambda client, fleet: _read(client, wanted, worker, run),
        document=detail_document,
        print=show_now,
    )
