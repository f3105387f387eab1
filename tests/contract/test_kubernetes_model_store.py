"""The Kubernetes store under the contracts of model stores and of duties, and against the memory store.

The contracts are met by the ordinary account, with the verbs of the chart's Role.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from unittest import TestCase

import pytest
from kubernetes_support import duties_in, granted_namespace, model_store

from mx.store.kubernetes import KubernetesDuties, KubernetesModelStore
from mx.testing.api_server import ApiServer
from mx.testing.duties_contract import DutiesContract
from mx.testing.model_store_contract import ModelStoreContract
from mx.testing.model_store_life import stateful_test


class TestKubernetesModelStore(ModelStoreContract):
    @pytest.fixture
    async def store(self, api_server: ApiServer) -> AsyncIterator[KubernetesModelStore]:
        async with model_store(api_server, granted_namespace(api_server), token=api_server.token) as store:
            yield store

    @pytest.fixture
    async def beside(
        self, store: KubernetesModelStore, api_server: ApiServer
    ) -> AsyncIterator[KubernetesModelStore]:
        async with model_store(api_server, store.namespace, token=api_server.token) as beside:
            yield beside


class TestKubernetesDuties(DutiesContract):
    @pytest.fixture
    async def duties(self, api_server: ApiServer) -> AsyncIterator[KubernetesDuties]:
        async with duties_in(api_server, granted_namespace(api_server), token=api_server.token) as duties:
            yield duties

    @pytest.fixture
    async def beside(
        self, duties: KubernetesDuties, api_server: ApiServer
    ) -> AsyncIterator[KubernetesDuties]:
        async with duties_in(api_server, duties.namespace, token=api_server.token) as beside:
            yield beside


class TestKubernetesLikeMemory:
    def test_a_random_life(self, api_server: ApiServer) -> None:
        lived: type[TestCase] = stateful_test(
            lambda: model_store(api_server, api_server.new_namespace()), examples=8
        )
        lived("runTest").runTest()  # type: ignore[attr-defined]
