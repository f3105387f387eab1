"""This host: an address that peers can reach, which host it is, memory that is there before it is written."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import hashlib
import mmap
import socket
from collections.abc import Sequence
from pathlib import Path

from mx.core.plan import merge_regions
from mx.core.tensors import HOST_DEVICE
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
