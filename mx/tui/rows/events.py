"""The feed as a log."""

from __future__ import annotations

from mx.core import filters
from mx.core.feed import Event, EventLevel
from mx.core.filters import Field
from mx.tui.cells import Cell, Column, Tone
from mx.tui.facts import Facts
from mx.tui.moment import Moment

_LEVELS = {
    EventLevel.INFO: Cell("·", Tone.DIM),
    EventLevel.WARNING: Cell("! warning", Tone.WARN),
    EventLevel.ERROR: Cell("✗ error", Tone.BAD),
}


def text_cell(event: Event) -> Cell:
    return Cell(event.text, _LEVELS[event.level].tone if event.level is not EventLevel.INFO else Tone.PLAIN)


def level_cell(event: Event) -> Cell:
    return _LEVELS[event.level]


def columns(moment: Moment) -> list[Column[Event]]:
    return [
        Column(title="TIME", show=lambda e: Cell(moment.clock(e.at_ms), Tone.DIM), width=11, field="age"),
        Column(title="LEVEL", show=level_cell, width=9, field="level"),
        Column(title="KIND", show=lambda e: Cell(e.kind.value, Tone.DIM), width=8, field="kind"),
        Column(title="SUBJECT", show=lambda e: Cell(e.subject), width=22, field="subject", level=1),
        Column(title="WHAT", show=text_cell, width=54, field="text", elastic=True),
        Column(title="SERVER", show=lambda e: Cell(e.server, Tone.DIM), width=14, field="server", level=2),
    ]


def fields(moment: Moment) -> dict[str, Field[Event]]:
    subject: Field[Event] = Field(lambda e: e.subject)
    return {
        "age": Field(lambda e: moment.since_s(e.at_ms), filters.duration),
        "level": Field(lambda e: e.level.value),
        "kind": Field(lambda e: e.kind.value),
        "subject": subject,
        "model": subject,
        "text": Field(lambda e: e.text),
        "server": Field(lambda e: e.server),
    }


def is_problem(event: Event) -> bool:
    return event.level is not EventLevel.INFO


def facts(event: Event, moment: Moment) -> Facts:
    return Facts(
        title=event.text,
        pairs=[
            ("level", level_cell(event) if event.level is not EventLevel.INFO else "info"),
            ("time", f"{moment.date(event.at_ms)}, {moment.ago(event.at_ms)} ago"),
            ("kind", event.kind.value),
            ("subject", event.subject),
            ("server", event.server),
            *((name, str(value)) for name, value in (event.fields or {}).items()),
        ],
        command=f"mx events --kind {event.kind.value}",
    )


def line(event: Event, moment: Moment) -> str:
    """As in a log file."""
    return f"{moment.date(event.at_ms)} {event.level.value} {event.kind.value} {event.subject}: {event.text}"
