"""Screen 4: who serves which weights, as a tree; and the stores behind the server."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any, ClassVar

from textual.app import ComposeResult

from mx.core.server_state import BackendState, RawRecord
from mx.core.source import SourceEntry, SourceSummary
from mx.errors import MxError
from mx.tui import commands
from mx.tui.cells import Cell, Tone
from mx.tui.facts import Facts
from mx.tui.keys import GLOBAL, TABLE, Key, bindings
from mx.tui.rows import sources as rows
from mx.tui.rows.sources import Node
from mx.tui.screens.tables import Sheet, TableScreen
from mx.tui.state import Look
from mx.tui.widgets.bars import Panel
from mx.tui.widgets.table import Table

KEYS = (
    Key("t", "t", "stale", "mark stale: no target picks it until its next heartbeat", "stale…"),
    Key("ctrl+d", "ctrl+d", "withdraw", "withdraw: the record goes at once", "withdraw…"),
    Key("x", "x", "reap", "remove the records of dead sources", "reap…"),
    Key("b", "b", "backends", "ask the stores how they are"),
)


class SourcesScreen(TableScreen):
    NAME = "sources"
    KEYS: ClassVar = (*TABLE, *KEYS)
    BINDINGS: ClassVar = bindings((*TABLE, *KEYS, *GLOBAL))

    def make_sheets(self) -> list[Sheet[Any]]:
        moment = self.moment
        self._folded: set[Hashable] = set()
        self._backends: tuple[BackendState, ...] | MxError | None = None
        columns = rows.columns(moment)
        look = Look(
            rows.fields(moment),
            ident=lambda node: node.ident,
            is_problem=lambda node: node.worker is not None and rows.is_problem(node.worker, moment),
            sorts=tuple(column.field for column in columns if column.field),
        )
        return [
            Sheet(
                title="Sources",
                table=Table(columns, look, id="sources"),
                rows=lambda: rows.leaves(moment.fleet),
                stamp=lambda: (moment.fleet.sources,),
                arrange=lambda chosen: rows.tree(chosen, self._folded),
                facts=self._facts,
                document=self._document,
                name=lambda node: node.source_id if node.worker is None else node.worker.worker_id,
                fetch=self._fetch_entry,
                raw=self._raw,
                opens=self._fold,
                empty=(
                    "no sources",
                    "a worker appears here once it has loaded:",
                    "vllm serve MODEL --load-format mx",
                ),
            )
        ]

    def compose_tables(self) -> ComposeResult:
        yield from super().compose_tables()
        panel = Panel("Stores", id="backends")
        panel.add_class("extra")
        yield panel

    def ask(self) -> None:
        self.action_backends()

    def forget(self) -> None:
        super().forget()
        self._backends = None
        self._folded.clear()

    def paint_body(self) -> None:
        super().paint_body()
        self.query_one("#backends", Panel).show(self._backend_lines())

    def _backend_lines(self) -> list[list[Cell | str]]:
        if self._backends is None:
            return [[Cell("asked for once the link stands", Tone.DIM)]]
        if isinstance(self._backends, MxError):
            return [[Cell(self._backends.message, Tone.DIM)]]
        return [_backend_line(state) for state in self._backends]

    def action_backends(self) -> None:
        self.start(self._ask_backends, group="backends", exclusive=True)

    async def _ask_backends(self) -> None:
        try:
            self._backends = await self.mx.client.backend_states()
        except MxError as error:
            self._backends = error
        self.mx.paint_now()

    # ---- rows

    def _facts(self, node: Node, extra: object) -> Facts:
        return rows.facts(node, self.moment, extra if isinstance(extra, SourceEntry) else None)

    def _document(self, node: Node) -> dict[str, object]:
        if node.worker is not None:
            return rows.document(node.worker, self.moment)
        return {"source_id": node.source_id, "host": node.host, "workers": len(node.workers)}

    async def _fetch_entry(self, node: Node) -> SourceEntry | None:
        if node.worker is None:
            return None
        return await self.mx.client.get_source(node.source_id, node.worker.worker_id)

    async def _raw(self, node: Node) -> RawRecord:
        worker = node.worker or node.workers[0]
        return await self.mx.client.raw_source(worker.key)

    def _fold(self, node: Node) -> bool:
        if node.worker is not None:
            return False
        self._folded ^= {node.ident}
        self.repaint_sheet()
        return True

    # ---- actions

    def _workers(self) -> list[SourceSummary]:
        known = self.mx.watched.fleet.sources
        return [known[key] for key in rows.keys_of(self.sheet.chosen) if key in known]

    def action_stale(self) -> None:
        if workers := self._workers():
            self.mx.perform(commands.mark_stale(self.mx.watched.fleet, workers))

    def action_withdraw(self) -> None:
        if workers := self._workers():
            self.mx.perform(commands.withdraw(self.mx.watched.fleet, workers))

    def action_reap(self) -> None:
        self.mx.perform(commands.reap())


def _backend_line(state: BackendState) -> list[Cell | str]:
    head = Cell("● ", Tone.OK) if state.ok else Cell("✗ ", Tone.BAD)
    what = f"{state.duty:<8} {state.backend:<11} {state.latency_ms:>6.1f} ms  {state.address}"
    facts = "  ".join(f"{name} {value}" for name, value in state.facts)
    return [
        head,
        what,
        Cell(f"  {facts}", Tone.DIM),
        Cell(f"  {state.error}" if state.error else "", Tone.BAD),
    ]
