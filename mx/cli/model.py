"""``mx model``: models in the server's cache, one at a time."""

from __future__ import annotations

import sys
from contextlib import aclosing
from typing import Annotated

import typer

from mx.cli.exits import failure_of
from mx.cli.model_names import DownloadTalk, ProviderChoice, error_of, model_ref
from mx.cli.options import Invocation, invocation_of, with_client
from mx.cli.output import Column
from mx.client.base import Client
from mx.core.cache_view import CacheListing
from mx.core.model import EntryStatus, ModelRef
from mx.core.progress import EnsureUpdate
from mx.core.units import format_size
from mx.errors import CancelledError, MxError, UnavailableError, UsageError

app = typer.Typer(no_args_is_help=True)

_STRATEGY = "server-only"
_Name = Annotated[str, typer.Argument(metavar="NAME", help="As org/name, gs://…, s3://…, ngc://….")]
_Provider = Annotated[
    ProviderChoice | None,
    typer.Option("--provider", "-p", case_sensitive=False, help="Where it is from. [default: hugging-face]"),
]


@app.callback()
def model() -> None:
    """Models: have the server download one, see what it has, remove one."""


@app.command()
def download(
    ctx: typer.Context,
    name: _Name,
    provider: _Provider = None,
    revision: Annotated[
        str | None, typer.Option("--revision", "-r", metavar="REVISION", help="Branch, tag or commit.")
    ] = None,
    metadata: Annotated[bool, typer.Option("--metadata", help="Everything but weight files.")] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Try at once, however often it failed just now.")
    ] = False,
) -> None:
    """Have the server download a model; returns when it is there, whole and verified.

    A model that is there costs nothing. Ctrl-C ends the wait, not the download.

    JSON: {success, message, model_name, provider, strategy, resolved_revision, path, bytes, files}.
    """
    run = invocation_of(ctx)
    ref = model_ref(name, provider, revision)
    about = {"model_name": ref.name, "provider": ref.provider.value, "strategy": _STRATEGY}
    try:
        last = with_client(ctx, lambda client: _follow(client, ref, run, weights=not metadata, force=force))
        if last.status is EntryStatus.ERROR:
            raise error_of(last)
    except MxError as error:
        if run.out.is_json:
            run.out.document({**failure_of(error).document(), **about})
        raise
    document = {
        "success": True,
        "message": last.message,
        **about,
        "resolved_revision": last.key.commit or None,
        "path": None,  # the server's own business
        "bytes": last.bytes_total,
        "files": last.files_total,
    }
    size = f", {format_size(last.bytes_total)} in {last.files_total} files" if last.bytes_total else ""
    run.out.emit(document, human=lambda: run.out.line(f"{last.key}: {last.message}{size}"))


async def _follow(
    client: Client, ref: ModelRef, run: Invocation, *, weights: bool, force: bool
) -> EnsureUpdate:
    talk = DownloadTalk(run.out)
    newest: EnsureUpdate | None = None
    try:
        async with aclosing(client.ensure(ref, weights=weights, force=force)) as updates:
            async for newest in updates:
                if not newest.is_last:
                    talk.tell(newest, now_s=run.now())
    finally:
        talk.end()
    if newest is None or not newest.is_last:
        raise UnavailableError(f"the server stopped telling about {ref}", remedy="ask again")
    return newest


def _totals(listing: CacheListing) -> dict[str, object]:
    ready = {(e.key.provider, e.key.name) for e in listing.entries if e.status is EntryStatus.DOWNLOADED}
    return {"total_models": len(ready), "total_size": format_size(listing.used_bytes)}


@app.command("list")
def list_(
    ctx: typer.Context,
    detailed: Annotated[bool, typer.Option("--detailed", help="Status, files and times too.")] = False,
) -> None:
    """List the models that the server has; `mx cache list` shows every entry with its state.

    JSON: {total_models, total_size, models: [{provider, name, revision, size, formatted_size, ...}]}.
    """
    run = invocation_of(ctx)
    listing = with_client(ctx, lambda client: client.list_models())
    ready = [entry for entry in listing.entries if entry.status is EntryStatus.DOWNLOADED]
    models: list[dict[str, object]] = []
    for entry in ready:
        row: dict[str, object] = {
            "provider": entry.key.provider.value,
            "name": entry.key.name,
            "revision": entry.key.commit,
            "weights": entry.key.weights,
            "size": entry.disk_bytes,
            "formatted_size": format_size(entry.disk_bytes),
        }
        if detailed:
            row |= {"files": entry.files, "last_used_at_ms": entry.last_used_at_ms, "path": None}
        models.append(row)
    cells = [
        (
            entry.key.name,
            entry.key.commit[:12] or "-",
            "whole" if entry.key.weights else "metadata",
            format_size(entry.disk_bytes),
            str(entry.files),
        )
        for entry in ready
    ]
    columns = (
        Column("MODEL", elastic=True),
        Column("REVISION"),
        Column("WHAT"),
        Column("SIZE", justify="right"),
        Column("FILES", justify="right", optional=True),
    )
    document = {**_totals(listing), "models": models}

    def human() -> None:
        if not cells:
            run.out.say("no models; `mx model download NAME` brings one")
            return
        run.out.table(columns, cells)

    run.out.emit(document, human=human)


@app.command()
def status(ctx: typer.Context) -> None:
    """Show whether the server has its cache in reach, and how full that is.

    JSON: {storage_path, server_endpoint, total_models, total_size, storage_accessible,
    server_available, used_bytes, free_bytes, max_size_bytes}.
    """
    run = invocation_of(ctx)
    document: dict[str, object] = {
        "storage_path": None,
        "server_endpoint": run.settings().client.endpoint,
        "total_models": 0,
        "total_size": format_size(0),
        "storage_accessible": False,
        "server_available": False,
    }
    try:
        listing = with_client(ctx, lambda client: client.list_models())
    except MxError:
        if run.out.is_json:
            run.out.document(document)
        raise
    document |= {
        **_totals(listing),
        "storage_accessible": True,
        "server_available": True,
        "used_bytes": listing.used_bytes,
        "free_bytes": listing.free_bytes,
        "max_size_bytes": listing.max_size_bytes,
    }
    limit = "" if listing.max_size_bytes is None else f" of {format_size(listing.max_size_bytes)}"
    fields = [
        ("server", str(document["server_endpoint"])),
        ("models", str(document["total_models"])),
        ("size", f"{format_size(listing.used_bytes)}{limit}"),
        ("disk", f"{format_size(listing.free_bytes)} free of {format_size(listing.disk_bytes)}"),
    ]
    run.out.emit(document, human=lambda: run.out.fields(fields))


@app.command()
def clear(
    ctx: typer.Context,
    name: _Name,
    provider: _Provider = None,
    commit: Annotated[
        str | None, typer.Option("--revision", "-r", metavar="COMMIT", help="This commit only.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Pinned ones too.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Remove a model from the server's cache: files and record, both or neither.

    What is read or being downloaded stays, exit 6.

    JSON: {success, message, model_name, provider, registry_cleared, registry_warning, bytes_freed}.
    """
    run = invocation_of(ctx)
    ref = model_ref(name, provider, None)
    confirm(run, f"Remove {ref.name} from the server's cache?", yes=yes)
    removed = with_client(
        ctx, lambda client: client.remove_model(ref.provider, ref.name, commit=commit, force=force)
    )
    message = f"{ref.name} removed, {format_size(removed.bytes_freed)} freed"
    document = {
        "success": True,
        "message": message,
        "model_name": ref.name,
        "provider": ref.provider.value,
        "registry_cleared": bool(removed.keys),
        "registry_warning": None,
        "bytes_freed": removed.bytes_freed,
    }
    run.out.emit(document, human=lambda: run.out.line(message))


def confirm(run: Invocation, question: str, *, yes: bool) -> None:
    """Ask on a terminal; elsewhere only --yes goes on. Raises UsageError, CancelledError."""
    if yes:
        return
    if run.out.is_json or not sys.stdin.isatty():
        raise UsageError("nobody is there to be asked", remedy="--yes goes on without a question")
    if not typer.confirm(question, err=True):
        raise CancelledError("nothing was removed")
