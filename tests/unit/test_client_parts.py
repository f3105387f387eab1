"""Addresses, tokens and retries: the parts of a client that need no server."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mx.client.address import grpc_target
from mx.client.retry import ONCE, PUBLISH, Attempts, RetryRule, usual
from mx.client.token import TokenFile
from mx.errors import DeadlineError, MxError, NotFoundError, UnavailableError, UsageError


@pytest.mark.parametrize(
    ("endpoint", "target"),
    [
        ("localhost:8001", "localhost:8001"),
        ("http://localhost:8001", "localhost:8001"),
        ("https://mx.example.com:443/", "mx.example.com:443"),
        ("HTTP://mx", "mx:8001"),
        (" mx ", "mx:8001"),
        ("10.0.0.7", "10.0.0.7:8001"),
        ("::1", "[::1]:8001"),
        ("[::1]", "[::1]:8001"),
        ("http://[::1]:9000/", "[::1]:9000"),
        ("fe80::1%eth0", "[fe80::1%eth0]:8001"),
        ("unix:/run/mx.sock", "unix:/run/mx.sock"),
        ("dns:///mx:8001", "dns:///mx:8001"),
        ("mx:08001", "mx:8001"),
    ],
)
def test_addresses(endpoint: str, target: str) -> None:
    assert grpc_target(endpoint) == target


@pytest.mark.parametrize(
    "endpoint",
    [
        "",
        "http://",
        ":8001",
        "mx:",
        "mx:0",
        "mx:65536",
        "mx:port",
        "mx:8001/path",
        "a b:1",
        "user@mx:1",
        "mx:٣",
        "[::1]x",
        "[",
        "[mx]:1",
        "a]:1",
    ],
)
def test_what_is_no_address_is_refused(endpoint: str) -> None:
    with pytest.raises(UsageError) as caught:
        grpc_target(endpoint)
    assert repr(endpoint) in caught.value.message


@given(st.text(max_size=30))
def test_any_text_is_an_address_or_a_usage_error(text: str) -> None:
    try:
        target = grpc_target(text)
    except UsageError:
        return
    assert grpc_target(target) == target


def test_token_is_read_again_when_it_changes_or_grows_old(tmp_path: Path) -> None:
    now_s = 0.0
    path = tmp_path / "token"
    token = TokenFile(path, ttl_s=60, now_s=lambda: now_s)
    assert token() is None
    path.write_text(" one\n")
    os.utime(path, ns=(1, 1))
    assert token() == "one"
    path.write_text("two")
    os.utime(path, ns=(1, 1))
    assert token() == "one"  # same time, young
    now_s = 60.0
    assert token() == "two"
    path.write_text("three")
    os.utime(path, ns=(2, 2))
    assert token() == "three"
    path.write_text("\n")
    os.utime(path, ns=(3, 3))
    assert token() is None
    path.unlink()
    assert token() is None
    path.write_bytes(b"\xff\xfe")
    assert token() is None


def _pauses(rule: RetryRule, error: MxError, *, timeout_s: float = 100.0) -> list[float]:
    attempts = Attempts(rule, timeout_s=timeout_s, begin_s=0.0, jitter=lambda: 0.5)
    found: list[float] = []
    now_s = 0.0
    while (pause_s := attempts.pause_s(error, now_s)) is not None:
        found.append(pause_s)
        now_s += pause_s
    return found


def test_publish_is_retried_like_published_workers_do() -> None:
    assert _pauses(PUBLISH, UnavailableError("x")) == [1.0, 2.0]
    assert _pauses(PUBLISH, DeadlineError("x")) == [1.0, 2.0]
    assert _pauses(PUBLISH, NotFoundError("x")) == []
    assert Attempts(PUBLISH, timeout_s=30, begin_s=0).timeout_s(now_s=63) == 30


def test_usual_retries_double_up_to_five_seconds_within_the_timeout() -> None:
    assert _pauses(usual(5, 0.5), UnavailableError("x")) == [0.5, 1.0, 2.0, 4.0, 5.0]
    assert _pauses(usual(5, 0.5), UnavailableError("x"), timeout_s=3.0) == [0.5, 1.0]
    assert _pauses(usual(5, 0.5), DeadlineError("x")) == []
    assert _pauses(ONCE, UnavailableError("x")) == []


def test_all_attempts_share_the_timeout() -> None:
    attempts = Attempts(usual(3, 1), timeout_s=10, begin_s=100)
    assert attempts.timeout_s(now_s=100) == 10
    assert attempts.timeout_s(now_s=109) == 1
    assert attempts.timeout_s(now_s=111) == 0.001


@given(st.floats(0, 0.999999))
def test_jitter_keeps_the_pause_between_half_and_one_and_a_half(jitter: float) -> None:
    attempts = Attempts(usual(1, 1), timeout_s=100, begin_s=0, jitter=lambda: jitter)
    pause_s = attempts.pause_s(UnavailableError("x"), 0)
    assert pause_s is not None
    assert 0.5 <= pause_s < 1.5
