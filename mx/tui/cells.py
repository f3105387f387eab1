"""What a line of a table is made of, and how columns share a width. Pure: no Textual."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Generic, TypeVar

from rich.cells import cell_len, set_cell_size

T = TypeVar("T")
Shown = tuple["Cell", ...]


class Tone(StrEnum):
    """Colour by meaning. Each toned text also says it in words or with a sign."""

    PLAIN = "plain"
    OK = "ok"
    WARN = "warn"
    BAD = "bad"
    DIM = "dim"
    ACCENT = "accent"
    STRONG = "strong"


@dataclass(frozen=True, slots=True)
class Cell:
    text: str
    tone: Tone = Tone.PLAIN


NOTHING = Cell("-", Tone.DIM)


@dataclass(frozen=True, slots=True, kw_only=True)
class Column(Generic[T]):
    """A column of rows ``T``. ``field`` is its name in filters and sorts, empty where it has none.

    ``width`` is what it wants; ``elastic`` ones share what is left, and have it as their least.
    ``shorten`` makes texts that are too wide for it shorter; without it their end is cut off.
    Columns of a higher ``level`` go first where the width does not do; level 0 always stays.
    """

    title: str
    show: Callable[[T], Cell]
    width: int
    field: str = ""
    right: bool = False
    elastic: bool = False
    level: int = 0
    shorten: Callable[[str, int], str] | None = None


GAP = 2


def lay_out(columns: Sequence[Column[T]], width: int, *, wide: bool = False) -> list[tuple[Column[T], int]]:
    """The columns that fit, each with its width. ``wide``: all of them, however narrow it is."""
    kept = list(columns)
    while not wide and _least(kept) > width and any(column.level for column in kept):
        level = max(column.level for column in kept)
        dropped = next(column for column in reversed(kept) if column.level == level)
        kept.remove(dropped)
    spare = max(0, width - _least(kept))
    elastic = [column for column in kept if column.elastic]
    share, rest = divmod(spare, len(elastic)) if elastic else (0, 0)
    laid: list[tuple[Column[T], int]] = []
    for column in kept:
        extra = share + (1 if rest > 0 else 0) if column.elastic else 0
        rest -= 1 if column.elastic else 0
        laid.append((column, column.width + extra))
    return laid


def _least(columns: Sequence[Column[T]]) -> int:
    return sum(column.width for column in columns) + GAP * max(0, len(columns) - 1)


def fit(text: str, width: int, *, right: bool = False) -> str:
    """Exactly so wide. What is cut says so with an ellipsis; control characters are shown as spaces."""
    if not text.isprintable():
        text = "".join(char if char.isprintable() else " " for char in text)
    if text.isascii():
        if len(text) <= width:
            return text.rjust(width) if right else text.ljust(width)
        return text[: max(0, width - 1)] + "…" if width else ""
    length = cell_len(text)
    if length <= width:
        return " " * (width - length) + text if right else text + " " * (width - length)
    return set_cell_size(text, max(0, width - 1)) + "…" if width else ""


def broken(text: str, width: int) -> list[str]:
    """In lines of at most so many cells: at blanks where there are some, else anywhere."""
    lines: list[str] = []
    while cell_len(text) > width:
        head = set_cell_size(text, width)
        at = head.rfind(" ")
        cut = len(head) if at < width // 3 or text[len(head) : len(head) + 1] == " " else at
        lines.append(text[:cut].rstrip())
        text = text[cut:].lstrip()
    return [*lines, text]


def shorten_name(name: str, width: int) -> str:
    """A model without its owner where both don't fit, as ``Qwen/Qwen3-8B``."""
    if cell_len(name) <= width:
        return name
    return shorten_middle(name.rpartition("/")[2], width)


def shorten_middle(text: str, width: int) -> str:
    """The beginning and the end of a long name; both tell names apart."""
    if cell_len(text) <= width:
        return text
    tail = max(1, (width - 1) // 3)
    return f"{text[: max(1, width - 1 - tail)]}…{text[-tail:]}"
