"""Helm and a cluster for the session, and reasons to skip."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import chart_cluster
import container_processes
import pytest
from chart_cluster import Cluster
from chart_rendering import Helm, skip_or_fail

from mx.testing.api_server import ApiServer


@pytest.fixture(scope="session")
def helm() -> Iterator[Helm]:
    with Helm.pool() as pool:
        yield Helm(pool)


@pytest.fixture(scope="session")
def containers_run_here() -> None:
    skip_or_fail(container_processes.missing())


@pytest.fixture(scope="session")
def cluster(api_server: ApiServer, tmp_path_factory: pytest.TempPathFactory) -> Cluster:
    """With the namespaces that the tests use, and every definition that manifests need."""
    skip_or_fail(chart_cluster.missing())
    kubeconfig = api_server.kubeconfig(tmp_path_factory.mktemp("cluster") / "kubeconfig")
    cluster = Cluster(api_server, kubeconfig)
    for namespace in ("serving", "records"):
        cluster.make_namespace(namespace)
    stand_ins = Path(__file__).with_name("stand_ins.yaml")
    cluster.kubectl("apply", "-f", stand_ins)
    cluster.kubectl("wait", "--for=condition=established", "-f", stand_ins)
    return cluster
