"""How the feed follows a store: what its watch names is read again, soon, in one go, and not too often."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Hashable, Sequence
from contextlib import suppress
from typing import Generic, NoReturn, TypeVar

from mx.errors import MxError
from mx.logs import event_log
from mx.services.feed import Feed

log = event_log(__name__)

K = TypeVar("K", bound=Hashable)

# More keys than that are read by one listing of everything.
ONE_BY_ONE = 20
# A store that names no changes has everything read again whenever anything was written. After a look
# that took a second come 20 without one.
_SHARE = 20.0
_WATCHED_S, _UNWATCHED_S = 0.25, 5.0
# What no watch tells: heartbeats that change nothing, leases and pins that end.
_SWEEP_WATCHED_S, _SWEEP_UNWATCHED_S = 10.0, 60.0
_RETRY_S = 2.0


class Heard(Generic[K]):
    """What a watch has told since the last look; at first everything."""

    def __init__(self) -> None:
        self._keys: set[K] = set()
        self._all = True
        self._news = asyncio.Event()
        self._news.set()

    def tell(self, key: K | None) -> None:
        """None: anything may have changed."""
        if key is None:
            self._all = True
        else:
            self._keys.add(key)
        self._news.set()

    async def wait(self, limit_s: float) -> None:
        """Until something was told; after ``limit_s`` everything counts as told."""
        try:
            async with asyncio.timeout(limit_s):
                await self._news.wait()
        except TimeoutError:
            self._all = True

    def take(self) -> Sequence[K] | None:
        """What was told, None for everything; it is forgotten here with that."""
        keys = None if self._all or len(self._keys) > ONE_BY_ONE else tuple(self._keys)
        self._keys.clear()
        self._all = False
        self._news.clear()
        return keys


async def follow(
    what: str, heard: Heard[K], feed: Feed, read: Callable[[Sequence[K] | None], Awaitable[None]]
) -> NoReturn:
    """Read whatever is told, until cancelled. A store that is away is asked again."""
    failing = False
    while True:
        await heard.wait(_SWEEP_WATCHED_S if feed.watchers else _SWEEP_UNWATCHED_S)
        keys = heard.take()
        begin_s = time.monotonic()
        try:
            await read(keys)
        except MxError as error:
            say = log.debug if failing else log.warn
            say("not read for the feed", what=what, error=str(error))
            failing = True
            heard.tell(None)
            await asyncio.sleep(_RETRY_S)
        else:
            failing = False
            await _rest(feed, took_s=time.monotonic() - begin_s, everything=keys is None)


async def _rest(feed: Feed, *, took_s: float, everything: bool) -> None:
    await asyncio.sleep(max(_WATCHED_S, _SHARE * took_s))
    if everything and not feed.watchers:
        with suppress(TimeoutError):  # whoever begins to watch does not wait for the end of a long rest
            async with asyncio.timeout(_UNWATCHED_S):
                await feed.wait_watched()
