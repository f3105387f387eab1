"""Talking to one Redis: scripts, pipelines, deadlines, and the library's errors in our words.

Calls of the same moment travel together: each caller queues its commands, and while one pipeline is
under way the next one fills. A lone caller never waits, a crowd pays for few round trips.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Sequence
from typing import Any

from redis import exceptions as redis_errors
from redis.asyncio import RedisCluster

from mx.errors import MxError
from mx.store.redis.change import CHANGE, TIME, Argument, Change, Script
from mx.store.redis.clock import RedisClock
from mx.store.redis.connect import Client
from mx.store.redis.failures import LIBRARY_ERRORS, closed, is_read_only, late, translate
from mx.store.redis.keys import FENCE, PROBE

Command = tuple[Argument | str, ...]

_GROUP_MAX = 256  # commands of one pipeline: some 10 ms of a small machine
_SCAN_COUNT = 1_000  # keys that Redis looks at per step: less than a millisecond
_PROBE_MS = 60_000
_LARGE_AT_ONCE = 4  # pipelines beside the one of small calls: listings, scans


class Link:
    """An open Redis. Every call has one deadline, retries included; UnavailableError after it."""

    def __init__(self, client: Client, *, where: str, timeout_s: float, db: int = 0) -> None:
        self.client = client
        self.where = where
        self.db = db
        self.clock = RedisClock()
        self.timeout_s = timeout_s
        self.in_cluster = isinstance(client, RedisCluster)
        self.opening = True  # until the first answer: then a wrong password is no outage
        self.closed = False
        self._queued: deque[tuple[Command, asyncio.Future[Any]]] = deque()
        self._sending: asyncio.Task[None] | None = None
        self._large = asyncio.Semaphore(_LARGE_AT_ONCE)

    async def call(self, *command: Argument | str) -> Any:
        """One small command; its answer."""
        (answer,) = await self.calls([command])
        return answer

    async def calls(self, commands: Sequence[Command]) -> list[Any]:
        """Answers of small commands, in order; they travel with those of other callers."""
        self._require_open()
        loop = asyncio.get_running_loop()
        futures = [loop.create_future() for _ in commands]
        self._queued.extend(zip(commands, futures, strict=True))
        if self._sending is None:
            self._sending = asyncio.create_task(self._send_queued(), name="redis calls")
        try:
            async with asyncio.timeout(self.timeout_s):
                return await asyncio.gather(*futures)
        except TimeoutError:
            raise late(self.where, within_s=self.timeout_s) from None
        except LIBRARY_ERRORS as error:
            raise self._translated(error) from error

    async def large(self, commands: Sequence[Command]) -> list[Any]:
        """As ``calls``, for answers of which some may be large. An answer may be an error of Redis."""
        self._require_open()
        try:
            async with asyncio.timeout(self.timeout_s), self._large:
                return await self._pipeline(commands)
        except TimeoutError:
            raise late(self.where, within_s=self.timeout_s) from None
        except LIBRARY_ERRORS as error:
            raise self._translated(error) from error

    async def run(self, script: Script, keys: Sequence[bytes], arguments: Sequence[Argument] = ()) -> Any:
        try:
            return await self.call("EVALSHA", script.sha, len(keys), *keys, *arguments)
        except _NotKnownError:
            return await self.call("EVAL", script.text, len(keys), *keys, *arguments)

    async def change(self, change: Change) -> bool:
        """False when a condition didn't hold; in a cluster the steps before that one have happened."""
        for keys, arguments in change.calls(by_slot=self.in_cluster):
            if not await self.run(CHANGE, keys, arguments):
                return False
        return True

    async def scan(self, prefix: bytes) -> AsyncIterator[list[bytes]]:
        """All keys that begin like this, some at a time; any of them may come twice."""
        self._require_open()
        page: list[bytes] = []
        try:
            async for key in self.client.scan_iter(match=prefix + b"*", count=_SCAN_COUNT):
                page.append(key)
                if len(page) >= _GROUP_MAX:
                    yield page
                    page = []
        except LIBRARY_ERRORS as error:
            raise self._translated(error) from error
        if page:
            yield page

    async def sync_clock(self) -> None:
        asked_s = time.monotonic()
        told = await self.run(TIME, [FENCE])
        seconds, micros = (int(part) for part in told)
        self.clock.note(seconds * 1000 + micros / 1000, asked_s=asked_s, heard_s=time.monotonic())

    async def probe(self) -> None:
        """A small write: reads still work on a replica and without memory. Tells the time as well."""
        await asyncio.gather(self.call("SET", PROBE, b"", "PX", _PROBE_MS), self.sync_clock())

    async def close(self) -> None:
        """A second call does nothing. What is queued is refused."""
        if self.closed:
            return
        self.closed = True
        if self._sending is not None:
            self._sending.cancel()
            await asyncio.wait([self._sending])
        while self._queued:
            _, future = self._queued.popleft()
            if not future.done():
                future.set_exception(_ClosedError())
        try:
            async with asyncio.timeout(self.timeout_s):
                await self.client.aclose()
        except (*LIBRARY_ERRORS, TimeoutError):
            pass  # closed all the same

    async def _send_queued(self) -> None:
        group: list[tuple[Command, asyncio.Future[Any]]] = []
        try:
            while self._queued:
                group = [self._queued.popleft() for _ in range(min(len(self._queued), _GROUP_MAX))]
                # Whoever has gone away meanwhile need not be answered, and what he wanted not be done.
                group = [(command, future) for command, future in group if not future.done()]
                if group:
                    await self._send(group)
        except asyncio.CancelledError:
            for _, future in group:
                if not future.done():
                    future.set_exception(_ClosedError())
            raise
        finally:
            self._sending = None

    async def _send(self, group: Sequence[tuple[Command, asyncio.Future[Any]]]) -> None:
        answers: Sequence[Any]
        try:
            answers = await self._pipeline([command for command, _ in group])
        except Exception as error:  # noqa: BLE001  # whatever it is must reach those who wait
            answers = [error] * len(group)
        for (_, future), answer in zip(group, answers, strict=True):
            if future.done():
                continue
            if isinstance(answer, redis_errors.NoScriptError):
                future.set_exception(_NotKnownError())
            elif isinstance(answer, Exception):
                future.set_exception(answer)
            else:
                future.set_result(answer)

    async def _pipeline(self, commands: Sequence[Command]) -> list[Any]:
        pipeline = self.client.pipeline(transaction=False)
        for command in commands:
            pipeline.execute_command(*command)
        answers: list[Any] = await pipeline.execute(raise_on_error=False)
        if any(isinstance(answer, Exception) and is_read_only(answer) for answer in answers):
            await self._look_for_the_primary()
        return answers

    async def _look_for_the_primary(self) -> None:
        """Names and Sentinels may know a new one; connections to the old one would stay with it."""
        if not isinstance(self.client, RedisCluster):
            await self.client.connection_pool.disconnect(inuse_connections=False)

    def _translated(self, error: Exception) -> MxError:
        if isinstance(error, _ClosedError):
            return closed(self.where)
        return translate(error, self.where, opening=self.opening)

    def _require_open(self) -> None:
        if self.closed:
            raise closed(self.where)


class _ClosedError(redis_errors.RedisError):
    """The link was closed under a caller."""


class _NotKnownError(Exception):
    """A script that this Redis has not seen, or has forgotten."""
