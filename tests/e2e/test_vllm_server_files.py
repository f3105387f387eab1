"""Workers that see neither the server's storage nor the internet: files come from the server's cache."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from e2e_support import READY_S, Server, wait_until

PROMPT = "The capital of France is"
NAME = "acme/tiny-llama"


@pytest.fixture
def hub_server(tmp_path: Path, tiny_model: Path) -> Iterator[Server]:
    """A server that gets ``NAME`` from a hub that only it knows."""
    from mx.testing.fake_hub import FakeHub

    files = {path.name: path.read_bytes() for path in tiny_model.iterdir() if path.is_file()}
    with FakeHub() as hub:
        hub.add(NAME, files)
        server = Server(tmp_path, environment={"HF_ENDPOINT": hub.endpoint, "HF_HUB_OFFLINE": "0"})
        server.start()
        yield server
        server.stop()


def test_an_empty_worker_without_internet_is_ready_and_a_peer_spares_the_weights(
    hub_server: Server, tmp_path: Path
) -> None:
    from mx.engines.vllm.replica import Replica

    def replica(name: str) -> Replica:
        environment = {
            "MODEL_EXPRESS_URL": hub_server.address,
            "MODEL_EXPRESS_NO_SHARED_STORAGE": "1",
            "HF_HUB_CACHE": str(tmp_path / name),
        }
        return Replica(name, Path(NAME), log=tmp_path / f"{name}.log", environment=environment)

    def weights(name: str) -> list[Path]:
        return list((tmp_path / name).glob("models--*/snapshots/*/*.safetensors"))

    with replica("first") as first:
        first.wait_ready(timeout_s=READY_S)
        (line,) = first.loaded()
        assert f"weights of {NAME} rank 0 from server" in line
        assert "no peer holds rank 0" in line
        assert weights("first")
        expected = first.complete(PROMPT)
        wait_until(lambda: len(hub_server.ready_workers()) == 1, timeout_s=10, what="the first is listed")
        report = next(row for row in hub_server.transfers() if row["strategy"] == "server")
        assert report["bytes_done"] > 0
        with replica("second") as second:
            second.wait_ready(timeout_s=READY_S)
            (line,) = second.loaded()
            assert "from peer" in line
            assert "verified" in line
            assert second.complete(PROMPT) == expected
            assert not weights("second"), "a peer had them"
            assert list((tmp_path / "second").glob("models--*/snapshots/*/config.json"))
