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
from mx.errors import InvalidArgumentError, MxError, PreconditionError

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
        self._recorded = threading.Event()
        self._thread = threading.Thread(target=self._run, name="mx-publisher", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def wait_published(self, timeout_s: float) -> bool:
        """True once the server has this worker as READY."""
        return self._published.wait(timeout_s)

    def withdraw(self, *, timeout_s: float) -> None:
        """Stop the heartbeat and remove the record; a server that is away forgets it by itself.

        ``timeout_s`` bounds the wait for a heartbeat under way, the client the call after it.
        """
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(timeout_s)
        if not self._recorded.is_set() or self._thread.is_alive():
            return
        try:
            self._registry.withdraw(self._key)
        except MxError as error:
            log.info(
                "source not withdrawn", extra={"fields": {"source": str(self._key), "reason": error.message}}
            )

    # --- the thread -------------------------------------------------------------------------
    def _run(self) -> None:
        retry_s, since, known = FIRST_RETRY_S, time.monotonic(), False
        while not self._stop.is_set():
            try:
                known = self._beat() if known else self._publish()
                retry_s, since = FIRST_RETRY_S, time.monotonic()
                if known:
                    self._stop.wait(self._heartbeat_s)
            except InvalidArgumentError as error:
                log.error(
                    "source refused", extra={"fields": {"source": str(self._key), "reason": error.message}}
                )
                return
            except MxError as error:
                if retry_s == FIRST_RETRY_S:
                    log.warning(
                        "server can't be told about this source; trying on",
                        extra={"fields": {"source": str(self._key), "reason": error.message}},
                    )
                if not self._published.is_set() and time.monotonic() - since > self._give_up_s:
                    log.error(
                        "gave up publishing",
                        extra={"fields": {"source": str(self._key), "after_s": self._give_up_s}},
                    )
                    return
                self._stop.wait(retry_s)
                retry_s = min(retry_s * 2, self._heartbeat_s)

    def _publish(self) -> bool:
        """Record, mx's own record beside it, then READY: peers see it only when all is there."""
        self._registry.publish(self._identity, self._worker, worker_id=self._key.worker_id, pod=self._pod)
        self._recorded.set()
        try:
            self._registry.announce(self._key, self._peer)
        except PreconditionError:
            log.debug("a published server: peers of mx find this worker by the published calls only")
        ready = self._beat()
        if ready:
            self._published.set()
            log.info(
                "source published",
                extra={"fields": {"source": str(self._key), "endpoint": self._peer.endpoint}},
            )
        return ready

    def _beat(self) -> bool:
        known = self._registry.update_status(self._key, SourceStatus.READY, source_load=self._load())
        if not known:
            log.warning(
                "server lost this source; publishing again", extra={"fields": {"source": str(self._key)}}
            )
        return known
