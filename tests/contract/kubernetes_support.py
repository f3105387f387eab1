"""Stores over a real API server, each in a namespace of its own."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import yaml

from mx.ports import Clock
from mx.store.kubernetes import Cluster, KubernetesDuties, KubernetesModelStore, KubernetesSourceStore
from mx.store.kubernetes.mirror import MirrorRules
from mx.testing.api_server import ApiServer
from mx.wiring import SystemClock

QUICK = MirrorRules(patience_s=2.0)
RULES = Path(__file__).parents[2] / "charts" / "mx" / "files" / "rbac-rules.yaml"


def granted_namespace(server: ApiServer) -> str:
    """A new namespace in which the ordinary account may do what the chart's Role allows, and no more."""
    namespace = server.new_namespace()
    server.grant(namespace, yaml.safe_load(RULES.read_text()))
    return namespace


@asynccontextmanager
async def cluster(
    server: ApiServer,
    namespace: str,
    *,
    token: str = "",
    url: str = "",
    clock: Clock | None = None,
    rules: MirrorRules = QUICK,
    call_s: float = 10.0,
) -> AsyncIterator[Cluster]:
    """A connection that nobody has joined yet; stores close it."""
    with tempfile.TemporaryDirectory() as folder:
        file = server.kubeconfig(Path(folder) / "kubeconfig", token=token, url=url)
        opened = await Cluster.connect(
            namespace=namespace,
            clock=clock or SystemClock(),
            kubeconfig=str(file),
            rules=rules,
            call_s=call_s,
        )
    try:
        yield opened
    finally:
        await opened.api.close()


@asynccontextmanager
async def source_store(
    server: ApiServer, namespace: str, **options: object
) -> AsyncIterator[KubernetesSourceStore]:
    async with cluster(server, namespace, **options) as opened:  # type: ignore[arg-type]
        store = await KubernetesSourceStore.open(opened)
        try:
            yield store
        finally:
            await store.close()


@asynccontextmanager
async def model_store(
    server: ApiServer, namespace: str, **options: object
) -> AsyncIterator[KubernetesModelStore]:
    async with cluster(server, namespace, **options) as opened:  # type: ignore[arg-type]
        store = await KubernetesModelStore.open(opened)
        try:
            yield store
        finally:
            await store.close()


@asynccontextmanager
async def duties_in(server: ApiServer, namespace: str, **options: object) -> AsyncIterator[KubernetesDuties]:
    async with cluster(server, namespace, **options) as opened:  # type: ignore[arg-type]
        duties = await KubernetesDuties.open(opened)
        try:
            yield duties
        finally:
            await duties.close()
