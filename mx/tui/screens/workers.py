"""Screen 5: a lane for each worker, the rate of all, and the transfers that ended."""

from __future__ import annotations

from typing import Any, ClassVar

from textual.app import ComposeResult

from mx.tui.cells import Cell, Tone
from mx.tui.keys import GLOBAL, TABLE, Key, bindings
from mx.tui.moment import gbit
from mx.tui.pictures import plot
from mx.tui.rows import workers as rows
from mx.tui.screens.tables import Sheet, TableScreen
from mx.tui.state import Look
from mx.tui.widgets.bars import Panel
from mx.tui.widgets.table import Table

KEYS = (
    Key("tab", "tab", "app.focus_next", "from the lanes to the finished transfers", "other table"),
    Key("f", "f", "follow", "follow this worker: its rate and report, live", "follow"),
)


class WorkersScreen(TableScreen):
    NAME = "workers"
    PANE_FROM: ClassVar = 150
    KEYS: ClassVar = (*TABLE, *KEYS)
    BINDINGS: ClassVar = bindings((*TABLE, *KEYS, *GLOBAL))
    DEFAULT_CSS = """
    WorkersScreen #lanes { height: 2fr; }
    WorkersScreen #finished { height: 1fr; min-height: 5; }
    """

    def make_sheets(self) -> list[Sheet[Any]]:
        moment = self.moment
        lane_columns, report_columns = rows.columns(moment), rows.report_columns(moment)
        lanes = Look(
            rows.fields(moment),
            ident=lambda lane: lane.key,
            is_problem=lambda lane: rows.is_problem(lane, moment),
            sorts=tuple(column.field for column in lane_columns if column.field),
        )
        reports = Look(
            rows.report_fields(moment),
            ident=lambda report: report.transfer_id,
            is_problem=rows.went_wrong,
            sorts=tuple(column.field for column in report_columns if column.field),
        )
        return [
            Sheet(
                title="Workers",
                table=Table(lane_columns, lanes, id="lanes"),
                rows=lambda: rows.lanes(moment.fleet, moment.rates),
                stamp=lambda: (moment.fleet.sources, moment.fleet.running),
                facts=lambda lane, _: rows.lane_facts(lane, moment),
                document=lambda lane: rows.lane_document(lane, moment),
                name=lambda lane: lane.key.worker_id,
                raw=lambda lane: self.mx.client.raw_source(lane.key),
                empty=("no workers", "a worker appears here while it loads and once it serves"),
            ),
            Sheet(
                title="Finished",
                table=Table(report_columns, reports, id="finished"),
                rows=lambda: rows.finished(moment.fleet),
                stamp=lambda: (moment.fleet.finished,),
                facts=lambda report, _: rows.report_facts(report, moment),
                document=rows.report_document,
                name=lambda report: report.transfer_id,
                empty=("no transfer ended yet",),
            ),
        ]

    def compose_tables(self) -> ComposeResult:
        panel = Panel("Rate of all", id="rate")
        panel.add_class("extra")
        yield panel
        yield from super().compose_tables()

    def paint_body(self) -> None:
        super().paint_body()
        self.query_one("#rate", Panel).show(self._plot(), title=self._rate_title())

    def _rate_title(self) -> str:
        rates, running = self.moment.rates, len(self.moment.fleet.running)
        return (
            f"Now {gbit(rates.total_now)} · peak {gbit(rates.peak_gbit_s)} · {running} in flight · last 5 min"
        )

    def _plot(self) -> list[list[Cell | str]]:
        height = 1 if self.size.height < 30 else 4
        width = max(10, self.query_one("#rate", Panel).size.width - 2)
        lines = plot(self.moment.rates.total, width, height)
        return [[Cell(line, Tone.ACCENT)] for line in lines]

    def action_follow(self) -> None:
        self.action_describe()
