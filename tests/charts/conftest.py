"""Helm for the session, and reasons to skip."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from chart_containers import missing
from chart_rendering import Helm


def skip_or_fail(reason: str) -> None:
    """A laptop may lack something; CI may not."""
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)


@pytest.fixture(scope="session")
def helm() -> Iterator[Helm]:
    with Helm.pool() as pool:
        yield Helm(pool)


@pytest.fixture(scope="session")
def containers_run_here() -> None:
    if reason := missing():
        skip_or_fail(reason)
