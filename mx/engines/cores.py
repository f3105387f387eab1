"""Keeps mx's threads off the cores that an engine computes on.

A CPU engine pins its workers to cores, and threads inherit the pinning of whoever starts them. What
waits for a peer must not share one core with the peer: a transport that polls for the answer
would keep the only core on which the answer can be made.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def beside_the_engine() -> Iterator[None]:
    """Threads started inside may run on every core that the process was started with.

    Changes the calling thread only, and puts it back. What the process was started with is told by
    its parent, since the engine has pinned this one by now.
    """
    pinned = os.sched_getaffinity(0)
    try:
        given = os.sched_getaffinity(os.getppid())
    except OSError:  # not ours to ask: another user's, or gone in this moment
        given = pinned
    if not given > pinned:
        yield
        return
    os.sched_setaffinity(0, given)
    try:
        yield
    finally:
        os.sched_setaffinity(0, pinned)
