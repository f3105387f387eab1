"""Work that the servers of one store share: periodic passes by one of them, runs one after the other."""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import NoReturn

from mx.errors import ConflictError, MxError
from mx.logs import event_log
from mx.ports import Clock, Duties

log = event_log(__name__)

# Whoever finds the last turn over takes the next: how late that may be after a server died, or
# after the store lost everything.
_LOOK_S = 15.0
_POLL_S = 0.5
_GIVE_UP_S = 2.0

Place = Callable[[], Awaitable[str]]  # what a duty is about, such as the name of a cache


class SharedWork:
    """``duties`` None: no other server shares the store. ``lease_s``: until others follow a dead one."""

    def __init__(self, duties: Duties | None, clock: Clock, *, owner: str, lease_s: float = 30.0) -> None:
        self._duties = duties
        self._clock = clock
        self._owner = owner
        self._lease_s = lease_s

    async def turns(
        self, duty: str, *, every_s: float, place: Place | None = None
    ) -> AsyncGenerator[bool, None]:
        """Whether a pass is due and ours to make: among all servers one pass each ``every_s``.

        True at once, unless another server made one lately. Never ends; outlives outages of the store.
        Close it (``aclosing``): then another server, or this one after a restart, need not wait.
        """
        if self._duties is None:
            while True:
                yield True
                await asyncio.sleep(every_s)
        taken: _Turn | None = None
        tried: _Turn | None = None
        failing = False
        try:
            while True:
                # Each turn has an owner of its own, so that our last one holds us off as well.
                tried = _Turn(duty, place, owner=f"{self._owner} {uuid.uuid4().hex[:8]}")
                ours, failing = await self._try(tried, every_s, failing)
                if ours:
                    taken = tried
                yield ours
                await asyncio.sleep(min(_LOOK_S, every_s / 4))
        finally:
            # Also the one we were taking when we were stopped: the store may have given it to us.
            for turn in dict.fromkeys((taken, tried)):
                if turn is not None:
                    await self._give_up(turn)

    async def _try(self, turn: _Turn, every_s: float, failing: bool) -> tuple[bool, bool]:
        """Whether it is ours, and whether the store could not be asked; that is said once."""
        try:
            return await self._take(turn, lease_s=every_s), False
        except MxError as error:
            say = log.debug if failing else log.error
            say("turn not taken", duty=turn.duty, error=str(error), code=error.code.value)
            return False, True

    @asynccontextmanager
    async def one_at_a_time(
        self, duty: str, *, wait_s: float, place: Place | None = None
    ) -> AsyncIterator[None]:
        """Waits until no other server runs the body under this name, and keeps them off meanwhile.

        ConflictError when that takes longer than ``wait_s``. Callers of this process must not overlap.
        """
        if self._duties is None:
            yield
            return
        turn = _Turn(duty, place, owner=self._owner)
        give_up_s = self._clock.monotonic_s() + wait_s
        while not await self._take(turn, lease_s=self._lease_s):
            if self._clock.monotonic_s() >= give_up_s:
                raise ConflictError(
                    f"{duty}: other servers have been at it for {wait_s:g} s", remedy="try again later"
                )
            await asyncio.sleep(_POLL_S)
        keeping = asyncio.create_task(self._keep(turn), name=f"keeping {duty}")
        try:
            yield
        finally:
            keeping.cancel()
            await self._give_up(turn)

    async def _keep(self, turn: _Turn) -> NoReturn:
        while True:
            await asyncio.sleep(self._lease_s / 3)
            try:
                # Lost meanwhile: the other one is at it as well, which every run must bear.
                await self._take(turn, lease_s=self._lease_s)
            except MxError as error:
                log.warn("turn not extended", duty=turn.duty, error=str(error))  # noqa: G010  # an EventLog

    async def _take(self, turn: _Turn, *, lease_s: float) -> bool:
        assert self._duties is not None
        name = await turn.name()
        return await self._duties.take(name, owner=turn.owner, lease_s=lease_s, now_ms=self._clock.now_ms())

    async def _give_up(self, turn: _Turn) -> None:
        """Or let it expire: nobody waits longer for a store that is away."""
        assert self._duties is not None
        with contextlib.suppress(MxError, TimeoutError):
            async with asyncio.timeout(_GIVE_UP_S):
                await self._duties.give_up(await turn.name(), owner=turn.owner)


@dataclass(frozen=True, slots=True)
class _Turn:
    duty: str
    place: Place | None
    owner: str

    async def name(self) -> str:
        return self.duty if self.place is None else f"{self.duty} {await self.place()}"
