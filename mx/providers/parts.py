"""Stretches of a file that come at once and are handed over in order.

A file on disk only ever grows at its end, so that its length says what is right: whatever is cut
off there is gone on with. Parts that come before their turn wait in memory; a slot is held from a
part's first byte until its last one is handed over, so slots bound memory as well as connections.
A file's parts take slots in order, so the one whose turn it is always has one.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Iterator

from mx.errors import MxError
from mx.providers.digests import Bytes

Land = Callable[[Bytes], Awaitable[None]]


class Part:
    """From ``at``, which moves on, to ``end``. Whoever reads adds blocks; see ``PartReads``."""

    def __init__(self, begin: int, end: int) -> None:
        self.at = begin
        self.end = end
        self.failure: MxError | None = None
        self.read = asyncio.Event()
        self.landed = asyncio.Event()
        self._held: deque[Bytes] = deque()
        self._land: Land | None = None

    async def add(self, block: Bytes) -> None:
        if self._land is None:
            self._held.append(block)
        else:
            await self._land(block)
        self.at += len(block)

    async def hand_over(self, land: Land) -> None:
        """It is this part's turn: what it holds, and from now on what comes."""
        while self._held:
            await land(self._held.popleft())
        self._land = land


class PartReads:
    """``connections`` parts of all files together, ``ahead`` of one file."""

    def __init__(self, *, connections: int, ahead: int) -> None:
        self._slots = asyncio.Semaphore(connections)
        self._ahead = ahead

    async def bring(
        self, parts: Iterator[Part], *, read: Callable[[Part], Awaitable[None]], land: Land
    ) -> None:
        """Have ``read`` fill each part, and hand all blocks to ``land`` in order.

        The first failure in the order of the file ends it, when everything before has been handed over.
        """
        flying: deque[tuple[Part, asyncio.Task[None]]] = deque()
        failure: MxError | None = None
        async with asyncio.TaskGroup() as tasks:
            while failure is None:
                while len(flying) < self._ahead and (part := next(parts, None)) is not None:
                    flying.append((part, tasks.create_task(self._run(part, read), name="part of a file")))
                if not flying:
                    break
                part, task = flying.popleft()
                try:
                    await part.hand_over(land)
                    await part.read.wait()
                    failure = part.failure
                except MxError as error:
                    failure = error
                    task.cancel()
                part.landed.set()
            for _, task in flying:
                task.cancel()
        if failure is not None:
            raise failure

    async def _run(self, part: Part, read: Callable[[Part], Awaitable[None]]) -> None:
        async with self._slots:
            try:
                await read(part)
            except MxError as error:
                part.failure = error
            part.read.set()
            await part.landed.wait()
