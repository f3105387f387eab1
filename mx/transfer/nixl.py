"""The NIXL backend: the only module that touches NIXL.

It builds the agent on NIXL's bindings instead of ``nixl._api.nixl_agent``, because that class
fixes ``pthrDelay = 0``: its progress thread then spins and an idle worker burns a whole core.
With a delay the UCX thread sleeps in poll() on its event descriptors and wakes on work; reads
are faster too, since the spinning no longer takes a core from the copy.
"""

from __future__ import annotations

import contextlib
import importlib
import logging
import socket
import threading
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

from mx.core.tensors import HOST_DEVICE, Extents, Region
from mx.errors import InternalError, InvalidArgumentError, MxError, PreconditionError, UnavailableError
from mx.ports import ReadState

T = TypeVar("T")
log = logging.getLogger(__name__)

# NIXL's listener looks for work at this period (µs); it only serves published peers.
LISTENER_PERIOD_US = 100_000


def bindings() -> Any:
    """NIXL's compiled module; raises UnavailableError with what to install."""
    try:
        importlib.import_module("nixl")
        return importlib.import_module("nixl._bindings")
    except ImportError as error:
        raise UnavailableError(
            f"NIXL can't be loaded: {error}", remedy="pip install 'modelexpress-mx[nixl]'"
        ) from error


@dataclass(slots=True)
class _Peer:
    """A connected agent: how to connect it again, and by how many users."""

    again: Callable[[], object]
    uses: int = 0


class NixlBackend:
    """One NIXL agent. Thread-safe: one call at a time, so that ``sever`` finds nobody inside.

    ``memory`` is "DRAM" or "VRAM", what this process registers. ``progress_delay_us`` is the
    pause of the progress thread; 0 spins. ``listen_port`` 0 leaves the listen thread off.
    """

    def __init__(
        self,
        agent_name: str,
        *,
        memory: str = "DRAM",
        engine: str = "UCX",
        progress_delay_us: int = 10_000,
        listen_port: int = 0,
    ) -> None:
        self._nixl = nixl = bindings()
        self._name = agent_name
        self._transport = engine
        self._progress_delay_us = progress_delay_us
        self._listen_port = listen_port
        self._memory = {"DRAM": nixl.DRAM_SEG, "VRAM": nixl.VRAM_SEG}[memory]
        self._lock = threading.RLock()
        self._registered: dict[Region, int] = {}
        self._connected: dict[str, _Peer] = {}
        self._reads: set[object] = set()
        self._agent: Any = None
        self._engine: Any = None
        self._create()

    def _create(self) -> None:
        nixl = self._nixl
        config = nixl.nixlAgentConfig()
        config.useProgThread = True
        config.pthrDelay = self._progress_delay_us
        config.useListenThread = self._listen_port > 0
        config.listenPort = self._listen_port
        config.lthrDelay = LISTENER_PERIOD_US
        config.syncMode = nixl.NIXL_THREAD_SYNC_STRICT
        config.captureTelemetry = False
        agent = self._run("create agent", lambda: nixl.nixlAgent(self._name, config))
        self._engine = self._run(f"start {self._transport}", lambda: agent.createBackend(self._transport, {}))
        self._agent = agent

    @property
    def agent_name(self) -> str:
        return self._name

    @property
    def listen_port(self) -> int:
        return self._listen_port

    def register(self, regions: Sequence[Region]) -> None:
        with self._lock:
            new = [region for region in regions if region not in self._registered]
            if new:
                descriptors = self._registrations(new)
                self._call("register memory", lambda: self._agent.registerMem(descriptors, [self._engine]))
                self._registered.update(dict.fromkeys(new, 1))

    def deregister(self, regions: Sequence[Region]) -> None:
        with self._lock:
            known = [region for region in regions if self._registered.pop(region, None)]
            if known:
                descriptors = self._registrations(known)
                self._call(
                    "deregister memory", lambda: self._agent.deregisterMem(descriptors, [self._engine])
                )

    def _registrations(self, regions: Sequence[Region]) -> Any:
        rows = [(region.addr, region.size, max(region.device_id, 0), "") for region in regions]
        return self._nixl.nixlRegDList(self._memory, rows)

    def local_metadata(self) -> bytes:
        return bytes(self._call("read agent metadata", lambda: self._agent.getLocalMD()))

    def connect(self, metadata: bytes) -> str:
        with self._lock:
            name = self._load(metadata)
            self._add(name, _Peer(partial(self._load, metadata), uses=1))
        return name

    def _load(self, metadata: bytes) -> str:
        raw = self._call("load the peer's agent metadata", lambda: self._agent.loadRemoteMD(metadata))
        name = raw.decode() if isinstance(raw, bytes) else str(raw)
        try:
            self._call(f"connect to {name}", lambda: self._agent.makeConnection(name, [self._engine]))
        except MxError:
            self._forget(name)
            raise
        return name

    def _add(self, name: str, peer: _Peer) -> None:
        with self._lock:
            known = self._connected.get(name)
            if known is not None:
                peer.uses += known.uses
            self._connected[name] = peer

    def connect_endpoint(self, agent_name: str, host: str, port: int, *, deadline_s: float) -> None:
        if not self._listen_port:
            raise PreconditionError(
                f"agent {agent_name} can only be asked by an agent with a listen thread of its own",
                remedy="set transfer.listen to true",
            )
        again = partial(self._fetch, agent_name, host, port, deadline_s)
        again()
        self._add(agent_name, _Peer(again, uses=1))

    def _fetch(self, agent_name: str, host: str, port: int, deadline_s: float) -> None:
        # NIXL itself would neither resolve a name nor report a refused port: ask first.
        end = time.monotonic() + deadline_s
        address = reachable_ipv4(host, port, timeout_s=deadline_s)
        self._call(
            f"ask {address}:{port} for metadata",
            lambda: self._agent.fetchRemoteMD(agent_name, address, port),
        )
        nothing = self._nixl.nixlXferDList(self._nixl.DRAM_SEG)
        # The lock is free between two looks: reads from others go on.
        while not self._call(f"look for {agent_name}", lambda: self._has_metadata(agent_name, nothing)):
            if time.monotonic() > end:
                raise UnavailableError(
                    f"NIXL agent {agent_name} at {address}:{port} sent no metadata within {deadline_s:g} s"
                )
            time.sleep(0.005)

    def _has_metadata(self, agent_name: str, nothing: Any) -> bool:
        try:
            return bool(self._agent.checkRemoteMD(agent_name, nothing) == self._nixl.NIXL_SUCCESS)
        except self._nixl.nixlNotFoundError:
            return False  # not there yet

    def disconnect(self, agent_name: str) -> None:
        with self._lock:
            peer = self._connected.get(agent_name)
            if peer is None:
                return
            peer.uses -= 1
            if peer.uses <= 0:
                del self._connected[agent_name]
                self._forget(agent_name)

    def _forget(self, agent_name: str) -> None:
        """Drop what NIXL holds of an agent that nobody uses; that it holds nothing is no error."""
        with self._lock:
            if agent_name not in self._connected:
                with contextlib.suppress(MxError):
                    self._call(f"forget {agent_name}", lambda: self._agent.invalidateRemoteMD(agent_name))

    def prepare(self, agent_name: str, extents: Extents) -> object:
        nixl = self._nixl
        local = self._descriptors(self._memory, extents.local_addr, extents.length, extents.local_device)
        remote_memory = nixl.DRAM_SEG if extents.remote_device == HOST_DEVICE else nixl.VRAM_SEG
        remote = self._descriptors(remote_memory, extents.remote_addr, extents.length, extents.remote_device)
        with self._lock:
            handle: object = self._call(
                f"prepare a read from {agent_name}",
                lambda: self._agent.createXferReq(
                    nixl.NIXL_READ, local, remote, agent_name, "", [self._engine]
                ),
            )
            self._reads.add(handle)
        return handle

    def post(self, handle: object) -> None:
        with self._lock:  # over shared memory until the bytes are there
            self._require_open(handle)
            self._call("read", lambda: self._agent.postXferReq(handle, ""))

    def _require_open(self, handle: object) -> None:
        if handle not in self._reads:
            raise UnavailableError("the read was cut off")  # its handle is void, and NIXL would use it

    def _descriptors(self, memory: Any, addr: Any, length: Any, device: int) -> Any:
        import numpy

        rows: Any = numpy.empty((len(addr), 3), dtype=numpy.uint64)
        rows[:, 0] = addr
        rows[:, 1] = length
        rows[:, 2] = max(device, 0)
        return self._nixl.nixlXferDList(memory, rows)

    def poll(self, handle: object) -> ReadState:
        with self._lock:
            self._require_open(handle)
            status = self._call("read", lambda: self._agent.getXferStatus(handle))
        return ReadState.DONE if status == self._nixl.NIXL_SUCCESS else ReadState.PENDING

    def release(self, handle: object) -> bool:
        with self._lock:
            if handle not in self._reads or self._agent is None:
                return True  # ended by ``sever`` or ``close``
            # NIXL would free a request that UCX goes on with: over TCP the bytes of a peer that was
            # frozen arrive once it wakes up, in memory that is somebody else's by then.
            if self._pending(handle):
                return False
            try:
                self._agent.releaseXferReq(handle)
            except self._library_errors:
                return False
            self._reads.discard(handle)
        return True

    def _pending(self, handle: object) -> bool:
        try:
            return bool(self._agent.getXferStatus(handle) == self._nixl.NIXL_IN_PROG)
        except self._library_errors:
            return False  # failed, or never posted

    def sever(self, agent_names: Collection[str]) -> None:
        with self._lock:
            regions = list(self._registered)
            others = {name: peer for name, peer in self._connected.items() if name not in agent_names}
            self.close()
            self._create()
            self.register(regions)
        # Without the lock: a published peer that is gone takes its whole deadline to show it.
        for name, peer in others.items():
            try:
                peer.again()
            except MxError as error:
                # Its reads will fail, and it is dropped like any other source that went away.
                log.info("peer lost", extra={"fields": {"reason": error.message}})
            else:
                self._add(name, peer)

    def close(self) -> None:
        """Deregister everything and end the agent, and with it every connection and read."""
        with self._lock:
            if self._agent is None:
                return
            for handle in self._reads:
                with contextlib.suppress(*self._library_errors):
                    self._agent.releaseXferReq(handle)
            self._reads.clear()
            try:
                self.deregister(list(self._registered))
            except MxError as error:
                log.debug("closing the NIXL agent", extra={"fields": {"error": str(error)}})
            self._registered.clear()
            connected = list(self._connected)
            self._connected.clear()
            for name in connected:
                self._forget(name)
            # The destructor closes UCX's worker, and its sockets and queues with it.
            self._agent = self._engine = None

    @property
    def _library_errors(self) -> tuple[type[Exception], ...]:
        nixl = self._nixl
        return (
            nixl.nixlBackendError,
            nixl.nixlCancelledError,
            nixl.nixlInvalidParamError,
            nixl.nixlMismatchError,
            nixl.nixlNotAllowedError,
            nixl.nixlNotFoundError,
            nixl.nixlNotPostedError,
            nixl.nixlNotSupportedError,
            nixl.nixlRemoteDisconnectError,
            nixl.nixlRepostActiveError,
            nixl.nixlUnknownError,
        )

    def _call(self, doing: str, call: Callable[[], T]) -> T:
        """Run one call of the agent, which must take it from ``self``: it may be replaced meanwhile."""
        with self._lock:
            if self._agent is None:
                raise UnavailableError(f"could not {doing}: the NIXL agent is closed")
            return self._run(doing, call)

    def _run(self, doing: str, call: Callable[[], T]) -> T:
        """Run one library call; its errors become ours, by table."""
        nixl = self._nixl
        try:
            return call()
        except (nixl.nixlRemoteDisconnectError, nixl.nixlBackendError) as error:
            raise UnavailableError(f"could not {doing}: {error}") from error
        except (nixl.nixlNotFoundError, nixl.nixlInvalidParamError, nixl.nixlMismatchError) as error:
            raise InvalidArgumentError(
                f"could not {doing}: {error}", remedy="a range is not registered on one side"
            ) from error
        except RuntimeError as error:  # how the bindings report a listen port in use
            raise UnavailableError(f"could not {doing}: {error}") from error
        except self._library_errors as error:
            raise InternalError(f"could not {doing}: {error}") from error


def reachable_ipv4(host: str, port: int, *, timeout_s: float) -> str:
    """Dotted IPv4 of ``host`` after a TCP connect to it; UnavailableError at once when refused."""
    try:
        found = socket.getaddrinfo(host, port, socket.AF_INET, socket.SOCK_STREAM)
        address = str(found[0][4][0])
        socket.create_connection((address, port), timeout=timeout_s).close()
    except OSError as error:
        raise UnavailableError(f"NIXL listener at {host}:{port} can't be reached: {error}") from error
    return address
