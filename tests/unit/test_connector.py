"""Which candidates are tried again when a pull looks for sources once more."""

from __future__ import annotations

from dataclasses import replace

import pytest

from mx.core.source import PeerRecord, SourceStatus, SourceSummary
from mx.errors import UnavailableError
from mx.transfer.connector import Connector
from mx.transfer.fetcher import Exhausted
from mx.transfer.session import Candidate, Session

ROW = SourceSummary("5a5f555570065064", "aaaa0001", 0, "org/model", SourceStatus.READY, 1)
PEER = PeerRecord("10.0.0.7:6555", "generation-0", "host", "layout")


def tried(first: SourceSummary, second: SourceSummary) -> int:
    """How often a worker is connected that is listed so, then so, and never answers."""
    rows = iter((first, second))
    connections: list[str] = []

    def refuse(candidate: Candidate) -> Session:
        connections.append(candidate.name)
        raise UnavailableError("refused")

    connector = Connector(
        discover=lambda: (Candidate(next(rows)),), connect=refuse, ready=lambda: None, max_sources=8
    )
    connector.start()
    assert isinstance(connector.inbox.get(timeout=10), Exhausted)
    connector.stop()
    assert next(rows, None) is None, "every listing was looked at"
    return len(connections)


@pytest.mark.parametrize("peer", [PEER, None], ids=["mx", "published"])
def test_a_heartbeat_does_not_make_a_worker_another_one(peer: PeerRecord | None) -> None:
    row = replace(ROW, peer=peer)
    assert tried(row, replace(row, updated_at_ms=2)) == 1


def test_a_restarted_worker_is_tried_again() -> None:
    restarted = replace(ROW, peer=replace(PEER, generation="generation-1"))
    assert tried(replace(ROW, peer=PEER), restarted) == 2


def test_a_published_worker_at_another_endpoint_is_tried_again() -> None:
    moved = replace(ROW, worker_grpc_endpoint="10.0.0.8:6555")
    assert tried(ROW, moved) == 2
