"""Keeps one worker's record with the server: publish, heartbeat, publish again when it was lost.

A server that is away is waited for with back-off; the source serves all the while, since peers
that know it need no server to read.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import Protocol

from mx.core.source import (
    PeerRecord,
    PodReference,
    SourceIdentity,
    SourceStatus,
    WorkerKey,
    WorkerRecord,
)
from mx.errors import DeadlineError, InvalidArgumentError, MxError, PreconditionError, UnavailableError

log = logging.getLogger(__name__)

FIRST_RETRY_S = 0.5


class SourceRegistry(Protocol):
    """The part of a client that keeps records of sources."""

    def publish(
        self,
        identity: SourceIdentity,
        worker: WorkerRecord,
        *,
        worker_id: str,
        pod: PodReference = PodReference(),
    ) -> str: ...

    def announce(self, key: WorkerKey, peer: PeerRecord) -> bool: ...

    def update_status(self, key: WorkerKey, status: int, *, source_load: float | None = None) -> bool: ...

    def withdraw(self, key: WorkerKey) -> bool: ...


class Publisher:
    """One record. ``load`` answers the current load of this source, or None when it is unknown."""

    def __init__(
        self,
        registry: SourceRegistry,
        *,
        identity: SourceIdentity,
        worker: WorkerRecord,
        key: WorkerKey,
        peer: PeerRecord,
        pod: PodReference = PodReference(),
        heartbeat_s: float,
        give_up_s: float,
        load: Callable[[], float | None] = lambda: None,
    ) -> None:
        self._registry = registry
        self._identity = identity
        self._worker = worker
        self._key = key
        self._peer = peer
        self._pod = pod
        self._heartbeat_s = heartbeat_s
        self._give_up_s = give_up_s
        self._load = load
        self._stop = threading.Event()
        self._published = threading.Event()
        self._recorded = False  # the server has a record of this worker, or may have one
        self._thread = threading.Thread(target=self._run, name="mx-publisher", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def wait_published(self, timeout_s: float) -> bool:
        """True once the server has this worker as READY."""
        return self._published.wait(timeout_s)

    def leave(self) -> None:
        """Stop the heartbeat and remove the record, without waiting for it."""
        self._stop.set()

    def withdraw(self, *, timeout_s: float) -> None:
        """Leave, and wait until the record is gone, for at most ``timeout_s``.

        A call that is still under way then is followed by the withdrawal whenever it ends. A server
        that is away forgets the source by itself.
        """
        self.leave()
        if self._thread.is_alive():
            self._thread.join(timeout_s)

    # --- the thread -------------------------------------------------------------------------
    def _run(self) -> None:
        """Whoever publishes withdraws too: only then nothing can appear after the withdrawal."""
        try:
            self._keep_published()
        finally:
            if self._recorded:
                self._remove()

    def _remove(self) -> None:
        try:
            self._registry.withdraw(self._key)
        except MxError as error:
            log.info(
                "source not withdrawn", extra={"fields": {"source": str(self._key), "reason": error.message}}
            )

    def _keep_published(self) -> None:
        """Until ``leave``, or until ``give_up_s`` have passed without a first success."""
        began, retry_s, known = time.monotonic(), FIRST_RETRY_S, False
        told: type[MxError] | None = None
        while not self._stop.is_set():
            error: MxError
            try:
                if known:
                    known = self._beat()
                    if not known:
                        log.warning(
                            "server lost this source; publishing again",
                            extra={"fields": {"source": str(self._key)}},
                        )
                known = known or self._publish()
                error = UnavailableError("the server does not know what it has just recorded")
            except MxError as failure:
                error = failure
            else:
                if known or self._stop.is_set():
                    retry_s, told = FIRST_RETRY_S, None
                    self._stop.wait(self._heartbeat_s)
                    continue
            if type(error) is not told:
                self._tell(error)
                told = type(error)
            if not self._published.is_set() and time.monotonic() - began > self._give_up_s:
                log.error(
                    "gave up publishing",
                    extra={"fields": {"source": str(self._key), "after_s": self._give_up_s}},
                )
                return
            # A refusal may be trouble of the server's store, or last until somebody mends a setting.
            refused = isinstance(error, InvalidArgumentError)
            self._stop.wait(self._heartbeat_s if refused else min(retry_s, self._heartbeat_s))
            retry_s *= 2

    def _tell(self, error: MxError) -> None:
        """Trouble of one kind is told once, not with every try."""
        fields = {"fields": {"source": str(self._key), "reason": error.message}}
        if isinstance(error, InvalidArgumentError):
            log.error("source refused", extra=fields)
        else:
            log.warning("server can't be told about this source; trying on", extra=fields)

    def _publish(self) -> bool:
        """Record, mx's own record beside it, then READY: peers see it only when all is there.

        False when it is to leave meanwhile, or when the server forgot it in between.
        """
        try:
            self._registry.publish(self._identity, self._worker, worker_id=self._key.worker_id, pod=self._pod)
        except DeadlineError:
            self._recorded = True  # only the answer is missing
            raise
        self._recorded = True
        if self._stop.is_set():
            return False
        try:
            self._registry.announce(self._key, self._peer)
        except PreconditionError:
            log.debug("a published server: peers of mx find this worker by the published calls only")
        if self._stop.is_set() or not self._beat():
            return False
        self._published.set()
        log.info(
            "source published",
            extra={"fields": {"source": str(self._key), "endpoint": self._peer.endpoint}},
        )
        return True

    def _beat(self) -> bool:
        return self._registry.update_status(self._key, SourceStatus.READY, source_load=self._load())
