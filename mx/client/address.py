"""Addresses of servers as people write them."""

from __future__ import annotations

import ipaddress
import re

from mx.errors import UsageError

DEFAULT_PORT = 8001
_SCHEME = re.compile(r"^https?://", re.IGNORECASE)
# Target schemes that gRPC resolves by itself.
_GRPC_SCHEMES = ("unix:", "unix-abstract:", "dns:", "ipv4:", "ipv6:")


def grpc_target(endpoint: str) -> str:
    """``host:port`` for gRPC: schemes and a trailing slash go, port 8001 is assumed, IPv6 gets brackets.

    ``https://`` is stripped like ``http://``, as published clients do; TLS is never used.
    Raises UsageError when no host or no usable port is left.
    """
    text = endpoint.strip()
    if text.startswith(_GRPC_SCHEMES):
        return text
    text = _SCHEME.sub("", text).rstrip("/")
    host, port = _split(text)
    if not host or re.search(r"[\s/?#@]", host) or not _brackets_hold(host):
        raise UsageError(f"{endpoint!r} is not the address of a server", remedy="write it as host:port")
    if not port.isascii() or not port.isdigit() or not 0 < int(port) < 1 << 16:
        raise UsageError(f"{endpoint!r}: port {port!r} is not a number from 1 to 65535")
    return f"{host}:{int(port)}"


def _brackets_hold(host: str) -> bool:
    """No brackets, or a pair around an IPv6 address."""
    if "[" not in host and "]" not in host:
        return True
    if not (host.startswith("[") and host.endswith("]")):
        return False
    try:
        return ipaddress.ip_address(host[1:-1].partition("%")[0]).version == 6
    except ValueError:
        return False


def _split(text: str) -> tuple[str, str]:
    try:
        if ipaddress.ip_address(text.partition("%")[0]).version == 6:
            return f"[{text}]", str(DEFAULT_PORT)
    except ValueError:
        pass  # not a bare IPv6 address
    if text.startswith("["):
        host, bracket, rest = text.partition("]")
        return host + bracket, rest.removeprefix(":") if rest else str(DEFAULT_PORT)
    host, colon, port = text.partition(":")
    return host, port if colon else str(DEFAULT_PORT)
