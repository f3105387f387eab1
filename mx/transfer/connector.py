"""Finds and connects sources for one pull, beside the engine that builds its model.

All candidates up to a limit are tried at once, so a dead one costs nothing while another answers.
When a source is lost the next candidate takes its place; when the last one is lost the server is
asked once more, because a pull that has verified half of its bytes is worth a second look.
"""

from __future__ import annotations

import contextlib
import logging
import queue
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait

from mx.errors import MxError
from mx.transfer.fetcher import Exhausted, Inbox, Joined
from mx.transfer.session import Candidate, Session

log = logging.getLogger(__name__)

REDISCOVERIES = 2


class Connector:
    """``discover`` lists candidates, best first; ``connect`` opens one or raises an MxError.

    ``ready`` returns once the backend can connect; that wait is nobody's connect time.
    """

    def __init__(
        self,
        *,
        discover: Callable[[], tuple[Candidate, ...]],
        connect: Callable[[Candidate], Session],
        ready: Callable[[], None],
        max_sources: int,
    ) -> None:
        self.inbox: Inbox = queue.SimpleQueue()
        self.discover_s = 0.0
        self.connect_s = 0.0
        self._discover = discover
        self._connect = connect
        self._ready = ready
        self._max = max_sources
        self._lost: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._tried: set[tuple[str, str]] = set()
        self._reasons: list[str] = []
        self._live: set[str] = set()
        self._lock = threading.Lock()
        self._stopped = False
        self._pool = ThreadPoolExecutor(max_sources, thread_name_prefix="mx-connect")
        self._thread = threading.Thread(target=self._run, name="mx-connector", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def lost(self, name: str) -> None:
        """A source was refused or dropped; find another."""
        self._lost.put(name)

    def stop(self) -> None:
        """No more sources are wanted. Does not wait: one that still comes is closed again at once.

        A source that is frozen takes its time to answer, which a pull that is done does not have.
        """
        with self._lock:
            self._stopped = True
        self._lost.put(None)
        self._pool.shutdown(wait=False)
        with contextlib.suppress(queue.Empty):
            while True:
                arrival = self.inbox.get_nowait()
                if isinstance(arrival, Joined):
                    arrival.session.close(reason="no longer wanted")

    @property
    def reasons(self) -> tuple[str, ...]:
        """Why sources were not there or could not be reached, in order of failure."""
        return tuple(self._reasons)

    # --- the thread -----------------------------------------------------------------------------
    def _run(self) -> None:
        reserve = self._list()
        try:
            self._ready()
        except MxError as error:
            self._reasons.append(error.message)
            self.inbox.put(Exhausted())
            return
        started = time.monotonic()
        reserve = self._fill(reserve, started)
        looks = REDISCOVERIES
        while not self._stopped:
            if not self._live and not reserve and looks:
                looks -= 1
                reserve = self._fill(self._list(), started) if self._tried else ()
            if not self._live and not reserve:
                self.inbox.put(Exhausted())
                return
            name = self._lost.get()
            if name is None:
                return
            self._live.discard(name)
            reserve = self._fill(reserve, started)

    def _list(self) -> tuple[Candidate, ...]:
        started = time.monotonic()
        try:
            found = self._discover()
        except MxError as error:
            self._reasons.append(error.message)
            found = ()
        self.discover_s = self.discover_s or time.monotonic() - started
        return tuple(c for c in found if _process(c) not in self._tried)

    def _fill(self, reserve: tuple[Candidate, ...], started: float) -> tuple[Candidate, ...]:
        """Connect candidates until enough are live; those that are left."""
        while reserve and len(self._live) < self._max and not self._stopped:
            room = self._max - len(self._live)
            batch, reserve = reserve[:room], reserve[room:]
            self._tried.update(_process(candidate) for candidate in batch)
            try:
                opening = [self._pool.submit(self._open, candidate, started) for candidate in batch]
            except RuntimeError:  # stopped in between
                break
            wait(opening)
        return reserve

    def _open(self, candidate: Candidate, started: float) -> None:
        if self._stopped:
            return
        try:
            session = self._connect(candidate)
        except MxError as error:
            with self._lock:
                self._reasons.append(f"{candidate.name}: {error.message}")
            log.info(
                "source can't be used", extra={"fields": {"source": candidate.name, "reason": error.message}}
            )
            return
        with self._lock:
            self.connect_s = self.connect_s or time.monotonic() - started
            self._live.add(session.name)
            wanted = not self._stopped
            if wanted:
                self.inbox.put(Joined(session))
        if not wanted:
            session.close(reason="no longer wanted")


def _process(candidate: Candidate) -> tuple[str, str]:
    """What makes a candidate the same as one that was tried: a restarted worker is another one.

    A published worker draws a new id when it starts; its heartbeat changes nothing here.
    """
    row = candidate.row
    return candidate.name, row.peer.generation if row.peer else row.worker_grpc_endpoint
