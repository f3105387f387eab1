"""Starts the transfer agent of a worker as its settings say."""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

from mx.config import Settings
from mx.errors import UnavailableError
from mx.transfer.nixl import NixlBackend, bindings

log = logging.getLogger(__name__)

DeviceKind = Literal["cpu", "cuda"]


def start_nixl(settings: Settings, agent_name: str, *, device_kind: DeviceKind, device: int) -> NixlBackend:
    """A NIXL agent. The listen port is the configured one plus the device, or a free one when it is taken.

    Raises UnavailableError when NIXL is not installed or can't start.
    """
    bindings()  # a missing library is no busy port
    transfer, base = settings.transfer, settings.worker.metadata_port
    wanted = base + max(device, 0) if base else 0
    with ucx_environment(settings):
        for port in (wanted, 0) if wanted and transfer.listen else (0,):
            try:
                return NixlBackend(
                    agent_name,
                    memory="DRAM" if device_kind == "cpu" else "VRAM",
                    engine=transfer.nixl_backend,
                    progress_delay_us=transfer.progress_delay_us,
                    listen_port=(port or _free_port()) if transfer.listen else 0,
                )
            except UnavailableError as error:
                if not port:
                    raise
                log.info("NIXL listen port in use", extra={"fields": {"port": port, "reason": error.message}})
    raise AssertionError("unreachable")


@contextmanager
def ucx_environment(settings: Settings) -> Iterator[None]:
    """UCX reads its environment when the agent is created, and only then (settings contract, 6.1).

    NIXL_UCX_TLS replaces UCX_TLS for that moment. ``UCX_TLS=tcp``, which engines set for their own
    libraries, is lifted: it would keep the weights off shared memory and RDMA.
    """
    transfer = settings.transfer
    change: dict[str, str | None] = {}
    if transfer.nixl_ucx_tls:
        change["UCX_TLS"] = transfer.nixl_ucx_tls
    elif transfer.ucx_tls == "tcp":
        change["UCX_TLS"] = None
    if settings.worker.ucx_disable_mem_events:
        change["UCX_MEM_EVENTS"] = "n"
    before = {name: os.environ.get(name) for name in change}
    _set(change)
    try:
        yield
    finally:
        _set(before)


def _set(values: dict[str, str | None]) -> None:
    for name, value in values.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("", 0))
        return int(probe.getsockname()[1])
