"""Python, limits of the process, GPUs, network cards, and vLLM's view of mx."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mx.core.doctor.finding import Finding, error, info, ok, warning
from mx.core.units import format_size

# Weights of one rank are registered with the card as a whole.
_MEMLOCK_BYTES = 1 << 30
_FILES = 4096
_SHM_BYTES = 1 << 30
PLUGIN = "modelexpress"  # the name of mx's entry point; operators write it into VLLM_PLUGINS


@dataclass(frozen=True, slots=True)
class Gpu:
    name: str
    memory_bytes: int = 0
    driver: str = ""


@dataclass(frozen=True, slots=True)
class Port:
    """A port of an RDMA card (``link`` InfiniBand or Ethernet, as the kernel says)."""

    device: str
    number: str
    link: str
    active: bool
    rate: str


@dataclass(frozen=True, slots=True)
class Interface:
    name: str
    mtu: int
    speed_mbit: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Devices:
    """``verbs``: /dev/infiniband can be opened by this user. ``peer_memory``: cards may read GPUs."""

    gpus: tuple[Gpu, ...] = ()
    gpu_failure: str = ""
    ports: tuple[Port, ...] = ()
    verbs: bool = False
    peer_memory: bool = False
    interfaces: tuple[Interface, ...] = ()


def judge_devices(facts: Devices) -> list[Finding]:
    found: list[Finding] = []
    for gpu in facts.gpus:
        driver = f", driver {gpu.driver}" if gpu.driver else ""
        found.append(info(f"GPU {gpu.name}, {format_size(gpu.memory_bytes)}{driver}"))
    if facts.gpu_failure:
        found.append(
            error(
                f"there is a GPU driver, but no GPU answers: {facts.gpu_failure}",
                remedy="nvidia-smi shows the same; in a container, was it given the GPUs?",
            )
        )
    found += [_port(port) for port in facts.ports]
    active = any(port.active for port in facts.ports)
    if active and not facts.verbs:
        found.append(
            error(
                "there are RDMA cards, but /dev/infiniband can't be opened here",
                remedy="give the container the devices (a device plugin, or --device /dev/infiniband)",
            )
        )
    if active and facts.gpus and not facts.peer_memory:
        found.append(
            info(
                "the kernel module nvidia_peermem is not loaded: cards reach GPUs by dma-buf, if at all",
                remedy="modprobe nvidia_peermem where transfers from GPU memory stay slow",
            )
        )
    for one in facts.interfaces:
        speed = f"{one.speed_mbit / 1000:g} Gbit/s" if one.speed_mbit else "speed unknown"
        text = f"interface {one.name}, {speed}, MTU {one.mtu}"
        slow = (one.speed_mbit or 0) >= 25_000 and one.mtu < 4000
        found.append(info(text, remedy="an MTU of 9000 makes TCP faster on such a link" if slow else ""))
    if not facts.gpus and not facts.gpu_failure:
        found.insert(0, info("no GPU here: weights are held and moved in main memory"))
    if not facts.ports:
        found.append(info("no RDMA card here: transfers between hosts go by TCP"))
    return found


def _port(port: Port) -> Finding:
    name = f"RDMA port {port.device}:{port.number} ({port.link}, {port.rate})"
    if port.active:
        return ok(f"{name} is active")
    return warning(f"{name} is not active", remedy="see the cable, the switch and the subnet manager")


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """None is without a bound. ``ptrace_scope`` as Yama has it, ``shm_bytes`` the size of /dev/shm."""

    memlock_bytes: int | None
    files: int | None
    files_most: int | None
    shm_bytes: int | None = None
    ptrace_scope: int = 0


def judge_limits(limits: Limits, *, rdma: bool) -> list[Finding]:
    found: list[Finding] = []
    locked = limits.memlock_bytes
    if locked is None or locked >= _MEMLOCK_BYTES:
        found.append(ok(f"locked memory: {'no bound' if locked is None else format_size(locked)}"))
    elif rdma:
        found.append(
            error(
                f"a process may lock {format_size(locked)} of memory; an RDMA card wants all weights locked",
                remedy="ulimit -l unlimited (Docker: --ulimit memlock=-1; systemd: LimitMEMLOCK=infinity)",
            )
        )
    else:
        found.append(info(f"locked memory: {format_size(locked)} at most; enough where no RDMA card is"))
    found.append(_files(limits))
    if limits.shm_bytes is not None and limits.shm_bytes < _SHM_BYTES:
        found.append(
            warning(
                f"/dev/shm holds {format_size(limits.shm_bytes)}: vLLM in several processes may fail",  # noqa: S108
                remedy="Docker: --shm-size=8g or --ipc=host; Kubernetes: an emptyDir of medium Memory",
            )
        )
    if limits.ptrace_scope >= 2:
        found.append(
            warning(
                f"kernel.yama.ptrace_scope is {limits.ptrace_scope}: no copies from process to process",
                remedy="sysctl kernel.yama.ptrace_scope=1, or pulls on one host go by TCP",
            )
        )
    return found


def _files(limits: Limits) -> Finding:
    if limits.files is None or limits.files >= _FILES:
        return ok(f"open files: {'no bound' if limits.files is None else limits.files}")
    most = "" if limits.files_most is None else f", {limits.files_most} at most"
    return warning(
        f"open files: {limits.files}{most}; a server with many workers needs more",
        remedy=f"ulimit -n {_FILES} or more",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Packages:
    """``versions`` of what is installed; ``plugins`` are the entry points that vLLM would load, name and
    place; ``allowed`` is VLLM_PLUGINS, None where it isn't set."""

    python: tuple[int, ...]
    own_version: str
    versions: tuple[tuple[str, str], ...] = ()
    metadata_version: str = ""
    plugins: tuple[tuple[str, str], ...] = ()
    allowed: tuple[str, ...] | None = None
    registers: bool = True

    def version_of(self, name: str) -> str:
        return dict(self.versions).get(name, "")


def judge_python(facts: Packages) -> list[Finding]:
    python = ".".join(map(str, facts.python[:3]))
    found = [ok(f"mx {facts.own_version} on Python {python}")]
    if facts.metadata_version and facts.metadata_version != facts.own_version:
        found.append(
            warning(
                f"the installed package says {facts.metadata_version}, its code {facts.own_version}",
                remedy="install it again, and look for a second copy on PYTHONPATH",
            )
        )
    if facts.versions:
        found.append(info(", ".join(f"{name} {version}" for name, version in facts.versions)))
    return found


def judge_vllm(facts: Packages) -> list[Finding]:
    version = facts.version_of("vllm")
    mine = [place for name, place in facts.plugins if place.startswith("mx.")]
    if not version:
        return [info("vLLM is not installed here", remedy="needed on workers only")]
    if not mine:
        return [
            error(
                f"vLLM {version} does not see mx's plugin",
                remedy="install mx into vLLM's environment: pip install 'modelexpress-mx[vllm]'",
            )
        ]
    if facts.allowed is not None and PLUGIN not in facts.allowed:
        return [
            error(
                f"VLLM_PLUGINS leaves mx's plugin out: {', '.join(facts.allowed) or 'it names none'}",
                remedy=f"add {PLUGIN} to VLLM_PLUGINS, or unset it",
            )
        ]
    if not facts.registers:
        return [warning("MX_REGISTER_LOADERS turns mx's load format off", remedy="unset it, or set it to 1")]
    return [ok(f"vLLM {version} will load mx's plugin: --load-format mx"), *_rivals(facts.plugins)]


def _rivals(plugins: Sequence[tuple[str, str]]) -> list[Finding]:
    others = [place for name, place in plugins if name == PLUGIN and not place.startswith("mx.")]
    if not others:
        return []
    return [
        warning(
            f"another package registers the plugin {PLUGIN} too: {', '.join(others)}",
            remedy="uninstall one; which of the two vLLM takes is chance",
        )
    ]
