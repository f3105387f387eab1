"""Withdraws sources when their process ends: at exit, on SIGTERM and SIGINT, or with the model.

A source that leaves READY behind costs each reader a failed connect until its heartbeat expires.
"""

from __future__ import annotations

import atexit
import logging
import os
import signal
import threading
from collections.abc import Callable
from multiprocessing import util as multiprocessing_util
from types import FrameType
from typing import Any

log = logging.getLogger(__name__)

_SIGNALS = (signal.SIGTERM, signal.SIGINT)


class Withdrawal:
    """Calls ``close`` once, whichever end comes first. ``now`` may be called from any thread.

    Child processes of engines leave by several doors: interpreters started by spawn run atexit,
    forked ones only multiprocessing's finalizers, and a signal may come long before both.
    """

    def __init__(self, close: Callable[[], None]) -> None:
        self._close = close
        self._owner = os.getpid()
        self._lock = threading.RLock()  # a signal may land inside ``now``
        self._done = False
        self._asked = threading.Event()
        atexit.register(self.now)
        multiprocessing_util.Finalize(None, self.now, exitpriority=100)
        threading.Thread(target=self._wait, name="mx-withdrawal", daemon=True).start()
        if threading.current_thread() is threading.main_thread():
            for number in _SIGNALS:
                self._chain(number)

    def now(self) -> None:
        """Withdraw and wait until it is done. Later calls do nothing; a forked child never withdraws."""
        if os.getpid() != self._owner:
            return
        with self._lock:
            if self._done:
                return
            self._done = True
            atexit.unregister(self.now)
            try:
                self._close()
            except Exception:
                log.warning("withdrawing the source failed; its record expires by itself", exc_info=True)

    def _wait(self) -> None:
        self._asked.wait()
        self.now()

    def _chain(self, number: signal.Signals) -> None:
        previous: Any = signal.getsignal(number)

        def on_signal(received: int, frame: FrameType | None) -> None:
            # A handler interrupts the main thread anywhere, so another thread does the work.
            if os.getpid() == self._owner:
                self._asked.set()
            if callable(previous):
                previous(received, frame)
            elif previous is signal.SIG_DFL:
                self.now()
                signal.signal(received, signal.SIG_DFL)
                os.kill(os.getpid(), received)

        signal.signal(number, on_signal)
