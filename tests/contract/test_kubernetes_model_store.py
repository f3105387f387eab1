"""The Kubernetes store under the contract of all model stores, and against the memory store."""

from __future__ import annotations

from collections.abc import AsyncIterator
from unittest import TestCase

import pytest
from kubernetes_support import model_store

from mx.store.kubernetes import KubernetesModelStore
from mx.testing.api_server import ApiServer
from mx.testing.model_store_contract import ModelStoreContract
from mx.testing.model_store_life import stateful_test


class TestKubernetesModelStore(ModelStoreContract):
    @pytest.fixture
    async def store(self, api_server: ApiServer) -> AsyncIterator[KubernetesModelStore]:
        async with model_store(api_server, api_server.new_namespace()) as store:
            yield store


class TestKubernetesLikeMemory:
    def test_a_random_life(self, api_server: ApiServer) -> None:
        lived: type[TestCase] = stateful_test(
            lambda: model_store(api_server, api_server.new_namespace()), examples=15
        )
        lived("runTest").runTest()  # type: ignore[attr-defined]
