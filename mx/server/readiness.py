"""Whether the server can serve: it isn't draining, and its store answers."""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path

from mx.errors import MxError
from mx.logs import event_log
from mx.ports import SourceStore

log = event_log(__name__)

CHECK_INTERVAL_S = 5.0
CHECK_LIMIT_S = 3.0


class Readiness:
    """The one place that knows; health services and the drain read it and wait on it."""

    def __init__(self, store: SourceStore) -> None:
        self._store = store
        self._changed = asyncio.Event()
        self._check_now = asyncio.Event()
        self.draining = False
        self.store_ok = True
        self.store_latency_ms = 0.0
        self.reason = "ok"

    @property
    def serving(self) -> bool:
        return self.reason == "ok"

    def drain(self) -> None:
        """Not ready from now on, for good."""
        self.draining = True
        self._update()

    def doubt_store(self) -> None:
        """A call could not reach the store: check now instead of at the next turn."""
        self._check_now.set()

    async def wait_changed(self) -> None:
        """Return when ``serving`` or ``reason`` changes."""
        await self._changed.wait()

    async def check(self) -> None:
        """Ask the store once. Never fails: a defect in a store counts as an outage too."""
        begin_s = time.monotonic()
        was_ok = self.store_ok
        try:
            async with asyncio.timeout(CHECK_LIMIT_S):
                await self._store.check()
            self.store_ok = True
        except (MxError, TimeoutError) as error:
            self.store_ok = False
            if was_ok:
                text = str(error) or f"no answer within {CHECK_LIMIT_S:g} s"
                log.error("store unreachable", error=text)
        except Exception:  # whoever watches must outlive what they watch
            self.store_ok = False
            log.exception("defect while checking the store")
        self.store_latency_ms = (time.monotonic() - begin_s) * 1000
        if self.store_ok and not was_ok:
            log.info("store reachable again", latency_ms=round(self.store_latency_ms, 2))
        self._update()

    async def watch_store(self) -> None:
        """Check every CHECK_INTERVAL_S, or at once when in doubt, until cancelled."""
        while True:
            await self.check()
            self._check_now.clear()
            try:
                async with asyncio.timeout(CHECK_INTERVAL_S):
                    await self._check_now.wait()
            except TimeoutError:
                continue

    def _update(self) -> None:
        reason = "draining" if self.draining else "ok" if self.store_ok else "store unreachable"
        if reason != self.reason:
            self.reason = reason
            self._changed.set()
            self._changed = asyncio.Event()


def process_age_s() -> float:
    """Seconds since this process started; where the system doesn't say, since this module was loaded."""
    try:
        # Field 22 counts clock ticks since boot; the name in field 2 may hold spaces and parentheses.
        ticks = int(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19])
        return time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK")
    except (OSError, ValueError, IndexError, AttributeError):
        return time.monotonic() - _LOADED_S


_LOADED_S = time.monotonic()
