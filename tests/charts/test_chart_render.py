"""What the chart renders: lint, schemas, settings that mx takes, objects that fit together, refusals."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from chart_containers import container_of
from chart_rendering import (
    CHART,
    READY_MADE,
    ROOT,
    Helm,
    Manifest,
    RefusedError,
    kind_and_name,
    only,
    pod_spec,
)
from chart_variants import VARIANTS

import mx
from mx.config import Settings, load_settings

variants = pytest.mark.parametrize("variant", VARIANTS)
# What the manifests are held against: the oldest and the newest schemas at hand. The API server of
# test_chart_cluster.py is older still.
KUBERNETES = ("1.25", "1.37")
_WORKLOADS = ("Deployment", "StatefulSet")
# Secrets that are not the chart's.
OUTSIDE = {
    "redis": {"password": "Pass1"},
    "redis-url": {"REDIS_URL": "redis://:Pass1@there:6379"},
    "s3": {"AWS_SECRET_ACCESS_KEY": "x"},
}


@pytest.fixture(scope="module")
def rendered(helm: Helm) -> dict[str, list[Manifest]]:
    return {name: helm.render(values) for name, values in VARIANTS.items()}


def server_of(manifests: list[Manifest]) -> Manifest:
    found = [one for one in manifests if one["kind"] in _WORKLOADS and one["metadata"]["name"] == "mx"]
    assert len(found) == 1
    return found[0]


def settings_of(manifests: list[Manifest], folder: Path) -> Settings:
    """What the server makes of its file and its variables. Raises SettingsError."""
    container = container_of(server_of(manifests), manifests, folder, secrets=OUTSIDE)
    return load_settings(config_file=folder / "settings" / "config.yaml", environ=container.env, cwd=folder)


@variants
def test_lint_has_nothing_to_say(helm: Helm, variant: str) -> None:
    assert helm.lint(VARIANTS[variant], kube_version="v1.20.0") == []
    assert helm.lint(VARIANTS[variant], kube_version="v1.37.0") == []


@variants
def test_manifests_are_valid_to_the_letter(rendered: dict[str, list[Manifest]], variant: str) -> None:
    for manifest in rendered[variant]:
        if manifest["kind"] == "ServiceMonitor":
            continue  # no part of Kubernetes: test_chart_cluster.py has its definition
        for version in KUBERNETES:
            kubernetes_validate.validate(manifest, version, strict=True)


@variants
def test_settings_are_those_of_mx(rendered: dict[str, list[Manifest]], variant: str, tmp_path: Path) -> None:
    settings = settings_of(rendered[variant], tmp_path)
    values = VARIANTS[variant]
    assert settings.metadata.backend == values.get("store", {}).get("backend", "sqlite")
    assert settings.cache.directory == Path("/var/lib/mx/cache")
    assert settings.database.path == Path("/var/lib/mx/models.db")
    assert not [notice for notice in settings.notices if "nearest" in notice]


def test_records_of_models_go_with_the_files_they_are_about(
    rendered: dict[str, list[Manifest]], tmp_path: Path
) -> None:
    """A server with a disk of its own must not tell others that a model is there."""
    backends = {
        name: settings_of(manifests, tmp_path / name).database.backend for name, manifests in rendered.items()
    }
    assert backends["kubernetes, own volumes"] == backends["redis there, no volumes"] == "sqlite"
    assert {backends[name] for name in ("kubernetes, shared", "values-production.yaml", "redis by url")} == {
        "auto"
    }


def test_where_records_are_kept(rendered: dict[str, list[Manifest]], tmp_path: Path) -> None:
    def settings(variant: str) -> Settings:
        return settings_of(rendered[variant], tmp_path / variant)

    password = only(rendered["values-production.yaml"], "Secret")["data"]["password"]
    assert len(password) > 40
    assert settings("values-production.yaml").redis.url.endswith("@mx-redis:6379")
    assert settings("everything").redis.url == "redis://:Pass1@mx-redis:6379"
    assert settings("redis there, no volumes").redis.url == "redis://:Pass1@there:6379"
    assert settings("redis by url").redis.url == "rediss://redis.data:6380/1"
    assert settings("kubernetes, shared").kubernetes.namespace == "records"
    assert settings("kubernetes, own volumes").kubernetes.namespace == "serving"


@pytest.mark.parametrize(
    ("size", "limit"),
    [("10Gi", 9 * 2**30), ("1000", 900), ("1.5T", 1_350_000_000_000), ("2Pi", 2 * 2**50 * 9 // 10)],
)
def test_the_cache_leaves_a_tenth_of_the_volume(helm: Helm, tmp_path: Path, size: str, limit: int) -> None:
    manifests = helm.render({"persistence": {"size": size}})
    assert settings_of(manifests, tmp_path).cache.max_size_bytes == limit


@pytest.mark.parametrize(("given", "limit"), [("none", None), ("200GiB", 200 * 2**30), ("7Gi", 7 * 2**30)])
def test_the_cache_takes_what_it_is_given(helm: Helm, tmp_path: Path, given: str, limit: int | None) -> None:
    manifests = helm.render({"cache": {"maxSize": given}})
    assert settings_of(manifests, tmp_path).cache.max_size_bytes == limit


# --- pods -----------------------------------------------------------------------------------------
def pods(manifests: list[Manifest]) -> Iterator[tuple[str, Manifest]]:
    for manifest in manifests:
        if manifest["kind"] in (*_WORKLOADS, "Pod"):
            yield kind_and_name(manifest), pod_spec(manifest)


@variants
def test_every_container_is_confined(rendered: dict[str, list[Manifest]], variant: str) -> None:
    for name, pod in pods(rendered[variant]):
        assert pod["securityContext"]["runAsNonRoot"] is True, name
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}, name
        assert pod["enableServiceLinks"] is False, name
        for container in pod["containers"]:
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }, name
            if not name.startswith("Pod/"):
                assert container["resources"]["limits"]["memory"], name


@variants
def test_the_token_is_mounted_where_it_is_needed_only(
    rendered: dict[str, list[Manifest]], variant: str
) -> None:
    manifests = rendered[variant]
    needed = VARIANTS[variant].get("store", {}).get("backend") == "kubernetes"
    assert pod_spec(server_of(manifests))["automountServiceAccountToken"] is needed
    assert [one["kind"] for one in manifests if "Role" in one["kind"]] == (
        ["Role", "RoleBinding"] if needed else []
    )


def test_the_role_is_the_list_that_the_store_was_tested_with(rendered: dict[str, list[Manifest]]) -> None:
    rules = yaml.safe_load((CHART / "files" / "rbac-rules.yaml").read_text(encoding="utf-8"))
    for variant, namespace in (("kubernetes, shared", "records"), ("kubernetes, own volumes", "serving")):
        role, binding = only(rendered[variant], "Role"), only(rendered[variant], "RoleBinding")
        assert role["rules"] == rules
        assert role["metadata"]["namespace"] == binding["metadata"]["namespace"] == namespace
        assert binding["subjects"] == [{"kind": "ServiceAccount", "name": "mx", "namespace": "serving"}]


@variants
def test_the_pod_lives_longer_than_the_drain(
    rendered: dict[str, list[Manifest]], variant: str, tmp_path: Path
) -> None:
    pod = pod_spec(server_of(rendered[variant]))
    grace_s = settings_of(rendered[variant], tmp_path).server.grace_s
    hook = (
        pod["containers"][0]
        .get("lifecycle", {})
        .get("preStop", {})
        .get("exec", {})
        .get("command", ["sleep", "0"])
    )
    assert pod["terminationGracePeriodSeconds"] >= int(hook[1]) + grace_s + 5


@variants
def test_a_store_that_is_away_restarts_nothing(rendered: dict[str, list[Manifest]], variant: str) -> None:
    container = pod_spec(server_of(rendered[variant]))["containers"][0]
    assert container["livenessProbe"]["grpc"]["service"] == "liveness"
    assert container["startupProbe"]["grpc"]["service"] == "liveness"
    assert "service" not in container["readinessProbe"]["grpc"]


def test_http_probes_ask_what_grpc_probes_ask(helm: Helm) -> None:
    container = pod_spec(server_of(helm.render({"probes": {"kind": "http"}})))["containers"][0]
    assert container["livenessProbe"]["httpGet"] == {"path": "/healthz", "port": "metrics"}
    assert container["readinessProbe"]["httpGet"] == {"path": "/readyz", "port": "metrics"}


# --- objects fit together -------------------------------------------------------------------------
def selects(selector: dict[str, str], labels: dict[str, str]) -> bool:
    return selector.items() <= labels.items()


@variants
def test_selectors_find_the_pods_they_mean(rendered: dict[str, list[Manifest]], variant: str) -> None:
    manifests = rendered[variant]
    server = server_of(manifests)
    labels = server["spec"]["template"]["metadata"]["labels"]
    redis = [one for one in manifests if kind_and_name(one) == "StatefulSet/mx-redis"]
    meant: dict[str, dict[str, str]] = {"mx": labels, "mx-servers": labels}
    if redis:
        meant["mx-redis"] = redis[0]["spec"]["template"]["metadata"]["labels"]
    for one in manifests:
        name = one["metadata"]["name"]
        match one["kind"]:
            case "Service":
                selector = one["spec"]["selector"]
            case "Deployment" | "StatefulSet" | "PodDisruptionBudget" | "ServiceMonitor":
                selector = one["spec"]["selector"]["matchLabels"]
            case "NetworkPolicy" if name != "mx-workers":
                selector = one["spec"]["podSelector"]["matchLabels"]
            case _:
                continue
        if one["kind"] == "ServiceMonitor":
            assert selects(selector, only(manifests, "Service", "mx")["metadata"]["labels"])
            continue
        found = {other for other, with_labels in meant.items() if selects(selector, with_labels)}
        assert found == ({"mx-redis"} if name == "mx-redis" else {"mx", "mx-servers"}), kind_and_name(one)


@variants
def test_names_that_objects_call_each_other_by_exist(
    rendered: dict[str, list[Manifest]], variant: str
) -> None:
    manifests = rendered[variant]
    there = {kind_and_name(one) for one in manifests}
    service = only(manifests, "Service", "mx")
    ports = {one["name"] for one in service["spec"]["ports"]}
    named = {one["name"] for one in pod_spec(server_of(manifests))["containers"][0]["ports"]}
    assert {one["targetPort"] for one in service["spec"]["ports"]} <= named
    for one in manifests:
        match one["kind"]:
            case "HorizontalPodAutoscaler":
                target = one["spec"]["scaleTargetRef"]
                assert f"{target['kind']}/{target['name']}" in there
                assert "replicas" not in server_of(manifests)["spec"]
            case "Ingress":
                backend = one["spec"]["rules"][0]["http"]["paths"][0]["backend"]["service"]
                assert backend == {"name": "mx", "port": {"name": "grpc"}}
            case "ServiceMonitor":
                assert one["spec"]["endpoints"][0]["port"] in ports
            case "StatefulSet":
                assert f"Service/{one['spec']['serviceName']}" in there
    for volume in pod_spec(server_of(manifests)).get("volumes", []):
        if claim := volume.get("persistentVolumeClaim"):
            assert f"PersistentVolumeClaim/{claim['claimName']}" in there or claim["claimName"] == "models"


def test_what_the_ready_made_files_promise(rendered: dict[str, list[Manifest]], tmp_path: Path) -> None:
    default, development, local, production = (rendered[file] for file in READY_MADE)
    assert only(default, "Deployment")["spec"]["replicas"] == 1
    assert only(default, "PersistentVolumeClaim")["spec"]["resources"]["requests"]["storage"] == "10Gi"
    assert settings_of(development, tmp_path).logging.level == "debug"
    assert (
        pod_spec(only(development, "Deployment"))["containers"][0]["resources"]["limits"]["memory"] == "512Mi"
    )
    assert not [one for one in local if "Claim" in one["kind"]]
    server = only(production, "Deployment", "mx")
    assert server["spec"]["replicas"] == 3
    assert pod_spec(server)["containers"][0]["resources"]["limits"]["memory"] == "2Gi"
    assert "requiredDuringSchedulingIgnoredDuringExecution" in pod_spec(server)["affinity"]["podAntiAffinity"]
    assert only(production, "PersistentVolumeClaim")["spec"]["accessModes"] == ["ReadWriteMany"]
    assert {"Ingress", "PodDisruptionBudget", "NetworkPolicy"} <= {one["kind"] for one in production}


def test_production_lets_its_ingress_in(rendered: dict[str, list[Manifest]]) -> None:
    policy = only(rendered["values-production.yaml"], "NetworkPolicy", "mx")
    peers = policy["spec"]["ingress"][0]["from"]
    assert {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "ingress-nginx"}}} in peers


@variants
def test_an_upgrade_of_the_chart_alone_restarts_no_pod(
    rendered: dict[str, list[Manifest]], variant: str
) -> None:
    for one in rendered[variant]:
        if one["kind"] in _WORKLOADS:
            assert "helm.sh/chart" not in one["spec"]["template"]["metadata"]["labels"]


def test_a_change_of_settings_restarts_the_pods(helm: Helm) -> None:
    def checksum(values: dict[str, Any]) -> str:
        meta = server_of(helm.render(values))["spec"]["template"]["metadata"]
        return str(meta["annotations"]["checksum/config"])

    assert checksum({}) == checksum({}) != checksum({"config": {"cache": {"parallel_files": 3}}})


def test_no_password_is_in_sight(rendered: dict[str, list[Manifest]]) -> None:
    for manifests in rendered.values():
        secret = [one for one in manifests if one["kind"] == "Secret"]
        for one in manifests:
            for container in pod_spec(one)["containers"] if one["kind"] in _WORKLOADS else []:
                for variable in container.get("env", []):
                    if "PASSWORD" in variable["name"]:
                        assert "secretKeyRef" in variable["valueFrom"]
                assert all(password not in json.dumps(container) for password in _values(secret))


def _values(secrets: list[Manifest]) -> Iterator[str]:
    for one in secrets:
        yield from one["data"].values()


@pytest.mark.parametrize("release", ["mx", "modelexpress", "x" * 53, "team-a-mx"])
def test_names_fit(helm: Helm, release: str) -> None:
    values = VARIANTS["values-production.yaml"]
    for one in helm.render(values, name=release):
        assert len(one["metadata"]["name"]) <= 63
        for value in one["metadata"].get("labels", {}).values():
            assert len(value) <= 63


def test_the_service_can_keep_an_address_that_is_known(helm: Helm) -> None:
    manifests = helm.render({"fullnameOverride": "modelexpress-server"})
    assert only(manifests, "Service")["metadata"]["name"] == "modelexpress-server"
    assert "MODEL_EXPRESS_URL=modelexpress-server.serving:8001" in helm.notes(
        {"fullnameOverride": "modelexpress-server"}
    )


# --- refusals -------------------------------------------------------------------------------------
_SEVERAL = {"replicaCount": 3}
_REDIS = {"store": {"backend": "redis"}, "redis": {"url": "redis://there:6379"}}
REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "several servers on SQLite": (
        _SEVERAL,
        "store.backend sqlite belongs to one server alone, and there would be 3 servers",
    ),
    "several servers in memory": (
        {**_SEVERAL, "store": {"backend": "memory"}},
        "store.backend memory belongs to one server",
    ),
    "an autoscaler on SQLite": (
        {"autoscaling": {"enabled": True}},
        "up to 5 servers that know nothing of each other",
    ),
    "several servers on one ReadWriteOnce volume": (
        {**_REDIS, **_SEVERAL},
        "One ReadWriteOnce volume can't be mounted by 3 servers",
    ),
    "an autoscaler on one ReadWriteOnce volume": (
        {**_REDIS, "autoscaling": {"enabled": True, "maxReplicas": 9}},
        "can't be mounted by up to 9 servers",
    ),
    "SQLite on ReadWriteMany": (
        {"persistence": {"accessMode": "ReadWriteMany"}},
        "SQLite is not safe on the network file systems",
    ),
    "own volumes that are shared": (
        {**_REDIS, "persistence": {"mode": "perReplica", "accessMode": "ReadWriteMany"}},
        "gives each server a volume of its own",
    ),
    "own volumes from one claim": (
        {**_REDIS, "persistence": {"mode": "perReplica", "existingClaim": "x"}},
        "existingClaim must be empty",
    ),
    "Redis without an address": ({"store": {"backend": "redis"}}, "exactly one of redis.enabled"),
    "two Redises": ({**_REDIS, "redis": {"enabled": True, "url": "redis://x"}}, "2 are set"),
    "Redis that is not used": ({"redis": {"enabled": True}}, "not used, since store.backend is sqlite"),
    "a password for all to see": (
        {"store": {"backend": "redis"}, "redis": {"url": "redis://:secret@there:6379"}},
        "Put the URL into a Secret",
    ),
    "HTTP probes without HTTP": (
        {"probes": {"kind": "http"}, "metrics": {"enabled": False}},
        "set metrics.enabled to true",
    ),
    "a monitor of nothing": (
        {"metrics": {"enabled": False, "serviceMonitor": {"enabled": True}}},
        "nothing to scrape",
    ),
    "one port twice": ({"metrics": {"port": 8001}}, "both 8001"),
    "an ingress without a name": ({"ingress": {"enabled": True}}, "ingress.hosts"),
    "an autoscaler upside down": (
        {**_REDIS, "persistence": {"enabled": False}, "autoscaling": {"enabled": True, "minReplicas": 9}},
        "minReplicas 9 is more than autoscaling.maxReplicas 5",
    ),
    "an autoscaler without a target": (
        {
            **_REDIS,
            "persistence": {"enabled": False},
            "autoscaling": {"enabled": True, "targetCPUUtilizationPercentage": 0},
        },
        "needs a target",
    ),
    "a setting that is the chart's": (
        {"config": {"server": {"port": 9}}},
        "config.server.port is set by the chart: use the value service.port",
    ),
    "an unknown value": ({"replicas": 3}, "replicas"),
    "an unknown value deep inside": ({"redis": {"auth": {"password": "x"}}}, "password"),
    "an unknown backend": (
        {"store": {"backend": "etcd"}},
        "must be one of 'sqlite', 'redis', 'kubernetes', 'memory'",
    ),
    "a word for a number": ({"replicaCount": "three"}, "/replicaCount"),
    "no quantity": ({"persistence": {"size": "10 gigs"}}, "/persistence/size"),
    "no size": ({"cache": {"maxSize": "lots"}}, "/cache/maxSize"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_would_not_work_is_refused_in_words(helm: Helm, case: str) -> None:
    values, words = REFUSED[case]
    with pytest.raises(RefusedError) as caught:
        helm.render(values)
    assert words in str(caught.value)
    assert "secret@" not in str(caught.value)


# --- files that must agree ------------------------------------------------------------------------
def test_the_schema_knows_every_value_and_no_other() -> None:
    schema = json.loads((CHART / "values.schema.json").read_text(encoding="utf-8"))
    values = yaml.safe_load((CHART / "values.yaml").read_text(encoding="utf-8"))

    def paths(node: Any, spec: dict[str, Any], here: str) -> Iterator[str]:
        spec = schema["$defs"][spec["$ref"].rpartition("/")[2]] if "$ref" in spec else spec
        if spec.get("additionalProperties") is not False:
            return
        yield from (f"{here}{name}" for name in set(node) ^ set(spec["properties"]))
        for name in set(node) & set(spec["properties"]):
            if isinstance(node[name], dict):
                yield from paths(node[name], spec["properties"][name], f"{here}{name}.")

    # global is Helm's own; times of probes may be given though the chart leaves them out.
    different = {path for path in paths(values, schema, "") if not path.startswith("probes.")}
    assert different == {"global"}


def test_the_readme_is_made_from_the_values() -> None:
    done = subprocess.run(
        [sys.executable, ROOT / "scripts" / "chart_readme.py", "--check"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_the_chart_is_of_this_version() -> None:
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text(encoding="utf-8"))
    assert chart["appVersion"] == mx.__version__
