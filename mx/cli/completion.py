"""``mx completion``: the script that makes a shell complete ``mx``."""

from __future__ import annotations

import os
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from typer._completion_shared import get_completion_script

from mx.cli.options import invocation_of
from mx.errors import PermissionDeniedError, UsageError

app = typer.Typer()


class Shell(StrEnum):
    BASH = "bash"
    ZSH = "zsh"
    FISH = "fish"


@app.command()
def completion(
    ctx: typer.Context,
    shell: Annotated[
        Shell | None, typer.Argument(metavar="[bash|zsh|fish]", help="Which shell. [default: $SHELL]")
    ] = None,
    install: Annotated[
        bool, typer.Option("--install", help="Write it where the shell looks for such scripts.")
    ] = False,
) -> None:
    """Print the completion script of a shell: commands, options, and names that the server knows.

    For one session: `source <(mx completion bash)`, `mx completion fish | source`. --install changes no
    settings file of a shell; where a line in one is needed, it is told.

    JSON: {shell, script, written}.
    """
    run = invocation_of(ctx)
    chosen = shell or _from_environment()
    script = _script(chosen)
    written: Path | None = None
    if install:
        written = _place(chosen)
        _write(written, _autoloaded(script) if chosen is Shell.ZSH else script)
    document = {"shell": chosen.value, "script": script, "written": str(written) if written else None}
    shown = script if written is None else f"{written} written\n"
    run.out.emit(document, human=lambda: run.out.write(shown))
    if written is not None:
        run.out.say(_NEXT[chosen].format(file=written))


def _from_environment() -> Shell:
    name = Path(os.environ.get("SHELL", "")).name
    if name not in tuple(Shell):
        raise UsageError(f"which shell? $SHELL is {name or 'not set'}", remedy="mx completion bash|zsh|fish")
    return Shell(name)


def _script(shell: Shell) -> str:
    return get_completion_script(prog_name="mx", complete_var="_MX_COMPLETE", shell=shell.value) + "\n"


def _autoloaded(script: str) -> str:
    """Zsh runs the file itself at the first tabulator: it has to complete too, not only define."""
    return script + '_mx_completion "$@"\n'


def _place(shell: Shell) -> Path:
    home = Path(os.environ.get("HOME") or "~").expanduser()
    data = Path(os.environ.get("XDG_DATA_HOME") or home / ".local/share")
    config = Path(os.environ.get("XDG_CONFIG_HOME") or home / ".config")
    return {
        Shell.BASH: data / "bash-completion/completions/mx",
        Shell.ZSH: home / ".zfunc/_mx",
        Shell.FISH: config / "fish/completions/mx.fish",
    }[shell]


_NEXT = {
    Shell.BASH: "new shells have it where bash-completion is installed; else: source {file} in ~/.bashrc",
    Shell.ZSH: "in ~/.zshrc, before compinit: fpath+=~/.zfunc",
    Shell.FISH: "new shells have it",
}


def _write(path: Path, script: str) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(script, encoding="utf-8")
    except OSError as error:
        raise PermissionDeniedError(
            f"{path} can't be written: {error.strerror or error}",
            remedy="mx completion prints the script; put it where your shell finds it",
        ) from None
