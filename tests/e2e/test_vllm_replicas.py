"""The main job: a replica takes its weights from a running one, and another takes over when that dies."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from e2e_support import READY_S, Server, wait_until

PROMPT = "The capital of France is"


def test_replicas_feed_each_other(
    server: Server, model: Path, hollow: Callable[[Path], Path], tmp_path: Path
) -> None:
    from mx.engines.vllm.replica import Replica

    environment = {"MODEL_EXPRESS_URL": server.address}
    copy = hollow(model)

    def replica(name: str, folder: Path) -> Replica:
        return Replica(name, folder, log=tmp_path / f"{name}.log", environment=environment)

    with contextlib.ExitStack() as running:
        first = running.enter_context(replica("first", model))
        first.wait_ready(timeout_s=READY_S)
        (line,) = first.loaded()
        assert "from disk" in line
        assert "no peer holds rank 0" in line
        expected = first.complete(PROMPT)
        assert "Paris" in expected[0]
        wait_until(lambda: len(server.ready_workers()) == 1, timeout_s=10, what="the first replica is listed")
        (donor,) = server.ready_workers()

        # The second has no weights on disk that could give this answer.
        second = running.enter_context(replica("second", copy))
        second.wait_ready(timeout_s=READY_S)
        (line,) = second.loaded()
        assert "from peer" in line
        assert "verified" in line
        assert donor in line
        assert second.complete(PROMPT) == expected
        pulled = next(row for row in server.transfers() if row["strategy"] == "peer")
        size = sum(path.stat().st_size for path in model.glob("*.safetensors"))
        assert pulled["state"] == "done"
        assert pulled["verified"]
        assert pulled["bytes_done"] >= size * 0.95
        assert pulled["gbit_s"] > 0
        assert [share["worker_id"] for share in pulled["sources"]] == [donor]
        disk = next(row for row in server.transfers() if row["strategy"] == "disk")
        assert "no peer holds" in disk["reason"]

        # Killed, not ended: nothing in it can say goodbye.
        wait_until(
            lambda: len(server.ready_workers()) == 2, timeout_s=10, what="the second replica is listed"
        )
        os.killpg(first.pid, signal.SIGKILL)
        wait_until(
            lambda: donor not in server.ready_workers(), timeout_s=5, what="the killed replica is withdrawn"
        )
        (survivor,) = server.ready_workers()

        third = running.enter_context(replica("third", copy))
        third.wait_ready(timeout_s=READY_S)
        (line,) = third.loaded()
        assert "from peer" in line
        assert survivor in line
        assert third.complete(PROMPT) == expected

        # An orchestrator's SIGTERM, with vLLM's default of no patience.
        wait_until(lambda: len(server.ready_workers()) == 2, timeout_s=10, what="the third replica is listed")
        second.terminate()
        wait_until(
            lambda: survivor not in server.ready_workers(), timeout_s=5, what="the ended one is withdrawn"
        )


@pytest.mark.parametrize("ranks", [2])
def test_tensor_parallel_ranks_pull_rank_to_rank(
    server: Server, tiny_model: Path, hollow: Callable[[Path], Path], tmp_path: Path, ranks: int
) -> None:
    from mx.engines.vllm.replica import Replica

    environment = {"MODEL_EXPRESS_URL": server.address, "VLLM_CPU_OMP_THREADS_BIND": "0|1"}
    arguments = ("-tp", str(ranks))
    if (os.cpu_count() or 1) < ranks:
        pytest.skip("needs a core per rank")

    def replica(name: str, folder: Path) -> Replica:
        return Replica(
            name, folder, log=tmp_path / f"{name}.log", environment=environment, arguments=arguments
        )

    with replica("first", tiny_model) as first:
        first.wait_ready(timeout_s=READY_S)
        assert len(first.loaded()) == ranks
        expected = first.complete(PROMPT)
        wait_until(lambda: len(server.ready_workers()) == ranks, timeout_s=10, what="both ranks are listed")
        with replica("second", hollow(tiny_model)) as second:
            second.wait_ready(timeout_s=READY_S)
            lines = sorted(second.loaded())
            assert [line.split(" from ")[0].split()[-1] for line in lines] == ["0", "1"]
            assert all("from peer" in line for line in lines), lines
            assert second.complete(PROMPT) == expected
    rows = [row for row in server.transfers() if row["strategy"] == "peer"]
    assert sorted(row["worker_rank"] for row in rows) == [0, 1]
    donors = {share["worker_id"] for row in rows for share in row["sources"]}
    assert len(donors) == ranks, "each rank reads from its own rank"
