"""The chart against a real API server: what it renders there is taken, installed, and upgraded.

The server is v1.20: it knows no gRPC probes, no autoscaling/v2 and no policy/v1, so the chart's choice of
versions by what a cluster can do is tried here too.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from itertools import product
from pathlib import Path

import pytest
import yaml
from chart_cluster import ACCOUNT_NAMESPACE, Cluster
from chart_rendering import CHART, Helm, RefusedError, only, pod_spec, skip_or_fail
from chart_variants import VARIANTS


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_server_takes_every_object(helm: Helm, cluster: Cluster, variant: str) -> None:
    manifests = helm.install(cluster.kubeconfig, "serving", VARIANTS[variant], dry_run=True, name="try")
    assert len(cluster.dry_run(manifests)) == len(manifests)


def test_versions_are_those_of_the_cluster(helm: Helm, cluster: Cluster) -> None:
    old = helm.install(cluster.kubeconfig, "serving", VARIANTS["everything"], dry_run=True, name="try")
    new = helm.render(VARIANTS["everything"])
    assert only(old, "HorizontalPodAutoscaler")["apiVersion"] == "autoscaling/v2beta2"
    assert only(new, "HorizontalPodAutoscaler")["apiVersion"] == "autoscaling/v2"
    assert only(old, "PodDisruptionBudget")["apiVersion"] == "policy/v1beta1"
    assert only(new, "PodDisruptionBudget")["apiVersion"] == "policy/v1"
    # A cluster that does not know gRPC probes drops them without a word, and the pod would have none.
    for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
        assert "httpGet" in pod_spec(only(old, "Deployment"))["containers"][0][probe]
        assert "grpc" in pod_spec(only(new, "Deployment"))["containers"][0][probe]


def test_probes_that_the_cluster_does_not_know_are_refused(helm: Helm, cluster: Cluster) -> None:
    with pytest.raises(
        RefusedError, match=r"probes\.kind grpc needs Kubernetes 1\.24, this cluster has v1\.20"
    ):
        helm.install(cluster.kubeconfig, "serving", {"probes": {"kind": "grpc"}}, dry_run=True, name="try")


def test_without_http_an_old_cluster_asks_whether_the_port_is_open(helm: Helm, cluster: Cluster) -> None:
    manifests = helm.install(
        cluster.kubeconfig, "serving", {"metrics": {"enabled": False}}, dry_run=True, name="try"
    )
    probe = pod_spec(only(manifests, "Deployment"))["containers"][0]["readinessProbe"]
    assert probe["tcpSocket"] == {"port": "grpc"}


def test_the_password_survives_an_upgrade(helm: Helm, cluster: Cluster) -> None:
    values = {"store": {"backend": "redis"}, "redis": {"enabled": True}}

    def password() -> str:
        return cluster.kubectl(
            "-n", "upgrades", "get", "secret", "mx-redis", "-o", "jsonpath={.data.password}"
        )

    helm.install(cluster.kubeconfig, "upgrades", values)
    first = password()
    helm.install(cluster.kubeconfig, "upgrades", {**values, "logging": {"level": "debug"}})
    assert password() == first
    assert len(first) > 40


def test_the_service_account_may_what_the_role_says_and_no_more(helm: Helm, cluster: Cluster) -> None:
    """Asked with the account's own token, as the server would be."""
    helm.install(cluster.kubeconfig, ACCOUNT_NAMESPACE, VARIANTS["kubernetes, own volumes"])
    review = {"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectRulesReview"}

    def rights(namespace: str) -> set[tuple[str, str, str]]:
        asked = json.dumps({**review, "spec": {"namespace": namespace}})
        answer = cluster.kubectl(
            "create", "--token", cluster.server.token, "-o", "json", "-f", "-", stdin=asked
        )
        return set(_rights(json.loads(answer)["status"]["resourceRules"]))

    role = set(_rights(yaml.safe_load((CHART / "files" / "rbac-rules.yaml").read_text(encoding="utf-8"))))
    everywhere = rights("records")
    assert {resource for _, resource, _ in everywhere} <= {
        "selfsubjectaccessreviews",
        "selfsubjectrulesreviews",
    }
    assert rights(ACCOUNT_NAMESPACE) == role | everywhere


def _rights(rules: list[dict[str, list[str]]]) -> Iterator[tuple[str, str, str]]:
    for rule in rules:
        yield from product(rule["apiGroups"], rule["resources"], rule["verbs"])


# --- deploy.sh ------------------------------------------------------------------------------------
@pytest.fixture
def tools(tmp_path: Path) -> Path:
    """A folder with a `helm` for deploy.sh."""
    folder = tmp_path / "tools"
    folder.mkdir()
    program = folder / "helm"
    program.write_text(
        f'#!/bin/sh\nexec {sys.executable} {Path(__file__).with_name("helm_stand_in.py")} "$@"\n'
    )
    program.chmod(0o755)
    return folder


def test_deploy_installs_and_upgrades(cluster: Cluster, tools: Path, tmp_path: Path) -> None:
    script = CHART / "deploy.sh"
    mine = tmp_path / "mine.yaml"
    mine.write_text("logging: {level: trace}\n")
    for level, more in (("debug", []), ("trace", ["--values", mine])):
        done = cluster.run(
            script, "--namespace", "deployed", "-f", "values-development.yaml", *more, path=[tools]
        )
        assert done.returncode == 0, done.stderr
        text = cluster.kubectl("-n", "deployed", "get", "configmap", "mx", "-o", "jsonpath={.data}")
        assert f"level: {level}" in text


def test_deploy_tries_without_changing_anything(cluster: Cluster, tools: Path) -> None:
    done = cluster.run(
        CHART / "deploy.sh", "-n", "nowhere", "--values=values-production.yaml", "--dry-run", path=[tools]
    )
    assert done.returncode == 0, done.stderr
    assert "kind: Ingress" in done.stdout
    assert cluster.run("kubectl", "get", "namespace", "nowhere").returncode == 1


def test_deploy_hands_on_why_values_are_refused(cluster: Cluster, tools: Path, tmp_path: Path) -> None:
    bad = tmp_path / "bad.yaml"
    bad.write_text("replicaCount: 3\n")
    done = cluster.run(CHART / "deploy.sh", "-n", "serving", "-f", bad, path=[tools])
    assert done.returncode == 1
    assert "store.backend sqlite belongs to one server alone" in done.stderr
    assert "hint: kubectl -n serving get events" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        ([], 2, "no namespace given"),
        (["-n"], 2, "-n needs a value"),
        (["--namespace="], 2, "--namespace needs a value"),
        (["-n", "serving", "-f", "values-nowhere.yaml"], 2, "no values file values-nowhere.yaml"),
        (["-n", "serving", "now"], 2, "unknown argument: now"),
    ],
)
def test_deploy_says_what_is_wrong_with_a_call(arguments: list[str], code: int, words: str) -> None:
    done = subprocess.run([CHART / "deploy.sh", *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == code
    assert words in done.stderr
    assert done.stdout == ""


def test_deploy_names_the_tool_that_is_missing(tmp_path: Path) -> None:
    for tool in ("bash", "dirname"):
        (tmp_path / tool).symlink_to(f"/usr/bin/{tool}")
    done = subprocess.run(
        [CHART / "deploy.sh", "-n", "serving"],
        env={"PATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (3, "error: helm is not installed, or not in PATH\n")


def test_deploy_says_that_no_cluster_answers(tools: Path, tmp_path: Path) -> None:
    if not (kubectl := shutil.which("kubectl")):
        skip_or_fail("needs kubectl")
        return
    (tmp_path / "kubeconfig").write_text("{}")
    env = {
        "PATH": f"{tools}:{Path(kubectl).parent}:{os.environ['PATH']}",
        "KUBECONFIG": str(tmp_path / "kubeconfig"),
    }
    done = subprocess.run(
        [CHART / "deploy.sh", "-n", "serving"], env=env, capture_output=True, text=True, check=False
    )
    assert done.returncode == 4
    assert done.stderr.startswith("error: no cluster answers: ")
