"""``mx health``: can the server serve."""

from __future__ import annotations

import typer

from mx.cli.exits import ExitCode
from mx.cli.options import invocation_of, with_client
from mx.client.base import ServerHealth
from mx.core.units import format_age

app = typer.Typer()

# Published servers say either; anything else means that they can't serve.
GOOD = ("ok", "healthy")


@app.command()
def health(ctx: typer.Context) -> None:
    """Ask the server whether it can serve. Exits 1 when it says no, 4 when it does not answer.

    JSON: {version, status, uptime}, uptime in seconds.
    """
    out = invocation_of(ctx).out
    answer = with_client(ctx, lambda client: client.health())
    out.emit(document(answer), human=lambda: out.line(sentence(answer)))
    if answer.status not in GOOD:
        raise typer.Exit(ExitCode.FAILURE)


def document(answer: ServerHealth) -> dict[str, object]:
    """The published members."""
    return {"version": answer.version, "status": answer.status, "uptime": answer.uptime_s}


def sentence(answer: ServerHealth) -> str:
    return f"{answer.status}  version {answer.version}  up {format_age(answer.uptime_s)}"
