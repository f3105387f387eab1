"""``mx demo``: the main job on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mx.cli.exits import ExitCode
from mx.cli.options import invocation_of
from mx.core.units import parse_size
from mx.errors import UsageError

app = typer.Typer()


@app.command()
def demo(
    ctx: typer.Context,
    size: Annotated[str, typer.Option(help="Size of the checkpoint that is made.")] = "1GiB",
    replicas: Annotated[int, typer.Option(help="How many replicas, the one from disk included.")] = 3,
    model: Annotated[Path | None, typer.Option(help="Directory with *.safetensors to use instead.")] = None,
    hold: Annotated[bool, typer.Option("--hold", help="Let the replicas serve until Ctrl-C.")] = False,
) -> None:
    """Start a server and replicas here: one loads from disk, the others pull from its memory over NIXL.

    With --endpoint they use that server instead of one of their own, so that `mx tui` can watch them.

    Every segment is verified by digest and every tensor is compared with the file. Exits 0 only
    then. JSON: {verified, seconds, replicas: [{name, strategy, bytes, verified, gbit_s, stages_s,
    sources, …}]}.
    """
    from rich.console import Console

    from mx.demo import view
    from mx.demo.fleet import Demo

    try:
        size_bytes = parse_size(size)
    except ValueError as error:
        raise UsageError(f"--size: {error}") from error
    invocation = invocation_of(ctx)
    out = invocation.out
    endpoint = invocation.flags.get("client.endpoint")
    server = None if endpoint is None else str(endpoint)
    run = Demo(size_bytes=size_bytes, count=replicas, model=model, server=server, hold=hold)
    if out.is_json:
        result = run.run()
    else:
        with view.live(run, Console(stderr=True)):
            result = run.run()
    console = Console(highlight=False, width=None if Console().is_terminal else 160)
    out.emit(result.document(), human=lambda: view.report(result, console))
    if not result.verified:
        raise typer.Exit(ExitCode.INTEGRITY)
