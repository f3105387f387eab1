"""``mx version``."""

from __future__ import annotations

import platform

import typer

import mx
from mx.cli.options import invocation_of
from mx.cli.output import Output

app = typer.Typer(help="The version of mx.")


def show(out: Output) -> None:
    """Write the version of mx and of what runs it."""
    document = {
        "version": mx.__version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
    }
    out.emit(document, human=lambda: out.line(f"mx {mx.__version__}"))


@app.command()
def version(ctx: typer.Context) -> None:
    """Print the version of mx."""
    show(invocation_of(ctx).out)
