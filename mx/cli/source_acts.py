"""What can be done to sources: ``mx source withdraw``, ``stale`` and ``reap``."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Annotated

import typer

from mx.cli import complete
from mx.cli.ask import confirm
from mx.cli.options import Invocation, invocation_of, with_client
from mx.cli.pick import pick
from mx.cli.source_view import status_name
from mx.client.base import Client
from mx.core.source import SourceFilter, SourceSummary, WorkerKey
from mx.errors import NotFoundError

SourceId = Annotated[
    str,
    typer.Argument(
        metavar="ID",
        help="Source id, the beginning of one, or a model name.",
        autocompletion=complete.sources,
    ),
]
_Worker = Annotated[
    str | None, typer.Argument(metavar="WORKER", help="Worker id, or the beginning of one; without it all.")
]
_Rank = Annotated[int | None, typer.Option("--rank", min=0, metavar="RANK", help="This rank only.")]
_DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and stop.")]
_Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]


async def find_rows(client: Client, wanted: str, worker: str | None) -> list[SourceSummary]:
    """The rows of one source, or of one worker of it. Raises NotFoundError, UsageError."""
    return choose_rows(await client.list_sources(SourceFilter()), wanted, worker)


def choose_rows(rows: Sequence[SourceSummary], wanted: str, worker: str | None) -> list[SourceSummary]:
    """``find_rows`` among these rows."""
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


def _of_rank(rows: Sequence[SourceSummary], rank: int | None) -> list[SourceSummary]:
    """Those of a rank, or all. Raises NotFoundError for a rank that is not there."""
    chosen = [row for row in rows if rank is None or row.worker_rank == rank]
    if not chosen:
        raise NotFoundError(
            f"source {rows[0].source_id} has no rank {rank}",
            remedy=f"`mx source show {rows[0].source_id}` lists them",
        )
    return chosen


def withdraw(
    ctx: typer.Context,
    source_id: SourceId,
    worker: _Worker = None,
    rank: _Rank = None,
    dry_run: _DryRun = False,
    yes: _Yes = False,
) -> None:
    """Remove records of a source so that no new target chooses it. Weights and running reads stay.

    A worker that is alive publishes itself again with its next heartbeat.

    JSON: {success, dry_run, source_id, withdrawn: [{worker_id, worker_rank, model_name, status}]}.
    """
    act = _Act("withdraw", "withdrew", "withdrawn", "withdrawn", lambda client, key: client.withdraw(key))
    _carry_out(ctx, act, source_id, worker, rank, dry_run=dry_run, yes=yes)


def stale(
    ctx: typer.Context,
    source_id: SourceId,
    worker: _Worker = None,
    rank: _Rank = None,
    dry_run: _DryRun = False,
    yes: _Yes = False,
) -> None:
    """Mark records of a source stale: no new target chooses it until its next heartbeat.

    JSON: {success, dry_run, source_id, marked: [{worker_id, worker_rank, model_name, status}]}.
    """
    act = _Act(
        "mark stale", "marked stale", "marked stale", "marked", lambda client, key: client.mark_stale(key)
    )
    _carry_out(ctx, act, source_id, worker, rank, dry_run=dry_run, yes=yes)


@dataclass(frozen=True, slots=True)
class _Act:
    """``do`` is False for a record that is not there any more; ``member`` holds the others in JSON."""

    verb: str
    done: str
    passive: str
    member: str
    do: Callable[[Client, WorkerKey], Awaitable[bool]]


def _carry_out(
    ctx: typer.Context,
    act: _Act,
    source_id: str,
    worker: str | None,
    rank: int | None,
    *,
    dry_run: bool,
    yes: bool,
) -> None:
    run = invocation_of(ctx)
    rows = _of_rank(with_client(ctx, lambda client: find_rows(client, source_id, worker)), rank)
    if not dry_run:
        _confirm(act.verb, rows, done=act.passive, yes=yes)

    async def carried_out(client: Client) -> list[SourceSummary]:
        return [row for row in rows if await act.do(client, row.key)]

    done = rows if dry_run else with_client(ctx, carried_out)
    document = {
        "success": True,
        "dry_run": dry_run,
        "source_id": rows[0].source_id,
        act.member: [_record(row) for row in done],
    }
    verb = f"would {act.verb}" if dry_run else act.done
    run.out.emit(document, human=lambda: _print_done(run, verb, done, rows))


def reap(ctx: typer.Context, dry_run: _DryRun = False) -> None:
    """Let the server's reaper look now: sources without a heartbeat become stale, dead ones go.

    It looks by itself every sources.reaper_interval_s, with the same rules.

    JSON: {success, dry_run, seen, marked: [{source_id, worker_id, worker_rank}], removed: [the same]}.
    """
    run = invocation_of(ctx)
    done = with_client(ctx, lambda client: client.reap_sources(dry_run=dry_run))
    document = {
        "success": True,
        "dry_run": dry_run,
        "seen": done.seen,
        "marked": [_key(key) for key in done.marked],
        "removed": [_key(key) for key in done.removed],
    }

    def human() -> None:
        would = "would be " if dry_run else ""
        for key in done.marked:
            run.out.line(f"{would}marked stale  {key}")
        for key in done.removed:
            run.out.line(f"{would}removed  {key}")
        counts = f"{len(done.marked)} {would}marked stale, {len(done.removed)} {would}removed"
        run.out.say(f"{done.seen} records looked at, {counts}")

    run.out.emit(document, human=human)


def _key(key: WorkerKey) -> dict[str, object]:
    return {"source_id": key.source_id, "worker_id": key.worker_id, "worker_rank": key.worker_rank}


def _record(row: SourceSummary) -> dict[str, object]:
    return {
        "worker_id": row.worker_id,
        "worker_rank": row.worker_rank,
        "model_name": row.model_name,
        "status": status_name(row.status),
    }


def _confirm(verb: str, rows: Sequence[SourceSummary], *, done: str, yes: bool) -> None:
    """Ask on stderr, No being the default. Raises UsageError when nobody is there to answer."""
    what = f"{len(rows)} record{'s' * (len(rows) != 1)} of {rows[0].model_name} ({rows[0].source_id})"
    confirm(f"{verb} {what}?", done=done, yes=yes)


def _print_done(
    run: Invocation, verb: str, done: Sequence[SourceSummary], meant: Sequence[SourceSummary]
) -> None:
    for row in done:
        run.out.line(f"{verb} {row.key}  {row.model_name}  {status_name(row.status)}")
    if gone := len(meant) - len(done):
        run.out.say(f"{gone} left on their own in the meantime")
