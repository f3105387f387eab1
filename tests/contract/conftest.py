"""Contract suites live in the package; their assertions are to be explained like those of tests."""

import pytest

pytest.register_assert_rewrite(
    "mx.testing.store_contract",
    "mx.testing.store_life",
    "mx.testing.model_store_contract",
    "mx.testing.model_store_life",
    "mx.testing.provider_contract",
    "mx.testing.duties_contract",
    "mx.testing.event_store_contract",
    "mx.testing.store_view_contract",
    "mx.testing.watching",
)
