"""Screen 1: the whole fleet at a glance."""

from __future__ import annotations

from typing import ClassVar

from textual import events
from textual.app import ComposeResult
from textual.containers import Container

from mx.tui.keys import GLOBAL, Key, bindings
from mx.tui.rows import overview as rows
from mx.tui.screens.fleet import SCREENS, FleetScreen
from mx.tui.widgets.bars import Panel

KEYS = (Key("enter", "enter", "app.goto(2)", "to the cache", "cache"),)
_PANELS = (
    ("cache", "Cache", "cache"),
    ("transfers", "Transfers, last 5 min", "workers"),
    ("downloads", "Downloads", "cache"),
    ("sources", "Sources", "sources"),
    ("log", "Events", "events"),
)


class JumpPanel(Panel):
    """A panel that leads to the screen it is about."""

    def __init__(self, title: str, *, id: str, leads_to: str) -> None:  # noqa: A002
        super().__init__(title, id=id)
        self._leads_to = leads_to

    async def on_click(self, event: events.Click) -> None:
        await self.screen.run_action(f"app.goto({SCREENS.index(self._leads_to) + 1})")


class OverviewScreen(FleetScreen):
    NAME = "overview"
    KEYS: ClassVar = KEYS
    BINDINGS: ClassVar = bindings((*KEYS, *GLOBAL))
    DEFAULT_CSS = """
    OverviewScreen #panels { layout: grid; grid-size: 1; grid-rows: 5 4 3 3 1fr; height: 1fr; }
    OverviewScreen #panels Panel { height: 100%; }
    OverviewScreen.-two #panels { grid-size: 2; grid-columns: 1fr 1fr; grid-rows: 7 1fr 2fr;
        grid-gutter: 0 1; }
    OverviewScreen.-two #log { column-span: 2; }
    """

    def compose_body(self) -> ComposeResult:
        with Container(id="panels"):
            for id_, title, leads_to in _PANELS:
                yield JumpPanel(title, id=id_, leads_to=leads_to)

    def on_resize(self, event: events.Resize) -> None:
        self.set_class(event.size.width >= 100, "-two")
        self.call_after_refresh(self.mx.paint_now)

    def paint_body(self) -> None:
        for id_, lines in (
            ("cache", rows.cache_lines),
            ("transfers", rows.transfer_lines),
            ("downloads", rows.download_lines),
            ("sources", rows.source_lines),
            ("log", rows.event_lines),
        ):
            panel = self.query_one(f"#{id_}", Panel)
            size = panel.content_size
            if size.width > 4:
                panel.show(lines(self.moment, size.width, max(1, size.height)))
