"""The pull as a state machine: which source reads which segment next, and what a failure means.

Pure: events and the time come in, commands go out. ``transfer/fetcher`` executes them.

    missing ──Read──▶ reading ──ReadFinished──▶ verifying ──DigestMatched──▶ verified
       ▲                 │ ReadFailed, Tick (stall)       │ DigestDiffers, DigestUnknown
       │                 ▼                                │
       └──ReadStopped── stopping ◀────────────────────────┘ (requeued at once: nothing writes)

Three rules hold always. No segment is read by two sources at once: after a stall the read is
stopped first, and the segment stays out of reach until the backend says that nothing writes into
it any more. The stalled source gets no other segment before that. And the end is one of three:
every segment verified (``Done``), no source left (``GiveUp`` naming what is missing), or still
work to do.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from enum import Enum
from itertools import islice


# --- events -----------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class SourceJoined:
    """A source is connected. ``distance`` orders sources: 0 is this host. ``offers`` None: all segments."""

    source: str
    distance: int = 0
    offers: frozenset[int] | None = None


@dataclass(frozen=True, slots=True)
class OffersChanged:
    """A partial source now holds these segments, verified."""

    source: str
    offers: frozenset[int] | None


@dataclass(frozen=True, slots=True)
class SourceLeft:
    """The source can't be used any more; its reads in flight have been or will be stopped."""

    source: str
    reason: str


@dataclass(frozen=True, slots=True)
class ReadFinished:
    """``at_s`` is when the bytes were there, which may be before this is handled."""

    segment: int
    source: str
    at_s: float


@dataclass(frozen=True, slots=True)
class ReadFailed:
    """The read ended with an error; nothing writes into the segment any more."""

    segment: int
    source: str
    reason: str


@dataclass(frozen=True, slots=True)
class ReadStopped:
    """Answer to ``Stop``: the source's read of the segment is over, nothing writes there any more."""

    segment: int
    source: str


@dataclass(frozen=True, slots=True)
class DigestMatched:
    segment: int
    source: str


@dataclass(frozen=True, slots=True)
class DigestDiffers:
    """The bytes read are not those that the source announced."""

    segment: int
    source: str


@dataclass(frozen=True, slots=True)
class DigestUnknown:
    """The bytes read can't be judged: the source is dropped and the segment read elsewhere."""

    segment: int
    source: str
    reason: str


@dataclass(frozen=True, slots=True)
class SourceTainted:
    """The source can't be trusted with what it gave already either: all of it is read again."""

    source: str
    reason: str


@dataclass(frozen=True, slots=True)
class NoMoreSources:
    """Discovery is over: when the last source goes, the pull is over."""


@dataclass(frozen=True, slots=True)
class Tick:
    """Time passed: look for stalls."""


Event = (
    SourceJoined
    | OffersChanged
    | SourceLeft
    | ReadFinished
    | ReadFailed
    | ReadStopped
    | DigestMatched
    | DigestDiffers
    | DigestUnknown
    | SourceTainted
    | NoMoreSources
    | Tick
)


# --- commands ---------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class Read:
    segment: int
    source: str


@dataclass(frozen=True, slots=True)
class Stop:
    """Stop the read of this segment and say so with ``ReadStopped`` once nothing writes any more."""

    segment: int
    source: str


@dataclass(frozen=True, slots=True)
class Drop:
    source: str
    reason: str


@dataclass(frozen=True, slots=True)
class Done:
    pass


@dataclass(frozen=True, slots=True)
class GiveUp:
    missing: tuple[int, ...]
    reason: str


Command = Read | Stop | Drop | Done | GiveUp


class Phase(Enum):
    MISSING = "missing"
    READING = "reading"
    STOPPING = "stopping"
    VERIFYING = "verifying"
    VERIFIED = "verified"


@dataclass(frozen=True, slots=True)
class Limits:
    """window_max   reads in flight per source, at most
    stall_s      a source with reads in flight and no finished one for so long is stalled; one that
                 is known to be slow gets STALL_FACTOR times what its reads in flight should take,
                 and one that never finished a read gets twice ``stall_s``
    strikes      failed or stalled reads until a source is out; the first puts it on probation
    rereads      reads of one segment after a wrong digest, over all sources
    """

    window_max: int = 4
    stall_s: float = 10.0
    strikes: int = 2
    rereads: int = 2


STALL_FACTOR = 4
# A rate taken over less time says more about the poll than about the source.
MEASURE_S = 0.02


@dataclass(slots=True)
class _Source:
    distance: int
    offers: frozenset[int] | None
    window: int = 1
    reading: set[int] = field(default_factory=set)
    stopping: set[int] = field(default_factory=set)
    strikes: int = 0
    bytes_s: float = 0.0  # smoothed
    best_bytes_s: float = 0.0
    progress_at: float = 0.0
    measured_at: float = 0.0
    measured_bytes: int = 0
    wrong: set[int] = field(default_factory=set)

    def offers_segment(self, segment: int) -> bool:
        return self.offers is None or segment in self.offers


class Swarm:
    """One pull. ``sizes`` are bytes per segment; ``start`` rotates the order so targets differ."""

    def __init__(self, sizes: Sequence[int], *, start: int = 0, limits: Limits | None = None) -> None:
        self._sizes = tuple(sizes)
        self._limits = limits or Limits()
        count = len(self._sizes)
        self._phase = [Phase.MISSING] * count
        self._reader: dict[int, str] = {}
        self._giver: dict[int, str] = {}  # who gave a verified segment
        self._rereads = [0] * count
        order = [(start + k) % count for k in range(count)] if count else []
        self._missing: dict[int, None] = dict.fromkeys(order)  # ordered set
        self._missing_bytes = sum(self._sizes)
        self._largest = max(self._sizes, default=0)
        self._sources: dict[str, _Source] = {}
        self._discovery_over = False
        self._verified = 0
        self._last_reason = ""
        self._over: Done | GiveUp | None = None
        self.rereads = 0

    # --- what an observer may ask ---------------------------------------------------------
    @property
    def over(self) -> Done | GiveUp | None:
        return self._over

    @property
    def verified(self) -> int:
        return self._verified

    def phase(self, segment: int) -> Phase:
        return self._phase[segment]

    def unverified(self) -> tuple[int, ...]:
        return tuple(i for i, phase in enumerate(self._phase) if phase is not Phase.VERIFIED)

    def window(self, source: str) -> int:
        return self._sources[source].window

    def upcoming(self, count: int) -> tuple[int, ...]:
        """Segments that are likely to be read next."""
        return tuple(islice(self._missing, count))

    # --- the machine ------------------------------------------------------------------------
    def handle(self, event: Event, now_s: float) -> tuple[Command, ...]:
        """Take one event at monotonic time ``now_s``; what to do now. Empty once it is over.

        Events that no longer apply (a late answer of a dropped source) change nothing.
        """
        if self._over is not None:
            return ()
        out: list[Command] = []
        match event:
            case SourceJoined(source, distance, offers):
                if source not in self._sources:
                    self._sources[source] = _Source(distance, offers, progress_at=now_s)
            case OffersChanged(source, offers):
                if source in self._sources:
                    self._sources[source].offers = offers
            case SourceLeft(source, reason):
                self._drop(source, reason, out)
            case ReadFinished(segment, source, at_s):
                self._finished(segment, source, at_s)
            case ReadFailed(segment, source, reason):
                self._failed(segment, source, reason, now_s, out)
            case ReadStopped(segment, source):
                if self._phase[segment] is Phase.STOPPING and self._reader.get(segment) == source:
                    self._release(segment)
                    self._requeue(segment)
            case DigestMatched(segment, source):
                if self._judged(segment, source):
                    self._phase[segment] = Phase.VERIFIED
                    self._giver[segment] = source
                    self._verified += 1
            case DigestDiffers(segment, source):
                self._differs(segment, source, out)
            case DigestUnknown(segment, source, reason):
                if self._judged(segment, source):
                    self._requeue(segment)
                    self._drop(source, reason, out)
            case SourceTainted(source, reason):
                self._taint(source, reason, out)
            case NoMoreSources():
                self._discovery_over = True
            case Tick():
                self._stalls(now_s, out)
        self._conclude(out)
        if self._over is None:
            self._assign(now_s, out)
        return tuple(out)

    def _judged(self, segment: int, source: str) -> bool:
        """True when the verdict is about the bytes that lie there now, not about an earlier read."""
        if self._phase[segment] is not Phase.VERIFYING or self._reader.get(segment) != source:
            return False
        del self._reader[segment]
        return True

    def _finished(self, segment: int, source: str, at_s: float) -> None:
        if self._phase[segment] not in (Phase.READING, Phase.STOPPING) or self._reader.get(segment) != source:
            return
        entry = self._sources.get(source)
        if entry is None:  # dropped while this read was under way: its bytes are not trusted
            self._release(segment)
            self._requeue(segment)
            return
        full = len(entry.reading) >= entry.window
        entry.reading.discard(segment)
        entry.stopping.discard(segment)
        entry.measured_bytes += self._sizes[segment]
        if at_s - entry.measured_at >= MEASURE_S:
            self._measure(entry, entry.measured_bytes / (at_s - entry.measured_at), full=full)
            entry.measured_at, entry.measured_bytes = at_s, 0
        entry.progress_at = max(entry.progress_at, at_s)
        entry.strikes = 0
        self._phase[segment] = Phase.VERIFYING

    def _measure(self, entry: _Source, rate: float, *, full: bool) -> None:
        """Grow the window while a fuller one was faster, shrink it when the rate collapsed."""
        entry.bytes_s = rate if not entry.bytes_s else 0.7 * entry.bytes_s + 0.3 * rate
        if not full:
            return
        if entry.bytes_s > 1.1 * entry.best_bytes_s:
            entry.best_bytes_s = entry.bytes_s
            entry.window = min(entry.window + 1, self._limits.window_max)
        elif entry.bytes_s < 0.5 * entry.best_bytes_s:
            entry.best_bytes_s = entry.bytes_s
            entry.window = max(1, entry.window - 1)

    def _failed(self, segment: int, source: str, reason: str, now_s: float, out: list[Command]) -> None:
        if self._reader.get(segment) != source or self._phase[segment] not in (Phase.READING, Phase.STOPPING):
            return
        self._release(segment)
        self._requeue(segment)
        self._strike(source, reason, now_s, out)

    def _strike(self, source: str, reason: str, now_s: float, out: list[Command]) -> None:
        entry = self._sources.get(source)
        self._last_reason = f"{source}: {reason}"
        if entry is None:
            return
        entry.strikes += 1
        entry.window = 1  # probation: one read at a time until one succeeds
        entry.progress_at = now_s
        if entry.strikes >= self._limits.strikes:
            self._drop(source, reason, out)

    def _differs(self, segment: int, source: str, out: list[Command]) -> None:
        if not self._judged(segment, source):
            return
        entry = self._sources.get(source)
        self._requeue(segment)
        reason = f"segment {segment} does not match its digest"
        self._last_reason = f"{source}: {reason}"
        if entry is not None:
            entry.wrong.add(segment)
            if len(entry.wrong) >= self._limits.strikes:
                self._drop(source, reason, out)
        self._rereads[segment] += 1
        self.rereads += 1
        if self._rereads[segment] > self._limits.rereads:
            for name in [n for n, s in self._sources.items() if segment in s.wrong]:
                self._drop(name, reason, out)

    def _stalls(self, now_s: float, out: list[Command]) -> None:
        for name, entry in list(self._sources.items()):
            waited_s = now_s - entry.progress_at
            if not entry.reading or waited_s < self._patience_s(entry):
                continue
            for segment in sorted(entry.reading):
                self._phase[segment] = Phase.STOPPING
                out.append(Stop(segment, name))
            entry.stopping |= entry.reading
            entry.reading.clear()
            self._strike(name, f"no progress for {waited_s:.3g} s", now_s, out)

    def _patience_s(self, entry: _Source) -> float:
        if not entry.bytes_s:
            return 2 * self._limits.stall_s
        expected_s = sum(self._sizes[segment] for segment in entry.reading) / entry.bytes_s
        return max(self._limits.stall_s, STALL_FACTOR * expected_s)

    def _taint(self, source: str, reason: str, out: list[Command]) -> None:
        self._drop(source, reason, out)
        given = [s for s, giver in self._giver.items() if giver == source]
        # A verdict still on its way is about the same bytes: without its reader it counts for nothing.
        judged = [s for s, who in self._reader.items() if who == source and self._phase[s] is Phase.VERIFYING]
        for segment in given:
            del self._giver[segment]
        for segment in judged:
            del self._reader[segment]
        self._verified -= len(given)
        for segment in sorted(given + judged):
            self.rereads += 1
            self._requeue(segment)

    def _drop(self, source: str, reason: str, out: list[Command]) -> None:
        entry = self._sources.pop(source, None)
        if entry is None:
            return
        self._last_reason = f"{source}: {reason}"
        for segment in sorted(entry.reading):
            self._phase[segment] = Phase.STOPPING
            out.append(Stop(segment, source))
        out.append(Drop(source, reason))

    def _release(self, segment: int) -> None:
        entry = self._sources.get(self._reader.pop(segment, ""))
        if entry is not None:
            entry.reading.discard(segment)
            entry.stopping.discard(segment)

    def _requeue(self, segment: int) -> None:
        self._phase[segment] = Phase.MISSING
        self._missing[segment] = None
        self._missing_bytes += self._sizes[segment]

    def _conclude(self, out: list[Command]) -> None:
        if self._verified == len(self._sizes):
            self._over = Done()
        elif self._discovery_over and not self._sources and not self._busy():
            self._over = GiveUp(self.unverified(), self._last_reason or "no source")
        if self._over is not None:
            out.append(self._over)

    def _busy(self) -> bool:
        return any(p in (Phase.READING, Phase.STOPPING, Phase.VERIFYING) for p in self._phase)

    def _may_read(self, entry: _Source, segment: int) -> bool:
        if not entry.offers_segment(segment):
            return False
        if segment not in entry.wrong:
            return True
        # It gave wrong bytes for this segment: only when nobody else can give it at all.
        return not any(
            other.offers_segment(segment) and segment not in other.wrong for other in self._sources.values()
        )

    def _assign(self, now_s: float, out: list[Command]) -> None:
        for name, entry in sorted(
            self._sources.items(), key=lambda item: (item[1].distance, -item[1].bytes_s)
        ):
            while len(entry.reading) < entry.window and self._missing and not entry.stopping:
                segment = self._choose(entry)
                if segment is None:
                    break
                if not entry.reading:
                    entry.progress_at = entry.measured_at = now_s
                    entry.measured_bytes = 0
                del self._missing[segment]
                self._missing_bytes -= self._sizes[segment]
                entry.reading.add(segment)
                self._reader[segment] = name
                self._phase[segment] = Phase.READING
                out.append(Read(segment, name))

    def _choose(self, entry: _Source) -> int | None:
        """First missing segment in this target's order; the rarest first where sources are partial."""
        if self._too_slow_to_help(entry):
            return None
        candidates: Iterable[int] = (s for s in self._missing if self._may_read(entry, s))
        if all(source.offers is None for source in self._sources.values()):
            return next(iter(candidates), None)
        return min(candidates, key=self._holders, default=None)

    def _holders(self, segment: int) -> int:
        return sum(source.offers_segment(segment) for source in self._sources.values())

    def _too_slow_to_help(self, entry: _Source) -> bool:
        """True when faster sources would finish all that is missing before this one finishes one segment.

        The fastest healthy source is never too slow, so somebody always reads.
        """
        if not entry.bytes_s or any(s.offers is not None for s in self._sources.values()):
            return False
        faster = sum(
            s.bytes_s
            for s in self._sources.values()
            if s.bytes_s > entry.bytes_s and not s.wrong and not s.strikes
        )
        if not faster:
            return False
        return self._largest / entry.bytes_s > self._missing_bytes / faster
