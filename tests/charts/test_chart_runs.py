"""The chart's server starts: what it renders is run as a kubelet would run it, and asked as one asks."""

from __future__ import annotations

import signal
import sqlite3
import time
from pathlib import Path

import pytest
from chart_containers import Container, container_of
from chart_rendering import Helm, Manifest, only, pod_spec, values_of
from container_processes import started
from kubelet import DEADLINE_S, wait_until_ready

pytestmark = pytest.mark.usefixtures("containers_run_here")


def server_container(manifests: list[Manifest], folder: Path) -> Container:
    return container_of(only(manifests, "Deployment", "mx"), manifests, folder / "volumes")


@pytest.mark.parametrize("file", ["values.yaml", "values-development.yaml", "values-local-storage.yaml"])
def test_the_server_starts_and_ends_as_the_manifest_says(helm: Helm, tmp_path: Path, file: str) -> None:
    manifests = helm.render(values_of(file))
    container = server_container(manifests, tmp_path)
    assert (container.uid, container.read_only_root, container.keep_capabilities) == (10001, True, False)
    with started(container, tmp_path, hosts=["mx"]) as server:
        wait_until_ready(server)
        # `helm test` asks the Service by its name.
        asked = only(manifests, "Pod", "mx-health")
        with started(
            container_of(asked, manifests, tmp_path / "ask"), tmp_path / "ask", hosts=["mx"], beside=server
        ) as test:
            assert test.process.wait(DEADLINE_S) == 0, test.said()
        status = Path(f"/proc/{server.process.pid}/status").read_text()
        assert "Uid:\t10001\t10001\t10001\t10001" in status
        assert "CapEff:\t0000000000000000" in status
        assert "NoNewPrivs:\t1" in status
        begin_s = time.monotonic()
        server.process.send_signal(signal.SIGTERM)
        grace_s = pod_spec(only(manifests, "Deployment"))["terminationGracePeriodSeconds"]
        assert server.process.wait(DEADLINE_S) == 0, server.said()
        assert time.monotonic() - begin_s < grace_s
    data = tmp_path / "volumes" / "data"
    with sqlite3.connect(data / "models.db") as database:
        assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    assert (data / "cache").is_dir()
    assert "Traceback" not in server.said()


def test_a_second_start_finds_the_volume_of_the_first(helm: Helm, tmp_path: Path) -> None:
    manifests = helm.render({})
    for _ in range(2):
        with started(server_container(manifests, tmp_path), tmp_path) as server:
            wait_until_ready(server)
            server.process.send_signal(signal.SIGTERM)
            assert server.process.wait(DEADLINE_S) == 0, server.said()


def test_nothing_but_volumes_can_be_written(helm: Helm, tmp_path: Path) -> None:
    """That the stand-in for a container is one: the tests above would pass on any file system."""
    manifests = helm.render({})
    deployment = only(manifests, "Deployment")
    pod_spec(deployment)["containers"][0]["command"] = ["sh", "-c"]
    pod_spec(deployment)["containers"][0]["args"] = [
        "for d in / /etc /etc/model-express /usr /opt/mx /proc/sys;"
        " do ! touch $d/x 2>/dev/null || exit 9; done;"
        "for d in /tmp /var/lib/mx; do touch $d/x || exit 8; done; id -u"
    ]
    with started(server_container(manifests, tmp_path), tmp_path) as running:
        assert running.process.wait(DEADLINE_S) == 0, running.said()
    assert running.said() == "10001\n"
