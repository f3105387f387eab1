"""``mx model download``: by way of the server, directly, or whichever works."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from mx.cli.exits import failure_of
from mx.cli.options import Invocation, invocation_of, open_local_client, settings_of_command
from mx.cli.progress import Bar
from mx.client.download import Obtained, Strategy, Tell, Via, Wanted, follow, obtain
from mx.core.model import EntryStatus
from mx.core.progress import EnsureUpdate
from mx.core.units import format_size
from mx.errors import MxError, PreconditionError, UsageError

if TYPE_CHECKING:
    from mx.client.base import Client
    from mx.config import Settings


@dataclass(frozen=True, slots=True)
class Landed:
    """What was obtained, and the folder it is in, where this machine has or sees it."""

    obtained: Obtained
    path: Path | None


def run_download(ctx: typer.Context, wanted: Wanted, chosen: Strategy | None) -> None:
    """Get it and tell; a failure has the members of the document that a success has."""
    run = invocation_of(ctx)
    strategy = _strategy(run, chosen)
    about = {
        "model_name": wanted.ref.name,
        "provider": wanted.ref.provider.value,
        "strategy": strategy.value,
    }
    try:
        landed = asyncio.run(_download(ctx, wanted, strategy))
    except MxError as error:
        if run.out.is_json:
            run.out.document({**failure_of(error).document(), **about})
        raise
    update, via, refused = landed.obtained.update, landed.obtained.via, landed.obtained.refused
    document = {
        "success": True,
        "message": update.message,
        **about,
        "resolved_revision": update.key.commit or None,
        "path": None if landed.path is None else str(landed.path),
        "via": via.value,
        "fallback_reason": None if refused is None else refused.message,
        "bytes": update.bytes_total,
        "files": update.files_total,
    }
    run.out.emit(document, human=lambda: _print(run, landed))


def _strategy(run: Invocation, chosen: Strategy | None) -> Strategy:
    if not run.embedded:
        return chosen or Strategy.SMART_FALLBACK
    if chosen not in (None, Strategy.DIRECT):
        raise UsageError(f"--embedded asks no server, and --strategy {chosen} does", remedy="leave one out")
    return Strategy.DIRECT


def _print(run: Invocation, landed: Landed) -> None:
    update = landed.obtained.update
    size = f", {format_size(update.bytes_total)} in {update.files_total} files" if update.bytes_total else ""
    run.out.line(f"{update.key}: {update.message}{size}")
    if landed.path is not None:
        run.out.line(str(landed.path))
    else:
        run.out.say(
            "it is in the server's cache, which can't be seen from here: --no-shared-storage brings it"
        )


async def _download(ctx: typer.Context, wanted: Wanted, strategy: Strategy) -> Landed:
    run = invocation_of(ctx)
    settings = settings_of_command(run)
    server = run.connect(settings)
    bar = Bar(run.out)

    def fall_back(error: MxError) -> None:
        bar.end()
        run.out.say(f"not by way of {settings.client.endpoint}: {error.message}; downloading directly")

    async def by_server(wanted: Wanted, tell: Tell) -> EnsureUpdate:
        if settings.cache.shared_storage:
            return await follow(server, wanted, tell)
        return await _receive(settings, server, wanted, tell)

    async def directly(wanted: Wanted, tell: Tell) -> EnsureUpdate:
        async with open_local_client(ctx) as client:
            return await follow(client, wanted, tell)

    try:
        with bar:
            obtained = await obtain(
                wanted,
                strategy=strategy,
                by_server=by_server,
                directly=directly,
                tell=lambda update: bar.download(update, now_s=run.now()),
                fall_back=fall_back,
            )
        return Landed(obtained, await _place(settings, server, obtained))
    finally:
        await server.close()


async def _receive(settings: Settings, server: Client, wanted: Wanted, tell: Tell) -> EnsureUpdate:
    """The server has it, then its files come here."""
    from mx.client.grpc import GrpcClient
    from mx.client.receive import ReceiveRules, receive
    from mx.wiring import open_client_cache

    if not isinstance(server, GrpcClient):
        raise PreconditionError("files come from a server only", remedy="leave out --no-shared-storage")
    cache = await asyncio.to_thread(open_client_cache, settings, wanted.ref.provider)
    entry = await receive(
        server,
        wanted.ref,
        cache=cache,
        weights=wanted.weights,
        force=wanted.force,
        told=tell,
        rules=ReceiveRules.of(settings),
    )
    size, files = entry.total_bytes, len(entry.files)
    return EnsureUpdate(entry.key, EntryStatus.DOWNLOADED, "received", size, size, files, files)


async def _place(settings: Settings, server: Client, obtained: Obtained) -> Path | None:
    """Where this machine has the entry, or sees the server's; None where it does not."""
    from mx.client.operations import NotOfferedError
    from mx.wiring_local import find_here

    key, told = obtained.update.key, None
    if obtained.via is Via.SERVER and settings.cache.shared_storage:
        try:
            told = await server.show_model(key)
        except NotOfferedError:
            pass
        except MxError:  # removed in this moment, or the server ended: the download itself is done
            return None
    return await asyncio.to_thread(find_here, settings, key, told=told)
