"""The only writer of stdout (data) and stderr (talk).

In JSON formats stdout holds exactly one JSON document, also when the command fails.
Text that came from a server is shown without its control characters.
"""

from __future__ import annotations

import io
import json
import math
import os
import sys
import traceback
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Literal, TextIO

import typer

from mx.cli.exits import ExitCode, Failure

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

# Wide enough for any row: a pipe has no width, and a cut cell is lost to grep.
_PIPE_WIDTH = 100_000
_CONTROL = {code: None for code in (*range(0x20), *range(0x7F, 0xA0)) if code not in (0x09, 0x0A)}


class Format(StrEnum):
    HUMAN = "human"
    JSON = "json"
    JSON_PRETTY = "json-pretty"


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table. ``optional`` columns leave, the last first, when the terminal is too narrow."""

    title: str
    justify: Literal["left", "right"] = "left"
    optional: bool = False


@dataclass(frozen=True, slots=True)
class Cell:
    """Text with a rich style. The style repeats what the text says; it is never the only sign."""

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
        """A table without frame. Cut to the terminal unless ``wide``; a pipe gets every character."""
        console = self._console()
        fits = wide or not console.is_terminal
        shown = list(range(len(columns)))
        while True:
            table = _build(columns, rows, shown)
            needed = console.measure(table, options=console.options.update(max_width=_PIPE_WIDTH)).maximum
            spare = [index for index in shown if columns[index].optional]
            if fits or needed <= console.width or not spare:
                break
            shown.remove(spare[-1])
        if fits:
            console.width = max(needed, 1)
        with console.capture() as capture:
            console.print(table)
        self.write("".join(text.rstrip() + "\n" for text in capture.get().splitlines()))
        if hidden := [column.title for index, column in enumerate(columns) if index not in shown]:
            self.say(f"columns left out for lack of room: {', '.join(hidden)} (--wide shows them)")

    def _console(self) -> Console:
        from rich.console import Console

        return Console(file=self._stdout, highlight=False, markup=False, emoji=False)

    def say(self, text: str) -> None:
        """Talk: progress, hints, notices. Silent with ``--quiet``."""
        if not self.quiet:
            self.talk(text)

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
            self._stderr.write(clean(text) + "\n")
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
    return text.translate(_CONTROL)


def _build(columns: Sequence[Column], rows: Sequence[Sequence[str | Cell]], shown: Sequence[int]) -> Table:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, show_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for index in shown:
        column = columns[index]
        table.add_column(column.title, justify=column.justify, no_wrap=True, overflow="ellipsis")
    for row in rows:
        cells = [cell if isinstance(cell, Cell) else Cell(cell) for cell in row]
        table.add_row(
            *(Text(clean(cells[index].text).replace("\n", " "), style=cells[index].style) for index in shown)
        )
    return table
