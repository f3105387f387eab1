"""The signals that end a server."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from logging import shutdown as shutdown_logs

from mx.logs import event_log

log = event_log(__name__)

# How long an orderly end may take after a second signal.
_FORCE_LIMIT_S = 1.0


class Signals:
    """The first signal asks, the second forces."""

    def __init__(self) -> None:
        self.first = asyncio.Event()
        self.second = asyncio.Event()
        self.exit_code = 0

    @contextmanager
    def installed(self) -> Iterator[None]:
        loop = asyncio.get_running_loop()
        wanted = (signal.SIGTERM, signal.SIGINT)
        for number in wanted:
            loop.add_signal_handler(number, self._received, number)
        try:
            yield
        finally:
            for number in wanted:
                loop.remove_signal_handler(number)

    def _received(self, number: signal.Signals) -> None:
        if not self.first.is_set():
            self.first.set()
            return
        if self.second.is_set():
            return
        self.exit_code = 130 if number == signal.SIGINT else 1
        self.second.set()
        # Stores survive a kill; a person who asked twice shall not wait for one that hangs.
        asyncio.get_running_loop().call_later(_FORCE_LIMIT_S, _end_process, self.exit_code)


def _end_process(code: int) -> None:
    log.error("ended by force", exit_code=code)
    shutdown_logs()
    os._exit(code)
