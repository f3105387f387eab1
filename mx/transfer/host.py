"""Facts about this host that peers need: an address they can reach, and which host it is."""

from __future__ import annotations

import contextlib
import hashlib
import socket
from pathlib import Path

from mx.errors import SettingsError

BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


def advertised_ipv4(wanted: str | None, *, server_address: str) -> str:
    """Dotted IPv4 that peers connect to: the one asked for, else the one that faces the server.

    Published peers and NIXL accept nothing but a dotted IPv4 (wire contract, section 8).
    """
    if wanted:
        try:
            return str(socket.getaddrinfo(wanted, None, socket.AF_INET)[0][4][0])
        except OSError as error:
            raise SettingsError(
                (f"worker.host {wanted!r} has no IPv4 address: {error}",), remedy="set MX_WORKER_HOST to one"
            ) from error
    host = server_address.rpartition("://")[2].rpartition(":")[0] or "127.0.0.1"
    # Connecting a datagram socket sends nothing; it only asks the routing table.
    with contextlib.suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect((host, 9))
        return str(probe.getsockname()[0])
    return "127.0.0.1"


def host_id() -> str:
    """Equal for all processes and containers on one host, and only there; "" when unknown."""
    with contextlib.suppress(OSError):
        return hashlib.sha256(BOOT_ID.read_bytes().strip()).hexdigest()[:16]
    return ""
