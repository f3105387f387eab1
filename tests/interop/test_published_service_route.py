"""Without a server: mx and published workers find each other by the address of a Service."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from interop_support import IDENTITY, PublishedWorker, Rows, Tensors, free_port

from mx.config import load_settings
from mx.engines.discovery import connect
from mx.transfer.engine import TransferEngine
from mx.transfer.outcome import Loaded

ROWS: Rows = [
    ("model.embed_tokens.weight", "torch.bfloat16", 1_000_000),
    ("model.layers.0.scales", "torch.uint8", 4097),
    ("model.layers.0.mlp.weight", "torch.float32", 3 << 20),
]


@pytest.fixture
def ends() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def published(ends: ExitStack, python: str, folder: Path, port: int, **task: int) -> PublishedWorker:
    """A published worker that knows the Service at this port and listens there if it publishes."""
    name = f"published{len(list(folder.iterdir()))}"
    worker = PublishedWorker(
        python,
        "127.0.0.1:1",
        worker_id=name,
        tensors=ROWS,
        log=folder / f"{name}.log",
        seed=task.get("seed", 0),
        MX_METADATA_BACKEND="k8s-service",
        MX_K8S_SERVICE_PATTERN=f"127.0.0.1:{port}",
        MX_WORKER_GRPC_PORT=str(port),
    )
    ends.callback(worker.close)
    return worker


def engine(ends: ExitStack, port: int) -> TransferEngine:
    flags = {
        "worker.metadata_backend": "k8s-service",
        "worker.k8s_service_pattern": f"127.0.0.1:{port}",
        "worker.grpc_port": port,
        "worker.host": "127.0.0.1",
        "worker.metadata_port": 0,
    }
    settings = load_settings(flags=flags, environ={}, scope="worker")
    made = TransferEngine(settings, client=connect(settings), identity=IDENTITY, worker_rank=0)
    ends.callback(made.close)
    return made


def test_mx_pulls_from_a_published_worker_behind_a_service(
    ends: ExitStack, published_python: str, tmp_path: Path
) -> None:
    port = free_port()
    source = published(ends, published_python, tmp_path, port, seed=3)
    assert source.ask("publish") == {"tensors": len(ROWS)}
    mine = Tensors(ROWS)
    outcome = engine(ends, port).pull(mine.local)
    assert isinstance(outcome, Loaded), outcome
    assert mine.digests() == source.ask("digest")["digests"]
    assert not outcome.report.verified


def test_a_published_worker_pulls_from_mx_behind_a_service(
    ends: ExitStack, published_python: str, tmp_path: Path
) -> None:
    port = free_port()
    theirs = Tensors(ROWS, seed=5)
    source = engine(ends, port)
    source.publish(theirs.local)
    target = published(ends, published_python, tmp_path, port)
    pulled = target.ask("pull")
    assert "seconds" in pulled, pulled
    assert target.ask("digest")["digests"] == theirs.digests()
