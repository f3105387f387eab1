"""``mx cache``: the server's cache, or with ``--embedded`` this machine's, entry by entry."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import replace
from typing import Annotated

import typer

from mx.cli import cache_view as view
from mx.cli import complete, live, raw_view, stats_view
from mx.cli.ask import confirm
from mx.cli.cache_list import WideOption, list_
from mx.cli.live import WatchOption
from mx.cli.model_names import entries_of
from mx.cli.options import Invocation, invocation_of, with_client
from mx.cli.progress import Bar
from mx.client.base import Client
from mx.core.cache_view import EntryDetail
from mx.core.eviction import EvictionPlan, EvictionRun, EvictionStep, KeepLimits, Shrink
from mx.core.model import EntryKey, Pin
from mx.core.server_state import RawRecord
from mx.core.units import format_age, format_size, parse_duration, parse_size
from mx.core.verification import EntryVerified, OnFault, Outcome, VerifyProgress
from mx.errors import ConflictError, IntegrityError, UsageError

app = typer.Typer(no_args_is_help=True)

_Model = Annotated[
    str,
    typer.Argument(metavar="MODEL", help="NAME or NAME@COMMIT.", autocompletion=complete.models),
]
_Models = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[MODEL]...", help="Only these: NAME or NAME@COMMIT.", autocompletion=complete.models
    ),
]


@app.callback()
def cache() -> None:
    """The cache: what lies in it, what keeps it there, whether it is sound, and making room."""


app.command("list")(list_)


@app.command()
def show(
    ctx: typer.Context,
    model: _Model,
    raw: Annotated[bool, typer.Option("--raw", help="The record as the store holds it, as YAML.")] = False,
    wide: WideOption = False,
    watch: WatchOption = False,
) -> None:
    """Show the entries of a model: files with sizes and digests, pins, readers, who works on it.

    JSON: {entries: [{..., path, claim, leases, shares_with, file_list: [{path, bytes, digest, ...}]}]};
    with --raw {records: [{backend, place, text}]}.
    """
    run = invocation_of(ctx)
    if raw and watch:
        raise UsageError("--raw and --watch exclude each other")
    if raw:
        raw_view.show(run, with_client(ctx, lambda client: _raw(client, model)))
        return
    if watch:
        live.watch(ctx, _watched(model, wide))
        return
    details, now_ms = with_client(ctx, lambda client: _show(client, model))
    run.out.emit(_details(details, now_ms), human=lambda: _print_details(run, details, now_ms, wide))


def _details(details: Sequence[EntryDetail], now_ms: int) -> dict[str, object]:
    return {"entries": [view.detail_document(one, now_ms) for one in details]}


def _print_details(run: Invocation, details: Sequence[EntryDetail], now_ms: int, wide: bool) -> None:
    for one in details:
        view.print_detail(run.out, one, now_ms, wide=wide)


def _watched(model: str, wide: bool) -> live.Whole[tuple[list[EntryDetail], int]]:
    return live.Whole(
        subject=lambda fleet: entries_of(model, fleet.listing.entries),
        read=lambda client, fleet: _show(client, model),
        document=lambda found: _details(*found),
        print=lambda run, found, fleet: _print_details(run, found[0], fleet.now_ms, wide),
    )


async def _raw(client: Client, model: str) -> list[RawRecord]:
    entries = (await client.list_models()).entries
    return [await client.raw_model(one.key) for one in entries_of(model, entries)]


async def _show(client: Client, model: str) -> tuple[list[EntryDetail], int]:
    listing = await client.list_models()
    keys = [one.key for one in entries_of(model, listing.entries)]
    return [await client.show_model(key) for key in keys], listing.now_ms


@app.command()
def evict(
    ctx: typer.Context,
    models: _Models = None,
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
    changed since then is judged again. Exit 6 when an entry of the plan had to stay, or what was
    asked for could not be freed.

    JSON, for --dry-run and the run alike: {victims: [{model, revision, bytes, reason}], survivors,
    bytes_freed, target_bytes, met, executed, failed}.
    """
    run = invocation_of(ctx)
    goal = Shrink(to_bytes=_size(to, "--to"), unused_for_s=_age(older_than, "--older-than"))
    plan = with_client(ctx, lambda client: _plan(client, goal, models or ()))
    if dry_run:
        run.out.emit(view.plan_document(plan), human=lambda: view.print_plan(run.out, plan))
        return
    if not run.out.is_json:
        view.print_plan(run.out, plan)
    if plan.victims:
        confirm(f"Evict {len(plan.victims)} entries?", yes=yes)
        done = with_client(ctx, lambda client: _evict(run, client, plan))
        run.out.emit(
            view.run_document(done), human=lambda: run.out.line(f"{format_size(done.bytes_freed)} freed")
        )
        _require_all_gone(done)
    elif run.out.is_json:
        run.out.document(view.plan_document(plan) | {"executed": True})
    if not plan.met:
        short = plan.target_bytes - plan.bytes_freed
        raise ConflictError(
            f"{format_size(short)} too few can be freed: what is left is pinned, in use or not to go",
            remedy="mx cache list says what holds each",
        )


async def _plan(client: Client, goal: Shrink, models: Sequence[str]) -> EvictionPlan:
    if models:
        entries = (await client.list_models()).entries
        keys = frozenset(one.key for wanted in models for one in entries_of(wanted, entries))
        goal = replace(goal, keys=keys)
    return await client.plan_eviction(KeepLimits() if goal == Shrink() else goal)


async def _evict(run: Invocation, client: Client, plan: EvictionPlan) -> EvictionRun:
    with Bar(run.out) as bar:

        def told(step: EvictionStep) -> None:
            words = f"{step.done} of {step.total} entries"
            bar.show("evicting", step.done, step.total, words, now_s=run.now())

        return await client.run_eviction(plan, told=told)


def _require_all_gone(done: EvictionRun) -> None:
    if done.failed:
        reasons = "; ".join(f"{key}: {reason}" for key, reason in done.failed)
        raise ConflictError(f"{len(done.failed)} of {len(done.plan.victims)} entries stayed: {reasons}")


def _size(text: str | None, option: str) -> int | None:
    try:
        return None if text is None else parse_size(text)
    except ValueError as error:
        raise UsageError(f"{option}: {error}") from None


def _age(text: str | None, option: str) -> float | None:
    try:
        return None if text is None else parse_duration(text)
    except ValueError as error:
        raise UsageError(f"{option}: {error}") from None


@app.command()
def pin(
    ctx: typer.Context,
    model: _Model,
    span: Annotated[
        str | None, typer.Option("--for", metavar="DURATION", help="So long, as 7d; for ever without it.")
    ] = None,
    reason: Annotated[str, typer.Option("--reason", metavar="TEXT", help="Shown to others.")] = "",
) -> None:
    """Keep the entries of a model from eviction.

    JSON: {pinned: [{model, revision, provider, weights}], until_ms, reason}.
    """
    run = invocation_of(ctx)
    span_s = _age(span, "--for")
    keys, until_ms = with_client(ctx, lambda client: _pin(client, model, span_s, reason))
    document = {"pinned": [view.key_document(key) for key in keys], "until_ms": until_ms, "reason": reason}
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
def unpin(ctx: typer.Context, model: _Model) -> None:
    """Let the entries of a model be evicted again.

    JSON: {unpinned: [{model, revision, provider, weights}]}.
    """
    run = invocation_of(ctx)
    keys = with_client(ctx, lambda client: _unpin(client, model))
    document = {"unpinned": [view.key_document(key) for key in keys]}
    run.out.emit(document, human=lambda: _lines(run, keys, "unpinned"))


async def _unpin(client: Client, model: str) -> list[EntryKey]:
    keys = [one.key for one in entries_of(model, (await client.list_models()).entries) if one.pin]
    for key in keys:
        await client.pin_model(key, None)
    return keys


def _lines(run: Invocation, keys: Sequence[EntryKey], what: str) -> None:
    for key in keys:
        run.out.line(f"{key} {what}")


@app.command()
def verify(
    ctx: typer.Context,
    models: _Models = None,
    repair: Annotated[bool, typer.Option("--repair", help="Fetch wrong and missing files again.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Report only; change nothing.")] = False,
    fail_on_extra: Annotated[
        bool, typer.Option("--fail-on-extra", help="Files that nobody recorded are wrong too.")
    ] = False,
) -> None:
    """Read every file and compute its digest anew; without MODEL of all entries.

    An entry with a wrong or missing file is served to nobody until the file came again; its other
    files stay, so a download or --repair fetches that file only. Exit 7 unless every entry is sound
    or repaired.

    JSON: {entries: [{model, revision, outcome, files, bytes, faults: [{path, kind, detail}], extras,
    withdrawn, detail}], bytes_read, sound, damaged, quarantined, repaired, gone}.
    """
    run = invocation_of(ctx)
    if repair and dry_run:
        raise UsageError("--repair and --dry-run exclude each other")
    on_fault = OnFault.REPAIR if repair else OnFault.REPORT if dry_run else OnFault.QUARANTINE
    done = with_client(ctx, lambda client: verified(run, client, models or (), on_fault))
    run.out.emit(view.verified_document(done), human=lambda: view.print_verified(run.out, done))
    require_sound(done, extras=fail_on_extra)


async def verified(
    run: Invocation, client: Client, models: Sequence[str], on_fault: OnFault
) -> list[EntryVerified]:
    """Verify the entries of these models, or all, with a bar."""
    keys: list[EntryKey] | None = None
    if models:
        entries = (await client.list_models()).entries
        keys = list(dict.fromkeys(one.key for wanted in models for one in entries_of(wanted, entries)))
    done: list[EntryVerified] = []
    with Bar(run.out) as bar:
        async with aclosing(client.verify_models(keys, on_fault=on_fault)) as steps:
            async for step in steps:
                match step:
                    case VerifyProgress():
                        bar.verify(step, now_s=run.now())
                    case EntryVerified():
                        done.append(step)
    return done


def require_sound(done: Sequence[EntryVerified], *, extras: bool = False) -> None:
    """Raises IntegrityError with the entries that are not."""
    bad = [one for one in done if one.outcome in (Outcome.DAMAGED, Outcome.QUARANTINED)]
    bad += [one for one in done if extras and one.extras and one not in bad]
    if bad:
        names = ", ".join(str(one.key) for one in bad[:5])
        more = f" and {len(bad) - 5} more" if len(bad) > 5 else ""
        raise IntegrityError(
            f"{len(bad)} of {len(done)} entries are not what was recorded: {names}{more}",
            remedy="mx cache verify --repair fetches single files again",
        )


@app.command()
def stats(
    ctx: typer.Context,
    runs: Annotated[
        int, typer.Option("--runs", min=0, max=100, metavar="COUNT", help="Last evictions to show.")
    ] = 5,
    watch: WatchOption = False,
) -> None:
    """Show what the cache holds by kind, what could go, the limits, and the last evictions with reasons.

    JSON: {path, kinds: [{kind, total, active, bytes, reclaimable_bytes}], used_bytes, free_bytes,
    disk_bytes, limits, next_run_at_ms, runs: [{victims, survivors, bytes_freed, trigger, ...}]}.
    """
    run = invocation_of(ctx)
    if watch:
        live.watch(
            ctx,
            live.Whole(
                subject=lambda fleet: fleet.cache,
                read=lambda client, fleet: client.cache_stats(runs=runs),
                document=stats_view.stats_document,
                print=lambda run, found, fleet: stats_view.print_stats(
                    run.out, replace(found, now_ms=fleet.now_ms)
                ),
            ),
        )
        return
    found = with_client(ctx, lambda client: client.cache_stats(runs=runs))
    run.out.emit(stats_view.stats_document(found), human=lambda: stats_view.print_stats(run.out, found))
