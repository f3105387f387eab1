"""Which candidates are tried again when a pull looks for sources once more."""

from __future__ import annotations

from array import array
from dataclasses import replace

import pytest

from mx.core.source import PeerRecord, SourceStatus, SourceSummary
from mx.core.tensors import HOST_DEVICE
from mx.errors import NotFoundError, UnavailableError
from mx.transfer.book import Exhausted, Joined, LeaseLost
from mx.transfer.connector import Connector
from mx.transfer.remote import RemoteManifest
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


class Leased(Session):
    """A session that counts how often its lease was looked after, and loses it at the third time."""

    looks = 0

    def keep_lease(self) -> None:
        self.looks += 1
        if self.looks == 3:
            raise NotFoundError("lease 1 is unknown or expired")


def test_leases_are_kept_while_nobody_pulls_yet_and_a_lost_one_is_said() -> None:
    """A model may take minutes to build after its sources were found."""
    manifest = RemoteManifest(array("Q"), (), "layout", None, HOST_DEVICE)
    session = Leased(Candidate(ROW), agent_name="a", manifest=manifest, digest_kind="", channel=None)
    connector = Connector(
        discover=lambda: (Candidate(ROW),),
        connect=lambda _: session,
        ready=lambda: None,
        max_sources=8,
        keep_s=0.01,
    )
    connector.start()
    assert connector.inbox.get(timeout=10) == Joined(session)
    assert connector.inbox.get(timeout=10) == LeaseLost(session.name, "lease 1 is unknown or expired")
    connector.stop()


def test_a_defect_while_looking_for_sources_ends_the_search_with_a_reason() -> None:
    def defect() -> tuple[Candidate, ...]:
        raise RuntimeError("defect")

    connector = Connector(
        discover=defect,
        connect=lambda _: pytest.fail("nothing to connect"),
        ready=lambda: None,
        max_sources=8,
    )
    connector.start()
    assert isinstance(connector.inbox.get(timeout=10), Exhausted)
    assert connector.reasons == ("finding sources failed: defect",)
    connector.stop()
