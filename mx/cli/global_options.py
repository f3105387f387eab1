"""The global options, accepted at every level of the command line.

``mx -f json source list``, ``mx source -f json list`` and ``mx source list -f json`` say the same;
the one nearest to the end wins. A command with an option of the same spelling keeps its own
(``mx config generate -f yaml``). They are listed in ``mx --help`` only.
"""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup, TyperOption
from typer.main import get_command

from mx.cli.options import Invocation
from mx.cli.output import Format
from mx.core.units import parse_duration

if TYPE_CHECKING:
    from typer._click import Command, Context


class LogLevel(StrEnum):
    TRACE = "trace"
    DEBUG = "debug"
    INFO = "info"
    WARN = "warn"
    ERROR = "error"


class LogFormat(StrEnum):
    PRETTY = "pretty"
    JSON = "json"
    COMPACT = "compact"


def _remember(ctx: typer.Context, param: typer.CallbackParam, value: Any) -> Any:
    """Keep what was given; what was not given leaves an outer level's value alone."""
    run = ctx.find_root().obj
    if not isinstance(run, Invocation) or value is None or value is False:
        return value
    match param.name:
        case "global_endpoint":
            run.flags["client.endpoint"] = value
        case "global_format":
            run.out.format = value
        case "global_timeout":
            run.flags["client.timeout_s"] = _seconds(value)
        case "global_max_retries":
            run.flags["client.max_retries"] = value
        case "global_retry_delay":
            run.flags["client.retry_delay_s"] = _seconds(value)
        case "global_config":
            run.config_file = value
        case "global_quiet":
            run.out.quiet = True
        case "global_verbose":
            run.verbosity += value
        case "global_log_level":
            run.flags["logging.level"] = value.value
        case "global_log_format":
            run.flags["logging.format"] = value.value
        case "global_embedded":
            run.embedded = True
        case "global_cache_path":
            if not value.strip():
                raise typer.BadParameter("a directory has a name")
            run.flags["cache.local_path"] = value
        case "global_no_shared_storage":
            run.flags["cache.shared_storage"] = False
        case "global_transfer_chunk_size":
            run.flags["cache.transfer_chunk_size"] = value
        case other:
            raise ValueError(f"global option {other} has no place in Invocation")
    return value


def _seconds(text: str) -> float:
    try:
        seconds = parse_duration(text)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
    if seconds <= 0:
        raise typer.BadParameter(f"{text} is not above 0")
    return seconds


def _declare(
    global_endpoint: Annotated[
        str | None,
        typer.Option(
            "--endpoint", "-e", metavar="ADDRESS", help="Server to talk to. [default: localhost:8001]"
        ),
    ] = None,
    global_format: Annotated[
        Format | None,
        typer.Option("--format", "-f", metavar="FORMAT", help="human, json or json-pretty. [default: human]"),
    ] = None,
    global_timeout: Annotated[
        str | None,
        typer.Option(
            "--timeout", "-t", metavar="DURATION", help="Bound of each call: 30, 90s, 2m. [default: 30]"
        ),
    ] = None,
    global_max_retries: Annotated[
        int | None,
        typer.Option(
            "--max-retries", min=0, metavar="COUNT", help="Retries while the server can't be reached."
        ),
    ] = None,
    global_retry_delay: Annotated[
        str | None,
        typer.Option("--retry-delay", metavar="DURATION", help="Wait before the first retry; it doubles."),
    ] = None,
    global_config: Annotated[
        Path | None, typer.Option("--config", "-c", metavar="FILE", help="Settings file, YAML or TOML.")
    ] = None,
    global_embedded: Annotated[
        bool,
        typer.Option(
            "--embedded", help="mx model, mx cache, mx tui: this machine's cache, without a server."
        ),
    ] = False,
    global_cache_path: Annotated[
        str | None,
        typer.Option(
            "--cache-path",
            metavar="DIR",
            help="mx model, mx cache, mx tui: this machine's cache. [default: Hugging Face's own]",
        ),
    ] = None,
    global_no_shared_storage: Annotated[
        bool,
        typer.Option("--no-shared-storage", help="mx model download: the server's files can't be seen here."),
    ] = False,
    global_transfer_chunk_size: Annotated[
        str | None,
        typer.Option(
            "--transfer-chunk-size", metavar="BYTES", help="mx model download: piece of a streamed file."
        ),
    ] = None,
    global_quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Data and errors only.")] = False,
    global_verbose: Annotated[
        int,
        typer.Option(
            "--verbose", "-v", count=True, metavar="", help="Log more: -v info, -vv debug, -vvv trace."
        ),
    ] = 0,
    global_log_level: Annotated[
        LogLevel | None,
        typer.Option(
            "--log-level", case_sensitive=False, metavar="LEVEL", help="trace, debug, info, warn or error."
        ),
    ] = None,
    global_log_format: Annotated[
        LogFormat | None,
        typer.Option(
            "--log-format", case_sensitive=False, metavar="FORM", help="Of the log: pretty, json or compact."
        ),
    ] = None,
) -> None:
    """The options as typer reads them; never run."""


# Of some nouns only: their help shows them too.
_AT_HOME = {
    "global_embedded": ("model", "cache", "tui"),
    "global_cache_path": ("model", "cache", "tui"),
    "global_no_shared_storage": ("model", "cache"),
    "global_transfer_chunk_size": ("model", "cache"),
}


class GlobalOption(TyperOption):
    """An option that is documented once, at the root, and accepted everywhere."""

    def get_help_record(self, ctx: Context) -> tuple[str, str] | None:
        at_home = ctx.info_name in _AT_HOME.get(self.name or "", ())
        return super().get_help_record(ctx) if ctx.parent is None or at_home else None


def _global_options(*, taken: frozenset[str]) -> list[GlobalOption]:
    """Fresh options without the spellings in ``taken``."""
    donor = typer.Typer(add_completion=False, rich_markup_mode=None)
    donor.command()(_declare)
    made = []
    for option in get_command(donor).params:
        spellings = [spelling for spelling in option.opts if spelling not in taken]
        if not isinstance(option, TyperOption) or not spellings:
            continue
        made.append(
            GlobalOption(
                param_decls=[option.name, *spellings],
                type_descriptor=option.type_descriptor,
                default=option.default,
                callback=_remember,
                min=option.min,
                max=option.max,
                metavar=option.metavar,
                is_flag=option.is_flag,
                count=option.count,
                help=option.help,
                expose_value=False,
            )
        )
    return made


def add_global_options(
    command: Command, *, epilog: str = "Global options work here too: `mx --help`.", below: bool = True
) -> None:
    """Let ``command`` and, unless they are not there yet, all commands below it take the global options."""
    command.epilog = f"{command.epilog}\n\n{epilog}" if command.epilog else epilog
    command.rich_markup_mode = None  # type: ignore[attr-defined]  # plain help: rich costs more than the rest of it
    taken = frozenset(
        spelling for param in command.params for spelling in (*param.opts, *param.secondary_opts)
    )
    command.params.extend(_global_options(taken=taken))
    if isinstance(command, TyperGroup) and below:
        for one in command.commands.values():
            add_global_options(one)
