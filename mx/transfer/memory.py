"""Reference backend: agents of one process that copy with memmove. For tests and as a model of NIXL.

It keeps the rules of the real one: only registered memory can be read, a peer that closed is
unavailable, metadata is a snapshot of what was registered. ``MemoryFabric`` is the network the
agents share; its ``fault`` hook lets a test delay, fail or corrupt a read.
"""

from __future__ import annotations

import ctypes
import json
import threading
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field

from mx.core.tensors import Extents, Region
from mx.errors import InvalidArgumentError, UnavailableError
from mx.ports import ReadState


@dataclass(slots=True)
class PendingRead:
    """One read. ``hold`` keeps it pending; ``stuck`` means that not even ``sever`` ends it."""

    agent_name: str
    extents: Extents
    hold: bool = False
    stuck: bool = False
    done: bool = False


Fault = Callable[[PendingRead], None]


@dataclass(slots=True)
class MemoryFabric:
    """The agents that can reach each other, by name."""

    agents: dict[str, MemoryBackend] = field(default_factory=dict)
    fault: Fault | None = None


class MemoryBackend:
    """One agent on a fabric. ``listen_port`` is only advertised: on a fabric agents meet by name."""

    def __init__(self, agent_name: str, fabric: MemoryFabric, *, listen_port: int = 0) -> None:
        self._name = agent_name
        self._listen_port = listen_port
        self._fabric = fabric
        self._regions: set[Region] = set()
        self._peers: dict[str, tuple[Region, ...]] = {}
        self._uses: Counter[str] = Counter()  # connects of each peer that were not undone
        self._open: list[PendingRead] = []
        self._lock = threading.Lock()
        fabric.agents[agent_name] = self

    @property
    def agent_name(self) -> str:
        return self._name

    @property
    def listen_port(self) -> int:
        return self._listen_port

    def register(self, regions: Sequence[Region]) -> None:
        with self._lock:
            self._regions.update(regions)

    def deregister(self, regions: Sequence[Region]) -> None:
        with self._lock:
            self._regions.difference_update(regions)

    def local_metadata(self) -> bytes:
        with self._lock:
            rows = sorted((r.addr, r.size, r.device_id) for r in self._regions)
        return json.dumps({"agent": self._name, "regions": rows}).encode()

    def connect(self, metadata: bytes) -> str:
        try:
            content = json.loads(metadata)
            name, rows = str(content["agent"]), content["regions"]
        except (ValueError, KeyError, TypeError) as error:
            raise InvalidArgumentError(f"agent metadata can't be read: {error}") from error
        if name not in self._fabric.agents:
            raise UnavailableError(f"agent {name} is not there")
        with self._lock:
            self._peers[name] = tuple(Region(*row) for row in rows)
            self._uses[name] += 1
        return name

    def connect_endpoint(self, agent_name: str, host: str, port: int, *, deadline_s: float) -> None:
        peer = self._fabric.agents.get(agent_name)
        if peer is None:
            raise UnavailableError(f"agent {agent_name} at {host}:{port} sent no metadata")
        self.connect(peer.local_metadata())

    def disconnect(self, agent_name: str) -> None:
        with self._lock:
            self._uses[agent_name] -= 1
            if self._uses[agent_name] <= 0:
                self._forget(agent_name)

    def _forget(self, agent_name: str) -> None:
        del self._uses[agent_name]
        self._peers.pop(agent_name, None)

    def prepare(self, agent_name: str, extents: Extents) -> object:
        regions = self._peers.get(agent_name)
        if regions is None:
            raise InvalidArgumentError(f"agent {agent_name} is not connected")
        with self._lock:
            mine = tuple(self._regions)
        for addr, size in zip(extents.local_addr, extents.length, strict=True):
            _require(mine, addr, size, "here")
        for addr, size in zip(extents.remote_addr, extents.length, strict=True):
            _require(regions, addr, size, f"at {agent_name}")
        return PendingRead(agent_name, extents)

    def post(self, handle: object) -> None:
        assert isinstance(handle, PendingRead)
        if self._fabric.fault is not None:
            self._fabric.fault(handle)
        self._open.append(handle)

    def poll(self, handle: object) -> ReadState:
        assert isinstance(handle, PendingRead)
        if handle.done:
            return ReadState.DONE
        if handle.agent_name not in self._fabric.agents:
            raise UnavailableError(f"agent {handle.agent_name} went away")
        if handle.hold:
            return ReadState.PENDING
        ranges = handle.extents
        for local, remote, size in zip(ranges.local_addr, ranges.remote_addr, ranges.length, strict=True):
            ctypes.memmove(local, remote, size)
        handle.done = True
        return ReadState.DONE

    def release(self, handle: object) -> bool:
        """Like hardware, it can't cancel: a read that is pending stays so."""
        assert isinstance(handle, PendingRead)
        if (handle.hold or handle.stuck) and not handle.done and handle in self._open:
            return False
        self._open = [read for read in self._open if read is not handle]
        return True

    def sever(self, agent_names: Collection[str]) -> None:
        if any(read.stuck for read in self._open):
            raise UnavailableError("a read can't be ended")
        self._open.clear()
        with self._lock:
            for name in agent_names:
                self._forget(name)

    def close(self) -> None:
        self._fabric.agents.pop(self._name, None)


def _require(regions: Sequence[Region], addr: int, size: int, where: str) -> None:
    if not any(r.addr <= addr and addr + size <= r.addr + r.size for r in regions):
        raise InvalidArgumentError(f"range {addr:#x}+{size} is not registered {where}")
