"""Tensors between mx and the published package, both ways and in both metadata modes, over NIXL."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import grpc
import pytest
from interop_support import (
    IDENTITY,
    PUBLISHED_SERVER,
    PublishedWorker,
    Rows,
    StartWorker,
    Tensors,
    free_port,
    mx_engine,
    mx_server,
    ready_rows,
    until,
)

from mx.client.sync import SyncClient
from mx.transfer.engine import TransferEngine
from mx.transfer.outcome import Failed, Loaded, Skipped
from mx.wire.v1 import peer

# Odd sizes, an empty tensor as packing leaves them, one tensor of several segments.
ROWS: Rows = [
    ("model.embed_tokens.weight", "torch.bfloat16", 1_000_000),
    ("model.norm.weight", "torch.bfloat16", 128),
    ("model.layers.0.g_idx", "torch.int32", 0),
    ("model.layers.0.scales", "torch.uint8", 4097),
    ("model.layers.0.mlp.weight", "torch.float32", 5 << 20),
]
BYTES = sum(size for _, _, size in ROWS)
MODES = pytest.mark.parametrize("p2p", [True, False], ids=["p2p-metadata", "central-metadata"])
StartEngine = Callable[..., TransferEngine]


def ready(server: str, *workers: str) -> None:
    until(
        lambda: {row.worker_id for row in ready_rows(server)} == set(workers),
        what=f"{workers} are READY",
        within_s=60,  # gRPC's own pause before it connects again grows to that
    )


def active_leases(server: str) -> int:
    """Of the one source of mx that is listed, as it says itself."""
    with SyncClient(server) as client:
        (row,) = client.find_peers(IDENTITY, worker_rank=0)
    assert row.peer is not None
    with grpc.insecure_channel(row.peer.endpoint) as channel:
        return int(peer.PeerServiceStub(channel).GetState(peer.GetStateRequest(), timeout=10).active_leases)


@MODES
def test_mx_pulls_from_a_published_source(
    server: str, published: StartWorker, engine: StartEngine, p2p: bool
) -> None:
    source = published("aaaa0001", ROWS, seed=3, p2p_metadata=p2p)
    assert source.ask("publish") == {"tensors": len(ROWS)}
    ready(server, "aaaa0001")
    mine = Tensors(ROWS)
    outcome = engine("bbbb0001").pull(mine.local)
    assert isinstance(outcome, Loaded), outcome
    assert mine.digests() == source.ask("digest")["digests"]
    report = outcome.report
    assert report.bytes_done == BYTES
    assert not report.verified, "a published source has no digests, so nothing was verified"
    assert [(share.worker_id, share.bytes, share.verified) for share in report.sources] == [
        ("aaaa0001", BYTES, False)
    ]
    leases = source.log.read_text()
    assert leases.count("PrepareTensorRead served") == int(p2p)
    assert leases.count("ReleaseTensorRead served") == int(p2p), "the lease of a pull is returned"


@MODES
def test_a_published_target_pulls_from_mx(
    server: str, published: StartWorker, engine: StartEngine, p2p: bool
) -> None:
    original = Tensors(ROWS, seed=4)
    source = engine("aaaa0002", **{"worker.p2p_metadata": p2p})
    source.publish(original.local)
    ready(server, "aaaa0002")
    target = published("bbbb0002", ROWS, p2p_metadata=p2p)
    answer = target.ask("pull")
    assert "seconds" in answer, (answer, target.log.read_text())
    assert target.ask("digest")["digests"] == original.digests()
    log = target.log.read_text()
    assert ("GetMetadata (P2P" if p2p else "GetMetadata (centralized)") in log

    source.close()
    assert ready_rows(server) == ()
    again = target.ask("pull")
    assert (again["mutated"], again["error"]) == (False, "No RDMA source available")


def test_weights_go_from_mx_to_a_published_worker_and_on_to_mx(
    server: str, published: StartWorker, engine: StartEngine
) -> None:
    original = Tensors(ROWS, seed=5)
    first = engine("aaaa0003")
    first.publish(original.local)
    ready(server, "aaaa0003")
    second = published("bbbb0003", ROWS)
    assert "seconds" in second.ask("pull")
    # Published 0.7.0 can't read an empty tensor, but it lists its own.
    assert second.ask("publish") == {"tensors": len(ROWS)}
    ready(server, "aaaa0003", "bbbb0003")
    first.close()
    third = Tensors(ROWS)
    outcome = engine("cccc0003").pull(third.local)
    assert isinstance(outcome, Loaded), outcome
    assert third.digests() == original.digests()


def test_a_source_of_mx_and_a_published_one_serve_one_pull(
    server: str, published: StartWorker, engine: StartEngine
) -> None:
    theirs = published("bbbb0004", ROWS, seed=6)
    theirs.ask("publish")
    original = Tensors(ROWS, seed=6)
    assert original.digests() == theirs.ask("digest")["digests"]
    engine("aaaa0004").publish(original.local)
    ready(server, "aaaa0004", "bbbb0004")
    mine = Tensors(ROWS)
    outcome = engine("cccc0004").pull(mine.local)
    assert isinstance(outcome, Loaded), outcome
    assert mine.digests() == original.digests()
    shares = outcome.report.sources
    assert sum(share.bytes for share in shares) == BYTES
    assert not any(share.dropped for share in shares), shares
    assert outcome.report.verified == all(share.worker_id == "aaaa0004" for share in shares if share.segments)


@MODES
def test_mx_to_mx_and_to_a_published_target_through_a_server_without_calls_of_mx(
    published_python: str, tmp_path: Path, p2p: bool
) -> None:
    """Both targets see what published peers are told: no digests, and no empty tensors."""
    with mx_server(tmp_path, program=PUBLISHED_SERVER) as address, ExitStack() as ends:
        original, mine = Tensors(ROWS, seed=12), Tensors(ROWS)
        source = mx_engine(address, worker_id="aaaa0010", **{"worker.p2p_metadata": p2p})
        ends.callback(source.close)
        source.publish(original.local)
        ready(address, "aaaa0010")
        target = mx_engine(address, worker_id="bbbb0010")
        ends.callback(target.close)
        outcome = target.pull(mine.local)
        assert isinstance(outcome, Loaded), outcome
        assert not outcome.report.verified
        assert mine.digests() == original.digests()
        theirs = PublishedWorker(
            published_python,
            address,
            worker_id="cccc0010",
            tensors=ROWS,
            p2p_metadata=p2p,
            log=tmp_path / "target.log",
        )
        ends.callback(theirs.close)
        assert "seconds" in theirs.ask("pull")
        assert theirs.ask("digest")["digests"] == original.digests()


@pytest.mark.parametrize(
    ("held", "problem"),
    [
        (ROWS[:-1], "model.layers.0.mlp.weight"),
        ([*ROWS[:-1], (*ROWS[-1][:2], 4 << 20)], "model.layers.0.mlp.weight"),
        ([*ROWS[:-1], ("model.layers.0.mlp.weight", "torch.bfloat16", 5 << 20)], "torch.bfloat16"),
    ],
    ids=["tensor-missing", "other-size", "other-dtype"],
)
def test_a_published_source_that_does_not_fit_is_refused_before_a_byte_moves(
    server: str, published: StartWorker, engine: StartEngine, held: Rows, problem: str
) -> None:
    source = published("aaaa0005", held, seed=7)
    source.ask("publish")
    ready(server, "aaaa0005")
    mine = Tensors(ROWS)
    before = mine.digests()
    outcome = engine("bbbb0005").pull(mine.local)
    assert isinstance(outcome, Failed)
    assert (outcome.mutated, outcome.blame) == (False, "source")
    assert problem in outcome.reason
    assert mine.digests() == before
    log = source.log.read_text()
    assert log.count("ReleaseTensorRead served") == log.count("PrepareTensorRead served") == 1


def test_a_published_source_that_died_is_passed_over(
    server: str, published: StartWorker, engine: StartEngine
) -> None:
    source = published("aaaa0006", ROWS, seed=8)
    source.ask("publish")
    ready(server, "aaaa0006")
    target = engine("bbbb0006")
    target.wait_started()
    source.kill()
    assert ready_rows(server), "the server can't know yet"
    outcome = target.pull(Tensors(ROWS).local, deadline_s=20)
    assert isinstance(outcome, Skipped)
    assert "aaaa0006" in outcome.reason


def test_a_lease_that_led_nowhere_is_returned(
    server: str, published: StartWorker, engine: StartEngine
) -> None:
    """The source answers, but its NIXL metadata can't be fetched: without a listen thread here."""
    source = published("aaaa0007", ROWS, seed=9)
    source.ask("publish")
    ready(server, "aaaa0007")
    outcome = engine("bbbb0007", **{"transfer.listen": False}).pull(Tensors(ROWS).local)
    assert isinstance(outcome, Skipped)
    assert "listen" in outcome.reason
    log = source.log.read_text()
    assert log.count("PrepareTensorRead served") == 1
    assert log.count("ReleaseTensorRead served") == 1


def test_leases_that_a_published_target_takes_from_mx(
    server: str, published: StartWorker, engine: StartEngine
) -> None:
    engine("aaaa0008", **{"worker.p2p_metadata": True}).publish(Tensors(ROWS, seed=10).local)
    ready(server, "aaaa0008")
    target = published("bbbb0008", ROWS)
    full = [size for _, _, size in ROWS if size]
    assert target.ask("lease") == {"lease": len(full)}
    assert active_leases(server) == 1
    assert target.ask("release") == {"released": True}
    assert active_leases(server) == 0
    assert target.ask("release")["error"] == "NOT_FOUND"


@pytest.mark.parametrize("kept", [True, False], ids=["database-kept", "database-lost"])
def test_a_published_source_comes_back_after_the_server_was_killed(
    published_python: str, tmp_path: Path, kept: bool
) -> None:
    """Its heartbeat is refused twice by a server that lost its record; then it publishes again."""
    port = free_port()
    with mx_server(tmp_path, port=port) as address:
        source = PublishedWorker(
            published_python,
            address,
            worker_id="aaaa0009",
            tensors=ROWS,
            seed=11,
            log=tmp_path / "source.log",
        )
        source.ask("publish")
        ready(address, "aaaa0009")
    try:
        if not kept:
            for file in tmp_path.glob("models.db*"):
                file.unlink()
        with mx_server(tmp_path, port=port) as address:
            ready(address, "aaaa0009")
            target = mx_engine(address, worker_id="bbbb0009")
            mine = Tensors(ROWS)
            try:
                assert isinstance(target.pull(mine.local), Loaded)
            finally:
                target.close()
            assert mine.digests() == source.ask("digest")["digests"]
            published = source.log.read_text().count("Published P2P metadata to MX server")
            assert published == (1 if kept else 2)
    finally:
        source.close()
