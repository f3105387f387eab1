"""Heartbeats on their way: one request per worker at a time, and of those that wait only the newest."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from mx.core.source import WorkerKey
from mx.errors import UnavailableError


@dataclass(frozen=True, slots=True)
class Heartbeat:
    status: int
    source_load: float | None
    now_ms: int


@dataclass(slots=True)
class _Waiting:
    newest: Heartbeat
    answer: asyncio.Future[bool]


class Heartbeats:
    """``send`` writes one; an API server that is slow gets fewer of them instead of a queue."""

    def __init__(self, send: Callable[[WorkerKey, Heartbeat], Awaitable[bool]]) -> None:
        self._send = send
        self._waiting: dict[WorkerKey, _Waiting] = {}
        self._sending: dict[WorkerKey, asyncio.Task[None]] = {}

    async def beat(self, key: WorkerKey, heartbeat: Heartbeat) -> bool:
        """Send it, or a newer one that came meanwhile; whether the worker is known."""
        waiting = self._waiting.get(key)
        if waiting is None:
            waiting = _Waiting(heartbeat, asyncio.get_running_loop().create_future())
            self._waiting[key] = waiting
            if key not in self._sending:
                self._sending[key] = asyncio.create_task(self._run(key), name=f"heartbeats of {key}")
        elif heartbeat.now_ms >= waiting.newest.now_ms:
            waiting.newest = heartbeat
        return await asyncio.shield(waiting.answer)

    async def close(self) -> None:
        """Whoever still waits learns that the store is closed."""
        for task in tuple(self._sending.values()):
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    async def _run(self, key: WorkerKey) -> None:
        try:
            while (waiting := self._waiting.pop(key, None)) is not None:
                await self._answer(key, waiting)
        finally:
            del self._sending[key]
            if (left := self._waiting.pop(key, None)) is not None:
                left.answer.set_exception(UnavailableError("the store was closed"))

    async def _answer(self, key: WorkerKey, waiting: _Waiting) -> None:
        try:
            waiting.answer.set_result(await self._send(key, waiting.newest))
        except asyncio.CancelledError:
            waiting.answer.set_exception(UnavailableError("the store was closed"))
            raise
        except Exception as error:  # noqa: BLE001  # whatever it is must reach those who wait
            waiting.answer.set_exception(error)
