"""Errors survive the wire: kind, message and remedy; other peers' statuses get a clear sentence."""

from __future__ import annotations

import grpc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mx import errors
from mx.errors import ErrorCode, MxError, SettingsError
from mx.wire.status import from_status, to_status

KINDS = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, MxError)]
TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=60)


def _make(kind: type[MxError], message: str, remedy: str) -> MxError:
    return SettingsError((message,)) if kind is SettingsError else kind(message, remedy=remedy)


def test_every_code_has_a_kind() -> None:
    assert {kind.code for kind in KINDS} == set(ErrorCode)


@pytest.mark.parametrize("kind", [k for k in KINDS if k is not MxError])
@given(message=TEXT, remedy=TEXT)
def test_round_trip(kind: type[MxError], message: str, remedy: str) -> None:
    error = _make(kind, message, remedy)
    code, details, trailing = to_status(error)
    assert all(value.isascii() and value.isprintable() for _, value in trailing)
    back = from_status(code, details, trailing, call="ListSources", target="host:1")
    assert type(back) is kind
    assert (back.message, back.remedy) == (error.message, error.remedy)


def test_long_texts_fit_into_a_reply() -> None:
    _, details, trailing = to_status(errors.NotFoundError("é" * 9000, remedy="日" * 9000))
    # gRPC percent-encodes details: three bytes for each byte that isn't ASCII; 8 KiB is the limit for all.
    assert len(details.encode()) * 3 + sum(len(k) + len(v) for k, v in trailing) < 8000
    assert details.endswith("…")


@pytest.mark.parametrize("code", [c for c in grpc.StatusCode if c is not grpc.StatusCode.OK])
def test_statuses_of_other_peers_name_call_or_target(code: grpc.StatusCode) -> None:
    for trailing in (None, (), [("mx-error-code", "from the future")], [("mx-error-code", b"\xff")]):
        error = from_status(code, "because", trailing, call="GetMetadata", target="host:8001")
        assert "host:8001" in error.message
        assert isinstance(error, MxError)


@pytest.mark.parametrize(
    ("details", "reason"),
    [
        (
            "failed to connect to all addresses; last error: UNKNOWN: ipv4:127.0.0.1:1: "
            "Failed to connect to remote host: connect: Connection refused (111)",
            "Connection refused (111)",
        ),
        (
            "failed to connect to all addresses; last error: UNKNOWN: ipv4:127.0.0.1:1: "
            "Failed to connect to remote host: Connection refused",
            "Connection refused",
        ),
        ("DNS resolution failed for x:1: C-ares status is not ARES_SUCCESS", None),
        ("", "no reason given"),
    ],
)
def test_an_unreachable_server_reads_well(details: str, reason: str | None) -> None:
    error = from_status(grpc.StatusCode.UNAVAILABLE, details, None, call="ListSources", target="host:1")
    assert error.message == f"can't reach host:1: {reason or details}"
    assert error.remedy
