"""Helm and a cluster for the session, and reasons to skip."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import chart_cluster
import container_processes
import pytest
from chart_cluster import Cluster, running_cluster
from chart_rendering import CHART, Helm, skip_or_fail


@pytest.fixture(scope="session")
def helm() -> Iterator[Helm]:
    with Helm.pool() as pool:
        yield Helm(pool)


@pytest.fixture(scope="session")
def containers_run_here() -> None:
    skip_or_fail(container_processes.missing())


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """With the namespaces that the tests use, and every definition that manifests need."""
    skip_or_fail(chart_cluster.missing())
    with running_cluster(tmp_path_factory.mktemp("cluster")) as cluster:
        for namespace in ("serving", "records"):
            cluster.make_namespace(namespace)
        cluster.kubectl("apply", "-f", CHART / "crds", "-f", Path(__file__).with_name("stand_ins.yaml"))
        cluster.kubectl("wait", "--for=condition=established", "crd", "--all")
        yield cluster
