"""Toned text as Textual's content: the one place that knows which colour a tone has."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from textual.content import Content

from mx.tui.cells import Cell, Tone, broken
from mx.tui.facts import Facts

_WIDE = 10_000  # no line is broken

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


def pairs(rows: Sequence[tuple[str, Cell]], *, width: int = _WIDE) -> list[Content]:
    """Labels at the left, values beside them; what is longer goes on below itself."""
    indent = max((len(name) for name, _ in rows), default=0) + 2
    lines: list[Content] = []
    for name, cell in rows:
        pieces = broken(cell.text, max(8, width - indent))
        lines.append(ink(Cell(f"{name:<{indent}}", Tone.DIM), Cell(pieces[0], cell.tone)))
        lines += [ink(" " * indent, Cell(piece, cell.tone)) for piece in pieces[1:]]
    return lines


def page(facts: Facts, *, width: int = _WIDE) -> Content:
    lines = [ink(Cell(piece, Tone.STRONG)) for piece in broken(facts.title, width)]
    lines += [ink(""), *pairs(facts.cells, width=width)]
    for heading, body in facts.sections:
        lines += [ink(""), ink(Cell(heading, Tone.DIM))]
        for line in body:
            first, *rest = broken(line, width)
            lines += [ink(first), *(ink(f"  {piece}") for more in rest for piece in broken(more, width - 2))]
    if facts.command:
        lines += [ink(""), ink(Cell("$ ", Tone.DIM), Cell(facts.command, Tone.ACCENT))]
    return stack(lines)
