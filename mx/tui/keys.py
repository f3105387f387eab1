"""Keys as data: from one table come the bindings, the footer and the help of a screen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from textual.binding import Binding, BindingType


@dataclass(frozen=True, slots=True)
class Key:
    """``label`` is how the key is written; ``words`` None keeps it out of the footer."""

    key: str
    label: str
    action: str
    help: str
    words: str | None = None


def bindings(keys: Sequence[Key]) -> list[BindingType]:
    return [Binding(key.key, key.action, key.help, show=False) for key in keys]


GLOBAL = (
    *(Key(str(number), str(number), f"app.goto({number})", f"screen {number}") for number in range(1, 8)),
    Key("question_mark", "?", "help", "the keys of this screen", "help"),
    Key("colon", ":", "jump", "go to a screen or an endpoint by name", "go"),
    Key("ctrl+p", "ctrl+p", "app.command_palette", "every command by name", "commands"),
    Key("p", "p", "app.pause", "hold still, or go on"),
    Key("r", "r", "app.reconnect", "connect again"),
    Key("q", "q", "app.quit", "quit", "quit"),
)

TABLE = (
    Key("slash", "/", "filter", "filter as you type: size>1GiB  age>7d  status=error  word  !word", "filter"),
    Key("s", "s", "sort", "sort by the next column; again: the other way round", "sort"),
    Key("enter", "enter", "open", "open, or fold a group"),
    Key("d", "d", "describe", "everything about it, live"),
    Key("y", "y", "raw", "the raw record, as its backend holds it"),
    Key("space", "space", "mark", "mark; actions are about what is marked", "mark"),
    Key("c", "c", "copy", "copy the name"),
    Key("ctrl+s", "ctrl+s", "save", "save the rows as JSON or CSV"),
    Key("w", "w", "wide", "every column; ← → move sideways"),
    Key("m", "m", "maximise", "the table alone, or all again"),
    Key("z", "z", "problems", "only what has a problem"),
    Key("escape", "esc", "back", "back: clear filter and marks"),
)
