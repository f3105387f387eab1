"""Those who want to hear of changes within one process."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Generic, NoReturn, TypeVar

from mx.errors import UnavailableError

K = TypeVar("K")


class Watchers(Generic[K]):
    """Passes each change on to everyone who watches. ``closed`` is what they are told at the end."""

    def __init__(self, closed: str) -> None:
        self._tells: list[Callable[[K | None], None]] = []
        self._words = closed
        self._closed = asyncio.Event()

    def tell(self, key: K | None) -> None:
        for tell in tuple(self._tells):
            tell(key)

    async def watch(self, tell: Callable[[K | None], None]) -> NoReturn:
        """See ``mx.ports``: None first, then every key, until cancelled or closed."""
        self._tells.append(tell)
        try:
            tell(None)
            await self._closed.wait()
        finally:
            self._tells.remove(tell)
        raise UnavailableError(self._words)

    def close(self) -> None:
        self._closed.set()
