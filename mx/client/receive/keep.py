"""What goes on beside a round: signs of life, the ticket's renewal, progress, and bytes to the disk."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

from mx.client.receive.access import Access
from mx.client.receive.http import TicketError
from mx.client.receive.landing import Halt, Landings
from mx.client.receive.rules import ReceiveRules
from mx.errors import CancelledError, InternalError, MxError, NotFoundError
from mx.logs import event_log
from mx.providers.cache import DiskStaging

log = event_log(__name__)


class Keeper:
    """Use it as a context manager around the threads of a round."""

    def __init__(
        self,
        access: Access,
        staging: DiskStaging,
        landings: Landings,
        halt: Halt,
        *,
        rules: ReceiveRules,
        stop: threading.Event,
        report: Callable[[], None],
    ) -> None:
        self._access = access
        self._staging = staging
        self._landings = landings
        self._halt = halt
        self._rules = rules
        self._stop = stop
        self._report = report
        self._over = threading.Event()
        self._threads = [
            threading.Thread(target=self._guarded, args=(work,), name=name, daemon=True)
            for work, name in ((self._keep, "mx-receive-keep"), (self._sync, "mx-receive-sync"))
        ]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()

    def _guarded(self, work: Callable[[], None]) -> None:
        try:
            work()
        except MxError as error:
            self._halt.fail(error)
        except Exception:  # the edge of the thread
            log.exception("receiving ended by a defect")
            self._halt.fail(InternalError("a defect in mx ended the receiving of a model"))

    def _keep(self) -> None:
        now_s = time.monotonic()
        beat_s, renew_s, report_s = now_s, now_s + self._access.renew_after_s, now_s
        while not self._over.wait(0.1):
            now_s = time.monotonic()
            if self._stop.is_set():
                self._halt.fail(CancelledError("receiving was stopped; ask again to go on"))
            if now_s >= report_s:
                self._report()
                report_s = now_s + self._rules.report_s
            if now_s >= beat_s:
                self._staging.beat()
                beat_s = now_s + self._rules.beat_s
            if now_s >= renew_s:
                self._renew()
                renew_s = time.monotonic() + self._access.renew_after_s

    def _renew(self) -> None:
        try:
            self._access.renew()
        except NotFoundError as error:
            raise TicketError(error.message) from error
        except MxError as error:  # the bytes may come all the same; readers notice if they don't
            log.debug("ticket not renewed", error=str(error))

    def _sync(self) -> None:
        """Bytes reach the disk while others come, and whoever takes over knows how far they are right."""
        synced: dict[str, int] = {}
        while not self._over.wait(0.25):
            for file, offset in self._landings.growing():
                if offset - synced.get(file.path, 0) < self._rules.sync_bytes:
                    continue
                synced[file.path] = offset
                try:
                    self._staging.checkpoint(file)
                except MxError as error:
                    log.debug("no checkpoint", file=file.path, error=str(error))
