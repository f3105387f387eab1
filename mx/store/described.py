"""One look at a store for people: how long it took, what it said, or why it said nothing."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable

from mx.core.redact import redact_text
from mx.core.server_state import BackendState
from mx.errors import MxError

Facts = tuple[tuple[str, str], ...]


async def described(
    backend: str,
    address: str,
    check: Callable[[], Awaitable[object]],
    facts: Callable[[], Awaitable[Facts]],
) -> BackendState:
    """``check`` is what is timed; an outage is an answer too."""
    begin_s = time.monotonic()
    error = ""
    found: Facts = ()
    try:
        await check()
        latency_ms = (time.monotonic() - begin_s) * 1000
        found = await facts()
    except MxError as failure:
        latency_ms = (time.monotonic() - begin_s) * 1000
        error = redact_text(str(failure))
    return BackendState("", backend, redact_text(address), not error, latency_ms, found, error)
