"""``mx tui``: the fleet on one screen, live, with the keys to act."""

from __future__ import annotations

import math
import os
import sys
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mx.cli.options import Invocation, invocation_of
from mx.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

    from mx.client.base import Client
    from mx.config import Settings
    from mx.core.feed import FeedUpdate
    from mx.tui.app import Site

app = typer.Typer()

# Of textual-serve: the process that it starts draws to a browser and not to a terminal.
_DRIVER = "TEXTUAL_DRIVER"
_INSTEAD = "without a screen: `mx server status --format json`, `mx cache list --format json`, `mx events -f`"


class ThemeChoice(StrEnum):
    DARK = "dark"
    LIGHT = "light"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Wish:
    """What shall be watched and how, as it was typed."""

    endpoints: tuple[str, ...]
    embedded: bool
    record: Path | None
    replay: Path | None
    speed: float
    web: bool

    def check(self, *, is_json: bool) -> None:
        """Raises UsageError for what contradicts itself."""
        if is_json:
            raise UsageError("mx tui draws a screen: there is no JSON of it", remedy=_INSTEAD)
        chosen = [
            name
            for name, is_there in (
                ("--endpoint", bool(self.endpoints)),
                ("--embedded", self.embedded),
                ("--replay", self.replay is not None),
            )
            if is_there
        ]
        if len(chosen) > 1:
            raise UsageError(f"{' and '.join(chosen)} exclude each other", remedy="leave one of them out")
        if self.record is not None and self.replay is not None:
            raise UsageError("--record and --replay exclude each other", remedy="copy the recording instead")
        if self.record is not None and self.web:
            raise UsageError(
                "--record and --web exclude each other: every browser would write to one file",
                remedy="record in a terminal",
            )
        if self.replay is None and self.speed != 1.0:
            raise UsageError("--speed is of --replay", remedy="name a recording, or leave it out")


@app.command()
def tui(
    ctx: typer.Context,
    endpoints: Annotated[
        list[str] | None,
        typer.Option(
            "--endpoint", "-e", metavar="[NAME=]ADDRESS", help="Server to watch; several to switch between."
        ),
    ] = None,
    read_only: Annotated[
        bool, typer.Option("--read-only", help="Refuse whatever changes something.")
    ] = False,
    record: Annotated[
        Path | None, typer.Option("--record", metavar="FILE", help="Write down what is told, for --replay.")
    ] = None,
    replay: Annotated[
        Path | None, typer.Option("--replay", metavar="FILE", help="Show a recording instead of a server.")
    ] = None,
    speed: Annotated[
        str,
        typer.Option("--speed", metavar="FACTOR", help="Of --replay: 0.5, 10, or max for its end at once."),
    ] = "1",
    theme: Annotated[
        ThemeChoice, typer.Option("--theme", case_sensitive=False, help="Light on dark, or dark on light.")
    ] = ThemeChoice.DARK,
    web: Annotated[
        bool, typer.Option("--web", help="Serve it to a browser of this machine instead of the terminal.")
    ] = False,
    web_port: Annotated[
        int,
        typer.Option("--web-port", min=0, max=65535, metavar="PORT", help="Of --web; 0 takes a free one."),
    ] = 8090,
) -> None:
    """Watch the fleet and act on it: overview, cache, eviction, sources, workers, events, settings.

    ? lists the keys of a screen, q ends it. --embedded shows the cache of this machine, with no server.

    Needs a terminal, and has no JSON: `mx server status`, `mx cache list`, `mx source list`, `mx transfer
    list` and `mx events -f` say the same to programs.
    """
    run = invocation_of(ctx)
    wish = _Wish(
        endpoints=tuple(endpoints or ()),
        embedded=run.embedded,
        record=record,
        replay=replay,
        speed=_speed(speed),
        web=web,
    )
    wish.check(is_json=run.out.is_json)
    draws_to_browser = bool(os.environ.get(_DRIVER))
    if web and not draws_to_browser:
        from mx.cli.tui_web import serve

        _sites(run, wish)  # what is wrong with them is said here, not in the browser
        serve(run.out, port=web_port)
        return
    if not draws_to_browser:
        _require_terminal()
    _show(run, wish, read_only=read_only, dark=theme is ThemeChoice.DARK)


def _speed(text: str) -> float:
    if text.strip().casefold() == "max":
        return math.inf
    try:
        factor = float(text.strip().casefold().removesuffix("x"))
    except ValueError:
        factor = math.nan
    if not 0 < factor < math.inf:
        raise UsageError(f"--speed: {text!r} is no factor above 0", remedy="as 0.5, 10 or max")
    return factor


def _require_terminal() -> None:
    """Raises UsageError where nothing can be drawn, or no key be read. The screen is drawn to stderr."""
    streams = (("stdin", sys.stdin), ("stdout", sys.stdout), ("stderr", sys.stderr))
    lacking = [name for name, stream in streams if not stream.isatty()]
    if lacking:
        raise UsageError(f"mx tui needs a terminal; none is {', '.join(lacking)}", remedy=_INSTEAD)
    if os.environ.get("TERM", "dumb") == "dumb":
        raise UsageError("mx tui can't draw on this terminal: TERM says it is dumb", remedy=_INSTEAD)


def _show(run: Invocation, wish: _Wish, *, read_only: bool, dark: bool) -> None:
    # gRPC's own library writes to the terminal behind everybody's back.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    from mx.tui.garbage import Garbage

    garbage = Garbage()
    sites = _sites(run, wish)
    with _recorder(wish.record) as write:
        from mx.tui.app import MxApp

        shown = MxApp(sites, read_only=read_only, dark=dark, record=write, garbage=garbage)
        shown.run()
    if shown.return_code:
        raise typer.Exit(shown.return_code)


@contextmanager
def _recorder(path: Path | None) -> Iterator[Callable[[FeedUpdate], None] | None]:
    if path is None:
        yield None
        return
    from mx.client.record import Recorder

    with Recorder(path) as recorder:
        yield recorder.write


def _sites(run: Invocation, wish: _Wish) -> Sequence[Site]:
    """What can be watched. Raises SettingsError, and for a recording what reading it raises."""
    from mx.tui.app import Site

    if wish.replay is not None:
        from mx.client.record import require_recording

        path = wish.replay
        require_recording(path)
        return [Site(path.name, str(path), lambda: _replayed(path, wish.speed))]
    if wish.embedded:
        settings = _quiet_settings(run)
        return [Site("embedded", "the cache of this machine", lambda: _local(settings))]
    sites = []
    for given in wish.endpoints or ("",):
        name, named, address = given.rpartition("=")
        if given:
            run.flags["client.endpoint"] = address
        settings = _quiet_settings(run)
        address = settings.client.endpoint.removeprefix("http://")
        sites.append(_server_site(run, name if named and name else address, address, settings))
    names = [site.name for site in sites]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise UsageError(f"--endpoint {twice[0]} is there twice", remedy="give each a name: NAME=ADDRESS")
    return sites


def _server_site(run: Invocation, name: str, address: str, settings: Settings) -> Site:
    from mx.tui.app import Site

    return Site(name, address, lambda: _connected(run, settings))


def _quiet_settings(run: Invocation) -> Settings:
    """With logs to nowhere: stderr is the screen."""
    settings = run.settings()
    silent = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115  # as long as the process
    run.start_logs(replace(settings, logging=replace(settings.logging, file=None)), silent)
    return settings


@asynccontextmanager
async def _connected(run: Invocation, settings: Settings) -> AsyncIterator[Client]:
    client = run.connect(settings)
    try:
        yield client
    finally:
        await client.close()


@asynccontextmanager
async def _local(settings: Settings) -> AsyncIterator[Client]:
    from mx.client.embedded import EmbeddedClient
    from mx.wiring_local import open_local

    async with open_local(settings) as local:
        yield EmbeddedClient(local.services)


def _replayed(path: Path, speed: float) -> nullcontext[Client]:
    from mx.client.replay import ReplayClient

    return nullcontext(ReplayClient(path, speed=speed, stays=False))
