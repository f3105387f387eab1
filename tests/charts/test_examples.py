"""The manifests in examples/: valid, taken by a real API server, and true about mx.

LeaderWorkerSet and DynamoGraphDeployment belong to other projects: the API server has stand-ins of their
definitions that know names only, and what is checked are the containers inside.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import huggingface_hub
import kubernetes_validate
import pytest
import yaml
from chart_cluster import Cluster
from chart_containers import Container, container_of
from chart_rendering import CHART, ROOT, Helm, Manifest, documents, kind_and_name, only
from container_processes import Running, started
from hub_process import FILES
from kubelet import DEADLINE_S, wait_until_ready

from mx.config import load_settings
from mx.config.tree import TABLE

EXAMPLES = ROOT / "examples"
# Of other projects, by the definitions in stand_ins.yaml.
FOREIGN = {"LeaderWorkerSet", "DynamoGraphDeployment"}
MANIFESTS = sorted(file for file in EXAMPLES.rglob("*.yaml") if file.name != "values.yaml")
manifests = pytest.mark.parametrize(
    "file", MANIFESTS, ids=[str(file.relative_to(EXAMPLES)) for file in MANIFESTS]
)
OURS = {name for one in TABLE for name in (*one.env, *one.fallback_env)}


def read(file: Path) -> list[Manifest]:
    return documents(file.read_text(encoding="utf-8"))


def pods(manifest: Manifest) -> Iterator[Manifest]:
    """Every pod specification inside, those of foreign resources too."""
    if manifest["kind"] == "LeaderWorkerSet":
        template = manifest["spec"]["leaderWorkerTemplate"]
        yield from (template[name]["spec"] for name in ("leaderTemplate", "workerTemplate"))
    elif manifest["kind"] == "DynamoGraphDeployment":
        for service in manifest["spec"]["services"].values():
            main = {"name": "main", **service["extraPodSpec"]["mainContainer"]}
            rest = {key: one for key, one in service["extraPodSpec"].items() if key != "mainContainer"}
            yield {**rest, "containers": [main]}
    elif manifest["kind"] in ("Deployment", "StatefulSet"):
        yield manifest["spec"]["template"]["spec"]


def containers(file: Path) -> Iterator[Manifest]:
    for manifest in read(file):
        for pod in pods(manifest):
            yield from [*pod.get("initContainers", []), *pod["containers"]]


@manifests
def test_examples_are_valid_to_the_letter(file: Path) -> None:
    for manifest in read(file):
        for pod in pods(manifest):
            as_pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x"}, "spec": pod}
            kubernetes_validate.validate(as_pod, "1.37", strict=True)
        if manifest["kind"] not in FOREIGN:
            kubernetes_validate.validate(manifest, "1.37", strict=True)


@manifests
def test_the_server_takes_every_object(cluster: Cluster, file: Path) -> None:
    assert len(cluster.dry_run(read(file))) == len(read(file))


@manifests
def test_pods_inside_other_projects_resources_are_taken(cluster: Cluster, file: Path) -> None:
    found = [pod for one in read(file) if one["kind"] in FOREIGN for pod in pods(one)]
    as_pods = [
        {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": f"x{number}"}, "spec": pod}
        for number, pod in enumerate(found)
    ]
    assert len(cluster.dry_run(as_pods)) == len(as_pods) if as_pods else not found


@manifests
def test_variables_are_known_and_have_values_that_mx_takes(file: Path) -> None:
    for container in containers(file):
        env = {one["name"]: one.get("value", "from-the-pod") for one in container.get("env", [])}
        assert not {
            name for name in env if name.startswith(("MX_", "MODEL_EXPRESS_")) and name not in OURS
        }, container["name"]
        scope: Any = "server" if container["command"][:2] == ["mx", "server"] else "worker"
        settings = load_settings(environ={**env, "HOME": "/tmp"}, cwd=Path("/"), scope=scope)
        assert not [notice for notice in settings.notices if "without effect in mx" in notice]
        if "vllm" in " ".join(container["command"]):
            assert env["MODEL_EXPRESS_URL"] in ("modelexpress-server:8001", "mx:8001")


@manifests
def test_examples_share_the_secret_names_and_limits_of_the_chart(file: Path) -> None:
    for manifest in read(file):
        for pod in pods(manifest):
            for container in pod["containers"]:
                if manifest["kind"] != "DynamoGraphDeployment":  # its resources are the service's
                    assert container["resources"]["limits"]["memory"]
                for source in container.get("envFrom", []):
                    if "hf" in source["secretRef"]["name"]:
                        assert source["secretRef"] == {"name": "hf-token-secret", "optional": True}


def test_definitions_and_rules_are_those_of_the_chart() -> None:
    folder = EXAMPLES / "p2p_transfer_k8s" / "server" / "kubernetes_backend"
    definitions = [one for file in sorted((CHART / "crds").glob("*.yaml")) for one in read(file)]
    assert sorted(read(folder / "crd-modelmetadata.yaml"), key=kind_and_name) == definitions
    rules = yaml.safe_load((CHART / "files" / "rbac-rules.yaml").read_text(encoding="utf-8"))
    assert only(read(folder / "rbac-modelmetadata.yaml"), "Role")["rules"] == rules


def test_two_nodes_are_one_replica() -> None:
    file = EXAMPLES / "p2p_transfer_k8s" / "client" / "vllm" / "vllm-multi-node.yaml"
    leader, worker = containers(file)
    different = {"--node-rank=0", "--port=8000"} ^ {"--node-rank=$(LWS_WORKER_INDEX)", "--headless"}
    assert set(leader["args"]) ^ set(worker["args"]) == different
    assert leader["env"] == worker["env"]
    assert {"--tensor-parallel-size=8", "--pipeline-parallel-size=2", "--nnodes=2"} <= set(leader["args"])
    assert only(read(file), "LeaderWorkerSet")["spec"]["leaderWorkerTemplate"]["size"] == 2


# --- run ------------------------------------------------------------------------------------------
@pytest.mark.usefixtures("containers_run_here")
def test_the_server_with_redis_starts(tmp_path: Path) -> None:
    found = read(EXAMPLES / "p2p_transfer_k8s/server/redis_backend/modelexpress-server-redis.yaml")
    redis = container_of(only(found, "Deployment", "modelexpress-redis"), found, tmp_path / "redis-volumes")
    server = container_of(only(found, "Deployment", "modelexpress-server"), found, tmp_path / "volumes")
    with (
        started(redis, tmp_path / "redis") as first,
        started(server, tmp_path / "server", hosts=["modelexpress-redis"], beside=first) as running,
    ):
        wait_until_ready(running)


@pytest.mark.usefixtures("containers_run_here")
def test_the_init_container_has_the_model_on_disk(helm: Helm, tmp_path: Path) -> None:
    """Hub, server and init container in one network, as pods that reach each other by name."""
    file = EXAMPLES / "warm_cache_k8s" / "vllm-warm-cache.yaml"
    workload = only(read(file), "Deployment")
    warm = workload["spec"]["template"]["spec"]["initContainers"][0]
    vllm = workload["spec"]["template"]["spec"]["containers"][0]
    name = warm["args"][0]
    with started(_pause(), tmp_path / "pause") as network:
        hub = _hub(network, name, tmp_path / "hub")
        try:
            # With SQLite: the store is not what this is about.
            rendered = helm.render({"extraEnv": [{"name": "HF_ENDPOINT", "value": hub[1]}]})
            server = container_of(only(rendered, "Deployment"), rendered, tmp_path / "volumes")
            workload["spec"]["template"]["spec"]["containers"] = [warm]
            asking = container_of(workload, [], tmp_path / "none")
            with started(server, tmp_path / "server", beside=network) as running:
                wait_until_ready(running)
                with started(asking, tmp_path / "warm", hosts=["mx"], beside=network) as done:
                    assert done.process.wait(DEADLINE_S) == 0, f"{done.said()}\n{running.said()}"
        finally:
            hub[0].kill()
            hub[0].wait()
    # What vLLM does with HF_HUB_CACHE and HF_HUB_OFFLINE.
    env = {one["name"]: one.get("value") for one in vllm["env"]}
    below = Path(env["HF_HUB_CACHE"]).relative_to(vllm["volumeMounts"][0]["mountPath"])
    snapshot = huggingface_hub.snapshot_download(
        name, cache_dir=tmp_path / "volumes" / "data" / below, local_files_only=True
    )
    assert {path.name: path.read_bytes() for path in Path(snapshot).iterdir()} == FILES


def test_the_values_of_the_warm_cache_are_taken(helm: Helm) -> None:
    values = yaml.safe_load((EXAMPLES / "warm_cache_k8s" / "values.yaml").read_text(encoding="utf-8"))
    rendered = helm.render(values)
    claim = only(rendered, "PersistentVolumeClaim")
    assert claim["spec"]["accessModes"] == ["ReadWriteMany"]
    volumes = only(read(EXAMPLES / "warm_cache_k8s" / "vllm-warm-cache.yaml"), "Deployment")["spec"][
        "template"
    ]
    named = [one.get("persistentVolumeClaim", {}).get("claimName") for one in volumes["spec"]["volumes"]]
    assert claim["metadata"]["name"] in named


def _pause() -> Container:
    """What holds a pod's network."""
    return Container(
        argv=("sleep", "3600"), env={}, mounts=(), uid=10001, gid=10001, groups=(),
        read_only_root=True, keep_capabilities=False, spec={},
    )  # fmt: skip


def _hub(network: Running, name: str, folder: Path) -> tuple[subprocess.Popen[bytes], str]:
    """A hub in that network, and its address."""
    folder.mkdir()
    argv = [sys.executable, str(Path(__file__).with_name("hub_process.py")), name, str(folder / "address")]
    hub = network.start(argv)
    deadline = time.monotonic() + DEADLINE_S
    while not (folder / "address").exists():
        assert hub.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return hub, (folder / "address").read_text()
