"""Tickets: who may read an entry's files for a while without asking each time.

A ticket is given to a caller that may call the server, cannot be guessed, names one entry, and dies
unless it is renewed. While it lives the entry is leased, so it is not evicted under its reader.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from types import TracebackType
from typing import Protocol, Self

from mx.core.cached import CachedEntry, CachedFile
from mx.core.model import EntryKey, is_weight_file
from mx.errors import ExhaustedError, InternalError, MxError, NotFoundError
from mx.logs import event_log
from mx.ports import Clock

log = event_log(__name__)

LIFE_S = 60.0
# Each holds a task and a lease in the store; a worker needs one.
MOST_TICKETS = 4096


class Readable(Protocol):
    """The part of ModelsService that is needed."""

    def reading_entry(self, key: EntryKey, *, holder: str) -> AbstractAsyncContextManager[CachedEntry]: ...


@dataclass(slots=True)
class Ticket:
    """``files`` are those of the key's weight mode; the entry may hold more. ``open`` is read by threads."""

    secret: str = field(repr=False)
    key: EntryKey
    entry: CachedEntry
    files: tuple[CachedFile, ...]
    expires_s: float
    open: bool = True
    ended: asyncio.Event = field(default_factory=asyncio.Event, repr=False)


class FileTickets:
    """The tickets of one server. Use it as a context manager: leaving it ends them all."""

    def __init__(
        self,
        models: Readable,
        clock: Clock,
        *,
        life_s: float = LIFE_S,
        most: int = MOST_TICKETS,
        new_secret: Callable[[], str] = lambda: secrets.token_urlsafe(32),
    ) -> None:
        self.life_s = life_s
        self._models = models
        self._clock = clock
        self._most = most
        self._new_secret = new_secret
        self._tickets: dict[str, Ticket] = {}
        self._holding: dict[str, asyncio.Task[None]] = {}
        self._tasks = asyncio.TaskGroup()

    async def __aenter__(self) -> Self:
        await self._tasks.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for secret, task in tuple(self._holding.items()):
            if secret in self._tickets:
                self.close(secret)
            else:
                task.cancel()
        await self._tasks.__aexit__(None, None, None)

    @property
    def count(self) -> int:
        return len(self._tickets)

    async def open(self, key: EntryKey, *, holder: str) -> Ticket:
        """A ticket for a complete entry; NotFoundError, ExhaustedError when there are too many."""
        if len(self._holding) >= self._most:
            raise ExhaustedError(
                f"{len(self._holding)} readers have tickets already", remedy="try again in a moment"
            )
        answer: asyncio.Future[Ticket] = asyncio.get_running_loop().create_future()
        secret = self._new_secret()
        task = self._tasks.create_task(self._hold(secret, key, holder, answer), name=f"ticket for {key}")
        self._holding[secret] = task
        task.add_done_callback(lambda _: self._holding.pop(secret, None))
        try:
            return await asyncio.shield(answer)
        except asyncio.CancelledError:
            task.cancel()
            raise

    def renew(self, secret: str) -> Ticket:
        """Another ``life_s`` from now; NotFoundError when it is not (or no longer) a ticket."""
        ticket = self.find(secret)
        ticket.expires_s = self._clock.monotonic_s() + self.life_s
        return ticket

    def find(self, secret: str) -> Ticket:
        """The living ticket; NotFoundError."""
        ticket = self._tickets.get(secret)
        if ticket is None or ticket.expires_s <= self._clock.monotonic_s():
            raise NotFoundError(
                "this ticket is unknown here or has expired", remedy="open the model's files again"
            )
        return ticket

    def close(self, secret: str) -> None:
        """End it, whatever is being read by it. Unknown ones are no error: it may have expired."""
        ticket = self._tickets.pop(secret, None)
        if ticket is not None:
            ticket.open = False
            ticket.ended.set()

    async def _hold(self, secret: str, key: EntryKey, holder: str, answer: asyncio.Future[Ticket]) -> None:
        try:
            async with self._models.reading_entry(key, holder=holder) as entry:
                files = tuple(file for file in entry.files if key.weights or not is_weight_file(file.path))
                expires_s = self._clock.monotonic_s() + self.life_s
                ticket = self._tickets[secret] = Ticket(secret, key, entry, files, expires_s)
                answer.set_result(ticket)
                try:
                    await self._until_its_end(ticket)
                finally:
                    ticket.open = False
                    self._tickets.pop(secret, None)
        except MxError as error:
            _fail(answer, error)
        except Exception:
            log.exception("ticket ended by a defect", model=str(key))
            _fail(answer, InternalError(f"{key}: a defect in mx ended the reading of its files"))
        finally:
            answer.cancel()

    async def _until_its_end(self, ticket: Ticket) -> None:
        while (left_s := ticket.expires_s - self._clock.monotonic_s()) > 0 and ticket.open:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(left_s):
                    await ticket.ended.wait()


def _fail(answer: asyncio.Future[Ticket], error: MxError) -> None:
    if not answer.done():
        answer.set_exception(error)
        answer.exception()  # looked at: whoever asked may have gone
