"""The chart, rendered by Helm's own library in a process of its own.

Helm is written in Go: its runtime takes signals and threads, and stays out of the tests' process.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
CHART = ROOT / "charts" / "mx"
Manifest = dict[str, Any]
Values = Mapping[str, Any]
READY_MADE = ("values.yaml", "values-development.yaml", "values-local-storage.yaml", "values-production.yaml")


class RefusedError(Exception):
    """Helm's own words about a chart or values that it does not take."""


def values_of(name: str, over: Values | None = None) -> dict[str, Any]:
    """A ready-made values file with ``over`` on top, merged as Helm merges."""
    return merged(yaml.safe_load((CHART / name).read_text(encoding="utf-8")), over or {})


def merged(base: Values, over: Values) -> dict[str, Any]:
    both = dict(base)
    for key, value in over.items():
        below = both.get(key)
        both[key] = merged(below, value) if isinstance(value, dict) and isinstance(below, dict) else value
    return both


def documents(text: str) -> list[Manifest]:
    return [document for document in yaml.safe_load_all(text) if document]


class Helm:
    """Calls of Helm's library, one at a time."""

    def __init__(self, pool: ProcessPoolExecutor) -> None:
        self._pool = pool

    @classmethod
    def pool(cls) -> ProcessPoolExecutor:
        return ProcessPoolExecutor(1, mp_context=get_context("spawn"))

    def render(self, values: Values, *, name: str = "mx", namespace: str = "serving") -> list[Manifest]:
        """Without a cluster, for the newest Kubernetes that Helm knows. Raises RefusedError."""
        files = self._pool.submit(_render, dict(values), name, namespace).result()
        return [one for path, text in files.items() if path.endswith(".yaml") for one in documents(text)]

    def notes(self, values: Values) -> str:
        files = self._pool.submit(_render, dict(values), "mx", "serving").result()
        return files["mx/templates/NOTES.txt"]

    def lint(self, values: Values, *, kube_version: str | None = None) -> list[str]:
        """Errors and warnings."""
        return self._pool.submit(_lint, dict(values), kube_version).result()

    def install(
        self, kubeconfig: Path, namespace: str, values: Values, *, dry_run: bool = False, name: str = "mx"
    ) -> list[Manifest]:
        """Install, or upgrade what is there; what was applied, without hooks. Raises RefusedError."""
        text = self._pool.submit(_install, kubeconfig, namespace, dict(values), dry_run, name).result()
        return documents(text)


def _render(values: dict[str, Any], name: str, namespace: str) -> dict[str, str]:
    import helm_python

    try:
        with helm_python.Chart.load(CHART) as chart:
            return chart.render(values, name=name, namespace=namespace)
    except helm_python.HelmError as error:
        raise RefusedError(str(error)) from None


def _lint(values: dict[str, Any], kube_version: str | None) -> list[str]:
    import helm_python

    report = helm_python.lint(CHART, values, strict=True, kube_version=kube_version)
    # Severity 1 is advice: that an icon is recommended.
    return [f"{one['path']}: {one['error']}" for one in report["messages"] if one["severity"] > 1]


def _install(kubeconfig: Path, namespace: str, values: dict[str, Any], dry_run: bool, name: str) -> str:
    import helm_python

    how: dict[str, Any] = {"namespace": namespace, "dry_run": "server" if dry_run else None}
    try:
        with helm_python.Config(kubeconfig_path=kubeconfig, namespace=namespace) as cluster:
            if any(release["name"] == name for release in cluster.list()):
                return str(cluster.upgrade(CHART, name, values, **how)["manifest"])
            return str(cluster.install(CHART, name, values, create_namespace=not dry_run, **how)["manifest"])
    except helm_python.HelmError as error:
        raise RefusedError(str(error)) from None


def only(manifests: list[Manifest], kind: str, name: str | None = None) -> Manifest:
    """The one of this kind (and name)."""
    found = [one for one in manifests if one["kind"] == kind and name in (None, one["metadata"]["name"])]
    assert len(found) == 1, f"{len(found)} × {kind} {name or ''}: {[kind_and_name(one) for one in manifests]}"
    return found[0]


def kind_and_name(manifest: Manifest) -> str:
    return f"{manifest['kind']}/{manifest['metadata']['name']}"


def pod_spec(workload: Manifest) -> Manifest:
    spec: Manifest = workload["spec"] if workload["kind"] == "Pod" else workload["spec"]["template"]["spec"]
    return spec


def skip_or_fail(reason: str) -> None:
    """A laptop may lack something; CI may not. An empty reason is none."""
    if not reason:
        return
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)
