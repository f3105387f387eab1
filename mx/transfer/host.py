"""This host: an address that peers can reach, which host it is, memory that is there before it is written."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import hashlib
import ipaddress
import logging
import mmap
import socket
from collections.abc import Callable, Sequence
from pathlib import Path

from mx.client.address import grpc_target
from mx.core.plan import merge_regions
from mx.core.tensors import HOST_DEVICE
from mx.errors import SettingsError

log = logging.getLogger(__name__)

LOOPBACK = "127.0.0.1"
# Documentation's own, which only the default route leads to (RFC 5737).
ELSEWHERE = "203.0.113.1"
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


def ipv4_towards(host: str) -> str | None:
    """Our address on the way to ``host``; None without an IPv4 route, or when it is no IPv4 host."""
    # Connecting a datagram socket sends nothing; it only asks the routing table.
    with contextlib.suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect((host, 9))
        return str(probe.getsockname()[0])
    return None


def advertised_ipv4(
    wanted: str | None, *, server_address: str, towards: Callable[[str], str | None] = ipv4_towards
) -> str:
    """Dotted IPv4 that peers connect to: the one asked for, else the one that faces the server.

    Published peers and NIXL accept nothing but a dotted IPv4 (wire contract, section 8). For a server
    that has none it is the one of the default route. Raises SettingsError when ``wanted`` has none.
    """
    if wanted:
        try:
            return str(socket.getaddrinfo(wanted, None, socket.AF_INET)[0][4][0])
        except OSError as error:
            raise SettingsError(
                (f"worker.host {wanted!r} has no IPv4 address: {error}",), remedy="set MX_WORKER_HOST to one"
            ) from error
    host = grpc_target(server_address).rpartition(":")[0].strip("[]") if server_address else LOOPBACK
    found = towards(host)
    if found is None and _is_loopback(host):
        return LOOPBACK
    found = found or towards(ELSEWHERE)
    if found is None:
        log.warning(
            "no IPv4 address that other hosts can reach; set MX_WORKER_HOST to one",
            extra={"fields": {"server": server_address}},
        )
    return found or LOOPBACK


def _is_loopback(host: str) -> bool:
    with contextlib.suppress(ValueError):
        return ipaddress.ip_address(host).is_loopback
    return False


def host_id() -> str:
    """Equal for all processes and containers on one host, and only there; "" when unknown."""
    with contextlib.suppress(OSError):
        return hashlib.sha256(BOOT_ID.read_bytes().strip()).hexdigest()[:16]
    return ""


# Linux 5.14; other systems answer EINVAL and nothing is lost but time.
_MADV_POPULATE_WRITE = 23
# Ranges of a segment whose first page is looked at; a fresh allocation has none there, a used one all.
_SAMPLES = 16


@functools.cache
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None)


def prefault(addrs: Sequence[int], lengths: Sequence[int]) -> None:
    """Make fresh pages of the ranges present, without changing a byte of them.

    A one-sided read into pages that were never touched faults them in one by one from the
    kernel's copy loop, several times slower than populating them ahead of it. Pages that are
    there are only sampled, since populating them again costs as much as a copy.
    """
    if _present(addrs, lengths):
        return
    for region in merge_regions(
        zip(addrs, lengths, strict=True), device=HOST_DEVICE, page_bytes=mmap.PAGESIZE
    ):
        _libc().madvise(ctypes.c_void_p(region.addr), ctypes.c_size_t(region.size), _MADV_POPULATE_WRITE)


def _present(addrs: Sequence[int], lengths: Sequence[int]) -> bool:
    page, resident = mmap.PAGESIZE, ctypes.c_ubyte()
    for index in range(0, len(addrs), max(len(addrs) // _SAMPLES, 1)):
        # Both ends: a tensor may begin in a page that its neighbour has touched.
        for at in (addrs[index], addrs[index] + lengths[index] - 1):
            start = ctypes.c_void_p(at // page * page)
            if _libc().mincore(start, ctypes.c_size_t(page), ctypes.byref(resident)):
                return True  # not a mapping that the kernel can judge: leave it alone
            if not resident.value & 1:
                return False
    return True
