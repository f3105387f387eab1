"""Screens on top of the others: a page of text, a question, a plan to agree to, the keys."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import ClassVar

from rich.cells import cell_len
from textual import events
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Button, Input, Static

from mx.core.units import format_size
from mx.errors import MxError
from mx.tui.cells import Cell, Tone, fit
from mx.tui.commands import words_of
from mx.tui.ink import ink, stack
from mx.tui.previews import Preview

_CSS = """
{name} {{ align: center middle; background: $background 60%;
    & > Vertical {{ width: 90%; max-width: {width}; height: auto; max-height: 90%; background: $surface;
        border: round $primary; border-title-color: $text-primary; border-title-style: bold;
        border-subtitle-color: $text-muted; padding: 0 1; }}
    & VerticalScroll {{ height: auto; max-height: 100%; scrollbar-size-vertical: 1; }}
}}
"""


class TextScreen(ModalScreen[None]):
    """A page. It may have to be fetched first; what went wrong is told in its place."""

    DEFAULT_CSS = _CSS.format(name="TextScreen", width=120)
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,q,enter", "dismiss", "back"),
        Binding("c", "copy", "copy"),
        Binding("down,j", "scroll(1)", show=False),
        Binding("up,k", "scroll(-1)", show=False),
        Binding("pagedown,space", "scroll(12)", show=False),
        Binding("pageup", "scroll(-12)", show=False),
        Binding("home,g", "scroll(-100000)", show=False),
        Binding("end,G", "scroll(100000)", show=False),
    ]

    def __init__(
        self,
        title: str,
        content: Content | Callable[[], Awaitable[Content]],
        *,
        live: Callable[[], Content] | None = None,
    ) -> None:
        """``live`` is asked again with each repaint."""
        super().__init__()
        self._title = title
        self._content = content
        self._live = live

    def compose(self) -> ComposeResult:
        with Vertical() as box:
            box.border_title = self._title
            box.border_subtitle = "esc back · c copy"
            with VerticalScroll(can_focus=False):
                yield Static(Content("loading…") if callable(self._content) else self._content)

    def on_mount(self) -> None:
        if callable(self._content):
            self.run_worker(self._fetch(self._content), exclusive=True)

    async def _fetch(self, fetch: Callable[[], Awaitable[Content]]) -> None:
        try:
            content = await fetch()
        except MxError as error:
            content = ink(Cell(f"✗ {words_of(error)}", Tone.BAD))
        self._content = content
        self.query_one(Static).update(content)

    def repaint(self) -> None:
        if self._live is not None and self.is_mounted:
            content = self._live()
            if callable(self._content) or content.plain != self._content.plain:
                self._content = content
                self.query_one(Static).update(content)

    def action_scroll(self, by: int) -> None:
        self.query_one(VerticalScroll).scroll_relative(y=by, animate=False)

    def action_copy(self) -> None:
        if not callable(self._content):
            self.app.copy_to_clipboard(self._content.plain)
            self.notify("copied", timeout=2)


class AskScreen(ModalScreen[str | None]):
    """One line of text. ``check`` raises an MxError with what is wrong with it."""

    DEFAULT_CSS = (
        _CSS.format(name="AskScreen", width=76)
        + """
    AskScreen Input { border: tall $border-blurred; margin: 1 0 0 0; }
    AskScreen #wrong { color: $text-error; height: auto; min-height: 1; }
    """
    )
    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "leave", "leave")]

    def __init__(
        self,
        title: str,
        question: str,
        *,
        value: str = "",
        hint: str = "",
        check: Callable[[str], object] = str,
    ) -> None:
        super().__init__()
        self._title, self._question = title, question
        self._value, self._hint, self._check = value, hint, check

    def compose(self) -> ComposeResult:
        with Vertical() as box:
            box.border_title = self._title
            box.border_subtitle = "enter ok · esc leave"
            yield Static(self._question)
            line = Input(self._value, placeholder=self._hint, select_on_focus=False)
            line.cursor_blink = False
            yield line
            yield Static("", id="wrong", markup=False)

    def on_input_submitted(self, event: Input.Submitted) -> None:
        try:
            self._check(event.value)
        except MxError as error:
            self.query_one("#wrong", Static).update(Content(words_of(error)))
            return
        self.dismiss(event.value)

    def action_leave(self) -> None:
        self.dismiss(None)


class ConfirmScreen(ModalScreen[bool]):
    """What would happen, and whether it shall. No is the default; guarded names must be typed."""

    DEFAULT_CSS = (
        _CSS.format(name="ConfirmScreen", width=130)
        + """
    ConfirmScreen > Vertical { border: round $warning; }
    ConfirmScreen VerticalScroll { max-height: 12; }
    ConfirmScreen #ask { height: auto; margin: 1 0 0 0; }
    ConfirmScreen Horizontal { height: 1; margin: 1 0 0 0; align-horizontal: right; }
    ConfirmScreen Button { margin: 0 0 0 2; min-width: 12; }
    """
    )
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,n,q", "no", "no"),
        Binding("y", "yes", "yes"),
        Binding("left,right", "other", show=False),
        Binding("pagedown", "scroll(8)", show=False),
        Binding("pageup", "scroll(-8)", show=False),
        Binding("down,j", "scroll(1)", show=False),
        Binding("up,k", "scroll(-1)", show=False),
    ]

    def __init__(self, preview: Preview, *, equal: str) -> None:
        super().__init__()
        self._preview = preview
        self._equal = equal

    def compose(self) -> ComposeResult:
        preview = self._preview
        with Vertical() as box:
            box.border_title = preview.title
            yield Static(self._summary())
            with VerticalScroll(can_focus=False):
                yield Static(self._lines(), id="lines")
            notes = [ink(Cell(f"! {preview.note}", Tone.WARN))] if preview.note else []
            notes.append(ink(Cell("$ ", Tone.DIM), Cell(self._equal, Tone.ACCENT)))
            yield Static(stack(notes), id="ask")
            if preview.guards and preview.going:
                names = ", ".join(preview.guards)
                yield Static(ink(Cell(f"pinned or in use: type {names} to go on", Tone.BAD)))
                line = Input(compact=True, placeholder=names, select_on_focus=False)
                line.cursor_blink = False
                yield line
            with Horizontal():
                if preview.going:
                    yield Button(
                        f"yes, {preview.verb}", id="yes", compact=True, disabled=bool(preview.guards)
                    )
                yield Button("no" if preview.going else "close", id="no", compact=True, variant="primary")

    def on_mount(self) -> None:
        guarded = self.query(Input)
        (guarded.first() if guarded else self.query_one("#no", Button)).focus()

    def _summary(self) -> Content:
        preview = self._preview
        going, staying = preview.going, len(preview.lines) - preview.going
        parts: list[Cell | str] = [Cell(f"{going} to {preview.verb}", Tone.STRONG)]
        if preview.freed_bytes is not None:
            parts.append(Cell(f", frees {format_size(preview.freed_bytes)}", Tone.STRONG))
        if staying:
            parts.append(Cell(f"; {staying} stay{'s' if staying == 1 else ''}", Tone.DIM))
        return ink(*parts)

    def _lines(self) -> Content:
        lines = []
        width = min(44, max((cell_len(line.what) for line in self._preview.lines), default=0))
        for line in self._preview.lines:
            sign = (
                Cell(f"✗ {self._preview.verb:<8} ", Tone.BAD)
                if line.goes
                else Cell(f"✓ {'keep':<8} ", Tone.OK)
            )
            size = "" if line.bytes is None else f"{format_size(line.bytes):>9}  "
            lines.append(ink(sign, fit(line.what, width), "  ", size, Cell(line.why, Tone.DIM)))
        return stack(lines) if lines else ink(Cell("nothing", Tone.DIM))

    def on_input_changed(self, event: Input.Changed) -> None:
        self.query_one("#yes", Button).disabled = not self._typed_right(event.value)

    def on_input_submitted(self, event: Input.Submitted) -> None:
        if self._typed_right(event.value):
            self.query_one("#yes", Button).focus()

    def _typed_right(self, text: str) -> bool:
        return [name.strip() for name in text.split(",")] == list(self._preview.guards)

    def on_button_pressed(self, event: Button.Pressed) -> None:
        self.dismiss(event.button.id == "yes")

    def action_no(self) -> None:
        self.dismiss(False)

    def action_yes(self) -> None:
        """Only where no name has to be typed: then the button is pressed on purpose."""
        if self._preview.going and not self._preview.guards:
            self.dismiss(True)

    def action_other(self) -> None:
        self.focus_next(Button)

    def action_scroll(self, by: int) -> None:
        self.query_one(VerticalScroll).scroll_relative(y=by, animate=False)

    def on_key(self, event: events.Key) -> None:
        # In the line for the name the letters y, n and q are letters: Input takes them first.
        if event.key == "tab":
            self.focus_next()
            event.stop()


def help_page(title: str, groups: Sequence[tuple[str, Sequence[tuple[str, str]]]]) -> TextScreen:
    """The keys of a screen, by what they are for."""
    lines: list[Content] = []
    for heading, keys in groups:
        lines += [ink(Cell(heading, Tone.STRONG))]
        lines += [ink(Cell(f"  {key:<14}", Tone.ACCENT), words) for key, words in keys]
        lines.append(ink(""))
    return TextScreen(title, stack(lines))
