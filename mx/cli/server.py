"""``mx server``: start one, or ask one how it does."""

from __future__ import annotations

import asyncio
import os
import sys
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

import mx
from mx.cli.global_options import LogLevel
from mx.cli.options import invocation_of
from mx.cli.output import Output
from mx.cli.server_view import settings, status

if TYPE_CHECKING:
    from mx.config import Settings

app = typer.Typer(no_args_is_help=True)


@app.callback()
def server() -> None:
    """The mx server: start one, or ask one how it does."""


app.command("status")(status)
app.command("settings")(settings)


class SecurityMode(StrEnum):
    OFF = "off"
    ENFORCE = "enforce"


@app.command()
def start(
    ctx: typer.Context,
    host: Annotated[
        str | None, typer.Option("--host", metavar="ADDRESS", help="Name or address to listen on. [0.0.0.0]")
    ] = None,
    port: Annotated[
        int | None,
        typer.Option("--port", "-p", min=1, max=65535, metavar="PORT", help="gRPC port. [8001]"),
    ] = None,
    metrics_port: Annotated[
        int | None,
        typer.Option(
            "--metrics-port",
            min=0,
            max=65535,
            metavar="PORT",
            help="HTTP: metrics, health, files; 0 is off. [9401]",
        ),
    ] = None,
    metadata_backend: Annotated[
        str | None,
        typer.Option(
            "--metadata-backend", metavar="NAME", help="Store of records: sqlite or memory. [sqlite]"
        ),
    ] = None,
    database_path: Annotated[
        str | None, typer.Option("--database-path", "-d", metavar="FILE", help="SQLite file. [./models.db]")
    ] = None,
    cache_directory: Annotated[
        str | None, typer.Option("--cache-directory", metavar="DIR", help="Root of cached models. [./cache]")
    ] = None,
    cache_eviction_enabled: Annotated[
        str | None,
        typer.Option("--cache-eviction-enabled", metavar="BOOL", help="Evict by policy. [true]"),
    ] = None,
    log_level: Annotated[
        LogLevel | None,
        typer.Option(
            "--log-level",
            "-l",
            case_sensitive=False,
            metavar="LEVEL",
            help="trace, debug, info, warn, error. [info]",
        ),
    ] = None,
    security_mode: Annotated[
        SecurityMode | None,
        typer.Option("--security-mode", case_sensitive=False, metavar="MODE", help="off or enforce. [off]"),
    ] = None,
    security_token_audiences: Annotated[
        str | None,
        typer.Option("--security-token-audiences", metavar="LIST", help="Comma list, for enforce."),
    ] = None,
    security_allowed_service_accounts: Annotated[
        str | None,
        typer.Option(
            "--security-allowed-service-accounts", metavar="LIST", help="ns:sa comma list, for enforce."
        ),
    ] = None,
    security_cache_ttl_secs: Annotated[
        int | None,
        typer.Option("--security-cache-ttl-secs", min=1, metavar="SECONDS", help="Cache of tokens. [60]"),
    ] = None,
    validate_config: Annotated[
        bool, typer.Option("--validate-config", help="Check the settings, print them, and stop.")
    ] = False,
) -> None:
    """Start a server and serve until SIGTERM or SIGINT; a second signal forces the end.

    Flags win over the environment, the environment over the settings file (--config). [Defaults in brackets.]
    """
    run = invocation_of(ctx)
    run.flags |= {
        key: value
        for key, value in (
            ("server.host", host),
            ("server.port", port),
            ("server.metrics_port", metrics_port),
            ("metadata.backend", metadata_backend),
            ("database.path", database_path),
            ("cache.directory", cache_directory),
            ("cache.eviction.enabled", cache_eviction_enabled),
            ("logging.level", log_level and log_level.value),
            ("security.mode", security_mode and security_mode.value),
            ("security.token_audiences", security_token_audiences),
            ("security.allowed_service_accounts", security_allowed_service_accounts),
            ("security.cache_ttl_s", security_cache_ttl_secs),
        )
        if value is not None
    }
    settings_ = run.settings(scope="server")
    if validate_config:
        _print_settings(run.out, settings_)
        return
    # The log is what a server has to say; with a JSON format stdout is for the document alone.
    run.start_logs(settings_, sys.stderr if run.out.is_json else sys.stdout)
    _serve(run.out, settings_)


def _serve(out: Output, settings: Settings) -> None:
    """Serve to the end. Raises SettingsError, and typer.Exit when a second signal forced the end."""
    from mx.server.app import RunningServer, serve

    def tell(server: RunningServer) -> None:
        where = str(settings.database.path) if settings.metadata.backend == "sqlite" else ""
        origins = settings.origins
        document = {
            "listen": server.listen,
            "port": server.port,
            "version": mx.__version__,
            "pid": os.getpid(),
            "store": {"backend": settings.metadata.backend, "path": where or None},
            "settings_file": str(settings.config_file) if settings.config_file else None,
        }
        chosen = "" if origins["metadata.backend"].explicit else " (the default)"
        store = f"{settings.metadata.backend}{f' {where}' if where else ''}{chosen}"
        file = settings.config_file or "none"
        line = f"mx {mx.__version__} listens on {server.listen}, store {store}, settings file {file}"
        if out.is_json:
            out.document(document)
        out.say(line)

    code = asyncio.run(serve(settings, on_ready=tell))
    if code:
        raise typer.Exit(code)


def _print_settings(out: Output, settings: Settings) -> None:
    """The configuration in force; what the settings want said goes to stderr."""
    from mx.config import setting_rows, validate_report

    for notice in settings.notices:
        out.say(f"note: {notice}")
    out.emit(
        {
            "valid": True,
            "config_file": str(settings.config_file) if settings.config_file else None,
            "settings": [
                {"key": row.key, "value": row.value, "origin": str(row.origin)}
                for row in setting_rows(settings)
            ],
        },
        human=lambda: out.write(validate_report(settings)),
    )
