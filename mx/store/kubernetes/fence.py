"""Tokens of claims: one counter for the namespace, in a ConfigMap, that only grows.

Whoever takes a token has seen the record before, and writes it under a test that the record is as it was
seen: so a later claim of a record always has the larger token.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from mx.errors import UnavailableError
from mx.store.kubernetes.api import Answer, Api
from mx.store.kubernetes.configmaps import config_map, data_of
from mx.store.kubernetes.names import CONFIG_MAPS, GROUP

NAME: Final = "mx-fence"
OBJECT_LABEL: Final = f"{GROUP}/mx-object"
_KEY: Final = "last"
_TRIES: Final = 50


class Fence:
    """``highest`` tells the largest token that is in use, for a counter that was deleted."""

    def __init__(self, api: Api, *, highest: Callable[[], int]) -> None:
        self._api = api
        self._highest = highest
        self._last: str | None = None
        self._one = asyncio.Lock()

    async def next(self) -> int:
        async with self._one:
            for _ in range(_TRIES):
                if self._last is None:
                    await self._read()
                assert self._last is not None
                token = self._number(self._last) + 1
                patch = [
                    {"op": "test", "path": f"/data/{_KEY}", "value": self._last},
                    {"op": "add", "path": f"/data/{_KEY}", "value": str(token)},
                ]
                try:
                    await self._api.patch(CONFIG_MAPS, NAME, patch, status=False)
                except Answer as answer:
                    if not (answer.is_missing or answer.is_conflict):
                        raise answer.error from answer
                    self._last = None
                else:
                    self._last = str(token)
                    return token
        raise UnavailableError(f"ConfigMap {NAME} was changed by others again and again", remedy="try again")

    async def _read(self) -> None:
        found = await self._api.read(CONFIG_MAPS, NAME)
        if found is None:
            begin = config_map(NAME, labels={OBJECT_LABEL: "fence"}, data={_KEY: str(self._highest())})
            try:
                found = await self._api.create(CONFIG_MAPS, begin)
            except Answer as answer:
                if not answer.is_conflict:
                    raise answer.error from answer
                return await self._read()
        self._last = data_of(found, _KEY)
        return None

    def _number(self, text: str) -> int:
        if not (text.isascii() and text.isdigit()):
            raise UnavailableError(
                f"ConfigMap {NAME} in namespace {self._api.namespace} holds no number",
                remedy=f"kubectl delete configmap {NAME}: mx makes it anew",
            )
        return int(text)
