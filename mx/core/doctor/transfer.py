"""NIXL, the transports that UCX opens, and variables that hurt them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from mx.core.doctor.finding import Finding, error, info, ok, warning

_RDMA = ("rc", "dc", "ud")
_SAME_HOST = ("cma", "xpmem", "knem", "sysv", "posix")
# What a word of UCX_TLS stands for, where it isn't the transport itself.
_ALIASES: Mapping[str, tuple[str, ...]] = {
    "all": ("rc", "dc", "ud", "tcp", "cma", "sysv", "posix", "self", "cuda_copy", "cuda_ipc", "rocm"),
    "ib": ("rc", "dc", "ud"),
    "sm": ("cma", "xpmem", "knem", "sysv", "posix"),
    "shm": ("cma", "xpmem", "knem", "sysv", "posix"),
    "mm": ("sysv", "posix", "xpmem"),
    "cuda": ("cuda_copy", "cuda_ipc", "gdr_copy"),
}
_OFF = ("n", "no", "0", "off")


@dataclass(frozen=True, slots=True, kw_only=True)
class Hardware:
    """What a transport could use. ``interfaces`` and ``rdma_devices`` by name."""

    rdma_devices: tuple[str, ...] = ()
    gpus: int = 0
    interfaces: tuple[str, ...] = ()

    @property
    def rdma(self) -> bool:
        return bool(self.rdma_devices)


@dataclass(frozen=True, slots=True, kw_only=True)
class NixlFacts:
    """What a process of its own found. ``transports`` are as UCX names them: ``rc_mlx5/mlx5_0:1``."""

    installed: bool
    version: str = ""
    failure: str = ""
    backend: str = "UCX"
    plugins: tuple[str, ...] = ()
    ucx_version: str = ""
    transports: tuple[str, ...] = ()


def judge_nixl(facts: NixlFacts, hardware: Hardware, *, engine: bool) -> list[Finding]:
    """``engine``: vLLM is installed, so this machine is meant to be a worker."""
    if not facts.installed:
        text, remedy = (
            "NIXL is not installed: no weights from peers here",
            "pip install 'modelexpress-mx[nixl]'",
        )
        return [warning(text, remedy=remedy) if engine else info(text, remedy=f"on workers: {remedy}")]
    if facts.failure:
        return [
            error(
                f"NIXL {facts.version} does not start with {facts.backend}: {facts.failure}",
                remedy="are UCX_TLS or UCX_NET_DEVICES set? python -m mx.transfer.probe shows all",
            )
        ]
    found = [ok(f"NIXL {facts.version} starts with {facts.backend}")]
    if facts.backend != "UCX":
        return found
    names = sorted({one.partition("/")[0] for one in facts.transports})
    found.append(info(f"UCX {facts.ucx_version} opens {', '.join(names) or 'nothing that it tells of'}"))
    if not names:
        return found
    if hardware.rdma and not _has(names, _RDMA):
        found.append(
            warning(
                f"UCX opens none of the RDMA cards ({', '.join(hardware.rdma_devices)}): pulls go by TCP",
                remedy="see UCX_TLS, UCX_NET_DEVICES, /dev/infiniband and the locked-memory limit below",
            )
        )
    if hardware.gpus and not _has(names, ("cuda", "rocm", "gdr_copy")):
        found.append(
            warning(
                "UCX opens no transport for GPU memory",
                remedy="does the driver answer (nvidia-smi)? UCX_TLS must allow cuda_copy and cuda_ipc",
            )
        )
    if not _has(names, _SAME_HOST):
        found.append(
            warning(
                "UCX opens no shared memory: pulls on one host go over the network",
                remedy="UCX_TLS must allow sm; containers on one host need the same user and IPC",
            )
        )
    return found


def _has(names: list[str], wanted: tuple[str, ...]) -> bool:
    return any(name.startswith(wanted) for name in names)


def judge_ucx(environment: Mapping[str, str], hardware: Hardware) -> list[Finding]:
    """Variables of UCX as a worker would see them; they rule every library that uses UCX."""
    values = {name: value for name, value in environment.items() if name.startswith("UCX_")}
    found = [
        *_tls(values.get("UCX_TLS", ""), hardware),
        *_devices(values.get("UCX_NET_DEVICES", ""), hardware),
        *_rendezvous(values),
        *_memory(values, hardware),
        *_loud(values),
    ]
    if found:
        return found
    names = sorted(set(values) - {"UCX_LOG_LEVEL"})
    listed = f" ({', '.join(names)})" if names else ""
    return [ok(f"nothing in UCX's variables hurts{listed}")]


def _tls(text: str, hardware: Hardware) -> list[Finding]:
    words = [word.strip() for word in text.lower().split(",") if word.strip()]
    if not words:
        return []
    shown = f"UCX_TLS={text}"
    if words == ["tcp"]:
        return [info(f"{shown} is lifted while a worker opens NIXL, as engines set it for themselves")]
    if words[0].startswith("^"):
        banned = _expand([words[0][1:], *words[1:]])
        allowed = {name for name in _ALIASES["all"] if name not in banned}
    else:
        allowed = _expand(words)
    found = []
    if hardware.rdma and not any(name.startswith(_RDMA) for name in allowed):
        found.append(
            warning(f"{shown} keeps UCX off the RDMA cards", remedy=f"unset it, or add rc: UCX_TLS={text},rc")
        )
    if hardware.gpus and not any(name.startswith(("cuda", "rocm")) for name in allowed):
        found.append(
            error(
                f"{shown} keeps UCX off GPU memory: weights there can't be registered",
                remedy=f"unset it, or add cuda: UCX_TLS={text},cuda",
            )
        )
    if "tcp" not in allowed:
        found.append(
            warning(
                f"{shown} leaves tcp out, over which UCX connects and notices that a peer died",
                remedy=f"unset it, or add tcp: UCX_TLS={text},tcp",
            )
        )
    if not any(name.startswith(_SAME_HOST) for name in allowed):
        found.append(
            warning(
                f"{shown} leaves shared memory out: pulls on one host take TCP, about 8 times slower",
                remedy=f"unset it, or add sm: UCX_TLS={text},sm",
            )
        )
    return found or [info(f"{shown} is set by hand", remedy="mx never sets it; unset lets UCX choose")]


def _expand(words: list[str]) -> set[str]:
    names: set[str] = set()
    for word in words:
        plain = word.lstrip("\\")
        names.update(_ALIASES.get(plain, (plain,)))
    return names


def _devices(text: str, hardware: Hardware) -> list[Finding]:
    names = [word.strip() for word in text.split(",") if word.strip()]
    if not names or names == ["all"] or names[0].startswith("^"):
        return []
    known = {*hardware.interfaces, *hardware.rdma_devices}
    absent = [name for name in names if name.partition(":")[0] not in known and not set(name) & set("[*?")]
    if len(absent) == len(names):
        return [
            error(
                f"UCX_NET_DEVICES={text} names no device that is here ({', '.join(sorted(known)) or 'none'})",
                remedy="unset it, or name one of these (an RDMA card with its port: mlx5_0:1)",
            )
        ]
    if absent:
        return [
            warning(
                f"UCX_NET_DEVICES names {', '.join(absent)}, which is not here",
                remedy="leave it out; UCX says nothing and goes on with the rest",
            )
        ]
    unused = [name for name in hardware.rdma_devices if name not in {n.partition(":")[0] for n in names}]
    if unused and hardware.rdma:
        return [info(f"UCX_NET_DEVICES={text} leaves cards unused: {', '.join(unused)}")]
    return []


def _rendezvous(values: Mapping[str, str]) -> list[Finding]:
    found = []
    threshold = values.get("UCX_RNDV_THRESH", "").lower()
    if threshold in ("inf", "infinity"):
        found.append(
            warning(
                "UCX_RNDV_THRESH=inf makes UCX copy large messages instead of reading them in place",
                remedy="unset it",
            )
        )
    scheme = values.get("UCX_RNDV_SCHEME", "").lower()
    if scheme and scheme not in ("get_zcopy", "auto"):
        found.append(
            warning(
                f"UCX_RNDV_SCHEME={scheme} is slower than reading in place on most cards",
                remedy="unset it, or get_zcopy",
            )
        )
    if values.get("UCX_ZCOPY_THRESH", "").lower() in ("inf", "infinity"):
        found.append(warning("UCX_ZCOPY_THRESH=inf makes UCX copy everything it sends", remedy="unset it"))
    return found


def _memory(values: Mapping[str, str], hardware: Hardware) -> list[Finding]:
    found = []
    if values.get("UCX_MEM_EVENTS", "").lower() in _OFF and hardware.rdma:
        found.append(
            info(
                "UCX_MEM_EVENTS=n: UCX does not hear of memory given back, and registers anew each time",
                remedy="unset it unless an allocator and UCX's hooks clash (worker.ucx_disable_mem_events)",
            )
        )
    if values.get("UCX_MEMTYPE_CACHE", "").lower() in _OFF and hardware.gpus:
        found.append(
            info(
                "UCX_MEMTYPE_CACHE=n asks the driver about every address",
                remedy="unset it unless UCX took GPU memory for main memory",
            )
        )
    if values.get("UCX_IB_GPU_DIRECT_RDMA", "").lower() in _OFF and hardware.gpus and hardware.rdma:
        found.append(
            error(
                "UCX_IB_GPU_DIRECT_RDMA=n sends GPU memory through main memory",
                remedy="unset it; UCX finds out by itself",
            )
        )
    rails = values.get("UCX_MAX_RMA_RAILS", "")
    if rails == "1" and len(hardware.rdma_devices) > 1:
        found.append(
            warning(
                f"UCX_MAX_RMA_RAILS=1 reads over one card of {len(hardware.rdma_devices)}",
                remedy="unset it, or as many as there are cards next to each GPU",
            )
        )
    return found


def _loud(values: Mapping[str, str]) -> list[Finding]:
    found = []
    level = values.get("UCX_LOG_LEVEL", "").lower()
    if level in (
        "debug",
        "trace",
        "trace_req",
        "trace_data",
        "trace_async",
        "trace_func",
        "trace_poll",
        "data",
    ):
        found.append(warning(f"UCX_LOG_LEVEL={level} slows every read", remedy="unset it, or warn"))
    if "freeze" in values.get("UCX_HANDLE_ERRORS", "").lower():
        found.append(
            warning(
                "UCX_HANDLE_ERRORS with freeze keeps a crashed worker as it is: nothing restarts it",
                remedy="unset it, or bt",
            )
        )
    return found
