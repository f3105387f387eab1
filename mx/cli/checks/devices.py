"""GPUs and network cards, from /sys and the driver's own tool."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from mx.cli.checks.site import Site
from mx.core.doctor.host import Devices, Gpu, Interface, Port
from mx.core.doctor.transfer import Hardware

_SMI_S = 6.0
_SMI = ("--query-gpu=name,memory.total,driver_version", "--format=csv,noheader,nounits")
# Bridges, tunnels and the host's ends of containers carry no weights of their own.
_VIRTUAL = ("lo", "veth", "docker", "br-", "cni", "flannel", "cali", "ifb", "dummy", "virbr", "tunl", "sit")


def read_devices(site: Site) -> Devices:
    gpus, failure = _nvidia(site)
    return Devices(
        gpus=gpus or _amd(site.root),
        gpu_failure=failure,
        ports=_ports(site.root),
        verbs=any(os.access(one, os.R_OK | os.W_OK) for one in site.root.glob("dev/infiniband/uverbs*")),
        peer_memory=(site.root / "sys/module/nvidia_peermem").exists(),
        interfaces=_interfaces(site.root),
    )


def hardware_of(devices: Devices) -> Hardware:
    """What transports could use of it."""
    return Hardware(
        rdma_devices=tuple(dict.fromkeys(port.device for port in devices.ports if port.active)),
        gpus=len(devices.gpus),
        interfaces=("lo", *(one.name for one in devices.interfaces)),
    )


def _nvidia(site: Site) -> tuple[tuple[Gpu, ...], str]:
    """The GPUs that answer, and why there are none although a driver is there."""
    driver = (site.root / "proc/driver/nvidia/version").exists()
    tool = shutil.which("nvidia-smi", path=site.environ.get("PATH"))
    if tool is None:
        models = site.root.glob("proc/driver/nvidia/gpus/*/information")
        return tuple(Gpu(_value(path, "Model") or "NVIDIA") for path in sorted(models)), ""
    try:
        done = subprocess.run(
            [tool, *_SMI],
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_SMI_S,
            check=False,
            stdin=subprocess.DEVNULL,
        )
    except subprocess.TimeoutExpired:
        return (), f"nvidia-smi did not end within {_SMI_S:g} s"
    except OSError as error:
        return (), f"nvidia-smi does not start: {error.strerror}" if driver else ""
    rows = [[cell.strip() for cell in line.split(",")] for line in done.stdout.splitlines()]
    gpus = tuple(Gpu(row[0], int(row[1]) << 20, row[2]) for row in rows if len(row) == 3 and row[1].isdigit())
    if gpus or not driver:
        return gpus, ""
    said = (done.stdout or done.stderr).strip().splitlines()
    return (), said[0] if said else f"nvidia-smi ended with {done.returncode}"


def _amd(root: Path) -> tuple[Gpu, ...]:
    nodes = sorted(root.glob("sys/class/kfd/kfd/topology/nodes/*"))
    counts = ((node, _value(node / "properties", "simd_count", separator=" ")) for node in nodes)
    # A node without SIMDs is a processor.
    return tuple(Gpu(f"AMD {_text(node / 'name')}".strip()) for node, n in counts if n not in ("", "0"))


def _ports(root: Path) -> tuple[Port, ...]:
    return tuple(
        Port(
            device=port.parts[-3],
            number=port.name,
            link=_text(port / "link_layer") or "link unknown",
            active="ACTIVE" in _text(port / "state"),
            rate=_text(port / "rate") or "rate unknown",
        )
        for port in sorted(root.glob("sys/class/infiniband/*/ports/*"))
    )


def _interfaces(root: Path) -> tuple[Interface, ...]:
    found = []
    for path in sorted(root.glob("sys/class/net/*")):
        if path.name.startswith(_VIRTUAL) or _text(path / "operstate") == "down":
            continue
        speed = _number(path / "speed")
        found.append(Interface(path.name, _number(path / "mtu") or 0, speed if speed and speed > 0 else None))
    return tuple(found)


def _text(path: Path) -> str:
    """The only line of a file of the kernel; "" where it has none to give."""
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""


def _number(path: Path) -> int | None:
    try:
        return int(_text(path))
    except ValueError:
        return None


def _value(path: Path, name: str, *, separator: str = ":") -> str:
    for line in _text(path).splitlines():
        key, found, value = line.partition(separator)
        if found and key.strip() == name:
            return value.strip()
    return ""
