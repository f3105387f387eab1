"""The address that a worker tells its peers, for every way to write where the server is."""

from __future__ import annotations

import logging

import pytest

from mx.errors import SettingsError
from mx.transfer.host import advertised_ipv4, ipv4_towards

NAT = "10.1.2.3"
ROUTES = {
    "10.9.9.9": "10.9.0.1",
    "server.example": "10.9.0.1",
    "127.0.0.1": "127.0.0.1",
    "localhost": "127.0.0.1",
}


def routed(host: str) -> str | None:
    """A host with an interface towards 10.9.0.0/16 and no other route."""
    return ROUTES.get(host)


def with_default_route(host: str) -> str | None:
    return ROUTES.get(host) or (NAT if host[0].isdigit() else None)


@pytest.mark.parametrize(
    "address",
    [
        "10.9.9.9:8001",
        "http://10.9.9.9:8001",
        "https://10.9.9.9:8001",
        "https://10.9.9.9",
        "10.9.9.9",
        "server.example:8001",
        "https://server.example",
    ],
)
def test_peers_are_told_the_address_that_faces_the_server(
    address: str, caplog: pytest.LogCaptureFixture
) -> None:
    assert advertised_ipv4(None, server_address=address, towards=routed) == "10.9.0.1"
    assert not caplog.records


@pytest.mark.parametrize("address", ["[::1]:8001", "http://[::1]:8001", "::1", "localhost:8001", ""])
def test_a_local_server_needs_no_other_address_and_no_warning(
    address: str, caplog: pytest.LogCaptureFixture
) -> None:
    assert advertised_ipv4(None, server_address=address, towards=with_default_route) == "127.0.0.1"
    assert not caplog.records


@pytest.mark.parametrize("address", ["[2001:db8::7]:8001", "https://[2001:db8::7]", "no-such-host.invalid:1"])
def test_a_server_without_ipv4_leaves_the_address_of_the_default_route(address: str) -> None:
    assert advertised_ipv4(None, server_address=address, towards=with_default_route) == NAT


@pytest.mark.parametrize("address", ["[2001:db8::7]:8001", "no-such-host.invalid:8001"])
def test_an_address_that_no_other_host_can_use_is_told_with_what_to_set(
    address: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    assert advertised_ipv4(None, server_address=address, towards=routed) == "127.0.0.1"
    (record,) = caplog.records
    assert "MX_WORKER_HOST" in record.message
    assert record.fields == {"server": address}  # type: ignore[attr-defined]


def test_the_routing_table_is_asked() -> None:
    assert ipv4_towards("127.0.0.1") == "127.0.0.1"
    assert ipv4_towards("no-such-host.invalid") is None
    assert ipv4_towards("::1") is None


def test_what_the_operator_says_wins() -> None:
    assert advertised_ipv4("127.0.0.9", server_address="10.9.9.9:1", towards=routed) == "127.0.0.9"
    with pytest.raises(SettingsError, match="MX_WORKER_HOST"):
        advertised_ipv4("2001:db8::1", server_address="10.9.9.9:1")
