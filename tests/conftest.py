"""For every test: a run ends when its tests end."""

from __future__ import annotations

import os
import sys
import threading
from concurrent.futures.thread import _threads_queues

import pytest

# What a store's thread may take to end after its last test.
_GRACE_S = 5.0


@pytest.hookimpl(trylast=True)
def pytest_unconfigure(config: pytest.Config) -> None:
    """Threads that would keep the interpreter alive for ever fail the run, by name."""
    left = [
        thread
        for thread in threading.enumerate()
        if not thread.daemon
        and thread is not threading.main_thread()
        and thread not in _threads_queues  # idle workers of a pool: the interpreter ends them itself
    ]
    for thread in left:
        thread.join(_GRACE_S / len(left))
    names = [thread.name for thread in left if thread.is_alive()]
    if names and not hasattr(config, "workerinput"):
        sys.stderr.write(f"threads left behind: {', '.join(names)}\n")
        sys.stderr.flush()
        sys.stdout.flush()
        os._exit(1)
