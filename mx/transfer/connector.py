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

from mx.errors import MxError, NotFoundError, PreconditionError
from mx.transfer.book import Exhausted, Inbox, Joined, LeaseLost
from mx.transfer.session import Candidate, Session

log = logging.getLogger(__name__)

REDISCOVERIES = 2
# Between looks at leases; a session renews its own when half of it is gone.
KEEP_S = 5.0
# A source that can't be asked to renew for so long has given the lease up.
LEASE_GRACE_S = 25.0


class Connector:
    """``discover`` lists candidates, best first; ``connect`` opens one or raises an MxError.

    ``ready`` returns once the backend can connect; that wait is nobody's connect time. From then on
    the leases of all its sources are kept, also while the engine still builds its model.
    """

    def __init__(
        self,
        *,
        discover: Callable[[], tuple[Candidate, ...]],
        connect: Callable[[Candidate], Session],
        ready: Callable[[], None],
        max_sources: int,
        keep_s: float = KEEP_S,
    ) -> None:
        self.inbox: Inbox = queue.SimpleQueue()
        self.discover_s = 0.0
        self.connect_s = 0.0
        self._discover = discover
        self._connect = connect
        self._ready = ready
        self._max = max_sources
        self._keep_s = keep_s
        self._lost: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._tried: set[tuple[str, str]] = set()
        self._reasons: list[str] = []
        self._live: dict[str, Session] = {}
        self._silent_since: dict[str, float] = {}
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
        try:
            self._serve()
        except MxError as error:
            self._reasons.append(error.message)
        except Exception as error:  # the edge of a thread: else the pull waits for ever
            log.error("finding sources failed", exc_info=error)
            self._reasons.append(f"finding sources failed: {error}")
        finally:
            self.inbox.put(Exhausted())

    def _serve(self) -> None:
        """Find sources until nobody wants more or there are no more."""
        reserve = self._list()
        self._ready()
        started = time.monotonic()
        reserve = self._fill(reserve, started)
        looks = REDISCOVERIES
        while not self._stopped:
            if not self._live and not reserve and looks:
                looks -= 1
                reserve = self._fill(self._list(), started) if self._tried else ()
            if not self._live and not reserve:
                return
            try:
                name = self._lost.get(timeout=self._keep_s)
            except queue.Empty:
                self._keep_leases()
                continue
            if name is None:
                return
            self._live.pop(name, None)
            reserve = self._fill(reserve, started)

    def _keep_leases(self) -> None:
        """All at once: a source that takes its time must not cost another one its lease."""
        with contextlib.suppress(RuntimeError):  # stopped in between
            wait([self._pool.submit(self._keep, name, session) for name, session in self._live.items()])

    def _keep(self, name: str, session: Session) -> None:
        try:
            session.keep_lease()
            self._silent_since.pop(name, None)
        except (NotFoundError, PreconditionError) as error:
            self.inbox.put(LeaseLost(name, error.message))
        except MxError as error:
            # A busy worker may not answer for a while; the lease runs on meanwhile.
            since = self._silent_since.setdefault(name, time.monotonic())
            if time.monotonic() - since > LEASE_GRACE_S:
                self.inbox.put(LeaseLost(name, error.message))

    def _list(self) -> tuple[Candidate, ...]:
        started = time.monotonic()
        try:
            found = self._discover()
        except MxError as error:
            self._reasons.append(error.message)
            found = ()
        self.discover_s = self.discover_s or time.monotonic() - started
        return tuple(c for c in found if c.is_anybody or _process(c) not in self._tried)

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
            self._refuse(candidate, error.message)
            return
        except Exception as error:  # the edge of a thread: the reason must reach somebody
            log.error("connecting failed", exc_info=error)
            self._refuse(candidate, f"connecting failed: {error}")
            return
        with self._lock:
            self.connect_s = self.connect_s or time.monotonic() - started
            # Two addresses of a Service may lead to one worker.
            wanted = False if session.name in self._live else not self._stopped
            if wanted:
                self._live[session.name] = session
                self.inbox.put(Joined(session))
        if not wanted:
            session.close(reason="no longer wanted")

    def _refuse(self, candidate: Candidate, reason: str) -> None:
        with self._lock:
            self._reasons.append(f"{candidate.name}: {reason}")
        log.info("source can't be used", extra={"fields": {"source": candidate.name, "reason": reason}})


def _process(candidate: Candidate) -> tuple[str, str]:
    """What makes a candidate the same as one that was tried: a restarted worker is another one.

    A published worker draws a new id when it starts; its heartbeat changes nothing here.
    """
    row = candidate.row
    return candidate.name, row.peer.generation if row.peer else row.worker_grpc_endpoint
