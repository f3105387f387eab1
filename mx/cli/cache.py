"""``mx cache``: the server's cache, entry by entry."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated

import typer

from mx.cli import filters
from mx.cli.model import confirm
from mx.cli.model_names import entries_of
from mx.cli.options import Invocation, invocation_of, with_client
from mx.cli.output import Cell, Column
from mx.client.base import Client
from mx.core.cache_view import CacheListing, ListedEntry
from mx.core.eviction import EvictionPlan, EvictionRun, KeepLimits, Shrink, Survivor, Victim
from mx.core.model import EntryKey, EntryStatus, Pin
from mx.core.units import format_age, format_size, parse_duration, parse_size
from mx.errors import ConflictError, UsageError

app = typer.Typer(no_args_is_help=True)

Row = tuple[ListedEntry, float]


@app.callback()
def cache() -> None:
    """The server's cache: what lies in it, what keeps it there, and making room."""


def _fields() -> dict[str, filters.Field[Row]]:
    column, number = filters.Field, filters.number
    return {
        "model": column(lambda row: row[0].key.name),
        "revision": column(lambda row: row[0].key.commit),
        "provider": column(lambda row: row[0].key.provider.value),
        "status": column(lambda row: row[0].status.value),
        "size": column(lambda row: row[0].disk_bytes, filters.size),
        "files": column(lambda row: row[0].files, number),
        "unused": column(lambda row: row[1], filters.duration),
        "held": column(lambda row: _held(row[0])),
    }


@app.command("list")
def list_(
    ctx: typer.Context,
    conditions: Annotated[
        list[str] | None,
        typer.Option("--filter", metavar="EXPR", help="As size>1GiB, unused>7d, model~llama; repeatable."),
    ] = None,
    sort: Annotated[
        str, typer.Option("--sort", metavar="FIELD[:desc]", help="Order of the rows.")
    ] = "unused",
    wide: Annotated[
        bool, typer.Option("--wide", "-w", help="Every column, however narrow the terminal.")
    ] = False,
) -> None:
    """List entries: each revision, whole or metadata, with what protects it.

    Columns for --filter and --sort: model revision provider status size files unused held.

    JSON: {entries: [{model, revision, provider, weights, status, bytes, pinned, readers, ...}],
    used_bytes, free_bytes, max_size_bytes}.
    """
    run = invocation_of(ctx)
    fields = _fields()
    filters.select([], conditions or (), fields)
    filters.arrange([], sort, fields)
    listing = with_client(ctx, lambda client: client.list_models())
    rows = [(one, max(0.0, (listing.now_ms - one.last_used_at_ms) / 1000)) for one in listing.entries]
    rows = filters.arrange(filters.select(rows, conditions or (), fields), sort, fields)
    document = {
        "entries": [_entry_document(one, unused_s) for one, unused_s in rows],
        "used_bytes": listing.used_bytes,
        "free_bytes": listing.free_bytes,
        "max_size_bytes": listing.max_size_bytes,
    }
    run.out.emit(document, human=lambda: _print(run, rows, listing, wide=wide))


def _entry_document(entry: ListedEntry, unused_s: float) -> dict[str, object]:
    return {
        "model": entry.key.name,
        "revision": entry.key.commit,
        "provider": entry.key.provider.value,
        "weights": entry.key.weights,
        "status": entry.status.value,
        "message": entry.message,
        "bytes": entry.disk_bytes,
        "own_bytes": entry.own_bytes,
        "files": entry.files,
        "unused_s": unused_s,
        "pinned": entry.pin is not None,
        "pinned_until_ms": entry.pin.until_ms if entry.pin else None,
        "pin_reason": entry.pin.reason if entry.pin else "",
        "readers": list(entry.readers),
        "owner": entry.owner,
    }


_COLUMNS = (
    Column("MODEL", elastic=True),
    Column("REVISION"),
    Column("STATUS"),
    Column("SIZE", justify="right"),
    Column("UNUSED", justify="right"),
    Column("HELD BY"),
    Column("FILES", justify="right", optional=True),
)
_STYLES = {
    EntryStatus.DOWNLOADED: "green",
    EntryStatus.DOWNLOADING: "yellow",
    EntryStatus.EVICTING: "yellow",
    EntryStatus.ERROR: "red",
}


def _held(entry: ListedEntry) -> str:
    held = ["pin"] if entry.pin else []
    held += [f"{len(entry.readers)} readers"] if entry.readers else []
    return ", ".join(held + ([entry.owner] if entry.owner else []))


def _print(run: Invocation, rows: Sequence[Row], listing: CacheListing, *, wide: bool) -> None:
    cells = [
        (
            f"{one.key.name}{'' if one.key.weights else ' (metadata)'}",
            one.key.commit[:12] or "-",
            Cell(one.status.value, _STYLES[one.status]),
            format_size(one.disk_bytes),
            format_age(unused_s),
            _held(one) or "-",
            str(one.files),
        )
        for one, unused_s in rows
    ]
    if cells:
        run.out.table(_COLUMNS, cells, wide=wide)
    limit = "" if listing.max_size_bytes is None else f" of {format_size(listing.max_size_bytes)}"
    run.out.say(
        f"{format_size(listing.used_bytes)}{limit} used, {format_size(listing.free_bytes)} free on disk"
    )


@app.command()
def evict(
    ctx: typer.Context,
    models: Annotated[
        list[str] | None, typer.Argument(metavar="[MODEL]...", help="Only these: NAME or NAME@COMMIT.")
    ] = None,
    to: Annotated[
        str | None, typer.Option("--to", metavar="SIZE", help="Down to so much in total, as 500GiB.")
    ] = None,
    older_than: Annotated[
        str | None,
        typer.Option("--older-than", metavar="AGE", help="Only what is unused for so long, 30d."),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the plan and stop.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Evict entries, the least recently used first; without options what the limits demand.

    What is pinned, read, being downloaded or just used stays. The plan is shown first, and what
    changed since then is judged again. Exit 6 when an entry of the plan had to stay.

    JSON, for --dry-run and the run alike: {victims: [{model, revision, bytes, reason}], survivors,
    bytes_freed, target_bytes, met, executed, failed}.
    """
    run = invocation_of(ctx)
    to_bytes, unused_for_s = _size(to), _age(older_than)
    goal = Shrink(to_bytes=to_bytes, unused_for_s=unused_for_s)
    plan = with_client(ctx, lambda client: _plan(client, goal, models or ()))
    if dry_run or not plan.victims:
        run.out.emit(plan_document(plan), human=lambda: _print_plan(run, plan))
        return
    if not run.out.is_json:
        _print_plan(run, plan)
    confirm(run, f"Evict {len(plan.victims)} entries?", yes=yes)
    done = with_client(ctx, lambda client: client.run_eviction(plan))
    run.out.emit(run_document(done), human=lambda: run.out.line(f"{format_size(done.bytes_freed)} freed"))
    if done.failed:
        reasons = "; ".join(f"{key}: {reason}" for key, reason in done.failed)
        raise ConflictError(f"{len(done.failed)} of {len(done.plan.victims)} entries stayed: {reasons}")


async def _plan(client: Client, goal: Shrink, models: Sequence[str]) -> EvictionPlan:
    if models:
        entries = (await client.list_models()).entries
        keys = frozenset(one.key for wanted in models for one in entries_of(wanted, entries))
        goal = replace(goal, keys=keys)
    return await client.plan_eviction(KeepLimits() if goal == Shrink() else goal)


def _size(text: str | None) -> int | None:
    try:
        return None if text is None else parse_size(text)
    except ValueError as error:
        raise UsageError(f"--to: {error}") from None


def _age(text: str | None) -> float | None:
    try:
        return None if text is None else parse_duration(text)
    except ValueError as error:
        raise UsageError(f"{text}: {error}") from None


def plan_document(plan: EvictionPlan) -> dict[str, object]:
    return {
        "victims": [_judged(one) for one in plan.victims],
        "survivors": [_judged(one) for one in plan.survivors],
        "bytes_freed": plan.bytes_freed,
        "target_bytes": plan.target_bytes,
        "met": plan.met,
        "executed": False,
        "failed": [],
    }


def run_document(done: EvictionRun) -> dict[str, object]:
    return {
        **plan_document(done.plan),
        "bytes_freed": done.bytes_freed,
        "executed": True,
        "failed": [
            {"model": key.name, "revision": key.commit, "weights": key.weights, "reason": reason}
            for key, reason in done.failed
        ],
    }


def _judged(one: Victim | Survivor) -> dict[str, object]:
    key = one.key
    return {
        "model": key.name,
        "revision": key.commit,
        "weights": key.weights,
        "bytes": one.bytes,
        "reason": one.reason,
    }


def _print_plan(run: Invocation, plan: EvictionPlan) -> None:
    columns = (
        Column("PLAN"),
        Column("MODEL", elastic=True),
        Column("SIZE", justify="right"),
        Column("WHY"),
    )
    cells = [
        *((Cell("evict", "red"), str(one.key), format_size(one.bytes), one.reason) for one in plan.victims),
        *(
            (Cell("keep", "green"), str(one.key), format_size(one.bytes), one.reason)
            for one in plan.survivors
        ),
    ]
    if cells:
        run.out.table(columns, cells)
    short = "" if plan.met else f", short of {format_size(plan.target_bytes)}"
    run.out.line(f"{len(plan.victims)} entries to evict, {format_size(plan.bytes_freed)} to free{short}")


@app.command()
def pin(
    ctx: typer.Context,
    model: Annotated[str, typer.Argument(metavar="MODEL", help="NAME or NAME@COMMIT.")],
    span: Annotated[
        str | None, typer.Option("--for", metavar="DURATION", help="So long, as 7d; for ever without it.")
    ] = None,
    reason: Annotated[str, typer.Option("--reason", metavar="TEXT", help="Shown to others.")] = "",
) -> None:
    """Keep the entries of a model from eviction.

    JSON: {pinned: [{model, revision, weights}], until_ms, reason}.
    """
    run = invocation_of(ctx)
    span_s = _age(span)
    keys, until_ms = with_client(ctx, lambda client: _pin(client, model, span_s, reason))
    document = {"pinned": [_key(key) for key in keys], "until_ms": until_ms, "reason": reason}
    lasts = "for ever" if span_s is None else f"for {format_age(span_s)}"
    run.out.emit(document, human=lambda: _lines(run, keys, f"pinned {lasts}"))


async def _pin(
    client: Client, model: str, span_s: float | None, reason: str
) -> tuple[list[EntryKey], int | None]:
    listing = await client.list_models()
    keys = [one.key for one in entries_of(model, listing.entries)]
    until_ms = None if span_s is None else listing.now_ms + round(span_s * 1000)
    for key in keys:
        await client.pin_model(key, Pin(until_ms, reason))
    return keys, until_ms


@app.command()
def unpin(
    ctx: typer.Context,
    model: Annotated[str, typer.Argument(metavar="MODEL", help="NAME or NAME@COMMIT.")],
) -> None:
    """Let the entries of a model be evicted again.

    JSON: {unpinned: [{model, revision, weights}]}.
    """
    run = invocation_of(ctx)
    keys = with_client(ctx, lambda client: _unpin(client, model))
    document = {"unpinned": [_key(key) for key in keys]}
    run.out.emit(document, human=lambda: _lines(run, keys, "unpinned"))


async def _unpin(client: Client, model: str) -> list[EntryKey]:
    keys = [one.key for one in entries_of(model, (await client.list_models()).entries) if one.pin]
    for key in keys:
        await client.pin_model(key, None)
    return keys


def _lines(run: Invocation, keys: Sequence[EntryKey], what: str) -> None:
    for key in keys:
        run.out.line(f"{key} {what}")


def _key(key: EntryKey) -> dict[str, object]:
    return {"model": key.name, "revision": key.commit, "weights": key.weights}
