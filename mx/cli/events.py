"""``mx events``: what happened, and with -f what happens."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated

import typer

from mx.cli.link import never_there
from mx.cli.live import link_words
from mx.cli.options import Invocation, invocation_of, with_client
from mx.cli.output import Format
from mx.client.base import Client
from mx.core.feed import (
    Event,
    EventKind,
    EventLevel,
    FeedUpdate,
    FleetChanges,
    FleetSnapshot,
    LinkLost,
    Logged,
)
from mx.core.feed_json import event_document
from mx.core.units import parse_duration
from mx.errors import UsageError

app = typer.Typer()


class KindChoice(StrEnum):
    SERVER = "server"
    STORE = "store"
    MODEL = "model"
    EVICTION = "eviction"
    SOURCE = "source"
    TRANSFER = "transfer"


# More than a snapshot tells: what it repeats is known.
_REMEMBERED = 5000


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which events; ``age_s`` and ``limit`` are about the past."""

    kinds: tuple[EventKind, ...]
    subject: str
    age_s: float | None
    limit: int

    def fits(self, event: Event) -> bool:
        return (not self.kinds or event.kind in self.kinds) and self.subject in event.subject


@app.command()
def events(
    ctx: typer.Context,
    follow: Annotated[
        bool, typer.Option("--follow", "-F", help="Go on with what happens, until Ctrl-C.")
    ] = False,
    short_f: Annotated[
        int, typer.Option("-f", count=True, metavar="", help="The same; with json after it the format.")
    ] = 0,
    formats: Annotated[list[Format] | None, typer.Argument(hidden=True)] = None,
    kinds: Annotated[
        list[KindChoice] | None,
        typer.Option("--kind", case_sensitive=False, help="This kind only; repeatable."),
    ] = None,
    subject: Annotated[
        str, typer.Option("--subject", metavar="TEXT", help="Only of models, workers or runs with this name.")
    ] = "",
    since: Annotated[
        str | None, typer.Option("--since", metavar="AGE", help="Not older than this, as 10m or 2h.")
    ] = None,
    limit: Annotated[
        int, typer.Option("--limit", "-n", min=0, metavar="COUNT", help="The last so many of the past.")
    ] = 100,
) -> None:
    """Show what happened: servers, stores, downloads, evictions, sources, transfers; the oldest first.

    As far back as the server keeps it.

    JSON: {events: [{event_id, at_ms, kind, level, subject, text, server, fields}]}; with --follow one
    event a line.
    """
    run = invocation_of(ctx)
    if formats:
        run.out.format = formats[-1]
    wanted = Wanted(tuple(EventKind(kind.value) for kind in kinds or ()), subject, _age(since), limit)
    if not follow and short_f <= len(formats or ()):
        found = with_client(ctx, lambda client: _past(run, client, wanted))
        document = {"events": [event_document(one) for one in found]}
        run.out.emit(document, human=lambda: _print(run, found))
        return
    with suppress(KeyboardInterrupt):
        with_client(ctx, lambda client: _follow(run, client, wanted))


def _age(text: str | None) -> float | None:
    try:
        return None if text is None else parse_duration(text)
    except ValueError as error:
        raise UsageError(f"--since: {error}") from None


async def _past(run: Invocation, client: Client, wanted: Wanted) -> tuple[Event, ...]:
    if not wanted.limit:
        return ()
    found = await client.list_events(limit=wanted.limit, kinds=wanted.kinds, subject=wanted.subject)
    after_ms = 0 if wanted.age_s is None else (run.now() - wanted.age_s) * 1000
    return tuple(one for one in found if one.at_ms >= after_ms)


async def _follow(run: Invocation, client: Client, wanted: Wanted) -> None:
    """The past, then each event once. Raises UnavailableError for a server that was never there."""
    seen: dict[str, None] = {}
    begun = lost = False
    async with aclosing(client.watch()) as updates:
        async for update in updates:
            if isinstance(update, LinkLost):
                if not begun:
                    raise never_there(update)
                run.out.say(link_words(update))
                lost = True
                continue
            if lost:
                run.out.say("the link is back")
                lost = False
            events = _logged(update)
            if not begun:
                # What is logged while the past is asked for comes both ways, and is told once.
                seen.update(dict.fromkeys(one.event_id for one in events))
                events, begun = await _past(run, client, wanted), True
                seen = {name: None for name in seen if name not in {one.event_id for one in events}}
            for one in events:
                if one.event_id not in seen and wanted.fits(one):
                    _tell(run, one)
                seen[one.event_id] = None
            for name in tuple(seen)[: max(0, len(seen) - _REMEMBERED)]:
                del seen[name]


def _logged(update: FeedUpdate) -> Sequence[Event]:
    match update:
        case FleetSnapshot():
            return update.events
        case FleetChanges():
            return [change.event for change in update.changes if isinstance(change, Logged)]
        case LinkLost():
            return ()


def _tell(run: Invocation, event: Event) -> None:
    if run.out.is_json:
        run.out.record(event_document(event))
    else:
        run.out.line(event_line(event, now_s=run.now()))


def _print(run: Invocation, found: Sequence[Event]) -> None:
    if not found:
        run.out.say("no event matches")
    for one in found:
        run.out.line(event_line(one, now_s=run.now()))


_MARKS = {EventLevel.INFO: " ", EventLevel.WARNING: "!", EventLevel.ERROR: "✗"}


def event_line(event: Event, *, now_s: float) -> str:
    """Local time, with the date unless it is today's; a mark for what is no mere news."""
    at = time.localtime(event.at_ms / 1000)
    today = time.localtime(now_s)[:3] == at[:3]
    shown = time.strftime("%H:%M:%S" if today else "%Y-%m-%d %H:%M:%S", at)
    about = "" if event.subject in event.text else f"{event.subject}: "
    return f"{shown} {_MARKS[event.level]} {event.kind.value:<8}  {about}{event.text}"
