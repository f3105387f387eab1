"""The Kubernetes store under the contract of all source stores, and against the memory store.

The contracts are met by the ordinary account, with the verbs of the chart's Role.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from unittest import TestCase

import pytest
from hypothesis import strategies as st
from kubernetes_support import granted_namespace, source_store

from mx.store.kubernetes import KubernetesSourceStore
from mx.testing.api_server import ApiServer
from mx.testing.store_contract import SourceStoreContract
from mx.testing.store_life import stateful_test

WORKER_IDS = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,20}[a-z0-9])?", fullmatch=True)


class TestKubernetesSourceStore(SourceStoreContract):
    any_worker_id = False
    many = 250  # the mirror is one piece

    @pytest.fixture
    async def store(self, api_server: ApiServer) -> AsyncIterator[KubernetesSourceStore]:
        async with source_store(api_server, granted_namespace(api_server), token=api_server.token) as store:
            yield store

    @pytest.fixture
    async def beside(
        self, store: KubernetesSourceStore, api_server: ApiServer
    ) -> AsyncIterator[KubernetesSourceStore]:
        async with source_store(api_server, store.namespace, token=api_server.token) as beside:
            yield beside


class TestKubernetesLikeMemory:
    def test_a_random_life(self, api_server: ApiServer) -> None:
        lived: type[TestCase] = stateful_test(
            lambda: source_store(api_server, api_server.new_namespace()),
            worker_ids=WORKER_IDS,
            examples=8,
        )
        lived("runTest").runTest()  # type: ignore[attr-defined]
