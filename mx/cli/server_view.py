"""What a server says about itself: ``mx server status`` and ``mx server settings``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Annotated

import typer

from mx.cli import health, live
from mx.cli.exits import ExitCode
from mx.cli.live import WatchOption
from mx.cli.options import Invocation, invocation_of, with_client
from mx.cli.output import Cell, Column, Output
from mx.client.base import Client, ServerHealth, ServerStatus
from mx.core.fleet import Fleet
from mx.core.server_state import BackendState
from mx.core.units import format_age
from mx.errors import PreconditionError

_Answer = tuple[ServerStatus, tuple[BackendState, ...]]


def status(ctx: typer.Context, watch: WatchOption = False) -> None:
    """Show what the server says about itself: version, readiness, sources, and each store behind it.

    Exits 1 when it can't serve.

    A published server has no such answer; then what its health says is shown.

    JSON: {version, ready, draining, uptime, store: {...}, sources: {status: count}, listen, settings_file,
    read_only, backends: [{duty, backend, address, ok, latency_ms, facts, error}]}.
    """
    run = invocation_of(ctx)
    if watch:
        live.watch(ctx, _watched(run))
        return
    answer = with_client(ctx, _ask)
    if isinstance(answer, ServerHealth):
        document = {"published": True, **health.document(answer)}
        run.out.emit(document, human=lambda: run.out.line(health.sentence(answer)))
        run.out.say("this server has no admin service: a published one, or one behind a filter")
        good = answer.status in health.GOOD
    else:
        server, backends = answer
        uptime_s = _uptime_s(run, server)
        document = _document(answer, uptime_s)
        run.out.emit(document, human=lambda: describe(run.out, server, backends, uptime_s))
        good = server.ready and not server.draining
    if not good:
        raise typer.Exit(ExitCode.FAILURE)


def _watched(run: Invocation) -> live.Whole[_Answer]:
    async def read(client: Client, _fleet: Fleet) -> _Answer:
        answer = await _ask(client)
        if isinstance(answer, ServerHealth):  # a watch stands: it was an mx server a moment ago
            raise PreconditionError("this server has no admin service any more")
        return answer

    return live.Whole(
        subject=lambda fleet: fleet.server,
        read=read,
        document=lambda answer: _document(answer, _uptime_s(run, answer[0])),
        # The frame's own run: its time goes on while nothing is told.
        print=lambda frame, answer, fleet: describe(frame.out, *answer, _uptime_s(frame, answer[0])),
    )


def _uptime_s(run: Invocation, server: ServerStatus) -> int:
    return max(0, int(run.now() - server.started_at_ms / 1000))


def _document(answer: _Answer, uptime_s: int) -> dict[str, object]:
    server, backends = answer
    return status_document(server, uptime_s) | {"backends": [_backend(one) for one in backends]}


async def _ask(client: Client) -> _Answer | ServerHealth:
    try:
        server = await client.status()
    except PreconditionError:
        return await client.health()
    try:
        return server, await client.backend_states()
    except PreconditionError:  # an older mx
        return server, ()


def status_document(answer: ServerStatus, uptime_s: int) -> dict[str, object]:
    """Every member of the answer, in groups."""
    return {
        "version": answer.version,
        "ready": answer.ready,
        "draining": answer.draining,
        "started_at_ms": answer.started_at_ms,
        "uptime": uptime_s,
        "store": {
            "backend": answer.store_backend,
            "ok": answer.store_ok,
            "latency_ms": answer.store_latency_ms,
        },
        "sources": dict(answer.sources_by_status),
        "listen": answer.listen,
        "settings_file": answer.settings_file,
        "read_only": answer.read_only,
    }


def _backend(state: BackendState) -> dict[str, object]:
    return asdict(state) | {"facts": dict(state.facts)}


def describe(out: Output, answer: ServerStatus, backends: Sequence[BackendState], uptime_s: int) -> None:
    """The answer for a person."""
    state = "draining" if answer.draining else "ready" if answer.ready else "not ready"
    store = f"{answer.store_latency_ms:.1f} ms" if answer.store_ok else "can't be reached"
    counts = ", ".join(f"{count} {name.lower()}" for name, count in answer.sources_by_status.items() if count)
    out.fields(
        [
            ("server", f"{answer.listen}  version {answer.version}"),
            ("state", state),
            ("access", "read-only: this account may look and not change" if answer.read_only else ""),
            ("up", format_age(uptime_s)),
            ("store", f"{answer.store_backend}, {store}"),
            ("sources", counts or "none"),
            ("settings", answer.settings_file or "no file"),
        ]
    )
    for one in backends:
        out.line()
        well = f"{one.latency_ms:.1f} ms" if one.ok else f"can't be reached: {one.error}"
        out.line(f"{one.duty} in {one.backend}, {well}")
        out.fields([("address", one.address), *one.facts], indent=2)


def settings(
    ctx: typer.Context,
    explicit: Annotated[
        bool, typer.Option("--explicit", help="Only what somebody set; no defaults.")
    ] = False,
) -> None:
    """Show every setting that the server runs with, and where its value came from; secrets masked.

    `mx config show` tells the settings of this machine.

    JSON: {settings: [{key, value, origin}]}, value as text.
    """
    run = invocation_of(ctx)
    rows = with_client(ctx, lambda client: client.list_settings())
    shown = [row for row in rows if not explicit or row.origin != "default"]

    def human() -> None:
        columns = (Column("SETTING"), Column("VALUE"), Column("ORIGIN"))
        cells = [
            (row.key, row.value, Cell(row.origin, "" if row.origin == "default" else "bold")) for row in shown
        ]
        if cells:
            run.out.table(columns, cells)
        else:
            run.out.say("every setting has its default")

    run.out.emit({"settings": [asdict(row) for row in shown]}, human=human)
