"""Everything about one thing, as a page of text. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from mx.tui.cells import Cell

Pairs = Sequence[tuple[str, Cell | str]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """``pairs`` with an empty value are left out. ``command`` shows the same on the command line."""

    title: str
    pairs: Pairs = ()
    sections: tuple[tuple[str, tuple[str, ...]], ...] = ()
    command: str = ""
    cells: tuple[tuple[str, Cell], ...] = field(init=False, default=())

    def __post_init__(self) -> None:
        cells = ((name, value if isinstance(value, Cell) else Cell(value)) for name, value in self.pairs)
        object.__setattr__(self, "cells", tuple((name, cell) for name, cell in cells if cell.text))

    def plain(self) -> str:
        """For the clipboard and for files."""
        width = max((len(name) for name, _ in self.cells), default=0)
        lines = [self.title, *(f"{name:<{width}}  {cell.text}" for name, cell in self.cells)]
        for heading, body in self.sections:
            lines += ["", heading, *body]
        if self.command:
            lines += ["", f"$ {self.command}"]
        return "\n".join(lines)
