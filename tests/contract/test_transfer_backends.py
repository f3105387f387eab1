"""The backend contract on the reference and on NIXL, and what only NIXL can get wrong."""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from mx.errors import PreconditionError, UnavailableError
from mx.ports import TransferBackend
from mx.testing.transfer_contract import TransferBackendContract, buffer, extents, read, region
from mx.transfer.memory import MemoryBackend, MemoryFabric
from mx.transfer.nixl import NixlBackend

_names = count()


class TestMemory(TransferBackendContract):
    @pytest.fixture
    def pair(self) -> tuple[TransferBackend, TransferBackend]:
        fabric = MemoryFabric()
        return MemoryBackend("target", fabric), MemoryBackend("source", fabric)


def agent(**options: int) -> NixlBackend:
    return NixlBackend(f"test-{os.getpid()}-{next(_names)}", **options)  # type: ignore[arg-type]


class TestNixl(TransferBackendContract):
    @pytest.fixture
    def pair(self) -> Iterator[tuple[TransferBackend, TransferBackend]]:
        target, source = agent(), agent()
        yield target, source
        target.close()
        source.close()

    def test_a_published_peer_is_found_through_its_listen_thread(self) -> None:
        source, target = agent(listen_port=free_port()), agent(listen_port=free_port())
        theirs, mine = buffer(b"abc"), buffer(b"-")
        source.register([region(theirs)])
        target.register([region(mine)])
        target.connect_endpoint(source.agent_name, "localhost", source.listen_port, deadline_s=10)
        read(target, source.agent_name, extents([(mine, 0, theirs, 0, 1000)]))
        assert mine[:1000] == theirs[:1000]
        source.close()
        target.close()

    def test_a_refused_endpoint_is_an_error_at_once(self) -> None:
        target = agent(listen_port=free_port())
        started = time.monotonic()
        with pytest.raises(UnavailableError, match="can't be reached"):
            target.connect_endpoint("nobody", "127.0.0.1", free_port(), deadline_s=10)
        assert time.monotonic() - started < 2
        with pytest.raises(UnavailableError, match="can't be reached"):
            target.connect_endpoint("nobody", "no-such-host.invalid", 5555, deadline_s=10)
        target.close()

    def test_an_endpoint_that_never_answers_ends_at_its_deadline(self) -> None:
        target = agent(listen_port=free_port())
        with (
            socket.create_server(("127.0.0.1", 0)) as deaf,
            pytest.raises(UnavailableError, match="sent no metadata"),
        ):
            target.connect_endpoint("nobody", "127.0.0.1", deaf.getsockname()[1], deadline_s=1)
        target.close()

    def test_a_listen_port_in_use_is_an_error(self) -> None:
        with socket.create_server(("", 0)) as taken, pytest.raises(UnavailableError, match="create agent"):
            agent(listen_port=taken.getsockname()[1])

    def test_without_a_listen_thread_it_says_what_to_set(self) -> None:
        target = agent()
        with pytest.raises(PreconditionError, match="listen thread"):
            target.connect_endpoint("nobody", "127.0.0.1", free_port(), deadline_s=1)
        target.close()

    def test_a_source_that_is_killed_fails_reads_and_raises(self) -> None:
        with Source() as source:
            target, mine = agent(), buffer(b"-")
            target.register([region(mine)])
            peer = target.connect(source.blob)
            read(target, peer, source.extents(mine))
            assert mine[:5] == b"child"
            source.process.send_signal(signal.SIGKILL)
            source.process.wait()
            with pytest.raises(UnavailableError):
                read(target, peer, source.extents(mine), within_s=20)
            target.close()

    def test_an_idle_source_costs_less_than_one_percent_of_a_core(self) -> None:
        """NIXL's own default burns a whole one."""
        with Source() as source:
            target, mine = agent(), buffer(b"-")
            target.register([region(mine)])
            read(target, target.connect(source.blob), source.extents(mine))
            target.close()
            before = source.cpu_s()
            seconds = 5.0
            threading.Event().wait(seconds)
            used = (source.cpu_s() - before) / seconds
            assert used < 0.01, f"{used:.2%} of a core while idle"

    def test_without_a_pause_it_would_cost_a_core(self) -> None:
        """The measurement above can see the fault it guards against."""
        with Source(progress_delay_us=0) as source:
            before = source.cpu_s()
            threading.Event().wait(2)
            assert (source.cpu_s() - before) / 2 > 0.2

    def test_a_peer_that_can_not_be_connected_leaves_nothing_behind(self) -> None:
        target, source = Unconnectable(f"test-{os.getpid()}-{next(_names)}"), agent()
        with pytest.raises(UnavailableError):
            target.connect(source.local_metadata())
        assert not target.knows(source.agent_name)
        target.broken = False
        target.connect(source.local_metadata())
        assert target.knows(source.agent_name)
        target.close()
        source.close()

    def test_a_failed_connect_does_not_take_the_peer_from_another_user(self) -> None:
        target, source = Unconnectable(f"test-{os.getpid()}-{next(_names)}"), agent()
        theirs, mine = buffer(b"abc"), buffer(b"-")
        source.register([region(theirs)])
        target.register([region(mine)])
        target.broken = False
        peer = target.connect(source.local_metadata())
        target.broken = True
        with pytest.raises(UnavailableError):
            target.connect(source.local_metadata())
        read(target, peer, extents([(mine, 0, theirs, 0, 1000)]))
        assert mine[:1000] == theirs[:1000]
        target.close()
        source.close()

    def test_a_handle_that_was_severed_is_over(self) -> None:
        target, source = agent(), agent()
        theirs, mine = buffer(b"abc"), buffer(b"-")
        source.register([region(theirs)])
        target.register([region(mine)])
        peer = target.connect(source.local_metadata())
        posted, prepared = (target.prepare(peer, extents([(mine, 0, theirs, 0, 1000)])) for _ in range(2))
        target.post(posted)
        target.sever(())
        with pytest.raises(UnavailableError, match="cut off"):
            target.poll(posted)
        with pytest.raises(UnavailableError, match="cut off"):
            target.post(prepared)
        assert target.release(posted)
        assert target.release(prepared)
        target.close()
        source.close()

    def test_while_an_endpoint_is_waited_for_others_are_read_from(self) -> None:
        """A published peer that died costs its own deadline, also when connections are made anew."""
        source, target = agent(listen_port=free_port()), agent(listen_port=free_port())
        mute = agent(listen_port=free_port())
        theirs, mine = buffer(b"abc"), buffer(b"-")
        source.register([region(theirs)])
        target.register([region(mine)])
        peer = target.connect(source.local_metadata())
        target.connect_endpoint(mute.agent_name, "127.0.0.1", mute.listen_port, deadline_s=3)
        port = mute.listen_port
        mute.close()
        with socket.create_server(("127.0.0.1", port)) as deaf:
            severing = threading.Thread(target=target.sever, args=((),))
            severing.start()
            deaf.accept()[0].close()  # it asks the peer that no longer answers
            deaf.accept()
            began = time.monotonic()
            read(target, peer, extents([(mine, 0, theirs, 0, 1000)]))
            assert time.monotonic() - began < 1
            assert severing.is_alive()
            severing.join(20)
        assert mine[:1000] == theirs[:1000]
        target.close()
        source.close()


class Unconnectable(NixlBackend):
    """Loads the blob of a peer and then can't connect, as long as it is ``broken``."""

    broken = True

    def _call(self, doing: str, call: Callable[[], Any]) -> Any:
        if self.broken and doing.startswith("connect to"):
            raise UnavailableError(f"could not {doing}: NIXL_ERR_BACKEND")
        return super()._call(doing, call)

    def knows(self, agent_name: str) -> bool:
        return self._has_metadata(agent_name, self._nixl.nixlXferDList(self._nixl.DRAM_SEG))


class Source:
    """A process with an agent that holds one buffer and then does nothing."""

    def __init__(self, *, progress_delay_us: int = 10_000) -> None:
        self._delay = progress_delay_us

    def __enter__(self) -> Source:
        code = (
            "import ctypes, sys\n"
            "ctypes.CDLL(None).prctl(1, 9)\n"
            "from mx.testing.transfer_contract import buffer, region\n"
            "from mx.transfer.nixl import NixlBackend\n"
            f"b = NixlBackend('child-{os.getpid()}-{next(_names)}', progress_delay_us={self._delay})\n"
            "m = buffer(b'child'); b.register([region(m)])\n"
            "print(ctypes.addressof(m), b.local_metadata().hex(), flush=True)\n"
            "sys.stdin.read()\n"
        )
        self.process = subprocess.Popen(
            [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self.process.stdout is not None
        addr, blob = self.process.stdout.readline().split()
        self._memory = (ctypes.c_char * 1000).from_address(int(addr))  # only its address is used here
        self.blob = bytes.fromhex(blob)
        return self

    def extents(self, into: ctypes.Array[ctypes.c_char]):  # type: ignore[no-untyped-def]
        return extents([(into, 0, self._memory, 0, 1000)])

    def cpu_s(self) -> float:
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()


def until(condition: Callable[[], bool], *, within_s: float = 10.0) -> None:
    end = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < end, "the condition did not come true in time"
        threading.Event().wait(0.005)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_cpu_time_is_read_from_the_right_fields() -> None:
    me = Source()
    me.process = subprocess.Popen(
        [sys.executable, "-c", "import time\nwhile time.process_time() < .3: pass\ninput()"],
        stdin=subprocess.PIPE,
    )
    end = time.monotonic() + 10
    while me.cpu_s() < 0.25:
        assert time.monotonic() < end
        threading.Event().wait(0.02)
    me.process.kill()
    me.process.wait()
    assert resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime >= 0.25
