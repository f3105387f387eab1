"""Bringing all missing files of one staged entry here: rounds, until nothing is missing.

A round ends with the first failure of any of its threads. What came is kept, and one place decides
what is next: again, with a new ticket, over gRPC instead, staged anew, or an end.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from functools import partial

from mx.client.receive.access import Access
from mx.client.receive.count import Count
from mx.client.receive.http import Door, TicketError
from mx.client.receive.keep import Keeper
from mx.client.receive.landing import Halt, Landings, WrongBytesError
from mx.client.receive.plan import SpanPlan
from mx.client.receive.ranges import RangeRound
from mx.client.receive.rules import ReceiveRules
from mx.client.receive.streams import StreamRound
from mx.client.sync import SyncClient
from mx.core.model import ProviderName
from mx.core.units import format_size
from mx.errors import (
    CancelledError,
    DeadlineError,
    ExhaustedError,
    IntegrityError,
    InternalError,
    MxError,
    NotFoundError,
    PreconditionError,
    UnavailableError,
)
from mx.logs import event_log
from mx.providers.cache import DiskStaging

log = event_log(__name__)

_WRONG_AT_MOST = 2  # a file that came wrong twice is wrong at the server
_DOOR_FAILURES = 3  # rounds over HTTP that brought nothing, before it is given up


class Pull:
    """See the head of this module; ``run`` blocks until every file is in the staging."""

    def __init__(
        self,
        client: SyncClient,
        access: Access,
        staging: DiskStaging,
        count: Count,
        *,
        rules: ReceiveRules,
        stop: threading.Event,
        report: Callable[[], None],
    ) -> None:
        self._client = client
        self._access = access
        self._staging = staging
        self._count = count
        self._rules = rules
        self._stop = stop
        self._report = report
        self._wrong: Counter[str] = Counter()
        self._failed_rounds = 0
        self._door_failures = 0

    def run(self) -> None:
        """Raises ChangedError, NotFoundError (the server lost the entry), ConflictError (taken over),
        and what can't be mended by trying again."""
        self._require_room()
        self._require_way()
        door = self._access.door()
        heard = self._count.bytes_done
        while self._staging.missing:
            try:
                self._round(door)
            except WrongBytesError as error:
                self._note_wrong(error)
            except IntegrityError as error:  # the server's own words: its file is not in order
                self._note_unsound(error)
            except (UnavailableError, DeadlineError, TicketError, NotFoundError) as error:
                if self._count.bytes_done != heard:
                    self._failed_rounds = self._door_failures = 0
                    heard = self._count.bytes_done
                self._bear(error)
                door = self._next_door(door, error)
            except PreconditionError as error:  # other files than were listed
                self._look_anew(error)
                self._bear(error)

    def _round(self, door: Door | None) -> None:
        halt = Halt()
        landings = Landings(
            self._staging, halt, arrived=self._count.arrived, accepted=self._count.file_accepted
        )
        keeper = Keeper(
            self._access,
            self._staging,
            landings,
            halt,
            rules=self._rules,
            stop=self._stop,
            report=self._report,
        )
        twins: list[SyncClient] = []
        missing = self._staging.missing
        works: list[Callable[[], None]] = []
        if door is not None:
            plan = SpanPlan(missing, readers=self._rules.connections, rules=self._rules.spans)
            ranges = RangeRound(self._access.opened, door, plan, landings, halt, rules=self._rules)
            works = [ranges.work] * self._rules.connections
        elif self._only_http:
            raise UnavailableError(
                f"{self._staging.key}: port {self._access.opened.port} of {self._client.target} can't be "
                "reached, and local models come over HTTP only"
            )
        else:
            streams = StreamRound(self._staging.key, missing, landings, halt, rules=self._rules)
            for _ in range(min(self._rules.connections, len(missing))):
                twins.append(self._client.twin())
                works.append(partial(streams.work, twins[-1]))
        try:
            with keeper:
                _run_all(works, halt)
        finally:
            for twin in twins:
                twin.close()
            landings.close()
        halt.check()

    def _require_room(self) -> None:
        need = sum(each.missing_bytes for each in self._staging.missing)
        free = self._staging.free_bytes
        if need > free:
            raise ExhaustedError(
                f"{self._staging.key} needs {format_size(need)} more here, and {format_size(free)} are free",
                remedy="free space, or choose another cache directory",
            )

    @property
    def _only_http(self) -> bool:
        """The published calls know no local models."""
        return self._staging.key.provider is ProviderName.LOCAL

    def _require_way(self) -> None:
        if self._only_http and not (self._rules.http and self._access.opened.port):
            raise PreconditionError(
                f"{self._staging.key}: local models come over HTTP only, and there is none",
                remedy="set server.metrics_port on the server",
            )

    def _note_wrong(self, error: WrongBytesError) -> None:
        path = error.file.path
        self._wrong[path] += 1
        log.warn("file came wrong", model=str(self._staging.key), file=path, error=error.message)  # noqa: G010  # an EventLog
        if self._wrong[path] >= _WRONG_AT_MOST:
            raise IntegrityError(
                f"{path} of {self._staging.key} came twice from {self._client.target} with other bytes "
                "than the server recorded when it downloaded it",
                remedy="its disk, or something on the way, changes bytes: verify the model on the server",
            ) from error
        self._look_anew(error)

    def _note_unsound(self, error: IntegrityError) -> None:
        self._wrong[""] += 1
        if self._wrong[""] >= _WRONG_AT_MOST:
            raise error
        self._look_anew(error)

    def _look_anew(self, error: MxError) -> None:
        """The server may have other files by now, or find out that it has none: then it downloads them."""
        with suppress(UnavailableError, DeadlineError):  # then the next round says so
            self._access.reopen(error)

    def _bear(self, error: MxError) -> None:
        """Wait before the next round; raises the failure when no byte came for too long."""
        if self._stop.is_set():
            raise CancelledError(f"{self._staging.key}: receiving was stopped; ask again to go on")
        rules = self._rules
        if time.monotonic() - self._count.heard_s >= rules.patience_s:
            raise type(error)(
                f"{error.message}; no byte came for {rules.patience_s:g} s", remedy=error.remedy
            ) from error
        pause_s = min(rules.pause_max_s, rules.first_pause_s * 2.0 ** min(self._failed_rounds, 10))
        self._failed_rounds += 1
        log.info("receiving again", model=str(self._staging.key), reason=error.message, pause_s=pause_s)
        self._stop.wait(pause_s * (0.5 + rules.jitter()))

    def _next_door(self, door: Door | None, error: MxError) -> Door | None:
        """After a failure: is the ticket still good, and where is it good?"""
        try:
            self._access.require_same(error)
        except (UnavailableError, DeadlineError):
            return door  # nothing is known; the next round will fail or not
        if door is None:
            return self._access.door() if self._only_http else None
        self._door_failures += 1
        if self._door_failures >= _DOOR_FAILURES and not self._only_http:
            log.warn("HTTP gives nothing, going on over gRPC", server=str(door))  # noqa: G010  # an EventLog
            return None
        return self._access.door()


def _run_all(works: list[Callable[[], None]], halt: Halt) -> None:
    """Each in a thread; returns when all have ended."""
    threads = [
        threading.Thread(target=_run, args=(work, halt), name=f"mx-receive-{index}", daemon=True)
        for index, work in enumerate(works)
    ]
    for thread in threads:
        thread.start()
    try:
        for thread in threads:
            thread.join()
    except BaseException:  # a signal's: nobody must write when we have left
        halt.fail(CancelledError("receiving was stopped"))
        for thread in threads:
            thread.join()
        raise


def _run(work: Callable[[], None], halt: Halt) -> None:
    try:
        work()
    except MxError as error:
        halt.fail(error)
    except Exception:  # the edge of the thread
        log.exception("receiving ended by a defect")
        halt.fail(InternalError("a defect in mx ended the receiving of a model"))
