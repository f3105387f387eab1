"""What UCX sees of the environment while an agent is created, and only then."""

from __future__ import annotations

import os
from collections.abc import Iterator
from unittest import mock

import pytest

from mx.config import load_settings
from mx.transfer.agent import ucx_environment


@pytest.fixture(autouse=True)
def environment() -> Iterator[None]:
    with mock.patch.dict(os.environ):
        os.environ.pop("UCX_MEM_EVENTS", None)
        yield


@pytest.mark.parametrize(
    ("given", "seen"),
    [
        ({}, None),
        ({"UCX_TLS": "self,tcp"}, "self,tcp"),
        ({"UCX_TLS": "tcp"}, None),
        ({"UCX_TLS": "tcp", "NIXL_UCX_TLS": "rc_x,self"}, "rc_x,self"),
        ({"NIXL_UCX_TLS": "tcp"}, "tcp"),
    ],
)
def test_ucx_tls(given: dict[str, str], seen: str | None) -> None:
    os.environ.pop("UCX_TLS", None)
    os.environ.update({k: v for k, v in given.items() if k == "UCX_TLS"})
    before = os.environ.get("UCX_TLS")
    with ucx_environment(load_settings(environ=given, scope="worker")):
        assert os.environ.get("UCX_TLS") == seen
    assert os.environ.get("UCX_TLS") == before


def test_memory_events_are_switched_off_for_ucx_alone() -> None:
    with ucx_environment(load_settings(environ={"MX_UCX_DISABLE_MEM_EVENTS": "1"}, scope="worker")):
        assert os.environ["UCX_MEM_EVENTS"] == "n"
    assert "UCX_MEM_EVENTS" not in os.environ
