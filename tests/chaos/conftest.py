from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from processes import Server, Site


@pytest.fixture(scope="module")
def shared_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One server for tests that leave it alone; each has a model of its own."""
    server = Server(tmp_path_factory.mktemp("server"))
    try:
        yield server.start()
    finally:
        server.close()


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    """A place for a server and workers of this test; they end with it."""
    site = Site(tmp_path)
    try:
        yield site
    finally:
        site.close()
