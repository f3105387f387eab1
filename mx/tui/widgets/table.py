"""A table of any length: only the lines on screen are made, and of them only those that changed are painted.

Textual's own table keeps a cell object for each value, which 10,000 entries with ten columns make slow
to replace; here the rows stay the values that the feed told.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any, ClassVar, Generic, TypeVar

from rich.cells import set_cell_size
from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.binding import Binding, BindingType
from textual.geometry import Region, Size
from textual.message import Message
from textual.scroll_view import ScrollView
from textual.strip import Strip

from mx.tui.cells import GAP, Cell, Column, Shown, Tone, fit, lay_out
from mx.tui.state import Look

T = TypeVar("T")
_MARGIN = 2  # the mark, and a space


class Table(ScrollView, Generic[T], can_focus=True):
    """Rows under a header that stays. The cursor stays on its row while rows come, go and change order."""

    DEFAULT_CSS = """
    Table { height: 1fr; background: $background; scrollbar-gutter: stable;
        scrollbar-size-vertical: 1; scrollbar-size-horizontal: 1;
        & > .table--header { color: $text-muted; text-style: bold; background: $surface; }
        & > .table--cursor { background: $panel; }
        & > .table--ok { color: $text-success; }
        & > .table--warn { color: $text-warning; }
        & > .table--bad { color: $text-error; text-style: bold; }
        & > .table--dim { color: $text-muted; }
        & > .table--accent { color: $text-accent; }
        & > .table--strong { text-style: bold; }
        & > .table--mark { color: $text-accent; text-style: bold; }
        &:focus > .table--cursor { background: $block-cursor-background 40%; }
    }
    """
    COMPONENT_CLASSES: ClassVar[set[str]] = {
        "table--header",
        "table--cursor",
        "table--mark",
        *(f"table--{tone}" for tone in Tone if tone is not Tone.PLAIN),
    }
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up,k", "move(-1)", "up", show=False),
        Binding("down,j", "move(1)", "down", show=False),
        Binding("pageup", "page(-1)", "page up", show=False),
        Binding("pagedown", "page(1)", "page down", show=False),
        Binding("home,g", "edge(0)", "first", show=False),
        Binding("end,G", "edge(-1)", "last", show=False),
        Binding("left", "sideways(-8)", "left", show=False),
        Binding("right", "sideways(8)", "right", show=False),
    ]

    class Moved(Message):
        """The cursor is on another row."""

        def __init__(self, table: Table[Any]) -> None:
            super().__init__()
            self.table = table

        @property
        def control(self) -> Table[Any]:
            return self.table

    class Opened(Moved):
        """A row was chosen by double click."""

    class HeaderClicked(Moved):
        def __init__(self, table: Table[Any], field: str) -> None:
            super().__init__(table)
            self.field = field

    def __init__(self, columns: Sequence[Column[T]], look: Look[T], *, id: str) -> None:  # noqa: A002
        self._tone_styles: dict[tuple[Tone, bool], Style] = {}  # Textual asks for styles in its own __init__
        super().__init__(id=id)
        self.columns: Sequence[Column[T]] = columns
        self.look = look
        self.wide = False
        self.follow_end = False
        self.empty: tuple[str, ...] = ()
        self.rows: Sequence[T] = ()
        self._ids: list[Hashable] = []
        self._at = 0
        self._laid: list[tuple[Column[T], int]] = []
        self._drawn: dict[int, tuple[Shown, bool]] = {}

    # ---- rows

    def set_rows(self, rows: Sequence[T]) -> None:
        """Show these. Paints the lines that differ from what is on screen."""
        at_end = self._at >= len(self.rows) - 1
        kept = self._ids[self._at] if self._ids else None
        self.rows = rows
        self._ids = [self.look.ident(row) for row in rows]
        if self.follow_end and (at_end or kept is None):
            self._at = max(0, len(rows) - 1)
        elif kept is not None and not (self._at < len(rows) and self._ids[self._at] == kept):
            try:
                self._at = self._ids.index(kept)
            except ValueError:
                self._at = max(0, min(self._at, len(rows) - 1))
        if self.virtual_size.height != len(rows) + 1:
            self._measure()
            self._reveal()
        self.repaint()

    def repaint(self) -> None:
        """Paint the lines whose cells say something else than before: ages, rates, marks."""
        top = self.scroll_offset.y
        for y in range(1, self.size.height):
            index = top + y - 1
            drawn = self._drawn.get(y)
            if drawn != (self._line(index) if index < len(self.rows) else None):
                self.refresh(Region(0, y, self.size.width, 1))

    @property
    def cursor_row(self) -> T | None:
        return self.rows[self._at] if self._at < len(self.rows) else None

    @property
    def cursor(self) -> int:
        return self._at

    def move_to(self, index: int) -> None:
        before = self._at
        self._at = max(0, min(index, len(self.rows) - 1))
        if self._at == before:
            return
        self._reveal()
        top = self.scroll_offset.y
        for line in (before - top + 1, self._at - top + 1):
            if 0 < line < self.size.height:
                self.refresh(Region(0, line, self.size.width, 1))
        self.post_message(self.Moved(self))

    def set_columns(self, columns: Sequence[Column[T]], *, wide: bool = False) -> None:
        self.columns, self.wide = columns, wide
        self._measure()
        self.refresh()

    # ---- keys and mouse

    def action_move(self, by: int) -> None:
        self.move_to(self._at + by)

    def action_page(self, by: int) -> None:
        self.move_to(self._at + by * max(1, self.size.height - 2))

    def action_edge(self, end: int) -> None:
        self.move_to(0 if end == 0 else len(self.rows) - 1)

    def action_sideways(self, by: int) -> None:
        self.scroll_to(x=self.scroll_offset.x + by, animate=False)

    def on_click(self, event: events.Click) -> None:
        if event.y == 0:
            if field := self._field_at(event.x + self.scroll_offset.x):
                self.post_message(self.HeaderClicked(self, field))
            return
        index = self.scroll_offset.y + event.y - 1
        if index < len(self.rows):
            self.move_to(index)
            if event.chain == 2:
                self.post_message(self.Opened(self))

    def _field_at(self, x: int) -> str:
        begin = _MARGIN
        for column, width in self._laid:
            if begin <= x < begin + width + GAP:
                return column.field
            begin += width + GAP
        return ""

    # ---- drawing

    def on_resize(self) -> None:
        self._measure()
        self._reveal()
        self.refresh()

    def notify_style_update(self) -> None:
        super().notify_style_update()
        self._tone_styles.clear()

    def _measure(self) -> None:
        width = self.scrollable_content_region.width
        self._laid = lay_out(self.columns, width - _MARGIN, wide=self.wide)
        needed = _MARGIN + sum(width for _, width in self._laid) + GAP * max(0, len(self._laid) - 1)
        self.virtual_size = Size(needed if self.wide else width, len(self.rows) + 1)

    def _reveal(self) -> None:
        room = max(1, self.size.height - 1)
        top = self.scroll_offset.y
        if self._at < top:
            self.scroll_to(y=self._at, animate=False, force=True)
        elif self._at >= top + room:
            self.scroll_to(y=self._at - room + 1, animate=False, force=True)

    def _line(self, index: int) -> tuple[Shown, bool]:
        row = self.rows[index]
        mark = Cell("●" if self._ids[index] in self.look.marked else " ")
        return (mark, *(column.show(row) for column, _ in self._laid)), index == self._at

    def render_line(self, y: int) -> Strip:
        width = self.size.width
        scroll_x, top = self.scroll_offset
        if y == 0:
            return self._header().crop_extend(scroll_x, scroll_x + width, self._component("table--header"))
        index = top + y - 1
        if index >= len(self.rows):
            self._drawn.pop(y, None)
            return self._empty_line(y, width)
        line = self._drawn[y] = self._line(index)
        cells, at_cursor = line
        segments = [Segment(f"{cells[0].text} ", self._style(Tone.ACCENT, at_cursor))]
        plain = self._style(Tone.PLAIN, at_cursor)
        for (column, size), cell in zip(self._laid, cells[1:], strict=True):
            style = plain if cell.tone is Tone.PLAIN else self._style(cell.tone, at_cursor)
            text = cell.text if column.shorten is None else column.shorten(cell.text, size)
            segments.append(Segment(fit(text, size, right=column.right), style))
            segments.append(Segment(" " * GAP, plain))
        return Strip(segments).crop_extend(scroll_x, scroll_x + width, plain)

    def _empty_line(self, y: int, width: int) -> Strip:
        """Below the last row; of a table without rows, what to do about it."""
        at = y - max(2, (self.size.height - len(self.empty)) // 2)
        if self.rows or not 0 <= at < len(self.empty):
            return Strip.blank(width, self.rich_style)
        style = self._style(Tone.STRONG if at == 0 else Tone.DIM, False)
        return Strip([Segment(set_cell_size(self.empty[at].center(width), width), style)])

    def _header(self) -> Strip:
        style = self._component("table--header")
        segments = [Segment(" " * _MARGIN, style)]
        for column, width in self._laid:
            title = column.title
            if column.field and column.field == self.look.sort:
                title = title[: width - 1] + ("↓" if self.look.descending else "↑")
            segments.append(Segment(fit(title, width, right=column.right) + " " * GAP, style))
        return Strip(segments)

    def _component(self, name: str) -> Style:
        return self.get_component_rich_style(name)

    def _style(self, tone: Tone, at_cursor: bool) -> Style:
        found = self._tone_styles.get((tone, at_cursor))
        if found is None:
            found = self.rich_style
            if at_cursor:
                found += Style(bgcolor=self._component("table--cursor").bgcolor)
            if tone is not Tone.PLAIN:
                found += self.get_component_rich_style(f"table--{tone}", partial=True)
            self._tone_styles[tone, at_cursor] = found
        return found
