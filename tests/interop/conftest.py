"""The published package in an environment of its own: MX_INTEROP_PYTHON names its interpreter."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

import pytest
from interop_support import PublishedWorker, Rows, StartWorker, mx_engine, mx_server

from mx.transfer.engine import TransferEngine


def pytest_collection_modifyitems(items: Sequence[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.interop)


@pytest.fixture(scope="session")
def published_python() -> str:
    """The interpreter; skips without one, except in CI, where the environment is always made."""
    python = os.environ.get("MX_INTEROP_PYTHON", "")
    if python and Path(python).exists():
        # Not resolved: a virtual environment is known by the path of its link.
        return str(Path(python).absolute())
    reason = (
        f"MX_INTEROP_PYTHON={python!r} names no interpreter with the published package: "
        "scripts/setup-interop.sh makes one, and `make test` uses it"
    )
    if os.environ.get("CI", "").lower() in ("true", "1"):
        pytest.fail(reason)
    pytest.skip(reason)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    with mx_server(tmp_path) as address:
        yield address


@pytest.fixture
def published(published_python: str, server: str, tmp_path: Path) -> Iterator[StartWorker]:
    """Starts workers of the published package; they end with the test."""
    with ExitStack() as ends:

        def start(
            worker_id: str, tensors: Rows, *, seed: int = 0, p2p_metadata: bool = True
        ) -> PublishedWorker:
            worker = PublishedWorker(
                published_python,
                server,
                worker_id=worker_id,
                tensors=tensors,
                seed=seed,
                p2p_metadata=p2p_metadata,
                log=tmp_path / f"{worker_id}.log",
            )
            ends.callback(worker.close)
            return worker

        yield start


@pytest.fixture
def engine(server: str) -> Iterator[Callable[..., TransferEngine]]:
    """Starts engines of mx in this process; they end with the test."""
    with ExitStack() as ends:

        def start(worker_id: str, **flags: object) -> TransferEngine:
            made = mx_engine(server, worker_id=worker_id, **flags)
            ends.callback(made.close)
            return made

        yield start
