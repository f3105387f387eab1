"""What every ``TransferBackend`` does. Subclass, give ``pair``, and pytest runs the suite."""

from __future__ import annotations

import ctypes
import time
from array import array
from collections.abc import Sequence

import pytest

from mx.core.tensors import HOST_DEVICE, Extents, Region
from mx.errors import InvalidArgumentError, MxError
from mx.ports import ReadState, TransferBackend

Buffer = ctypes.Array[ctypes.c_char]
SIZE = 64 * 1024


def buffer(fill: bytes, size: int = SIZE) -> Buffer:
    made = ctypes.create_string_buffer(size)
    ctypes.memmove(made, (fill * (size // len(fill) + 1))[:size], size)
    return made


def region(of: Buffer) -> Region:
    return Region(ctypes.addressof(of), len(of), HOST_DEVICE)


def extents(ranges: Sequence[tuple[Buffer, int, Buffer, int, int]]) -> Extents:
    """(into, offset, from, offset, bytes) each."""
    return Extents(
        array("Q", [ctypes.addressof(into) + at for into, at, _, _, _ in ranges]),
        array("Q", [ctypes.addressof(source) + at for _, _, source, at, _ in ranges]),
        array("Q", [size for *_, size in ranges]),
        HOST_DEVICE,
        HOST_DEVICE,
    )


def read(backend: TransferBackend, peer: str, what: Extents, *, within_s: float = 10.0) -> None:
    handle = backend.prepare(peer, what)
    backend.post(handle)
    end = time.monotonic() + within_s
    while backend.poll(handle) is ReadState.PENDING:
        assert time.monotonic() < end, "the read did not finish in time"
    assert backend.release(handle)


class TransferBackendContract:
    """``pair`` is a fixture: (target, source), two fresh agents that can reach each other."""

    def test_a_read_copies_exactly_the_ranges(self, pair: tuple[TransferBackend, TransferBackend]) -> None:
        target, source = pair
        theirs, mine = buffer(b"0123456789"), buffer(b"-")
        source.register([region(theirs)])
        target.register([region(mine)])
        peer = target.connect(source.local_metadata())
        assert peer == source.agent_name
        read(target, peer, extents([(mine, 100, theirs, 7, 1000), (mine, 5000, theirs, 20_000, 3)]))
        assert mine.raw[100:1100] == theirs.raw[7:1007]
        assert mine.raw[5000:5003] == theirs.raw[20_000:20_003]
        assert mine.raw[:100] == b"-" * 100
        assert mine.raw[1100:5000] == b"-" * 3900
        assert mine.raw[5003:] == b"-" * (SIZE - 5003)

    def test_a_range_that_is_not_registered_here_is_refused(
        self, pair: tuple[TransferBackend, TransferBackend]
    ) -> None:
        target, source = pair
        theirs, mine, other = buffer(b"a"), buffer(b"-"), buffer(b"-")
        source.register([region(theirs)])
        target.register([region(mine)])
        peer = target.connect(source.local_metadata())
        with pytest.raises(InvalidArgumentError):
            read(target, peer, extents([(other, 0, theirs, 0, 10)]))
        assert other.raw == b"-" * SIZE

    def test_a_range_that_is_not_registered_there_is_refused(
        self, pair: tuple[TransferBackend, TransferBackend]
    ) -> None:
        target, source = pair
        theirs, secret, mine = buffer(b"a"), buffer(b"s"), buffer(b"-")
        source.register([region(theirs)])
        target.register([region(mine)])
        peer = target.connect(source.local_metadata())
        with pytest.raises(InvalidArgumentError):
            read(target, peer, extents([(mine, 0, secret, 0, 10)]))
        assert mine.raw == b"-" * SIZE

    def test_an_agent_that_is_not_connected_is_refused(
        self, pair: tuple[TransferBackend, TransferBackend]
    ) -> None:
        target, source = pair
        theirs, mine = buffer(b"a"), buffer(b"-")
        source.register([region(theirs)])
        target.register([region(mine)])
        with pytest.raises(MxError):
            read(target, source.agent_name, extents([(mine, 0, theirs, 0, 10)]))

    def test_after_disconnecting_nothing_is_read(self, pair: tuple[TransferBackend, TransferBackend]) -> None:
        target, source = pair
        theirs, mine = buffer(b"a"), buffer(b"-")
        source.register([region(theirs)])
        target.register([region(mine)])
        peer = target.connect(source.local_metadata())
        target.disconnect(peer)
        target.disconnect(peer)
        with pytest.raises(MxError):
            read(target, peer, extents([(mine, 0, theirs, 0, 10)]))

    def test_a_peer_that_two_users_connected_stays_until_both_are_done(
        self, pair: tuple[TransferBackend, TransferBackend]
    ) -> None:
        target, source = pair
        theirs, mine = buffer(b"a"), buffer(b"-")
        source.register([region(theirs)])
        target.register([region(mine)])
        peer = target.connect(source.local_metadata())
        assert target.connect(source.local_metadata()) == peer
        target.disconnect(peer)
        read(target, peer, extents([(mine, 0, theirs, 0, 10)]))
        target.sever(())
        read(target, peer, extents([(mine, 10, theirs, 0, 10)]))
        assert target.connect(source.local_metadata()) == peer
        target.disconnect(peer)
        read(target, peer, extents([(mine, 20, theirs, 0, 10)]))
        target.disconnect(peer)
        with pytest.raises(MxError):
            read(target, peer, extents([(mine, 30, theirs, 0, 10)]))

    def test_a_read_that_is_only_prepared_writes_nothing_and_can_be_given_up(
        self, pair: tuple[TransferBackend, TransferBackend]
    ) -> None:
        target, source = pair
        theirs, mine = buffer(b"a"), buffer(b"-")
        source.register([region(theirs)])
        target.register([region(mine)])
        peer = target.connect(source.local_metadata())
        handle = target.prepare(peer, extents([(mine, 0, theirs, 0, SIZE)]))
        assert target.release(handle)
        assert mine.raw == b"-" * SIZE
        read(target, peer, extents([(mine, 0, theirs, 0, SIZE)]))
        assert mine.raw == theirs.raw

    @pytest.mark.parametrize("blob", [b"", b"\0", b"rubbish" * 50])
    def test_metadata_that_is_none_is_refused(
        self, pair: tuple[TransferBackend, TransferBackend], blob: bytes
    ) -> None:
        with pytest.raises(MxError):
            pair[0].connect(blob)

    def test_registering_twice_and_deregistering_what_is_not_there_is_harmless(
        self, pair: tuple[TransferBackend, TransferBackend]
    ) -> None:
        target, source = pair
        theirs, mine = buffer(b"a"), buffer(b"-")
        source.register([region(theirs)])
        source.register([region(theirs)])
        target.deregister([region(mine)])
        target.register([region(mine)])
        read(target, target.connect(source.local_metadata()), extents([(mine, 0, theirs, 0, SIZE)]))
        assert mine.raw == theirs.raw
        target.deregister([region(mine)])
        with pytest.raises(InvalidArgumentError):
            read(target, source.agent_name, extents([(mine, 0, theirs, 0, 10)]))

    def test_severing_forgets_the_peers_named_and_no_others(
        self, pair: tuple[TransferBackend, TransferBackend]
    ) -> None:
        target, source = pair
        theirs, mine = buffer(b"a"), buffer(b"-")
        source.register([region(theirs)])
        target.register([region(mine)])
        peer = target.connect(source.local_metadata())
        read(target, peer, extents([(mine, 0, theirs, 0, 10)]))
        target.sever(())
        read(target, peer, extents([(mine, 10, theirs, 0, 10)]))
        target.sever((peer,))
        with pytest.raises(MxError):
            read(target, peer, extents([(mine, 20, theirs, 0, 10)]))
        read(target, target.connect(source.local_metadata()), extents([(mine, 30, theirs, 0, 10)]))
        assert mine.raw[:41] == b"a" * 20 + b"-" * 10 + b"a" * 10 + b"-"

    def test_a_severed_agent_serves_those_who_connect_anew(
        self, pair: tuple[TransferBackend, TransferBackend]
    ) -> None:
        target, source = pair
        theirs, mine = buffer(b"a"), buffer(b"-")
        source.register([region(theirs)])
        target.register([region(mine)])
        source.sever(())
        read(target, target.connect(source.local_metadata()), extents([(mine, 0, theirs, 0, SIZE)]))
        assert mine.raw == theirs.raw

    def test_a_closed_agent_can_be_closed_again(self, pair: tuple[TransferBackend, TransferBackend]) -> None:
        pair[0].close()
        pair[0].close()
