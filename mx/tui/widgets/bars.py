"""One-line widgets around the body: the head, the band that tells of trouble, the keys, the prompt."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from rich.cells import cell_len
from textual import events
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal
from textual.content import Content
from textual.geometry import Size
from textual.message import Message
from textual.widget import Widget
from textual.widgets import Input, Static

from mx.tui.cells import Cell, Tone
from mx.tui.ink import STYLES, ink


@dataclass(frozen=True, slots=True)
class Spot:
    """Text that acts when it is clicked."""

    cell: Cell
    action: str = ""


class SpotLine(Widget):
    """Spots in a line; those that do not fit are left out, the last ones first."""

    DEFAULT_CSS = "SpotLine { height: 1; width: 1fr; background: $surface; }"

    def __init__(self, *, id: str, gap: int = 2) -> None:  # noqa: A002
        super().__init__(id=id)
        self._spots: tuple[Spot, ...] = ()
        self._right: tuple[Spot, ...] = ()
        self._gap = gap
        self._places: list[tuple[int, int, str]] = []

    def show(self, spots: Sequence[Spot], right: Sequence[Spot] = ()) -> None:
        if (tuple(spots), tuple(right)) != (self._spots, self._right):
            self._spots, self._right = tuple(spots), tuple(right)
            self.refresh()

    def render(self) -> Content:
        width = self.size.width
        tail = sum(cell_len(spot.cell.text) + self._gap for spot in self._right)
        parts: list[tuple[str, str]] = [(" ", "")]
        x = 1
        self._places = []
        for spot in self._spots:
            length = cell_len(spot.cell.text)
            if x + length + tail > width:
                break
            x = self._put(parts, spot, x)
        parts.append((" " * max(0, width - x - tail), ""))
        x = max(x, width - tail)
        for spot in self._right:
            x = self._put(parts, spot, x)
        return Content.assemble(*parts)

    def _put(self, parts: list[tuple[str, str]], spot: Spot, x: int) -> int:
        length = cell_len(spot.cell.text)
        parts += [(spot.cell.text, STYLES[spot.cell.tone]), (" " * self._gap, "")]
        if spot.action:
            self._places.append((x, x + length, spot.action))
        return x + length + self._gap

    async def on_click(self, event: events.Click) -> None:
        for begin, end, action in self._places:
            if begin <= event.x < end:
                await self.screen.run_action(action)
                return


class Band(Widget):
    """Trouble with the link, in one line under the head; not there while there is none."""

    DEFAULT_CSS = """
    Band { height: 1; width: 1fr; display: none; padding: 0 1; text-style: bold;
        &.-shown { display: block; }
        &.-warn { background: $warning-muted; color: $text-warning; }
        &.-bad { background: $error-muted; color: $text-error; }
    }
    """

    def __init__(self, *, id: str) -> None:  # noqa: A002
        super().__init__(id=id)
        self._text = ""

    def show(self, text: str, *, bad: bool = False) -> None:
        if text == self._text:
            return
        self._text = text
        self.set_class(bool(text), "-shown")
        self.set_class(bad, "-bad")
        self.set_class(not bad, "-warn")
        self.refresh()

    def render(self) -> Content:
        return Content(self._text)


class Prompt(Horizontal):
    """The line where filters and jumps are typed; its sign says which."""

    DEFAULT_CSS = """
    Prompt { display: none; height: 1; background: $panel; padding: 0 1;
        &.-shown { display: block; }
        & > Static { width: 2; color: $text-accent; text-style: bold; }
        & > Input, & > Input:focus { width: 1fr; border: none; background: $panel;
            background-tint: $panel 0%; }
    }
    """
    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "leave", "leave", show=False)]

    class Typed(Message):
        def __init__(self, sign: str, text: str) -> None:
            super().__init__()
            self.sign, self.text = sign, text

    class Entered(Typed):
        pass

    class Left(Typed):
        pass

    sign = "/"

    def compose(self) -> ComposeResult:
        yield Static(self.sign)
        line = Input(compact=True, select_on_focus=False)
        line.cursor_blink = False
        yield line

    def ask(self, sign: str, *, value: str, hint: str) -> None:
        """Open, with ``sign`` telling what for: ``/`` filters, ``:`` jumps."""
        line = self.query_one(Input)
        self.sign = sign
        self.query_one(Static).update(sign)
        line.placeholder = hint
        with line.prevent(Input.Changed):
            line.value = value
        line.cursor_position = len(value)
        self.add_class("-shown")
        line.focus()

    def close(self) -> None:
        self.remove_class("-shown")

    @property
    def is_open(self) -> bool:
        return self.has_class("-shown")

    def on_input_changed(self, event: Input.Changed) -> None:
        event.stop()
        self.post_message(self.Typed(self.sign, event.value))

    def on_input_submitted(self, event: Input.Submitted) -> None:
        event.stop()
        self.post_message(self.Entered(self.sign, event.value))

    def action_leave(self) -> None:
        self.post_message(self.Left(self.sign, self.query_one(Input).value))


class Panel(Widget):
    """Lines of text under a title; painted when they say something else than before."""

    DEFAULT_CSS = """
    Panel { height: auto; border-top: solid $panel-lighten-2; border-title-color: $text-primary;
        border-title-style: bold; padding: 0 1; text-wrap: nowrap; text-overflow: ellipsis; }
    """

    def __init__(self, title: str, *, id: str) -> None:  # noqa: A002
        super().__init__(id=id)
        self.border_title = title
        self._content = Content("")

    def show(self, lines: Sequence[Sequence[Cell | str]], *, title: str | None = None) -> None:
        """Each line is cells side by side."""
        if title is not None and title != self.border_title:
            self.border_title = title
        content = Content("\n").join([ink(*line) for line in lines])
        if content.plain != self._content.plain or content.spans != self._content.spans:
            self._content = content
            self.refresh()
        if self.styles.is_auto_height and self.size and self.size.height != max(1, len(lines)):
            self.refresh(layout=True)

    def get_content_height(self, container: Size, viewport: Size, width: int) -> int:
        return self._content.plain.count("\n") + 1

    def render(self) -> Content:
        return self._content


def key_spots(keys: Sequence[tuple[str, str, str]]) -> list[Spot]:
    """Keys with what they do: key, words, action."""
    return [Spot(Cell(f"{key} {words}", Tone.DIM), action) for key, words, action in keys]
