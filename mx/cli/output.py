"""The only writer of stdout (data) and stderr (talk).

In JSON formats stdout holds exactly one JSON document, also when the command fails; a command that
goes on until it is stopped writes one a line.
Text that came from a server is shown without its control characters.
"""

from __future__ import annotations

import io
import json
import math
import os
import shutil
import sys
import traceback
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal, TextIO

import typer

from mx.cli.exits import ExitCode, Failure

_STYLES = {"bold": "1", "red": "31", "green": "32", "yellow": "33"}
_GAP = 2  # between two columns of a table
_ELASTIC_LEAST = 12  # less of a name says nothing
# C0, DEL and C1; line and paragraph separators; what turns the direction of writing around.
_CONTROL = dict.fromkeys(
    (*range(0x20), *range(0x7F, 0xA0), *range(0x2028, 0x202F), *range(0x2066, 0x206A), 0xFEFF)
)


class Format(StrEnum):
    HUMAN = "human"
    JSON = "json"
    JSON_PRETTY = "json-pretty"


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table; what ``optional`` and ``elastic`` ones do on a narrow terminal says ``table``."""

    title: str
    justify: Literal["left", "right"] = "left"
    optional: bool = False
    elastic: bool = False


@dataclass(frozen=True, slots=True)
class Cell:
    """Text with a style of ``_STYLES``. It repeats what the text says and is never the only sign."""

    text: str
    style: str = ""


class Output:
    """Writes the data of one run to stdout and the talk to stderr, in one format."""

    def __init__(self, *, stdout: TextIO | None = None, stderr: TextIO | None = None) -> None:
        self.format = Format.HUMAN
        self.quiet = False
        self._stdout = _tolerant(stdout or sys.stdout)
        self._stderr = _tolerant(stderr or sys.stderr)
        self._documents = 0

    @property
    def is_json(self) -> bool:
        return self.format is not Format.HUMAN

    def emit(self, document: object, *, human: Callable[[], None]) -> None:
        """Write ``document`` as the JSON document of this run, or call ``human`` to write it for a person."""
        if self.is_json:
            self.document(document)
        else:
            human()

    def document(self, document: object) -> None:
        """Write one JSON document, whatever the format."""
        self._documents += 1
        indent = 2 if self.format is not Format.JSON else None
        self.write(json.dumps(_finite(document), ensure_ascii=False, indent=indent, allow_nan=False) + "\n")

    def record(self, document: object) -> None:
        """Write one line of a stream of JSON documents, on one line in every format."""
        self._documents += 1
        self.write(json.dumps(_finite(document), ensure_ascii=False, allow_nan=False) + "\n")

    def line(self, text: str = "") -> None:
        """One line of data for a person."""
        self.write(clean(text) + "\n")

    def fields(self, pairs: Iterable[tuple[str, str]], *, indent: int = 0) -> None:
        """Aligned ``name  value`` lines; pairs without a value are left out."""
        shown = [(name, value) for name, value in pairs if value]
        width = max((len(name) for name, _ in shown), default=0)
        for name, value in shown:
            self.line(f"{' ' * indent}{name:<{width}}  {value}")

    def table(
        self, columns: Sequence[Column], rows: Sequence[Sequence[str | Cell]], *, wide: bool = False
    ) -> None:
        """A table without frame. Fitted to the terminal unless ``wide``; a pipe gets every character.

        To fit, optional columns leave, the last first, then the elastic column is cut in the middle.
        What is still too wide is written whole, and the terminal breaks its lines.
        """
        cells = [[cell if isinstance(cell, Cell) else Cell(cell) for cell in row] for row in rows]
        widths = [
            max(cell_width(text) for text in (column.title, *(row[index].text for row in cells)))
            for index, column in enumerate(columns)
        ]
        shown = list(range(len(columns)))
        terminal = _is_terminal(self._stdout)
        if terminal and not wide:
            shown, limit = _fit(columns, widths, shutil.get_terminal_size().columns)
            for index in (index for index in shown if columns[index].elastic):
                widths[index] = min(widths[index], limit)
        coloured = terminal and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
        header = [Cell(column.title, "bold") for column in columns]
        self.write("".join(_line(row, columns, widths, shown, coloured=coloured) for row in (header, *cells)))
        if hidden := [column.title for index, column in enumerate(columns) if index not in shown]:
            self.say(f"columns left out for lack of room: {', '.join(hidden)} (--wide shows them)")

    def say(self, text: str) -> None:
        """Talk: progress, hints, notices. Silent with ``--quiet``."""
        if not self.quiet:
            self.talk(text)

    def terminal(self) -> TextIO | None:
        """Stderr where lines may be drawn over; None where they may not, or where nobody wants them."""
        drawable = self._stderr.isatty() and os.environ.get("TERM") != "dumb"
        return self._stderr if drawable and not self.quiet else None

    def screen(self) -> TextIO | None:
        """Stdout where data may be drawn over; None where it may not."""
        return self._stdout if self._stdout.isatty() and os.environ.get("TERM") != "dumb" else None

    def fail(self, failure: Failure) -> int:
        """Tell a failure on stderr, and in JSON formats as the one document on stdout; the exit code."""
        for problem in failure.problems:
            self.talk(f"error: {problem}")
        if failure.remedy:
            self.talk(f"hint: {failure.remedy}")
        if self.is_json and not self._documents:
            self.document(failure.document())
        return failure.exit_code

    def traceback(self, error: BaseException) -> None:
        self.talk("".join(traceback.format_exception(error)).rstrip())

    def write(self, text: str) -> None:
        """Write data. Ends the run quietly when nobody reads it any more."""
        try:
            self._stdout.write(text)
            self._stdout.flush()
        except BrokenPipeError:
            # The interpreter flushes stdout once more at exit and would complain.
            os.dup2(os.open(os.devnull, os.O_WRONLY), self._stdout.fileno())
            raise typer.Exit(ExitCode.BROKEN_PIPE) from None

    def talk(self, text: str) -> None:
        """Write to stderr, also when quiet: for what can't be left out."""
        try:
            self._stderr.write(clean_lines(text) + "\n")
            self._stderr.flush()
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), self._stderr.fileno())


def _tolerant(stream: TextIO) -> TextIO:
    """A stream that shows what its encoding lacks as escapes, where it would raise by default."""
    if isinstance(stream, io.TextIOWrapper):
        stream.reconfigure(errors="backslashreplace")
    return stream


def _finite(value: object) -> object:
    """JSON has no NaN and no Infinity; a worker that reports one as its load gets null."""
    match value:
        case float():
            return value if math.isfinite(value) else None
        case dict():
            return {key: _finite(item) for key, item in value.items()}
        case list() | tuple():
            return [_finite(item) for item in value]
        case _:
            return value


def clean(text: str) -> str:
    """Without control characters: a model name from a stranger can't move the cursor or set the title."""
    return text.replace("\t", " ").replace("\n", " ").translate(_CONTROL)


def clean_lines(text: str) -> str:
    """``clean`` for each line of a text that has several."""
    return "\n".join(clean(line) for line in text.split("\n"))


def _is_terminal(stream: TextIO) -> bool:
    return bool(os.environ.get("FORCE_COLOR")) or stream.isatty()


def cell_width(text: str) -> int:
    """Columns that a terminal needs; wide characters take two."""
    if text.isascii() and text.isprintable():
        return len(text)
    from rich.cells import cell_len

    return cell_len(clean(text))


def shorten(text: str, width: int) -> str:
    """At most ``width`` columns: beginning and end, which is where names differ, around an ellipsis."""
    text = clean(text)
    if cell_width(text) <= width:
        return text
    from rich.cells import set_cell_size

    tail = (width - 1) // 2
    end = ""
    for character in reversed(text):
        if cell_width(character + end) > tail:
            break
        end = character + end
    return set_cell_size(text, width - 1 - cell_width(end)).rstrip() + "…" + end


def _fit(columns: Sequence[Column], widths: Sequence[int], room: int) -> tuple[list[int], int]:
    """Which columns stay, and how many terminal columns the elastic one gets."""
    shown = list(range(len(columns)))

    def needed() -> int:
        return sum(widths[index] for index in shown) + _GAP * (len(shown) - 1)

    while needed() > room and (spare := [index for index in shown if columns[index].optional]):
        shown.remove(spare[-1])
    elastic = [widths[index] for index in shown if columns[index].elastic]
    natural = max(elastic, default=0)
    return shown, min(natural, max(_ELASTIC_LEAST, natural - max(0, needed() - room)))


def _line(
    row: Sequence[Cell],
    columns: Sequence[Column],
    widths: Sequence[int],
    shown: Sequence[int],
    *,
    coloured: bool,
) -> str:
    """One row, padded by hand: a table library takes seconds for ten thousand of them."""
    parts = []
    for index in shown:
        text = shorten(row[index].text, widths[index])
        blank = " " * (widths[index] - cell_width(text))
        code = _STYLES.get(row[index].style, "") if coloured else ""
        styled = f"\x1b[{code}m{text}\x1b[0m" if code else text
        parts.append(blank + styled if columns[index].justify == "right" else styled + blank)
    return (" " * _GAP).join(parts).rstrip() + "\n"
