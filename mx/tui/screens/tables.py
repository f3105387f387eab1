"""The grammar of tables: filter, sort, marks, describe, raw, copy, save, wide, maximise, problems."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Hashable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, ClassVar, Generic, TypeVar

from textual import events
from textual.app import ComposeResult
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.content import Content
from textual.widgets import Static

from mx.core.server_state import RawRecord
from mx.errors import MxError
from mx.tui import save
from mx.tui.cells import Cell, Tone
from mx.tui.commands import words_of
from mx.tui.facts import Facts
from mx.tui.ink import ink, page, stack
from mx.tui.keys import GLOBAL, TABLE, Key, bindings
from mx.tui.screens.dialogs import AskScreen, TextScreen
from mx.tui.screens.fleet import FleetScreen
from mx.tui.state import Look, Phase
from mx.tui.widgets.bars import Prompt
from mx.tui.widgets.table import Table

T = TypeVar("T")
_LONG = 500  # rows from which a table is painted once a second, and when a key changed it
_REST_S = 0.15  # the cursor rests: now it is worth to ask for details


def _always(_: object) -> Hashable:
    return None


@dataclass(slots=True, kw_only=True)
class Sheet(Generic[T]):
    """A table with all that the grammar needs to know of its rows.

    ``rows`` are all there are, from the moment; ``stamp`` changes (by identity) when they do.
    ``facts`` describes one, with what ``fetch`` brought of it (None before, MxError when that failed);
    ``freshness`` says when that has to be fetched anew. ``arrange`` makes lines of the chosen rows.
    """

    title: str
    table: Table[Any]
    rows: Callable[[], Sequence[T]]
    stamp: Callable[[], tuple[object, ...]]
    facts: Callable[[T, Any], Facts]
    document: Callable[[T], save.Document]
    name: Callable[[T], str]
    empty: tuple[str, ...]
    fetch: Callable[[T], Awaitable[object]] | None = None
    freshness: Callable[[T], Hashable] = _always
    raw: Callable[[T], Awaitable[RawRecord]] | None = None
    arrange: Callable[[list[T]], Sequence[T]] = list
    opens: Callable[[T], bool] = lambda _: False
    total: int = 0
    _seen: tuple[object, ...] = field(default=(), init=False)

    @property
    def look(self) -> Look[T]:
        return self.table.look

    @property
    def cursor(self) -> T | None:
        row: T | None = self.table.cursor_row
        return row

    @property
    def chosen(self) -> list[T]:
        """What an action is about."""
        return self.look.chosen_of(self.table.rows, self.cursor)

    def paint(self, *, anew: bool) -> None:
        """``anew``: choose and sort again though nothing changed. Of long tables that is dear: changes
        are let in with the next ``anew``, which comes each second."""
        stamp = self.stamp()
        same = len(stamp) == len(self._seen) and all(a is b for a, b in zip(stamp, self._seen, strict=True))
        if anew or (not same and self.total < _LONG):
            self._seen = stamp
            rows = self.rows()
            if len(rows) < self.total and self.look.marked:
                self.look.marked &= {self.look.ident(row) for row in self.arrange(list(rows))}
            self.total = len(rows)
            self.table.set_rows(self.arrange(self.look.choose(rows)))
        else:
            self.table.repaint()
        self._write_title()

    def _write_title(self) -> None:
        count = len(self.table.rows)
        of = f" of {self.total}" if count < self.total else ""
        words = self.look.words()
        title = f"{self.title} {count}{of}" + (f"  {words}" if words else "")
        if self.table.border_title != title:
            self.table.border_title = title
        problem = self.look.filter_error
        if self.table.border_subtitle != problem:
            self.table.border_subtitle = problem
        empty = self.empty if not self.total else ("nothing matches", "esc shows all again")
        if self.table.empty != empty:
            self.table.empty = empty
            self.table.refresh()


class TableScreen(FleetScreen):
    """A screen of sheets; keys are about the one that has the focus."""

    DEFAULT_CSS = """
    TableScreen #tables { width: 1fr; }
    TableScreen Table { border-top: solid $panel-lighten-2; border-title-color: $text-primary;
        border-title-style: bold; border-subtitle-color: $text-error; }
    TableScreen Table:focus { border-top: solid $primary; }
    TableScreen #pane { width: 46; display: none; border-top: solid $panel-lighten-2;
        border-left: solid $panel-lighten-2; padding: 0 1; scrollbar-size-vertical: 1; }
    TableScreen.-pane #pane { display: block; }
    TableScreen.-broad #pane { width: 64; }
    TableScreen.-maximised #pane, TableScreen.-maximised .extra { display: none; }
    """
    KEYS: ClassVar[tuple[Key, ...]] = TABLE
    BINDINGS: ClassVar = bindings((*TABLE, *GLOBAL))
    PANE_FROM: ClassVar = 112  # columns from which there is room for details beside the table
    maximised = False

    def __init__(self) -> None:
        super().__init__()
        self.sheets = self.make_sheets()
        self._extra: dict[Hashable, object] = {}
        self._fetching: Hashable = None
        self._painted_s = -1

    def make_sheets(self) -> list[Sheet[Any]]:
        raise NotImplementedError

    def compose_body(self) -> ComposeResult:
        with Horizontal():
            with Vertical(id="tables"):
                yield from self.compose_tables()
            with VerticalScroll(id="pane", can_focus=False):
                yield Static(id="about", markup=False)

    def compose_tables(self) -> ComposeResult:
        for sheet in self.sheets:
            yield sheet.table

    def on_mount(self) -> None:
        self.focus_body()

    def forget(self) -> None:
        self._extra = {}
        self._painted_s = -1  # a long table must not offer the last endpoint's rows until its second is over
        for sheet in self.sheets:
            sheet.look.marked.clear()

    def on_resize(self, event: events.Resize) -> None:
        self.set_class(event.size.width >= self.PANE_FROM, "-pane")
        self.set_class(event.size.width >= 160, "-broad")

    @property
    def sheet(self) -> Sheet[Any]:
        focused = self.focused
        return next((sheet for sheet in self.sheets if sheet.table is focused), self._last_sheet())

    def _last_sheet(self) -> Sheet[Any]:
        return self.sheets[0]

    def focus_body(self) -> None:
        self.set_focus(self.sheets[0].table)

    def paint_body(self) -> None:
        # Ages move rows in and out of filters and change orders: once a second is soon enough.
        second = self.mx.now_ms() // 1000
        anew = second != self._painted_s
        self._painted_s = second
        for sheet in self.sheets:
            look, is_long = sheet.look, sheet.total >= _LONG
            if anew or not is_long:
                sheet.paint(anew=anew and (is_long or look.moves))
        self._paint_pane()

    def repaint_sheet(self) -> None:
        """At once, after a key changed how the table is looked at."""
        if self.moment.fleet.server is not None:
            self.sheet.paint(anew=True)
            self._paint_pane()

    # ---- the pane

    def _paint_pane(self) -> None:
        if not self.has_class("-pane") or self.maximised:
            return
        sheet, row = self.sheet, self.sheet.cursor
        if row is not None and self.mx.link.phase is Phase.LIVE:
            self.fetch_extra(sheet, row, rest_s=_REST_S)
        content = ink("") if row is None else page(self.facts_of(sheet, row), width=self._pane_width())
        about = self.query_one("#about", Static)
        shown = about.content.plain if isinstance(about.content, Content) else None
        if shown != content.plain:
            # Ages change each second and its height hardly ever: laying a screen out costs half a repaint.
            about.update(content, layout=shown is None or shown.count("\n") != content.plain.count("\n"))

    def _pane_width(self) -> int:
        return max(20, self.query_one("#pane", VerticalScroll).size.width - 1)  # a scroll bar may come

    def facts_of(self, sheet: Sheet[T], row: T) -> Facts:
        extra = self._extra.get(self._extra_key(sheet, row))
        return sheet.facts(row, extra)

    def _extra_key(self, sheet: Sheet[T], row: T) -> Hashable:
        return id(sheet), sheet.look.ident(row), sheet.freshness(row)

    def on_table_moved(self, event: Table.Moved) -> None:
        self._paint_pane()

    def on_descendant_focus(self, event: events.DescendantFocus) -> None:
        self._paint_pane()

    def fetch_extra(self, sheet: Sheet[T], row: T, *, rest_s: float = 0.0) -> None:
        """Ask the server about this row, once the cursor rests on it so long."""
        key = self._extra_key(sheet, row)
        if sheet.fetch is None or key in self._extra or key == self._fetching:
            return
        self._fetching = key
        self.start(partial(self._fetch, sheet, row, key, rest_s), group="extra", exclusive=True)

    async def _fetch(self, sheet: Sheet[T], row: T, key: Hashable, rest_s: float) -> None:
        assert sheet.fetch is not None
        try:
            await asyncio.sleep(rest_s)
            self._extra = {key: await sheet.fetch(row)}
        except MxError as error:
            self._extra = {key: error}
        finally:
            if self._fetching == key:
                self._fetching = None
        self.mx.paint_now()

    # ---- the grammar

    def action_filter(self) -> None:
        names = " ".join(dict.fromkeys(self.sheet.look.fields))
        self.query_one(Prompt).ask("/", value=self.sheet.look.filter, hint=f"words, !words, or: {names}")
        self._filtered = self.sheet

    _filtered: Sheet[Any] | None = None

    def on_prompt_typed(self, event: Prompt.Typed) -> None:
        if event.sign == "/" and self._filtered is not None:
            self._filtered.look.set_filter(event.text)
            if self.moment.fleet.server is not None:
                self._filtered.paint(anew=True)

    def on_prompt_left(self, event: Prompt.Left) -> None:
        if event.sign == "/" and self._filtered is not None:
            self._filtered.look.set_filter("")
        self._leave_prompt()
        self.repaint_sheet()

    def _leave_prompt(self) -> None:
        self.query_one(Prompt).close()
        if self._filtered is not None:
            self.set_focus(self._filtered.table)
            self._filtered = None
        else:
            self.focus_body()

    def action_sort(self) -> None:
        self.sheet.look.next_sort()
        self.repaint_sheet()
        self.sheet.table.refresh()

    def on_table_header_clicked(self, event: Table.HeaderClicked) -> None:
        event.table.look.sort_by(event.field)
        self.repaint_sheet()
        event.table.refresh()

    def on_table_opened(self, event: Table.Opened) -> None:
        self.action_open()

    def action_open(self) -> None:
        row = self.sheet.cursor
        if row is not None and not self.sheet.opens(row):
            self.action_describe()

    def action_describe(self) -> None:
        sheet, row = self.sheet, self.sheet.cursor
        if row is None:
            return
        ident = sheet.look.ident(row)

        def live() -> Content:
            same = (one for one in sheet.table.rows if sheet.look.ident(one) == ident)
            return page(self.facts_of(sheet, next(same, row)))

        self.fetch_extra(sheet, row)
        self.app.push_screen(TextScreen(sheet.title, live(), live=live))

    def action_raw(self) -> None:
        sheet, row = self.sheet, self.sheet.cursor
        if row is None:
            return
        raw = sheet.raw
        if raw is None:
            self.notify("there is no record behind this row", severity="warning", timeout=3)
            return

        async def fetch() -> Content:
            record = await raw(row)
            place = ink(Cell(f"{record.backend}: {record.place}", Tone.DIM))
            return stack([place, ink(""), ink(record.text)])

        self.app.push_screen(TextScreen("Raw record", fetch))

    def action_mark(self) -> None:
        row = self.sheet.cursor
        if row is not None:
            sheet = self.sheet
            sheet.look.toggle_mark(row)
            sheet.table.move_to(sheet.table.cursor + 1)
            sheet.paint(anew=False)

    def action_copy(self) -> None:
        rows = self.sheet.chosen
        if rows:
            self.app.copy_to_clipboard("\n".join(self.sheet.name(row) for row in rows))
            self.notify(
                f"copied {len(rows)}" if len(rows) > 1 else f"copied {self.sheet.name(rows[0])}", timeout=2
            )

    def action_wide(self) -> None:
        table = self.sheet.table
        table.set_columns(table.columns, wide=not table.wide)

    def action_maximise(self) -> None:
        self.maximised = not self.maximised
        self.set_class(self.maximised, "-maximised")
        for sheet in self.sheets[1:]:
            sheet.table.display = not self.maximised or sheet is self.sheet
        self.sheets[0].table.display = not self.maximised or self.sheet is self.sheets[0]

    def action_problems(self) -> None:
        self.sheet.look.only_problems = not self.sheet.look.only_problems
        self.repaint_sheet()

    def action_back(self) -> None:
        look = self.sheet.look
        if look.filter or look.marked or look.only_problems:
            look.set_filter("")
            look.marked.clear()
            look.only_problems = False
            self.repaint_sheet()
        elif self.maximised:
            self.action_maximise()

    def action_save(self) -> None:
        sheet = self.sheet
        documents = [sheet.document(row) for row in self._saved_rows(sheet)]
        self.start(partial(self._save, sheet.title, documents), group="save")

    def _saved_rows(self, sheet: Sheet[T]) -> list[T]:
        """What is marked, else all rows that the filter shows."""
        return sheet.chosen if sheet.look.marked else list(sheet.table.rows)

    async def _save(self, title: str, documents: Sequence[save.Document]) -> None:
        name = f"mx-{title.lower().split()[0]}.json"
        ask = AskScreen(
            "Save", f"{len(documents)} rows into which file? .csv writes CSV.", value=name, hint="a new file"
        )
        answer = await self.app.push_screen_wait(ask)
        if answer:
            try:
                self.notify(await self.mx.in_thread(save.save, answer, documents))
            except MxError as error:
                self.notify(words_of(error), severity="error", markup=False)
