"""The fleet as it is now, kept up to date by one watch of the server."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import aclosing, suppress
from dataclasses import replace
from typing import TYPE_CHECKING

from mx.cli.exits import single_error
from mx.core.fleet import NOTHING_TOLD, Fleet, apply
from mx.errors import UnavailableError

if TYPE_CHECKING:
    from mx.client.base import Client
    from mx.core.feed import FeedUpdate, LinkLost

Told = Callable[["FeedUpdate", Fleet], None]


def never_there(lost: LinkLost) -> UnavailableError:
    """The end of a command whose first attempt failed: somebody waits for a first answer."""
    return UnavailableError(
        lost.reason, remedy="check the address, and that the server runs and can be reached from here"
    )


class Link:
    """A watch that runs. ``ended``: it tells nothing any more, as a recording at its end."""

    def __init__(self, told: Told | None = None) -> None:
        self.ended = False
        self._fleet = NOTHING_TOLD
        self._at_s = time.monotonic()
        self._news = asyncio.Event()
        self._told = told

    @property
    def fleet(self) -> Fleet:
        """What is known, with the server's time as it must be by now."""
        passed_ms = round((time.monotonic() - self._at_s) * 1000)
        return replace(self._fleet, now_ms=self._fleet.now_ms + passed_ms)

    async def news(self, *, within_s: float | None = None) -> None:
        """Wait for an update, or for so long."""
        with suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                await self._news.wait()
        self._news.clear()

    async def first(self) -> None:
        """Wait until something is known."""
        while self._fleet.server is None and not self.ended:
            await self.news()

    async def keep(self, client: Client) -> None:
        """Take the updates in. Raises UnavailableError for a server that was never there."""
        async with aclosing(client.watch()) as updates:
            async for update in updates:
                before = self._fleet.now_ms
                self._fleet = apply(self._fleet, update)
                if self._fleet.now_ms != before:
                    self._at_s = time.monotonic()
                if self._fleet.server is None and (lost := self._fleet.lost) is not None:
                    raise never_there(lost)
                if self._told is not None:
                    self._told(update, self._fleet)
                self._news.set()
        self.ended = True
        self._news.set()


async def linked(client: Client, use: Callable[[Link], Awaitable[None]], *, told: Told | None = None) -> None:
    """Run ``use`` while the watch runs; ``told`` hears every single update. Raises what either raises."""
    link = Link(told)
    try:
        async with asyncio.TaskGroup() as group:
            keeper = group.create_task(link.keep(client))
            await use(link)
            keeper.cancel()
    except BaseExceptionGroup as several:
        # A closed pipe ends the run by an exception of its own, which has to arrive as itself.
        raise single_error(several) from None
