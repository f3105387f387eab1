"""Limits of this process, and what is installed beside it."""

from __future__ import annotations

import importlib.metadata
import os
import resource
import sys

import mx
from mx.cli.checks.site import Site
from mx.config import Settings
from mx.core.doctor.host import Limits, Packages

_DISTRIBUTION = "modelexpress-mx"
_BESIDE = ("vllm", "torch", "nixl", "grpcio", "huggingface_hub", "modelexpress")


def read_limits(site: Site) -> Limits:
    files, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    scope = site.root / "proc/sys/kernel/yama/ptrace_scope"
    try:
        ptrace_scope = int(scope.read_text(encoding="ascii"))
    except (OSError, ValueError):  # a kernel without Yama
        ptrace_scope = 0
    try:
        shared = os.statvfs(site.root / "dev/shm")
        shm_bytes = shared.f_blocks * shared.f_frsize
    except OSError:
        shm_bytes = None
    return Limits(
        memlock_bytes=_bound(resource.getrlimit(resource.RLIMIT_MEMLOCK)[0]),
        files=_bound(files),
        files_most=_bound(most),
        shm_bytes=shm_bytes,
        ptrace_scope=ptrace_scope,
    )


def _bound(value: int) -> int | None:
    return None if value == resource.RLIM_INFINITY else value


def read_packages(site: Site, worker: Settings | None) -> Packages:
    """By their metadata alone: none of them is imported."""
    allowed = site.environ.get("VLLM_PLUGINS")
    points = importlib.metadata.entry_points(group="vllm.general_plugins")
    return Packages(
        python=tuple(sys.version_info[:3]),
        own_version=mx.__version__,
        versions=tuple((name, version) for name in _BESIDE if (version := _version(name))),
        metadata_version=_version(_DISTRIBUTION),
        plugins=tuple((point.name, point.value) for point in points),
        allowed=None if allowed is None else tuple(name for name in allowed.split(",") if name),
        registers=worker is None or worker.worker.register_loaders,
    )


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return ""
