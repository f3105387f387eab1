"""The root command: which nouns there are, where they live, and how a run ends.

A noun's module is imported when the noun is used: ``mx --help`` reads the table below and nothing else.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup
from typer.exceptions import TyperException
from typer.main import get_command

from mx.cli.exits import ExitCode, Failure, failure_of, wants_traceback
from mx.cli.global_options import add_global_options
from mx.cli.options import Invocation, invocation_of
from mx.cli.output import Format, Output
from mx.errors import ErrorCode

if TYPE_CHECKING:
    from typer._click import Command, Context, HelpFormatter


@dataclass(frozen=True, slots=True)
class Noun:
    """A word after ``mx``: its module holds a typer app named ``app``."""

    name: str
    help: str

    @property
    def module(self) -> str:
        return f"mx.cli.{self.name}"


NOUNS = (
    Noun("tui", "The fleet on one screen, live, with the keys to act."),
    Noun("source", "Who serves which weights: list, show, stale, withdraw, reap."),
    Noun("transfer", "Loads that run or ran: list, show, top."),
    Noun("events", "What happened, and with -f what happens."),
    Noun("model", "Models: download, list, status, stats, validate, clear, clear-all, init."),
    Noun("cache", "The cache: list, show, stats, verify, pin, unpin, evict."),
    Noun("server", "Start a server, or see how one does: start, status, settings."),
    Noun("config", "Settings: show with origin, generate, validate."),
    Noun("health", "Whether the server can serve."),
    Noun("doctor", "What is wrong on this machine, and what to do about it."),
    Noun("api", "Send an action to the server's ApiService."),
    Noun("completion", "The script that makes a shell complete mx."),
    Noun("demo", "Load on one replica, pull on the others, on this machine."),
    Noun("version", "The version of mx."),
)

_EPILOG = """Global options may stand before or after the command.

Exit codes: 0 ok, 1 failure, 2 usage, 3 not found, 4 unreachable, 5 denied, 6 conflict, 7 integrity,
8 timeout, 130 interrupted. With --format json stdout holds one JSON document, also on failure."""


# typer gives every app these two; ``mx completion`` is ours.
_COMPLETION = ("install_completion", "show_completion")


class LazyGroup(TyperGroup):
    """The root: shows nouns from the table, imports the one that is used."""

    def __init__(self, **attrs: Any) -> None:
        super().__init__(**attrs)
        for noun in NOUNS:
            self.add_command(TyperCommand(noun.name, help=noun.help, rich_markup_mode=None))
        self._loaded: set[str] = set()

    def load(self, name: str) -> None:
        """Put the real command in the place of its line in the table."""
        if name in self._loaded or name not in self.commands:
            return
        noun = next(noun for noun in NOUNS if noun.name == name)
        command = get_command(importlib.import_module(noun.module).app)
        command.name = name
        command.params = [param for param in command.params if param.name not in _COMPLETION]
        add_global_options(command)
        self.commands[name] = command
        self._loaded.add(name)

    def resolve_command(self, ctx: Context, args: list[str]) -> tuple[str | None, Command | None, list[str]]:
        self.load(args[0])
        return super().resolve_command(ctx, args)

    def format_options(self, ctx: Context, formatter: HelpFormatter) -> None:
        self.format_commands(ctx, formatter)
        records = [record for param in self.get_params(ctx) if (record := param.get_help_record(ctx))]
        with formatter.section("Global options"):
            formatter.write_dl(records)


def _root(
    ctx: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
) -> None:
    """Model weights into inference workers: from the memory of running peers, verified."""
    if version:
        from mx.cli.version import show

        show(invocation_of(ctx).out)
        raise typer.Exit
    if ctx.invoked_subcommand is None:
        ctx.fail("Missing command.")


def build() -> LazyGroup:
    """The whole command line, nouns not yet imported."""
    app = typer.Typer(
        cls=LazyGroup,
        rich_markup_mode=None,
        no_args_is_help=True,
        invoke_without_command=True,
        context_settings={"help_option_names": ["--help", "-h"]},
    )
    app.callback()(_root)
    command = get_command(app)
    if not isinstance(command, LazyGroup):
        raise TypeError(f"typer built {type(command).__name__} instead of LazyGroup")
    add_global_options(command, epilog=_EPILOG, below=False)  # a noun gets them when it is loaded
    command.params = [param for param in command.params if param.name not in _COMPLETION]
    command.params.sort(key=lambda param: param.name == "version")
    return command


def run(args: Sequence[str], *, invocation: Invocation | None = None) -> int:
    """Run one command line to its end; the exit code. No traceback unless it is asked for."""
    try:
        return _run(args, invocation or Invocation())
    except typer.Exit as ended:  # the reader left while the failure was told
        return ended.exit_code


def _run(args: Sequence[str], run_: Invocation) -> int:
    out, stdout = run_.out, sys.stdout
    try:
        result = build().main(args=list(args), prog_name="mx", standalone_mode=False, obj=run_)
    except TyperException as error:
        return _usage(error, out, args)
    except typer.Abort:  # Ctrl-C or the end of input at a question
        result = ExitCode.INTERRUPTED
    except SystemExit as ended:  # shell completion ends this way, and help that nobody reads
        if sys.stdout is not stdout:  # typer puts a wrapper there when the pipe is broken
            return ExitCode.BROKEN_PIPE
        return ended.code if isinstance(ended.code, int) else ExitCode.FAILURE
    except Exception as error:  # noqa: BLE001  # the edge of the process: everything ends as a line and a code
        failure = failure_of(error)
        if wants_traceback(error, verbosity=run_.verbosity):
            out.traceback(error)
        return out.fail(failure)
    if result == ExitCode.INTERRUPTED:
        return out.fail(Failure(ErrorCode.CANCELLED, ExitCode.INTERRUPTED, ("interrupted",), ""))
    return result if isinstance(result, int) else ExitCode.OK


def _usage(error: TyperException, out: Output, args: Sequence[str]) -> int:
    """Tell what is wrong with the command line. A group alone shows its help, on stderr since it is talk."""
    if error.message.startswith("Usage:"):
        out.talk(error.message)
        return ExitCode.USAGE
    asked = _format_asked(args)
    if asked is not None:
        out.format = asked
    ctx = getattr(error, "ctx", None)
    path = ctx.command_path if ctx is not None else "mx"
    remedy = f"`{path} --help` shows what it takes"
    return out.fail(Failure(ErrorCode.USAGE, ExitCode.USAGE, (error.format_message(),), remedy))


def _format_asked(args: Sequence[str]) -> Format | None:
    """The format named on a command line that could not be parsed to its end."""
    asked = None
    for word, following in zip(args, (*args[1:], ""), strict=True):
        name, _, value = word.partition("=")
        if name in ("-f", "--format") and (value or following) in tuple(Format):
            asked = Format(value or following)
    return asked
