"""Records as text: no secrets, and nothing that lies in a store breaks the look at it."""

from __future__ import annotations

import json

import pytest

from mx.store.raw_text import raw_yaml


@pytest.mark.parametrize(
    "value",
    [
        {"api_token": "geheim-1234"},
        {b"spec": b'{"auth": {"password": "geheim-1234"}}'},
        {"annotations": {"last-applied": json.dumps({"a": [{"secret": "geheim-1234"}]})}},
        {"text": "redis://user:geheim-1234@host:6379/0"},
    ],
)
def test_secrets_are_masked_however_deep_they_lie(value: object) -> None:
    text = raw_yaml(value)
    assert "geheim-1234" not in text
    assert "***" in text


def test_a_claims_token_is_a_number_and_no_secret() -> None:
    assert "17" in raw_yaml({"token": "17"})


@pytest.mark.parametrize("deep", [50, 300, 900, 100_000])
def test_text_nested_without_end_is_shown_or_said_to_be_too_deep(deep: int) -> None:
    text = raw_yaml({b"field": b'{"a":' * deep + b"1" + b"}" * deep})
    assert "a:" in text or "too deeply" in text or "sha256" in text


def test_what_is_no_text_is_shown_as_size_and_digest() -> None:
    assert "<3 bytes, sha256" in raw_yaml({b"field": b"\xff\x00\xfe"})
    assert "<5000 bytes, sha256" in raw_yaml({"field": "x" * 5000})
