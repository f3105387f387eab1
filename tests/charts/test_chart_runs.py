"""The chart's server starts: what it renders is run as a kubelet would run it, and asked as one asks."""

from __future__ import annotations

import signal
import sqlite3
import time
from pathlib import Path

import grpc
import pytest
from chart_cluster import ACCOUNT_NAMESPACE, Cluster
from chart_containers import Container, container_of
from chart_rendering import Helm, Manifest, only, pod_spec, values_of
from container_processes import started
from kubelet import DEADLINE_S, probe, wait_until_probe, wait_until_ready

from mx.testing.redis_servers import free_port, redis_program
from mx.wire.v1 import p2p

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


def test_http_probes_are_answered(helm: Helm, tmp_path: Path) -> None:
    manifests = helm.render({"probes": {"kind": "http"}})
    with started(server_container(manifests, tmp_path), tmp_path) as server:
        wait_until_ready(server)


def test_production_with_its_own_redis(helm: Helm, tmp_path: Path) -> None:
    """And an outage of it: the server leaves the Service, is not restarted, and comes back by itself."""
    redis_program()
    manifests = helm.render(values_of("values-production.yaml"))
    redis = container_of(only(manifests, "StatefulSet", "mx-redis"), manifests, tmp_path / "redis-volumes")
    server = server_container(manifests, tmp_path)
    with (
        started(redis, tmp_path / "redis") as store,
        started(server, tmp_path, hosts=["mx-redis"], beside=store) as running,
    ):
        wait_until_ready(store)
        password = redis.env["REDIS_PASSWORD"]
        assert password not in Path(f"/proc/{store.process.pid}/cmdline").read_text()
        assert "NOAUTH" in store.exec(["redis-cli", "ping"]).stdout
        wait_until_ready(running)
        assert password not in running.said()
        store.process.kill()
        wait_until_probe(running, "readinessProbe", good=False)
        assert probe(running, "livenessProbe").returncode == 0
        with started(redis, tmp_path / "redis", beside=running):
            wait_until_probe(running, "readinessProbe", good=True)


def test_records_in_the_api_server_with_the_rights_of_the_role(
    helm: Helm, cluster: Cluster, tmp_path: Path
) -> None:
    """The server as its ServiceAccount, which may do what the chart's Role says and nothing else."""
    ports = {"service": {"port": free_port()}, "metrics": {"port": free_port()}}
    values = {**ports, "store": {"backend": "kubernetes"}, "persistence": {"enabled": False}}
    manifests = helm.install(cluster.kubeconfig, ACCOUNT_NAMESPACE, values, name="mx")
    workload = only(manifests, "Deployment")
    workload["metadata"]["namespace"] = ACCOUNT_NAMESPACE
    container = container_of(
        workload, manifests, tmp_path / "volumes", account=cluster.account(tmp_path / "account")
    )
    with started(container, tmp_path, own_network=False) as server:
        wait_until_ready(server)
        with grpc.insecure_channel(f"127.0.0.1:{ports['service']['port']}") as channel:
            request = p2p.PublishMetadataRequest(
                identity=p2p.SourceIdentity(model_name="org/in-the-api"),
                worker=p2p.WorkerMetadata(),
                worker_id="w0",
            )
            answer = p2p.P2pServiceStub(channel).PublishMetadata(request, timeout=DEADLINE_S)
            assert answer.success, server.said()
        # The command that operators know, and its columns.
        table = cluster.kubectl("get", "mxmeta", "--namespace", ACCOUNT_NAMESPACE)
        assert "org/in-the-api" in table
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(DEADLINE_S) == 0, server.said()
    assert "forbidden" not in server.said().lower()
