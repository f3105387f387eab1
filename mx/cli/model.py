"""``mx model``: models in the server's cache, or with ``--embedded`` in this machine's."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from mx.cli import cache_view as view
from mx.cli import complete, live
from mx.cli.cache import require_sound, verified
from mx.cli.cache_list import Query, Row
from mx.cli.clear import clear_everything, clear_model
from mx.cli.download import run_download
from mx.cli.exits import failure_of
from mx.cli.live import WatchOption
from mx.cli.machine import look, totals, write_init
from mx.cli.model_names import ProviderChoice, model_ref
from mx.cli.options import Invocation, invocation_of, with_client
from mx.cli.output import Column
from mx.client.download import Strategy, Wanted
from mx.core.cache_view import CacheListing, ListedEntry
from mx.core.model import EntryStatus
from mx.core.units import format_size
from mx.core.verification import OnFault, Outcome
from mx.errors import NotFoundError
from mx.wiring_local import find_here

app = typer.Typer(no_args_is_help=True)

_Name = Annotated[
    str,
    typer.Argument(
        metavar="NAME",
        help="As org/name, gs://…, s3://…, ngc://…, a directory.",
        autocompletion=complete.models,
    ),
]
_Provider = Annotated[
    ProviderChoice | None,
    typer.Option(
        "--provider",
        "-p",
        case_sensitive=False,
        help="Where it is from; an address or a path says so itself. [default: hugging-face]",
    ),
]
_Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
_DryRun = Annotated[bool, typer.Option("--dry-run", help="Show what would go and stop.")]
_Force = Annotated[bool, typer.Option("--force", help="Pinned ones too.")]


@app.callback()
def model() -> None:
    """Models: get one, see what is there, check it, remove it."""


@app.command()
def download(
    ctx: typer.Context,
    name: _Name,
    provider: _Provider = None,
    strategy: Annotated[
        Strategy | None,
        typer.Option(
            "--strategy",
            "-s",
            case_sensitive=False,
            help="smart-fallback: by the server, directly when it is away or its provider fails; "
            "server-only; direct. [default: smart-fallback]",
        ),
    ] = None,
    revision: Annotated[
        str | None, typer.Option("--revision", "-r", metavar="REVISION", help="Branch, tag or commit.")
    ] = None,
    no_weights: Annotated[bool, typer.Option("--no-weights", help="Everything but weight files.")] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Try at once, however often it failed just now.")
    ] = False,
) -> None:
    """Get a model; returns when it is there, whole and verified.

    By way of the server it is in the server's cache; --no-shared-storage brings its files here.
    Directly it is in this machine's cache (--cache-path). A model that is there costs nothing.
    Ctrl-C ends the wait, not the server's download.

    JSON: {success, message, model_name, provider, strategy, resolved_revision, path, via,
    fallback_reason, bytes, files}. path: where this machine has or sees it, else null.
    """
    ref = model_ref(name, provider, revision)
    run_download(ctx, Wanted(ref, weights=not no_weights, force=force), strategy)


@app.command("list")
def list_(
    ctx: typer.Context,
    detailed: Annotated[bool, typer.Option("--detailed", help="Files, times and paths too.")] = False,
    conditions: Annotated[
        list[str] | None,
        typer.Option("--filter", metavar="EXPR", help="As size>1GiB, unused>7d, model~llama; repeatable."),
    ] = None,
    sort: Annotated[str, typer.Option("--sort", metavar="FIELD[:desc]", help="Order of the rows.")] = "model",
    limit: Annotated[int | None, typer.Option("--limit", min=1, metavar="COUNT", help="At most.")] = None,
    watch: WatchOption = False,
) -> None:
    """List the models that are there; `mx cache list` shows every entry with its state.

    Columns for --filter and --sort: model revision provider status size files unused held.

    JSON: {total_models, total_size, models: [{provider, name, revision, size, formatted_size, ...}]}.
    """
    run = invocation_of(ctx)
    query = Query(conditions or (), sort, limit)

    def rows_of(listing: CacheListing) -> list[Row]:
        return query.rows(replace(listing, entries=_ready(listing)))

    def document(listing: CacheListing) -> dict[str, object]:
        return {**totals(listing), "models": _models(run, rows_of(listing), detailed=detailed)}

    if watch:
        live.watch(
            ctx,
            live.Rows(
                select=lambda fleet: {one.key: one for one, _ in rows_of(fleet.listing)},
                row=lambda one, fleet: _models(run, [(one, 0.0)], detailed=detailed)[0],
                whole=lambda fleet: document(fleet.listing),
                print=lambda run, fleet: _print_models(run, rows_of(fleet.listing)),
            ),
        )
        return
    listing = with_client(ctx, lambda client: client.list_models())
    run.out.emit(document(listing), human=lambda: _print_models(run, rows_of(listing)))


def _ready(listing: CacheListing) -> tuple[ListedEntry, ...]:
    return tuple(entry for entry in listing.entries if entry.status is EntryStatus.DOWNLOADED)


def _models(run: Invocation, rows: list[Row], *, detailed: bool) -> list[dict[str, object]]:
    settings = run.settings()
    models: list[dict[str, object]] = []
    for entry, _ in rows:
        row: dict[str, object] = {
            "provider": entry.key.provider.value,
            "name": entry.key.name,
            "revision": entry.key.commit,
            "weights": entry.key.weights,
            "size": entry.disk_bytes,
            "formatted_size": format_size(entry.disk_bytes),
        }
        if detailed:
            seen = settings.cache.shared_storage or run.embedded
            path = find_here(settings, entry.key, told=None) if seen else None
            row |= {
                "files": entry.files,
                "last_used_at_ms": entry.last_used_at_ms,
                "path": None if path is None else str(path),
            }
        models.append(row)
    return models


def _print_models(run: Invocation, rows: list[Row]) -> None:
    if not rows:
        run.out.say("no models; `mx model download NAME` brings one")
        return
    columns = (
        Column("MODEL", elastic=True),
        Column("REVISION"),
        Column("WHAT"),
        Column("SIZE", justify="right"),
        Column("FILES", justify="right", optional=True),
    )
    cells = [
        (
            entry.key.name,
            entry.key.commit[:12] or "-",
            "whole" if entry.key.weights else "metadata",
            format_size(entry.disk_bytes),
            str(entry.files),
        )
        for entry, _ in rows
    ]
    run.out.table(columns, cells)


@app.command()
def status(ctx: typer.Context, watch: WatchOption = False) -> None:
    """Show where models are kept, whether the server and its cache are in reach, and how full it is.

    JSON: {storage_path, server_endpoint, total_models, total_size, storage_accessible,
    server_available, used_bytes, free_bytes, max_size_bytes}.
    """
    run = invocation_of(ctx)
    if watch:
        live.watch(
            ctx,
            live.Whole(
                subject=lambda fleet: (fleet.cache, tuple(fleet.entries.values())),
                read=lambda client, fleet: look(run, client),
                document=lambda found: found.document(),
                print=lambda run, found, fleet: run.out.fields(found.fields()),
            ),
        )
        return
    found = with_client(ctx, lambda client: look(run, client))
    if found.failure is not None:
        if run.out.is_json:
            run.out.document({**found.document(), **failure_of(found.failure).document()})
        raise found.failure
    run.out.emit(found.document(), human=lambda: run.out.fields(found.fields()))


@app.command()
def clear(
    ctx: typer.Context,
    name: _Name,
    provider: _Provider = None,
    commit: Annotated[
        str | None, typer.Option("--revision", "-r", metavar="COMMIT", help="This commit only.")
    ] = None,
    force: _Force = False,
    dry_run: _DryRun = False,
    yes: _Yes = False,
) -> None:
    """Remove a model: files and record, both or neither.

    What is read or being downloaded stays, and then nothing goes: exit 6.

    JSON: {success, message, model_name, provider, registry_cleared, registry_warning, victims,
    survivors, bytes_freed, target_bytes, met, executed, failed}; the same with --dry-run.
    """
    run = invocation_of(ctx)
    ref = model_ref(name, provider, None)
    clear_model(ctx, run, ref, commit=commit, force=force, dry_run=dry_run, yes=yes)


@app.command("clear-all")
def clear_all(ctx: typer.Context, force: _Force = False, dry_run: _DryRun = False, yes: _Yes = False) -> None:
    """Remove every model that mx keeps there, and nothing else in that directory.

    What is read, being downloaded or (without --force) pinned stays: exit 6. Asks in every format.

    JSON: {success, message, registry_records_cleared, registry_records_failed, victims, survivors,
    bytes_freed, target_bytes, met, executed, failed}; the same with --dry-run.
    """
    clear_everything(ctx, invocation_of(ctx), force=force, dry_run=dry_run, yes=yes)


@app.command()
def validate(
    ctx: typer.Context,
    name: Annotated[
        str | None,
        typer.Argument(metavar="[NAME]", help="NAME or NAME@COMMIT.", autocompletion=complete.models),
    ] = None,
) -> None:
    """Check sizes and digests of one model or of all; changes nothing. Exit 7 when something is wrong.

    JSON with NAME: {model_name, exists, path, valid, entries}; without: {total_models, models, valid}.
    """
    run = invocation_of(ctx)
    wanted = [name] if name is not None else []
    try:
        done = with_client(ctx, lambda client: verified(run, client, wanted, OnFault.REPORT))
    except NotFoundError as error:
        if run.out.is_json:
            missing = {"model_name": name, "exists": False, "path": None, "valid": False}
            run.out.document({**failure_of(error).document(), **missing})
        raise
    entries = view.verified_document(done)["entries"]
    valid = all(one.outcome in (Outcome.SOUND, Outcome.GONE) for one in done)
    names = {(one.key.provider, one.key.name) for one in done}
    document: dict[str, object] = {"total_models": len(names), "models": entries, "valid": valid}
    if name is not None:
        path = find_here(run.settings(), done[0].key, told=None) if done else None
        document = {
            "model_name": name,
            "exists": bool(done),
            "path": None if path is None else str(path),
            "valid": valid,
            "entries": entries,
        }
    run.out.emit(document, human=lambda: view.print_verified(run.out, done))
    require_sound(done)


@app.command()
def stats(
    ctx: typer.Context,
    detailed: Annotated[bool, typer.Option("--detailed", help="Each model too.")] = False,
) -> None:
    """Show how many models there are and what they take; `mx cache stats` says what could go.

    JSON: {total_models, total_size, used_bytes, free_bytes, detailed_models}; the last with --detailed.
    """
    run = invocation_of(ctx)
    listing = with_client(ctx, lambda client: client.list_models())
    rows = Query((), "size:desc", None).rows(replace(listing, entries=_ready(listing)))
    document = {**totals(listing), "used_bytes": listing.used_bytes, "free_bytes": listing.free_bytes}
    if detailed:
        document["detailed_models"] = _models(run, rows, detailed=True)

    def human() -> None:
        run.out.fields(
            [
                ("models", str(document["total_models"])),
                ("size", format_size(listing.used_bytes)),
                ("free", f"{format_size(listing.free_bytes)} of {format_size(listing.disk_bytes)}"),
            ]
        )
        if detailed:
            _print_models(run, rows)

    run.out.emit(document, human=human)


@app.command()
def init(
    ctx: typer.Context,
    storage_path: Annotated[
        Path | None,
        typer.Option("--storage-path", metavar="DIR", help="This machine's cache. [default: as it is now]"),
    ] = None,
    server_endpoint: Annotated[
        str | None,
        typer.Option("--server-endpoint", metavar="ADDRESS", help="The server. [default: as it is now]"),
    ] = None,
) -> None:
    """Write ~/.model-express/config.yaml, below the environment, and make the cache directory.

    JSON: {success, storage_path, server_endpoint, config_file}.
    """
    run = invocation_of(ctx)
    document = write_init(run, storage_path, server_endpoint)
    run.out.emit(
        {"success": True, **document},
        human=lambda: run.out.fields([(name.replace("_", " "), text) for name, text in document.items()]),
    )
