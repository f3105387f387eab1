"""A range of a file onto a connection, by the kernel alone, in a thread of its own.

asyncio's own sendfile runs in the event loop: a cold disk would hold up every other call there.
"""

from __future__ import annotations

import os
import select
import time
from collections.abc import Callable

_SLICE_S = 1.0  # how soon a thread that waits for its reader notices that it should stop
_STEP_BYTES = 64 << 20


class CutError(Exception):
    """The range was not sent to its end; the text says why. What is left of the connection is void."""


def send_range(
    connection: int,
    file: int,
    *,
    offset: int,
    count: int,
    silence_s: float,
    go_on: Callable[[], bool],
) -> int:
    """Send ``count`` bytes; the number sent, which is that. Blocks; ``connection`` does not.

    Raises CutError when the reader takes nothing for ``silence_s``, when ``go_on`` says no, and when
    the file ends early or is written to meanwhile; OSError when the connection breaks.
    """
    begin = os.fstat(file)
    poll = select.poll()
    poll.register(connection, select.POLLOUT)
    end = offset + count
    heard_s = time.monotonic()
    while offset < end:
        if not go_on():
            raise CutError("its ticket ended")
        if not poll.poll(_SLICE_S * 1000):
            if time.monotonic() - heard_s >= silence_s:
                raise CutError(f"the reader took nothing for {silence_s:g} s")
            continue
        now = os.fstat(file)
        if (now.st_size, now.st_mtime_ns) != (begin.st_size, begin.st_mtime_ns):
            raise CutError("the file was written to while it was read")
        try:
            sent = os.sendfile(connection, file, offset, min(end - offset, _STEP_BYTES))
        except BlockingIOError:
            continue
        if not sent:
            raise CutError("the file ended early")
        offset += sent
        heard_s = time.monotonic()
    return count
