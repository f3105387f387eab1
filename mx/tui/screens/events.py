"""Screen 6: the feed as a log."""

from __future__ import annotations

from typing import Any, ClassVar

from mx.core.feed import Event
from mx.core.feed_json import event_document
from mx.errors import MxError
from mx.tui.commands import words_of
from mx.tui.keys import GLOBAL, TABLE, Key, bindings
from mx.tui.rows import events as rows
from mx.tui.screens.tables import Sheet, TableScreen
from mx.tui.state import Look
from mx.tui.widgets.table import Table

KEYS = (
    Key("h", "h", "history", "older events, as far back as the server keeps them", "history"),
    Key("p", "p", "app.pause", "hold still, or go on", "pause"),
)
HISTORY = 2000


class EventsScreen(TableScreen):
    NAME = "events"
    PANE_FROM: ClassVar = 150
    KEYS: ClassVar = (*TABLE, *KEYS)
    BINDINGS: ClassVar = bindings((*TABLE, *KEYS, *GLOBAL))

    def make_sheets(self) -> list[Sheet[Any]]:
        moment = self.moment
        self._older: tuple[Event, ...] = ()
        columns = rows.columns(moment)
        look = Look(
            rows.fields(moment),
            ident=lambda event: event.event_id,
            is_problem=rows.is_problem,
            sorts=tuple(column.field for column in columns if column.field),
        )
        table = Table(columns, look, id="events")
        table.follow_end = True
        return [
            Sheet(
                title="Events",
                table=table,
                rows=self._rows,
                stamp=lambda: (moment.fleet.events, self._older),
                facts=lambda event, _: rows.facts(event, moment),
                document=event_document,
                name=lambda event: rows.line(event, moment),
                empty=("nothing happened yet", "downloads, evictions, sources and transfers are told here"),
            )
        ]

    def forget(self) -> None:
        super().forget()
        self._older = ()

    def _rows(self) -> list[Event]:
        live = self.moment.fleet.events
        if not self._older:
            return list(live)
        known = {event.event_id for event in live}
        return [*(event for event in self._older if event.event_id not in known), *live]

    def action_history(self) -> None:
        self.start(self._history, group="history", exclusive=True)

    async def _history(self) -> None:
        try:
            self._older = await self.mx.client.list_events(limit=HISTORY)
        except MxError as error:
            self.notify(words_of(error), severity="error", markup=False)
            return
        self.notify(f"{len(self._older)} past events", timeout=3)
        self.mx.paint_now()
