"""What the screens show: the fleet as told, how the link stands, and how each table is looked at.

Free of Textual and of clocks: ``now_ms`` is a parameter everywhere, this machine's time.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Generic, TypeVar, assert_never

from mx.core import filters
from mx.core.feed import FeedUpdate, FleetChanges, FleetSnapshot, LinkLost, TransferChanged
from mx.core.fleet import NOTHING_TOLD, Fleet, apply
from mx.errors import MxError, UsageError
from mx.tui.rates import Rates

T = TypeVar("T")

# A feed says every few seconds that it lives; one that is silent for so long is named.
QUIET_S = 20.0


class Phase(StrEnum):
    LOADING = "loading"
    LIVE = "live"
    QUIET = "quiet"
    LOST = "lost"
    FAILED = "failed"  # the watch ended with an error; nothing tries again by itself
    ENDED = "ended"  # a recording was played to its end


@dataclass(frozen=True, slots=True)
class Link:
    """How the watch stands. ``age_s`` since anything was heard, ``retry_in_s`` until the next attempt."""

    phase: Phase
    age_s: float = 0.0
    reason: str = ""
    remedy: str = ""
    attempt: int = 0
    retry_in_s: float = 0.0


class Watched:
    """One endpoint as it is watched: takes updates in, keeps rates, can hold still."""

    def __init__(self) -> None:
        self.fleet: Fleet = NOTHING_TOLD
        self.rates = Rates()
        self.missed = 0
        self._held: Fleet | None = None
        self._heard_ms = 0
        self._failure: MxError | None = None
        self._ended = False
        self._lost_ms = 0

    def take(self, update: FeedUpdate, *, now_ms: int) -> None:
        self.fleet = apply(self.fleet, update)
        match update:
            case FleetSnapshot():
                self.rates.note(update.transfers, now_ms=now_ms)
                self._heard_ms = now_ms
            case FleetChanges():
                reports = (one.report for one in update.changes if isinstance(one, TransferChanged))
                self.rates.note(reports, now_ms=now_ms)
                self._heard_ms = now_ms
                if self._held is not None:
                    self.missed += len(update.changes)
            case LinkLost():
                self._lost_ms = now_ms
            case _:
                assert_never(update)

    def sample(self, *, now_ms: int) -> None:
        """Once a second: write rates down. A lost link says nothing of rates."""
        if self.fleet.lost is None and self.fleet.server is not None:
            self.rates.sample(now_ms=now_ms)

    def fail(self, error: MxError) -> None:
        self._failure = error

    def end(self) -> None:
        self._ended = True

    @property
    def paused(self) -> bool:
        return self._held is not None

    def pause(self, paused: bool) -> None:
        self._held = self.fleet if paused else None
        self.missed = 0

    @property
    def shown(self) -> Fleet:
        """What is painted: the fleet, or the fleet as it was when somebody asked to hold still."""
        return self.fleet if self._held is None else self._held

    def server_now_ms(self, *, now_ms: int) -> int:
        """The server's time, whatever this machine's clock says; it stands once all is told."""
        if not self.fleet.now_ms:
            return now_ms
        if self._ended:
            return self.fleet.now_ms
        return self.fleet.now_ms + max(0, now_ms - self._heard_ms)

    def link(self, *, now_ms: int) -> Link:
        age_s = max(0, now_ms - self._heard_ms) / 1000 if self._heard_ms else 0.0
        if self._failure is not None:
            return Link(Phase.FAILED, age_s, self._failure.message, self._failure.remedy)
        if (lost := self.fleet.lost) is not None:
            left_s = max(0.0, lost.retry_in_s - (now_ms - self._lost_ms) / 1000)
            return Link(Phase.LOST, age_s, lost.reason, attempt=lost.attempt, retry_in_s=left_s)
        if self.fleet.server is None:
            return Link(Phase.LOADING)
        if self._ended:
            return Link(Phase.ENDED, age_s)
        return Link(Phase.QUIET if age_s > QUIET_S else Phase.LIVE, age_s)


@dataclass(slots=True)
class Look(Generic[T]):
    """How a table is looked at: filter, order, marks, problems only.

    A filter that can't be read (it is being typed) leaves the last good one in force and says why.
    """

    fields: Mapping[str, filters.Field[T]]
    ident: Callable[[T], Hashable]
    is_problem: Callable[[T], bool]
    sorts: tuple[str, ...] = ()  # in the order of the columns
    sort: str = ""
    descending: bool = False
    filter: str = ""
    filter_error: str = ""
    only_problems: bool = False
    marked: set[Hashable] = field(default_factory=set)
    _terms: tuple[str, ...] = ()

    def set_filter(self, text: str) -> None:
        self.filter = text
        terms = tuple(text.split())
        try:
            filters.select((), terms, self.fields)
        except UsageError as error:
            self.filter_error = f"{error.message}; {error.remedy}" if error.remedy else error.message
            return
        self.filter_error = ""
        self._terms = terms

    def next_sort(self) -> None:
        """Each column up, then down, then the next one."""
        if not self.sorts:
            return
        if self.sort and not self.descending:
            self.descending = True
            return
        at = self.sorts.index(self.sort) + 1 if self.sort in self.sorts else 0
        self.sort, self.descending = self.sorts[at % len(self.sorts)], False

    def sort_by(self, name: str) -> None:
        """As a click on a header does: once up, again down."""
        if name in self.fields:
            self.descending = self.sort == name and not self.descending
            self.sort = name

    def choose(self, rows: Iterable[T]) -> list[T]:
        if self.only_problems:
            rows = filter(self.is_problem, rows)
        chosen = filters.select(rows, self._terms, self.fields)
        if not self.sort:
            return chosen
        return filters.arrange(chosen, f"{self.sort}:{'desc' if self.descending else 'asc'}", self.fields)

    def toggle_mark(self, row: T) -> None:
        self.marked ^= {self.ident(row)}

    def chosen_of(self, rows: Iterable[T], cursor: T | None) -> list[T]:
        """What an action is about: the marked rows that are there, else the one under the cursor."""
        marked = [row for row in rows if self.ident(row) in self.marked] if self.marked else []
        return marked or ([] if cursor is None else [cursor])

    @property
    def moves(self) -> bool:
        """Whether time alone may bring rows in, take them out or change their order."""
        return bool(self.filter or self.sort or self.only_problems)

    def words(self) -> str:
        """For the title of the table."""
        parts = [f"/{self.filter}"] if self.filter else []
        parts += ["problems only"] if self.only_problems else []
        parts += [f"{len(self.marked)} marked"] if self.marked else []
        return "  ".join(parts)
