"""``--watch``: what a command shows, kept up to date.

In a terminal it is drawn over; in a pipe it is written anew when something changed; with ``--format
json`` every line is a document:

    {"update": "snapshot", …}     what the command prints without --watch
    {"update": "changed", …}      a row that is new or another now
    {"update": "gone", …}         a row as it was last
    {"update": "link-lost", …}    the server can't be reached; what was told stays and grows old
    {"update": "link-back"}

The server pushes, nothing is polled. Ctrl-C ends it with exit code 0.
"""

from __future__ import annotations

import asyncio
import io
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from types import TracebackType
from typing import TYPE_CHECKING, Annotated, Generic, Protocol, Self, TypeVar

import typer

from mx.cli.link import Link, linked
from mx.cli.options import Invocation, invocation_of, with_client
from mx.cli.output import Output
from mx.core.feed import LinkLost
from mx.core.fleet import Fleet

if TYPE_CHECKING:
    from rich.live import Live

    from mx.client.base import Client

T = TypeVar("T")
Document = dict[str, object]

WatchOption = Annotated[bool, typer.Option("--watch", help="Keep it up to date until Ctrl-C.")]

# Changes in between are drawn together; ages move once a second.
_PACE_S = 0.25
_TICK_S = 1.0


class Shown(Protocol):
    """What is kept up to date."""

    async def lines(self, client: Client, fleet: Fleet) -> list[Document]:
        """What is new since the last call, as documents; [] for nothing."""
        ...

    def draw(self, run: Invocation, fleet: Fleet) -> None:
        """All of it for a person, to ``run.out``."""
        ...


@dataclass(slots=True)
class Rows(Generic[T]):
    """A listing. ``select`` gives its rows by a name, filtered and in order; a row is another one when
    its value is."""

    select: Callable[[Fleet], Mapping[object, T]]
    row: Callable[[T, Fleet], Document]
    whole: Callable[[Fleet], Document]
    print: Callable[[Invocation, Fleet], None]
    _known: Mapping[object, T] | None = None

    async def lines(self, client: Client, fleet: Fleet) -> list[Document]:
        rows, known = self.select(fleet), self._known
        self._known = rows
        if known is None:
            return [{"update": "snapshot", **self.whole(fleet)}]
        changed = [row for name, row in rows.items() if known.get(name) != row]
        gone = [row for name, row in known.items() if name not in rows]
        return [
            *({"update": "changed", **self.row(row, fleet)} for row in changed),
            *({"update": "gone", **self.row(row, fleet)} for row in gone),
        ]

    def draw(self, run: Invocation, fleet: Fleet) -> None:
        self.print(run, fleet)


@dataclass(slots=True)
class Whole(Generic[T]):
    """One thing, asked for anew when ``subject``, its part of the feed, has changed."""

    subject: Callable[[Fleet], object]
    read: Callable[[Client, Fleet], Awaitable[T]]
    document: Callable[[T], Document]
    print: Callable[[Invocation, T, Fleet], None]
    _known: tuple[object, T] | None = None

    async def lines(self, client: Client, fleet: Fleet) -> list[Document]:
        subject = self.subject(fleet)
        if fleet.lost is not None or (self._known is not None and self._known[0] == subject):
            return []
        value = await self.read(client, fleet)
        self._known = subject, value
        return [{"update": "snapshot", **self.document(value)}]

    def draw(self, run: Invocation, fleet: Fleet) -> None:
        if self._known is not None:
            self.print(run, self._known[1], fleet)


def watch(ctx: typer.Context, shown: Shown) -> None:
    """Show it until Ctrl-C. Raises what the first call to the server raises."""
    run = invocation_of(ctx)
    with suppress(KeyboardInterrupt):
        with_client(ctx, lambda client: linked(client, lambda link: _keep(run, client, link, shown)))


async def _keep(run: Invocation, client: Client, link: Link, shown: Shown) -> None:
    lost: LinkLost | None = None
    await link.first()
    with Screen(run) as screen:
        while True:
            fleet = link.fleet
            lines = await shown.lines(client, fleet)
            if fleet.lost != lost:
                lines += [link_document(fleet.lost)]
                lost = fleet.lost
            if run.out.is_json:
                for line in lines:
                    run.out.record(line)
            elif lines or screen.is_terminal:
                screen.show(shown, fleet)
            if link.ended:
                return
            await asyncio.sleep(_PACE_S)
            await link.news(within_s=_TICK_S - _PACE_S if screen.is_terminal else None)


def link_document(lost: LinkLost | None) -> Document:
    if lost is None:
        return {"update": "link-back"}
    return {
        "update": "link-lost",
        "reason": lost.reason,
        "attempt": lost.attempt,
        "retry_in_s": lost.retry_in_s,
    }


def link_words(lost: LinkLost) -> str:
    """The state of a lost link, for people."""
    return f"link lost: {lost.reason}; try {lost.attempt + 1} in {lost.retry_in_s:.1f} s"


class _Frame(io.StringIO):
    """Text that is drawn later, on a terminal or not."""

    def __init__(self, *, terminal: bool) -> None:
        super().__init__()
        self._terminal = terminal

    def isatty(self) -> bool:
        return self._terminal


class Screen:
    """Where frames go: over one another on a terminal, elsewhere one after the other."""

    def __init__(self, run: Invocation) -> None:
        self._run = run
        self._terminal = None if run.out.is_json else run.out.screen()
        self._live: Live | None = None
        self._first = True

    @property
    def is_terminal(self) -> bool:
        return self._terminal is not None

    def __enter__(self) -> Self:
        if self._terminal is not None:
            from rich.console import Console
            from rich.live import Live

            console = Console(file=self._terminal, highlight=False)
            self._live = Live(
                console=console, auto_refresh=False, redirect_stdout=False, redirect_stderr=False
            )
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def show(self, shown: Shown, fleet: Fleet) -> None:
        """Draw a frame; everything that is said for it is part of it."""
        frame = _Frame(terminal=self.is_terminal)
        out = Output(stdout=frame, stderr=frame)
        out.quiet = self._run.out.quiet
        shown.draw(replace(self._run, out=out, now=lambda: fleet.now_ms / 1000), fleet)
        if fleet.lost is not None:
            out.talk(link_words(fleet.lost))
        if self._live is not None:
            from rich.text import Text

            text = Text.from_ansi(frame.getvalue().rstrip("\n"), no_wrap=True, overflow="ellipsis")
            self._live.update(text, refresh=True)
        else:
            self._run.out.write(("" if self._first else "\n") + frame.getvalue())
        self._first = False
