"""A copy of all objects of one kind, kept by list and watch, so that reading costs no request.

Listed in pages, then watched with bookmarks; a watch that ends is opened again where it ended, one
whose place is forgotten (410) lists anew, and everything is listed again from time to time. What this
process writes is put in at once, so that it reads its own writes. Versions are compared as numbers,
which Kubernetes promises for its own objects.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final, Generic, NoReturn, TypeVar

import aiohttp

from mx.errors import MxError, UnavailableError
from mx.logs import event_log
from mx.store.kubernetes.api import Answer, Api, Object
from mx.store.kubernetes.failures import LIBRARY_ERRORS, unreachable
from mx.store.kubernetes.names import Kind

log = event_log(__name__)

V = TypeVar("V")

_LONGEST_WAIT_S: Final = 2.0
_FIRST_WORD_S: Final = 0.2


@dataclass(frozen=True, slots=True)
class MirrorRules:
    """``echo_s``: a watch that does not show what we wrote ourselves for so long is dead."""

    watch_s: int = 280
    resync_s: float = 600.0
    patience_s: float = 4.0
    echo_s: float = 5.0
    silence_s: float = 150.0  # bookmarks come once a minute


@dataclass(frozen=True, slots=True)
class Mirrored(Generic[V]):
    """An object as we know it. ``value`` is what the owner of the mirror makes of it."""

    name: str
    uid: str
    version: str
    value: V

    @property
    def number(self) -> int:
        return int(self.version)


class Mirror(Generic[V]):
    """``decode`` turns an object into a value; ``changed`` is told the old and the new one."""

    def __init__(
        self,
        api: Api,
        kind: Kind,
        *,
        decode: Callable[[Object], V],
        changed: Callable[[Mirrored[V] | None, Mirrored[V] | None], None],
        rules: MirrorRules = MirrorRules(),  # a frozen value
    ) -> None:
        self._api = api
        self._kind = kind
        self._decode = decode
        self._changed = changed
        self._rules = rules
        self._objects: dict[str, Mirrored[V]] = {}
        self._deleted: dict[str, float] = {}  # uid of what we deleted, and when
        self._echoes: dict[str, tuple[int, float]] = {}  # name of what we wrote: version and when
        self._since = "0"
        self._listed_at: float | None = None
        self._live = asyncio.Event()
        self._failure: MxError = UnavailableError("Kubernetes has not been asked yet")
        self._task: asyncio.Task[NoReturn] | None = None

    async def start(self) -> None:
        """List, and keep watching until ``close``. Raises what keeps us from listing."""
        await self._list()
        self._live.set()
        self._task = asyncio.create_task(self._keep(), name=f"watch of {self._kind.plural}")

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    # --- reading --------------------------------------------------------------------------------
    async def ready(self) -> None:
        """Return when the copy is kept up to date; UnavailableError when that can't be had now."""
        self._api.require_open()
        if self._live.is_set():
            return
        try:
            async with asyncio.timeout(self._rules.patience_s):
                await self._live.wait()
        except TimeoutError:
            self._api.require_open()
            raise UnavailableError(self._failure.message, remedy=self._failure.remedy) from self._failure

    def get(self, name: str) -> Mirrored[V] | None:
        return self._objects.get(name)

    def __iter__(self) -> Iterator[Mirrored[V]]:
        """All as of now, whatever changes meanwhile."""
        return iter(tuple(self._objects.values()))

    # --- what we learn from our own requests ------------------------------------------------------
    def wrote(self, found: Object) -> Mirrored[V]:
        """What the API server answered to a write of ours; the watch has to show it soon."""
        mirrored = self.saw(found)
        self._echoes[mirrored.name] = (mirrored.number, _now_s())
        return mirrored

    def saw(self, found: Object) -> Mirrored[V]:
        mirrored = self._mirrored(found)
        self._put(mirrored)
        return mirrored

    def removed(self, name: str, uid: str) -> None:
        """We deleted it, or met its absence; events that are still on their way must not bring it back."""
        known = self._objects.get(name)
        if known is not None and known.uid == uid:
            self._deleted[uid] = _now_s()
            self._drop(name)

    # --- keeping --------------------------------------------------------------------------------
    async def _keep(self) -> NoReturn:
        failures = 0
        while True:
            try:
                if self._is_list_due():
                    await self._list()
                await self._follow()
                failures = 0
                continue
            except Answer as answer:  # the place where it ended is forgotten
                failures = 0 if self._listed_at is not None else failures
                self._listed_at = None
                failure = answer.error
            except MxError as error:
                failure = error
            except Exception as error:  # a defect must not end the task that all reading relies on
                log.exception("watch failed", kind=self._kind.plural)
                failure = UnavailableError(f"watching {self._kind.plural} failed: {error}")
            failures += 1
            self._lose(failure, failures)
            await asyncio.sleep(_backoff_s(failures))

    def _is_list_due(self) -> bool:
        return self._listed_at is None or _now_s() - self._listed_at > self._rules.resync_s

    async def _list(self) -> None:
        """Take over what there is; what is gone goes. Newer things, which we wrote meanwhile, stay."""
        listed: set[str] = set()
        version = ""
        async for page in self._api.pages(self._kind):
            version = page["metadata"]["resourceVersion"]
            for found in page["items"] or ():
                mirrored = self._mirrored(found)
                listed.add(mirrored.name)
                self._put(mirrored)
            await asyncio.sleep(0)
        for mirrored in tuple(self._objects.values()):
            if mirrored.name not in listed and mirrored.number <= int(version):
                self._drop(mirrored.name)
        self._since = version
        self._listed_at = _now_s()
        self._echoes.clear()
        long_ago = _now_s() - self._rules.resync_s
        self._deleted = {uid: at for uid, at in self._deleted.items() if at > long_ago}

    async def _follow(self) -> None:
        """One watch until it ends by itself or by us; raises when it breaks, ``Answer`` when it is void."""
        last_s = round(self._rules.watch_s * random.uniform(0.9, 1.1))  # noqa: S311  # spreads load
        response = await self._api.open_watch(self._kind, since=self._since, last_s=last_s)
        try:
            await self._read(response)
        finally:
            response.close()

    async def _read(self, response: aiohttp.ClientResponse) -> None:
        rest = b""
        heard_at = _now_s()
        while not self._is_list_due():
            try:
                # That its place is forgotten is the first thing that a watch says.
                async with asyncio.timeout(1.0 if self._live.is_set() else _FIRST_WORD_S):
                    chunk = await response.content.readany()
            except TimeoutError:
                self._require_alive(heard_at)
                self._stand()
                continue
            except LIBRARY_ERRORS as error:
                raise unreachable(error, server=self._api.server) from error
            if not chunk:
                return
            heard_at = _now_s()
            *lines, rest = (rest + chunk).split(b"\n")
            for line in lines:
                if line:
                    self._take(json.loads(line))
            self._stand()

    def _stand(self) -> None:
        if not self._live.is_set():
            log.info("watch is back", kind=self._kind.plural)
            self._live.set()

    def _take(self, event: dict[str, Any]) -> None:
        found = event["object"]
        match event["type"]:
            case "BOOKMARK":
                pass
            case "DELETED":
                metadata = found["metadata"]
                self._deleted.pop(metadata["uid"], None)
                self._echoes.pop(metadata["name"], None)
                known = self._objects.get(metadata["name"])
                if known is not None and known.uid == metadata["uid"]:
                    self._drop(known.name)
            case "ERROR":
                error = UnavailableError(f"a watch of {self._kind.plural} ended: {found.get('message', '')}")
                raise Answer(int(found.get("code", 410)), error, again=False)
            case _:
                mirrored = self._mirrored(found)
                self._put(mirrored)
                version, _ = self._echoes.get(mirrored.name, (0, 0.0))
                if version and version <= mirrored.number:
                    del self._echoes[mirrored.name]
        self._since = found["metadata"]["resourceVersion"]

    def _require_alive(self, heard_at: float) -> None:
        now_s = _now_s()
        late = any(now_s - at > self._rules.echo_s for _, at in self._echoes.values())
        if late or now_s - heard_at > self._rules.silence_s:
            self._echoes.clear()
            raise UnavailableError(f"a watch of {self._kind.plural} at {self._api.server} went silent")

    def _lose(self, failure: MxError, failures: int) -> None:
        self._failure = failure
        if self._live.is_set() or failures % 30 == 0:
            log.warn("watch lost", kind=self._kind.plural, error=str(failure), failures=failures)  # noqa: G010  # an EventLog
        self._live.clear()

    def _mirrored(self, found: Object) -> Mirrored[V]:
        metadata = found["metadata"]
        return Mirrored(metadata["name"], metadata["uid"], metadata["resourceVersion"], self._decode(found))

    def _put(self, mirrored: Mirrored[V]) -> None:
        known = self._objects.get(mirrored.name)
        if mirrored.uid in self._deleted or (known is not None and known.number >= mirrored.number):
            return
        self._objects[mirrored.name] = mirrored
        self._changed(known, mirrored)

    def _drop(self, name: str) -> None:
        known = self._objects.pop(name)
        self._changed(known, None)


def _now_s() -> float:
    return asyncio.get_running_loop().time()


def _backoff_s(failures: int) -> float:
    return min(_LONGEST_WAIT_S, 0.1 * 2.0 ** min(failures - 1, 8)) * random.uniform(0.5, 1.0)  # noqa: S311
