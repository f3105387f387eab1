"""The pull's state machine: examples first, then a simulated network with every fault we know."""

from __future__ import annotations

from dataclasses import dataclass, field

from hypothesis import given, settings
from hypothesis import strategies as st

from mx.core.swarm import (
    Command,
    DigestDiffers,
    DigestMatched,
    DigestUnknown,
    Done,
    Drop,
    Event,
    GiveUp,
    Limits,
    NoMoreSources,
    OffersChanged,
    Phase,
    Read,
    ReadFailed,
    ReadFinished,
    ReadStopped,
    SourceJoined,
    SourceLeft,
    SourceTainted,
    Stop,
    Swarm,
    Tick,
)

MIB = 1 << 20


def reads(commands: tuple[Command, ...]) -> list[tuple[int, str]]:
    return [(c.segment, c.source) for c in commands if isinstance(c, Read)]


def finish(swarm: Swarm, segment: int, source: str, now: float = 1.0) -> list[tuple[int, str]]:
    got = reads(swarm.handle(ReadFinished(segment, source, now), now))
    return got + reads(swarm.handle(DigestMatched(segment, source), now))


def test_one_source_reads_everything_once_and_in_order() -> None:
    swarm = Swarm([MIB] * 3, limits=Limits(window_max=1))
    assert reads(swarm.handle(SourceJoined("a"), 0)) == [(0, "a")]
    assert finish(swarm, 0, "a") == [(1, "a")]
    assert finish(swarm, 1, "a") == [(2, "a")]
    assert swarm.over is None
    finish(swarm, 2, "a")
    assert swarm.over == Done()
    assert swarm.verified == 3


def test_targets_start_at_different_segments() -> None:
    swarm = Swarm([MIB] * 4, start=2, limits=Limits(window_max=1))
    assert reads(swarm.handle(SourceJoined("a"), 0)) == [(2, "a")]


def test_nothing_to_read_is_done_at_once() -> None:
    swarm = Swarm([])
    assert swarm.handle(NoMoreSources(), 0) == (Done(),)


def test_a_failed_read_goes_to_the_other_source_and_the_second_failure_drops() -> None:
    swarm = Swarm([MIB] * 4, limits=Limits(window_max=1))
    swarm.handle(SourceJoined("a"), 0)
    swarm.handle(SourceJoined("b"), 0)
    again = swarm.handle(ReadFailed(0, "a", "disconnected"), 1)
    assert reads(again), "a is on probation and may try another segment"
    segment = reads(again)[0][0]
    commands = swarm.handle(ReadFailed(segment, "a", "disconnected"), 1)
    assert Drop("a", "disconnected") in commands


def test_no_source_left_gives_up_and_names_what_is_missing() -> None:
    swarm = Swarm([MIB] * 3, limits=Limits(window_max=1, strikes=1))
    swarm.handle(SourceJoined("a"), 0)
    finish(swarm, 0, "a")
    swarm.handle(NoMoreSources(), 1)
    commands = swarm.handle(ReadFailed(1, "a", "reset by peer"), 1)
    assert commands[-1] == GiveUp((1, 2), "a: reset by peer")


def test_before_discovery_is_over_a_lost_source_is_waited_for() -> None:
    swarm = Swarm([MIB], limits=Limits(strikes=1))
    swarm.handle(SourceJoined("a"), 0)
    swarm.handle(ReadFailed(0, "a", "x"), 0)
    assert swarm.over is None
    assert reads(swarm.handle(SourceJoined("b"), 1)) == [(0, "b")]


def test_a_stalled_read_is_stopped_before_anyone_reads_the_segment_again() -> None:
    swarm = Swarm([MIB], limits=Limits(stall_s=5))
    swarm.handle(SourceJoined("a"), 0)
    swarm.handle(SourceJoined("b"), 0)
    assert swarm.handle(Tick(), 9.9) == (), "the first read of a source may take twice as long"
    commands = swarm.handle(Tick(), 10.0)
    assert Stop(0, "a") in commands
    assert reads(commands) == []
    assert swarm.phase(0) is Phase.STOPPING
    assert reads(swarm.handle(Tick(), 16.0)) == []
    assert len(reads(swarm.handle(ReadStopped(0, "a"), 17.0))) == 1


def test_a_stalled_source_reads_nothing_else_until_its_reads_have_ended() -> None:
    swarm = Swarm([MIB] * 3, limits=Limits(window_max=1, stall_s=5))
    swarm.handle(SourceJoined("a"), 0)
    assert swarm.handle(Tick(), 10) == (Stop(0, "a"),)
    assert reads(swarm.handle(Tick(), 16)) == []
    assert reads(swarm.handle(ReadStopped(0, "a"), 17)) == [(1, "a")], "now it is on probation"


def test_a_read_that_finishes_while_being_stopped_counts() -> None:
    swarm = Swarm([MIB], limits=Limits(stall_s=5))
    swarm.handle(SourceJoined("a"), 0)
    swarm.handle(Tick(), 10.0)
    swarm.handle(ReadFinished(0, "a", 10.1), 10.1)
    assert swarm.handle(DigestMatched(0, "a"), 10.2) == (Done(),)


def test_a_wrong_digest_is_read_again_from_another_source() -> None:
    swarm = Swarm([MIB], limits=Limits())
    swarm.handle(SourceJoined("a"), 0)
    swarm.handle(SourceJoined("b"), 0)
    swarm.handle(ReadFinished(0, "a", 1), 1)
    assert reads(swarm.handle(DigestDiffers(0, "a"), 1)) == [(0, "b")]
    swarm.handle(ReadFinished(0, "b", 1), 1)
    assert swarm.handle(DigestMatched(0, "b"), 1) == (Done(),)
    assert swarm.rereads == 1


def test_a_single_source_that_stays_wrong_is_blamed_after_two_more_reads() -> None:
    swarm = Swarm([MIB], limits=Limits())
    swarm.handle(NoMoreSources(), 0)
    assert swarm.over is not None, "no source and discovery over"
    swarm = Swarm([MIB], limits=Limits(rereads=2))
    swarm.handle(SourceJoined("a"), 0)
    swarm.handle(NoMoreSources(), 0)
    for _ in range(2):
        swarm.handle(ReadFinished(0, "a", 1), 1)
        assert reads(swarm.handle(DigestDiffers(0, "a"), 1)) == [(0, "a")]
    swarm.handle(ReadFinished(0, "a", 1), 1)
    commands = swarm.handle(DigestDiffers(0, "a"), 1)
    assert isinstance(commands[-1], GiveUp)
    assert "does not match its digest" in commands[-1].reason


def test_partial_sources_are_read_for_what_they_offer_rarest_first() -> None:
    swarm = Swarm([MIB] * 4, limits=Limits(window_max=1))
    assert reads(swarm.handle(SourceJoined("p", offers=frozenset({2})), 0)) == [(2, "p")]
    assert reads(swarm.handle(SourceJoined("q", offers=frozenset({2, 3})), 0)) == [(3, "q")]
    assert reads(swarm.handle(OffersChanged("p", frozenset({2, 0})), 0)) == []
    assert finish(swarm, 2, "p") == [(0, "p")]


def test_a_much_slower_source_does_not_take_the_last_segment() -> None:
    swarm = Swarm([MIB] * 3, limits=Limits(window_max=1))
    swarm.handle(SourceJoined("slow"), 0)
    swarm.handle(SourceJoined("fast"), 0)
    swarm.handle(ReadFinished(1, "fast", 0.01), 0.01)
    swarm.handle(ReadFinished(0, "slow", 10.0), 10.0)
    assert all(source == "fast" for _, source in reads(swarm.handle(DigestMatched(0, "slow"), 10.0)))


def test_bytes_that_cannot_be_judged_are_read_elsewhere_and_their_source_is_dropped() -> None:
    swarm = Swarm([MIB])
    swarm.handle(SourceJoined("a"), 0)
    swarm.handle(SourceJoined("b"), 0)
    swarm.handle(ReadFinished(0, "a", 1), 1)
    commands = swarm.handle(DigestUnknown(0, "a", "gone"), 1)
    assert Drop("a", "gone") in commands
    assert reads(commands) == [(0, "b")]


def test_a_late_verdict_about_an_earlier_read_counts_for_nothing() -> None:
    swarm = Swarm([MIB])
    swarm.handle(SourceJoined("a"), 0)
    swarm.handle(SourceJoined("b"), 0)
    swarm.handle(ReadFinished(0, "a", 1), 1)
    swarm.handle(DigestDiffers(0, "a"), 1)
    swarm.handle(ReadFinished(0, "b", 1), 1)
    assert swarm.handle(DigestMatched(0, "a"), 1) == ()
    assert swarm.over is None


def test_the_stop_of_one_source_does_not_free_a_segment_that_another_reads() -> None:
    swarm = Swarm([MIB], limits=Limits(window_max=1))
    for name in ("a", "b", "c"):
        swarm.handle(SourceJoined(name), 0)
    # a's read is done when a leaves: the answer to Stop and the late ReadFinished are both on their way.
    swarm.handle(SourceLeft("a", "gone"), 1)
    taken = reads(swarm.handle(ReadFinished(0, "a", 1), 1))[0][1]
    swarm.handle(SourceLeft(taken, "gone too"), 2)
    assert reads(swarm.handle(ReadStopped(0, "a"), 2)) == []
    assert swarm.phase(0) is Phase.STOPPING
    assert len(reads(swarm.handle(ReadStopped(0, taken), 3))) == 1


def test_what_a_tainted_source_gave_is_read_again() -> None:
    swarm = Swarm([MIB] * 3, limits=Limits(window_max=1))
    swarm.handle(SourceJoined("a"), 0)
    finish(swarm, 0, "a")
    swarm.handle(SourceJoined("b"), 0)
    commands = swarm.handle(SourceTainted("a", "holds other bytes"), 1)
    assert Drop("a", "holds other bytes") in commands
    assert swarm.verified == 0
    assert swarm.unverified() == (0, 1, 2)
    swarm.handle(ReadStopped(1, "a"), 1)
    while swarm.over is None:
        segment = next(i for i in range(3) if swarm.phase(i) is Phase.READING)
        finish(swarm, segment, "b")
    assert swarm.over == Done()


def test_a_verdict_about_a_tainted_source_comes_too_late() -> None:
    swarm = Swarm([MIB], limits=Limits(window_max=1))
    swarm.handle(SourceJoined("a"), 0)
    swarm.handle(ReadFinished(0, "a", 1), 1)
    swarm.handle(SourceTainted("a", "holds other bytes"), 1)
    assert swarm.handle(DigestMatched(0, "a"), 1) == ()
    assert swarm.phase(0) is Phase.MISSING


def test_completions_that_arrive_together_do_not_make_a_source_look_fast() -> None:
    swarm = Swarm([MIB] * 100, limits=Limits(window_max=1))
    swarm.handle(SourceJoined("a"), 0)
    swarm.handle(SourceJoined("b"), 0)
    given = {"a": 0, "b": 0}
    now, in_flight = 0.0, {"a": 0, "b": 1}
    while in_flight:
        now += 0.1  # both finish at the same time, and are handled one after the other
        batch, in_flight = in_flight, {}
        for source, segment in batch.items():
            given[source] += 1
            commands = swarm.handle(ReadFinished(segment, source, now), now + 1e-6)
            commands += swarm.handle(DigestMatched(segment, source), now + 1e-6)
            in_flight.update({who: which for which, who in reads(commands)})
    assert swarm.over == Done()
    assert min(given.values()) >= 45


def test_a_slow_but_steady_source_is_not_stalled() -> None:
    swarm = Swarm([64 * MIB] * 3, limits=Limits(window_max=1, stall_s=10))
    swarm.handle(SourceJoined("slow"), 0)
    finish(swarm, 0, "slow", now=19.0)
    assert swarm.handle(Tick(), 45.0) == (), "19 s a segment is its rate, not a stall"
    assert any(isinstance(c, Stop) for c in swarm.handle(Tick(), 19 + 4 * 19 + 1))


def test_a_source_that_leaves_has_its_reads_stopped_and_its_late_answers_ignored() -> None:
    swarm = Swarm([MIB] * 2, limits=Limits(window_max=1))
    swarm.handle(SourceJoined("a"), 0)
    commands = swarm.handle(SourceLeft("a", "withdrawn"), 1)
    assert commands == (Stop(0, "a"), Drop("a", "withdrawn"))
    swarm.handle(SourceJoined("b"), 1)
    assert swarm.handle(ReadFinished(0, "a", 2), 2) == () or swarm.phase(0) is not Phase.VERIFYING


# --- a simulated network ------------------------------------------------------------------------
@dataclass
class Network:
    """Executes commands late, in any order and with faults; checks the two rules as it goes."""

    swarm: Swarm
    draw: st.DrawFn
    now: float = 0.0
    writing: dict[int, str] = field(default_factory=dict)
    stopping: set[int] = field(default_factory=set)
    verifying: dict[int, str] = field(default_factory=dict)
    corrupt: set[str] = field(default_factory=set)
    good: set[int] = field(default_factory=set)
    givers: dict[int, str] = field(default_factory=dict)
    ended: Done | GiveUp | None = None

    def feed(self, event: Event) -> None:
        for command in self.swarm.handle(event, self.now):
            assert self.ended is None, "no command after the end"
            match command:
                case Read(segment, source):
                    assert segment not in self.writing, "two reads into the same bytes"
                    assert segment not in self.verifying, "read into bytes that are being verified"
                    assert segment not in self.good, "a verified segment is never read again"
                    self.writing[segment] = source
                case Stop(segment, source):
                    assert self.writing.get(segment) == source
                    self.stopping.add(segment)
                case Drop():
                    pass
                case Done() | GiveUp() as end:
                    self.ended = end

    def taint(self, source: str) -> None:
        if self.ended is None:
            self.good -= {segment for segment in self.good if self.givers[segment] == source}
        self.feed(SourceTainted(source, "holds other bytes"))

    def step(self, choice: int) -> None:
        self.now += 0.5
        pending = sorted(self.writing)
        if self.verifying and choice % 3 == 0:
            segment = sorted(self.verifying)[choice % len(self.verifying)]
            source = self.verifying.pop(segment)
            if source in self.corrupt:
                self.feed(DigestDiffers(segment, source))
            else:
                self.good.add(segment)
                self.givers[segment] = source
                self.feed(DigestMatched(segment, source))
        elif pending:
            segment = pending[choice % len(pending)]
            source = self.writing.pop(segment)
            if segment in self.stopping:
                self.stopping.discard(segment)
                self.feed(ReadStopped(segment, source))
            elif choice % 7 == 0:
                self.feed(ReadFailed(segment, source, "fault"))
            else:
                if self.ended is None and self.swarm.phase(segment) is Phase.READING:
                    self.verifying[segment] = source
                self.feed(ReadFinished(segment, source, self.now))
                if self.swarm.phase(segment) is not Phase.VERIFYING:
                    self.verifying.pop(segment, None)
        else:
            self.feed(Tick())


@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_any_order_of_faults_ends_well(data: st.DataObject) -> None:
    sizes = data.draw(st.lists(st.integers(1, 4 * MIB), max_size=8))
    count = len(sizes)
    swarm = Swarm(sizes, start=data.draw(st.integers(0, 9)), limits=Limits(window_max=3, stall_s=20))
    net = Network(swarm, data.draw)
    names = ["a", "b", "c"][: data.draw(st.integers(0, 3))]
    net.corrupt = data.draw(st.sets(st.sampled_from(names))) if names else set()
    late = [SourceJoined(name, data.draw(st.integers(0, 1))) for name in names]
    for choice in data.draw(st.lists(st.integers(0, 1000), max_size=120)):
        if late and choice % 5 == 0:
            net.feed(late.pop())
        elif choice % 41 == 0 and names:
            net.feed(SourceLeft(names[choice % len(names)], "withdrawn"))
        elif choice % 43 == 0 and names:
            net.taint(names[choice % len(names)])
        elif choice % 17 == 0:
            net.now += 25
            net.feed(Tick())
        else:
            net.step(choice)
    for event in late:
        net.feed(event)
    net.feed(NoMoreSources())
    for choice in range(1, 4000):
        if net.ended is not None and not net.writing:
            break
        net.step(choice)
    assert net.ended is not None, "every run comes to an end"
    if isinstance(net.ended, Done):
        assert net.good == set(range(count))
    else:
        assert set(net.ended.missing) == set(range(count)) - net.good
        assert net.ended.missing
        assert net.ended.reason


@settings(max_examples=100, deadline=None)
@given(data=st.data())
def test_one_good_source_that_never_fails_is_enough(data: st.DataObject) -> None:
    count = data.draw(st.integers(1, 8))
    swarm = Swarm([MIB] * count, limits=Limits(window_max=2, stall_s=1e9))
    net = Network(swarm, data.draw, corrupt={"bad"})
    net.feed(SourceJoined("bad"))
    net.feed(SourceJoined("good"))
    net.feed(NoMoreSources())
    choices = st.integers(0, 1000).filter(lambda c: c % 7 != 0 or c % 3 == 0)
    for _ in range(60 * count):
        if net.ended is not None:
            break
        choice = data.draw(choices)
        pending = sorted(net.writing)
        if pending and choice % 7 == 0 and not (net.verifying and choice % 3 == 0):
            choice += 1
        net.step(choice)
    if net.ended is not None:
        assert net.ended == Done()
