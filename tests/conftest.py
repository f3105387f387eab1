"""For every test: a run ends when its tests end."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterator
from concurrent.futures.thread import _threads_queues
from pathlib import Path

import pytest

from mx.testing.api_server import ApiServer, find_assets

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


@pytest.fixture(scope="session")
def api_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    """One Kubernetes API server for the whole run; each test has a namespace of its own.

    Skips where the programs are missing, except in CI, where they are always set up.
    """
    found = find_assets()
    if isinstance(found, str):
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(found)
    server_program, etcd = found
    server = ApiServer(tmp_path_factory.mktemp("kubernetes"), server=server_program, etcd=etcd)
    try:
        server.start()
        server.apply_definitions(Path(__file__).parents[1] / "charts" / "mx" / "crds")
        yield server
    finally:
        server.stop()
