"""For every test: a run ends when its tests end."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterator
from concurrent.futures.thread import _threads_queues
from pathlib import Path
from typing import Any

import pytest

from mx.testing.api_server import ApiServer, find_assets

# What a store's thread may take to end after its last test.
_GRACE_S = 5.0
_left_behind: list[str] = []


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Threads that would keep the interpreter alive for ever fail the run, by name; those of workers too."""
    names = _threads_left()
    if (output := getattr(session.config, "workeroutput", None)) is not None:
        output["threads_left"] = names
        return
    names += _left_behind
    if names:
        sys.stderr.write(f"threads left behind: {', '.join(names)}\n")
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """A worker of a run in several processes has ended."""
    _left_behind.extend(getattr(node, "workeroutput", {}).get("threads_left", ()))


@pytest.hookimpl(trylast=True)
def pytest_unconfigure(config: pytest.Config) -> None:
    if _threads_left() and not hasattr(config, "workerinput"):
        sys.stdout.flush()
        os._exit(1)


def _threads_left() -> list[str]:
    left = [
        thread
        for thread in threading.enumerate()
        if not thread.daemon
        and thread is not threading.main_thread()
        and thread not in _threads_queues  # idle workers of a pool: the interpreter ends them itself
    ]
    for thread in left:
        thread.join(_GRACE_S / len(left))
    return [thread.name for thread in left if thread.is_alive()]


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
