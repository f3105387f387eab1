"""Whether an entry is still what its provider has, for models that have no commits.

A bucket's prefix or a directory keeps its name when its content changes, so its entry is compared
with a new listing whenever somebody asks for the model.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Hashable
from typing import Generic, TypeVar

from mx.core.cached import CachedEntry, changed_paths
from mx.core.model import ProviderName
from mx.errors import DeadlineError, MxError, UnavailableError
from mx.logs import event_log
from mx.ports import Providers

log = event_log(__name__)

K = TypeVar("K", bound=Hashable)
T = TypeVar("T")

# Hugging Face pins commits, and a version of NGC never changes.
_CHANGING = frozenset({ProviderName.GCS, ProviderName.S3, ProviderName.LOCAL})


class SharedQuestions(Generic[K, T]):
    """Many callers at once cost one question. A caller that leaves does not end it for the others."""

    def __init__(self, tasks: asyncio.TaskGroup) -> None:
        self._tasks = tasks
        self._asked: dict[K, asyncio.Task[T | MxError]] = {}

    async def ask(self, key: K, question: Callable[[], Awaitable[T]]) -> T:
        """The answer, or the MxError that was raised instead."""
        task = self._asked.get(key)
        if task is None:
            task = self._tasks.create_task(_answer(question), name=f"ask {key}")
            self._asked[key] = task
            task.add_done_callback(lambda _: self._asked.pop(key, None))
        answer = await asyncio.shield(task)
        if isinstance(answer, MxError):
            raise answer
        return answer

    def cancel(self) -> None:
        for task in self._asked.values():
            task.cancel()


async def _answer(question: Callable[[], Awaitable[T]]) -> T | MxError:
    try:
        return await question()
    except MxError as error:  # told to whoever asked, not to the group
        return error


async def changes(entry: CachedEntry, providers: Providers, *, limit_s: float) -> tuple[str, ...]:
    """Paths that the provider has otherwise by now; none when it can't be reached: then the entry will do.

    Raises what ``Provider.list_files`` raises otherwise.
    """
    if entry.key.provider not in _CHANGING:
        return ()
    try:
        async with asyncio.timeout(limit_s):
            listing = await providers.get(entry.key.provider).list_files(entry.key)
    except (UnavailableError, DeadlineError, TimeoutError) as error:
        log.warn("not known whether the model changed", model=str(entry.key), error=str(error))  # noqa: G010  # an EventLog
        return ()
    changed = changed_paths(entry, listing)
    if changed:
        log.info("model changed at its provider", model=str(entry.key), files=len(changed), first=changed[0])
    return changed
