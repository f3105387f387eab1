"""Toned text as Textual's content: the one place that knows which colour a tone has."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from textual.content import Content

from mx.tui.cells import Cell, Tone
from mx.tui.facts import Facts

STYLES = {
    Tone.PLAIN: "",
    Tone.OK: "$text-success",
    Tone.WARN: "$text-warning",
    Tone.BAD: "bold $text-error",
    Tone.DIM: "$text-muted",
    Tone.ACCENT: "$text-accent",
    Tone.STRONG: "bold",
}


def ink(*parts: Cell | str) -> Content:
    """Side by side."""
    pieces = [(part, "") if isinstance(part, str) else (part.text, STYLES[part.tone]) for part in parts]
    return Content.assemble(*pieces)


def stack(lines: Iterable[Content]) -> Content:
    return Content("\n").join(lines)


def pairs(rows: Sequence[tuple[str, Cell]], *, label_width: int | None = None) -> list[Content]:
    """Labels at the left, values beside them."""
    width = max((len(name) for name, _ in rows), default=0) if label_width is None else label_width
    return [ink(Cell(f"{name:<{width}}  ", Tone.DIM), cell) for name, cell in rows]


def page(facts: Facts, *, command: bool = True) -> Content:
    lines = [ink(Cell(facts.title, Tone.STRONG)), ink(""), *pairs(facts.cells)]
    for heading, body in facts.sections:
        lines += [ink(""), ink(Cell(heading, Tone.DIM))]
        lines += [ink(line) for line in body]
    if command and facts.command:
        lines += [ink(""), ink(Cell("$ ", Tone.DIM), Cell(facts.command, Tone.ACCENT))]
    return stack(lines)
