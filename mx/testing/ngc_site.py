"""One stand-in of NGC for a whole test run, with a certificate authority of its own."""

from __future__ import annotations

import importlib.util
import os
import ssl
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
import trustme

from mx.testing.fake_ngc import FakeNgc

KEY = "nvapi-" + "k3y" * 12
LEGACY_KEY = "bGVnYWN5" * 5


def require_sdk() -> None:
    """Skip without the optional package, except in CI."""
    if importlib.util.find_spec("ngcsdk") is None:
        reason = "ngcsdk is not installed (the extra ngc)"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)


def trusted(authority: trustme.CA, folder: Path) -> Mapping[str, str]:
    """The environment in which this authority is believed."""
    bundle = folder / "authority.pem"
    authority.cert_pem.write_to_path(str(bundle))
    return {"REQUESTS_CA_BUNDLE": str(bundle), "SSL_CERT_FILE": str(bundle)}


def server_context(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1", "localhost").configure_cert(context)
    return context


def running(authority: trustme.CA) -> Iterator[FakeNgc]:
    with FakeNgc(server_context(authority), page_size=4) as ngc:
        yield ngc
