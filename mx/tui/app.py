"""The terminal UI: one endpoint watched at a time, seven screens over what it tells.

A watch worker reduces updates into ``Watched``; screens are painted from it at most ten times a second,
and where a repaint is dear, less often, so that it never takes more than a tenth of a core.
"""

from __future__ import annotations

import asyncio
import importlib
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractAsyncContextManager, aclosing
from dataclasses import dataclass
from datetime import tzinfo
from functools import partial
from typing import ClassVar, ParamSpec, TypeVar

from textual import events
from textual.app import App, SystemCommand
from textual.screen import Screen
from textual.theme import Theme

from mx.client.base import Client
from mx.core.feed import FeedUpdate, FleetSnapshot
from mx.errors import MxError, UnavailableError
from mx.tui.commands import Command, Desk, words_of
from mx.tui.garbage import Garbage
from mx.tui.moment import Moment
from mx.tui.screens.dialogs import ConfirmScreen, TextScreen
from mx.tui.screens.fleet import SCREENS, FleetScreen
from mx.tui.state import Link, Watched

P = ParamSpec("P")
T = TypeVar("T")

PAINT_S = 0.1
_PAINT_SHARE = 20  # a repaint that took 20 ms is followed by one after 400 ms at the earliest
_IDLE_S = 1.0  # since the last key or click
_SEEN_S = 10.0  # the feed tells a change within a second; after so long nobody waits any more

DARK = Theme(
    name="mx-dark",
    primary="#5fa8d3",
    secondary="#7a8ba6",
    accent="#7fd1c7",
    success="#8cc265",
    warning="#e0b050",
    error="#e06c75",
    foreground="#d7dce2",
    background="#11151a",
    surface="#181d24",
    panel="#232a33",
    dark=True,
    variables={"text-muted": "#8391a3"},  # Textual's own is white where text is painted by us
)
LIGHT = Theme(
    name="mx-light",
    primary="#1f6f9f",
    secondary="#5a6b80",
    accent="#0f766e",
    success="#3c7a1e",
    warning="#96650a",
    error="#b3261e",
    foreground="#1f2933",
    background="#fbfbf9",
    surface="#f0f1ee",
    panel="#e2e5e1",
    dark=False,
    variables={"text-muted": "#5f6b78"},
)


@dataclass(frozen=True, slots=True)
class Site:
    """An endpoint, or what stands for one; ``open`` makes a client that lives as long as the context."""

    name: str
    address: str
    open: Callable[[], AbstractAsyncContextManager[Client]]


def _screen(name: str) -> Screen[None]:
    """Its module is loaded when it is first looked at: the first screen is there the sooner."""
    module = importlib.import_module(f"mx.tui.screens.{name}")
    screen: FleetScreen = getattr(module, f"{name.capitalize()}Screen")()
    return screen


class MxApp(App[None]):
    """``now_ms`` is this machine's time, ``zone`` the one that times are shown in (None: the machine's).
    ``record`` is told every update before anyone sees it; ``garbage`` when collecting it disturbs nobody."""

    CSS = "Toast { width: 88; max-width: 95%; }"
    SCREENS: ClassVar = {name: partial(_screen, name) for name in SCREENS}
    TITLE = "mx"

    def __init__(
        self,
        sites: Sequence[Site],
        *,
        read_only: bool = False,
        dark: bool = True,
        now_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
        zone: tzinfo | None = None,
        record: Callable[[FeedUpdate], None] | None = None,
        garbage: Garbage | None = None,
    ) -> None:
        super().__init__()
        self.register_theme(DARK)
        self.register_theme(LIGHT)
        self.theme = DARK.name if dark else LIGHT.name
        self.animation_level = "none"
        self.sites = tuple(sites)
        self.site = self.sites[0]
        self.now_ms = now_ms
        self.watched = Watched()
        self.moment = Moment(zone=zone)
        self._read_only = read_only
        self._record = record
        self._garbage = garbage
        self._touched_s = 0.0
        self._client: Client | None = None
        self._busy: dict[int, str] = {}
        self._moved = asyncio.Condition()
        self._due = False
        self._next_paint_s = 0.0

    # ---- what screens ask

    @property
    def client(self) -> Client:
        """Raises UnavailableError while there is none."""
        if self._client is None:
            raise UnavailableError(f"not connected to {self.site.address}", remedy="r connects again")
        return self._client

    @property
    def link(self) -> Link:
        return self.watched.link(now_ms=self.now_ms())

    @property
    def is_read_only(self) -> bool:
        server = self.watched.fleet.server
        return self._read_only or (server is not None and server.read_only)

    @property
    def busy_words(self) -> str:
        return "⋯ " + " · ".join(self._busy.values()) if self._busy else ""

    async def in_thread(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Blocking work, off the loop that paints."""
        return await asyncio.to_thread(call, *args, **kwargs)

    # ---- the watch

    def on_mount(self) -> None:
        self.push_screen(SCREENS[0])
        self.set_interval(1.0, self._tick)
        self.call_after_refresh(self._begin)  # the client's modules are loaded once there is a screen

    def _begin(self) -> None:
        if self._garbage is not None:
            self._garbage.settled()
        self.connect(self.site)

    def connect(self, site: Site) -> None:
        """Watch this one from now on; what was known of another is forgotten."""
        self.site = site
        self.watched = Watched()
        self.run_worker(self._watch(site, self.watched), group="watch", exclusive=True)

    async def _watch(self, site: Site, watched: Watched) -> None:
        try:
            async with site.open() as client:
                self._client = client
                try:
                    await self._follow(client, watched)
                finally:
                    self._client = None
        except MxError as error:
            watched.fail(error)
            self.paint_now()

    async def _follow(self, client: Client, watched: Watched) -> None:
        """Take updates in until they end; then stay, since questions may still be asked."""
        try:
            async with aclosing(client.watch()) as updates:
                async for update in updates:
                    self._write_down(update)
                    watched.take(update, now_ms=self.now_ms())
                    if isinstance(update, FleetSnapshot) and self._garbage is not None:
                        self._garbage.settled()
                    async with self._moved:
                        self._moved.notify_all()
                    self._paint_soon()
            watched.end()
        except MxError as error:
            watched.fail(error)
        self.paint_now()
        await asyncio.Event().wait()

    def _write_down(self, update: FeedUpdate) -> None:
        """A disk that refuses ends the recording, not the watch."""
        if self._record is None:
            return
        try:
            self._record(update)
        except MxError as error:
            self._record = None
            self.notify(
                words_of(error), title="the recording ended", severity="error", timeout=15, markup=False
            )

    # ---- painting

    def _tick(self) -> None:
        self.watched.sample(now_ms=self.now_ms())
        self.paint_now()
        if self._garbage is not None and time.monotonic() - self._touched_s > _IDLE_S:
            self._garbage.idle()

    async def on_event(self, event: events.Event) -> None:
        if isinstance(event, events.InputEvent):
            self._touched_s = time.monotonic()
        await super().on_event(event)

    def _paint_soon(self) -> None:
        if not self._due:
            self._due = True
            self.set_timer(max(0.001, self._next_paint_s - time.monotonic()), self._paint_due)

    def _paint_due(self) -> None:
        self._due = False
        self.paint_now()

    def paint_now(self) -> None:
        """Bring the visible screens up to date."""
        if not self.is_running:
            return  # answers still come in while the screens are taken down
        began_s = time.perf_counter()
        self.moment.fleet = self.watched.shown
        self.moment.rates = self.watched.rates
        if not self.watched.paused:
            self.moment.now_ms = self.watched.server_now_ms(now_ms=self.now_ms())
        for screen in self.screen_stack:
            if isinstance(screen, FleetScreen) and screen.is_mounted:
                screen.paint()
            elif isinstance(screen, TextScreen):
                screen.repaint()
        took_s = time.perf_counter() - began_s
        self._next_paint_s = time.monotonic() + max(PAINT_S, took_s * _PAINT_SHARE)

    # ---- commands

    def perform(self, command: Command[T]) -> None:
        """Plan, ask where it asks, run, and wait until the feed tells of it."""
        self.run_worker(self._perform(command), group="commands")

    async def _perform(self, command: Command[T]) -> None:
        number = id(command)

        def tell(words: str) -> None:
            self._busy[number] = words
            self._paint_soon()

        watched = self.watched
        try:
            desk = self._desk()
            desk.check(command.title)
            tell(f"{command.title}: planning" if command.asks else command.title)
            planned = await desk.plan(command)
            if command.preview is not None:
                tell(f"{command.title}: yes or no?")
                screen = ConfirmScreen(command.preview(planned), equal=command.equal)
                if not await self.push_screen_wait(screen):
                    self.notify("nothing was changed", timeout=3)
                    return
            tell(command.title)
            said = await desk.run(command, planned, tell)
            tell(f"{command.title}: done, waiting for the feed")
            late = "" if await self._seen(command, watched) else "; the feed has not told it yet"
            self.notify(f"✓ {said}{late}", markup=False)
        except MxError as error:
            self.notify(
                f"{words_of(error)}\n$ {command.equal}",
                title=f"✗ {command.title}",
                severity="error",
                timeout=15,
                markup=False,
            )
        finally:
            self._busy.pop(number, None)
            self.paint_now()

    def _desk(self) -> Desk:
        why = "" if self._read_only else f"{self.site.name} lets this caller look only"
        return Desk(self.client, read_only=self.is_read_only, why=why)

    async def _seen(self, command: Command[T], watched: Watched) -> bool:
        try:
            async with asyncio.timeout(_SEEN_S), self._moved:
                await self._moved.wait_for(lambda: command.seen(watched.fleet))
        except TimeoutError:
            return False
        return True

    # ---- keys and jumps of every screen

    def action_goto(self, number: int) -> None:
        self.go(SCREENS[number - 1])

    def go(self, name: str) -> None:
        if isinstance(self.screen, FleetScreen) and name != self.screen.NAME:
            self.switch_screen(name)

    def jump(self, wanted: str) -> None:
        """To a screen or an endpoint by the beginning of its name."""
        word = wanted.casefold()
        if word in ("q", "quit", "exit"):
            self.exit()
            return
        for name in SCREENS:
            if name.startswith(word) or word == str(SCREENS.index(name) + 1):
                self.go(name)
                return
        for site in self.sites:
            if site.name.casefold().startswith(word):
                self.connect(site)
                self.paint_now()
                return
        self.notify(f"there is no screen or endpoint {wanted}", severity="warning", timeout=4, markup=False)

    def action_next_site(self) -> None:
        if len(self.sites) > 1:
            self.connect(self.sites[(self.sites.index(self.site) + 1) % len(self.sites)])
            self.paint_now()

    def action_reconnect(self) -> None:
        self.connect(self.site)
        self.paint_now()

    def action_pause(self) -> None:
        self.watched.pause(not self.watched.paused)
        self.paint_now()

    def get_system_commands(self, screen: Screen[object]) -> Iterable[SystemCommand]:
        for number, name in enumerate(SCREENS, 1):
            yield SystemCommand(f"Go to {name}", f"screen {number}", lambda name=name: self.go(name))
        for site in self.sites if len(self.sites) > 1 else ():
            yield SystemCommand(f"Connect to {site.name}", site.address, lambda site=site: self.connect(site))
        if isinstance(screen, FleetScreen):
            for key in screen.KEYS:
                yield SystemCommand(
                    f"{screen.NAME.capitalize()}: {key.help}",
                    f"key {key.label}",
                    lambda action=key.action: self.run_worker(screen.run_action(action)),
                )
        yield SystemCommand("Pause", "hold still, or go on (p)", self.action_pause)
        yield SystemCommand("Connect again", "drop the link and watch anew (r)", self.action_reconnect)
        yield SystemCommand("Dark theme", "light on dark", lambda: self.wear(DARK))
        yield SystemCommand("Light theme", "dark on light", lambda: self.wear(LIGHT))
        yield SystemCommand("Quit", "leave mx tui (q)", self.exit)

    def wear(self, theme: Theme) -> None:
        self.theme = theme.name
