"""The run that a command belongs to, and its way to a server.

Commands take an ``Invocation`` from their context; ``global_options`` fills it in.
"""

from __future__ import annotations

import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TextIO, TypeVar

import typer

from mx.cli.output import Output
from mx.errors import UsageError

if TYPE_CHECKING:
    from mx.client.base import Client
    from mx.config import Settings

Scope = Literal["server", "client", "worker"]
Connect = Callable[["Settings"], "Client"]
T = TypeVar("T")

# Without -v a command says nothing below a warning; each -v opens one level more.
_VERBOSITY = ("warn", "info", "debug", "trace")


def connect_grpc(settings: Settings) -> Client:
    """A client of the server that the settings name; it connects with its first call."""
    from mx.client.grpc import GrpcClient
    from mx.client.token import TokenFile

    client = settings.client
    return GrpcClient(
        client.endpoint,
        timeout_s=client.timeout_s,
        max_retries=client.max_retries,
        retry_delay_s=client.retry_delay_s,
        token=TokenFile(client.auth_token_path, ttl_s=client.auth_token_ttl_s),
    )


def start_logs(settings: Settings, stream: TextIO) -> None:
    """Log as the settings say, to ``stream`` where they name no file, and begin with their notices."""
    from mx.logs import event_log, setup_logs

    setup_logs(settings.logging, stream=stream)
    log = event_log(__name__)
    for notice in settings.notices:
        log.info("settings notice", notice=notice)


@dataclass(slots=True)
class Invocation:
    """One run of ``mx``: what the global options said, and the ways to the outside.

    ``flags`` are settings by their dotted key, as ``mx.config.load_settings`` takes them;
    ``embedded`` asks for the cache directory of this machine instead of a server.
    ``connect``, ``start_logs`` and ``now`` (Unix seconds) are parameters so that tests bring their own.
    """

    connect: Connect = connect_grpc
    start_logs: Callable[[Settings, TextIO], None] = start_logs
    now: Callable[[], float] = time.time
    out: Output = field(default_factory=Output)
    verbosity: int = 0
    embedded: bool = False
    config_file: Path | None = None
    flags: dict[str, object] = field(default_factory=dict)

    def settings(self, *, scope: Scope = "client") -> Settings:
        """Settings of this run. Raises SettingsError with every problem."""
        from mx.config import load_settings

        if self.log_level is not None:
            self.flags.setdefault("logging.level", self.log_level)
        return load_settings(flags=dict(self.flags), config_file=self.config_file, scope=scope)

    @property
    def log_level(self) -> str | None:
        """The level that -v and -q ask for; None when they say nothing."""
        if self.out.quiet:
            return "error"
        return _VERBOSITY[min(self.verbosity, len(_VERBOSITY) - 1)] if self.verbosity else None


def invocation_of(ctx: typer.Context) -> Invocation:
    """The run that a command belongs to."""
    found = ctx.find_root().obj
    if not isinstance(found, Invocation):
        raise TypeError("mx commands are run by mx.cli.app.run, which makes the Invocation")
    return found


@asynccontextmanager
async def open_client(ctx: typer.Context) -> AsyncIterator[Client]:
    """The client of this run, closed at the end: of a server, or embedded. Raises SettingsError."""
    invocation = invocation_of(ctx)
    if invocation.embedded:
        _require_cache_command(ctx)
        async with open_local_client(ctx) as client:
            yield client
        return
    settings = settings_of_command(invocation)
    client = invocation.connect(settings)
    try:
        yield client
    finally:
        await client.close()


@asynccontextmanager
async def open_local_client(ctx: typer.Context) -> AsyncIterator[Client]:
    """A client of the cache directory of this machine. Raises what ``open_local`` raises."""
    from mx.client.embedded import EmbeddedClient
    from mx.wiring_local import open_local

    invocation = invocation_of(ctx)
    settings = settings_of_command(invocation, quieter=True)
    async with open_local(settings) as local:
        client = EmbeddedClient(local.services)
        try:
            yield client
        finally:
            await client.close()


def settings_of_command(invocation: Invocation, *, quieter: bool = False) -> Settings:
    """Settings of this run, with logs started.

    ``quieter``: what services of this process warn of, the command tells by itself.
    """
    settings = invocation.settings()
    # A settings file that is there for the server names the server's log file; a command has none.
    logging = replace(settings.logging, file=None)
    if quieter and not settings.explicit("logging.level"):
        logging = replace(logging, level="error")
    invocation.start_logs(replace(settings, logging=logging), sys.stderr)
    return settings


def _require_cache_command(ctx: typer.Context) -> None:
    noun = ctx.command_path.split()[1:2]
    if noun not in (["model"], ["cache"]):
        raise UsageError("--embedded is for mx model and mx cache", remedy="leave it out: this asks a server")


def with_client(ctx: typer.Context, use: Callable[[Client], Awaitable[T]]) -> T:
    """Run ``use`` with a client to its end, in an event loop of its own."""
    import asyncio  # a third of what `mx --help` would cost

    async def session() -> T:
        async with open_client(ctx) as client:
            return await use(client)

    return asyncio.run(session())
