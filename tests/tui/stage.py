"""The terminal UI on a screen that nobody sees, at a moment that does not pass."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, nullcontext
from datetime import UTC
from pathlib import Path

from textual.pilot import Pilot

from mx.client.base import Client
from mx.core.feed import FeedUpdate
from mx.testing import fleet_samples as some
from mx.testing.screen_svg import screen_svg, screen_text
from mx.tui.app import MxApp, Site
from mx.tui.screens.fleet import SCREENS, FleetScreen

# For a condition on a machine that does other things too.
DEADLINE_S = 30.0


class Stage:
    """An app that runs, with what a test wants to know of it."""

    def __init__(self, app: MxApp, pilot: Pilot[None]) -> None:
        self.app = app
        self.pilot = pilot

    @property
    def text(self) -> str:
        return screen_text(self.app)

    @property
    def svg(self) -> str:
        return screen_svg(self.app)

    async def press(self, *keys: str) -> None:
        await self.pilot.press(*keys)

    async def type(self, text: str) -> None:
        names = {"/": "slash", ".": "full_stop", "-": "minus", ":": "colon", " ": "space", "@": "at",
                 ">": "greater_than_sign", "_": "underscore", "=": "equals_sign", "!": "exclamation_mark",
                 "<": "less_than_sign"}  # fmt: skip
        await self.pilot.press(*(names.get(char, char) for char in text))

    async def until(self, condition: Callable[[], bool], what: str) -> None:
        """Wait for it; the screen is what a failure shows."""
        end_s = time.monotonic() + DEADLINE_S
        while not condition():
            assert time.monotonic() < end_s, f"never: {what}\n{self.text}"
            await asyncio.sleep(0.01)
            await self.pilot.pause()

    async def shows(self, *words: str) -> None:
        await self.until(lambda: all(word in self.text for word in words), f"{words} on the screen")

    async def hides(self, word: str) -> None:
        await self.until(lambda: word not in self.text, f"no {word!r} on the screen")

    async def go(self, name: str) -> None:
        await self.press(str(SCREENS.index(name) + 1))
        await self.until(lambda: getattr(self.app.screen, "NAME", "") == name, f"the screen {name}")
        await self.settled()

    async def settled(self) -> None:
        """Nothing is being asked any more, and all of it is painted."""

        def idle() -> bool:
            waits = ("watch", "commands", "ask")  # for a server, or for an answer to a dialogue
            return all(worker.is_finished for worker in self.app.workers if worker.group not in waits)

        for _ in range(3):  # what is painted may make room for more, and that may ask for more
            await self.until(idle, "all questions answered")
            self.app.paint_now()
            await self.pilot.pause()


@asynccontextmanager
async def stage(
    *clients: Client | Site,
    size: tuple[int, int] = (120, 40),
    dark: bool = True,
    read_only: bool = False,
    now_ms: Callable[[], int] = lambda: some.NOW_MS,
    record: Callable[[FeedUpdate], None] | None = None,
) -> AsyncIterator[Stage]:
    """The app over these, the first of them watched; at ``NOW_MS`` unless ``now_ms`` says otherwise."""
    names = (("prod-a", "10.0.3.7:8001"), ("prod-b", "10.0.4.7:8001"))
    sites = [
        client if isinstance(client, Site) else Site(name, address, lambda client=client: nullcontext(client))
        for client, (name, address) in zip(clients, names, strict=False)
    ]
    app = MxApp(sites, dark=dark, read_only=read_only, zone=UTC, now_ms=now_ms, record=record)
    async with app.run_test(size=size, notifications=True) as pilot:
        made = Stage(app, pilot)
        await made.until(lambda: isinstance(app.screen, FleetScreen), "the first screen")
        yield made


def snapshot_file(name: str) -> Path:
    return Path(__file__).parent / "snapshots" / f"{name}.svg"
