"""Screen 3: the policy, the plan of the next run with its reasons, and the runs that were."""

from __future__ import annotations

import asyncio
from typing import Any, ClassVar

from textual.app import ComposeResult

from mx.core.cache_view import CacheStats
from mx.core.eviction import EvictionPlan, KeepLimits, Shrink
from mx.core.server_state import SettingRow
from mx.core.units import format_size, parse_size
from mx.errors import InvalidArgumentError, MxError
from mx.tui import commands
from mx.tui.cells import Cell, Tone
from mx.tui.keys import GLOBAL, TABLE, Key, bindings
from mx.tui.pictures import bar
from mx.tui.rows import eviction as rows
from mx.tui.rows.eviction import Judged
from mx.tui.screens.dialogs import AskScreen
from mx.tui.screens.tables import Sheet, TableScreen
from mx.tui.state import Look
from mx.tui.widgets.bars import Panel
from mx.tui.widgets.table import Table

_NOTHING = ("the cache is empty: there is nothing to plan",)
KEYS = (
    Key("x", "x", "run", "run now, after the plan", "run now…"),
    Key("n", "n", "plan", "dry run: plan again, changing nothing", "dry run"),
    Key("t", "t", "target", "another target: down to a size, or what the limits demand", "target"),
    Key("ctrl+d", "ctrl+d", "run", "run now, after the plan"),
    Key("tab", "tab", "app.focus_next", "from the plan to the history", "other table"),
)


def goal_of(text: str) -> KeepLimits | Shrink:
    """A size to go down to; nothing: what the limits demand. InvalidArgumentError."""
    if not text.strip():
        return KeepLimits()
    try:
        return Shrink(to_bytes=parse_size(text.strip()))
    except ValueError as error:
        raise InvalidArgumentError(str(error)) from None


class EvictionScreen(TableScreen):
    NAME = "eviction"
    KEYS: ClassVar = (*TABLE, *KEYS)
    BINDINGS: ClassVar = bindings((*TABLE, *KEYS, *GLOBAL))
    DEFAULT_CSS = """
    EvictionScreen #plan { height: 2fr; }
    EvictionScreen #runs { height: 1fr; min-height: 4; }
    """

    def make_sheets(self) -> list[Sheet[Any]]:
        moment = self.moment
        self._goal: KeepLimits | Shrink = KeepLimits()
        self._plan: EvictionPlan | None = None
        self._judged: list[Judged] = []
        self._planned_for: object = None
        self._settings: tuple[SettingRow, ...] = ()
        run_columns = rows.run_columns(moment)
        plan_look = Look(
            rows.fields(),
            ident=lambda row: row.key,
            is_problem=lambda row: row.goes,
            sorts=tuple(rows.fields()),
        )
        run_look = Look(
            rows.run_fields(moment),
            ident=lambda run: run.run_id,
            is_problem=lambda run: bool(run.failed) or not run.plan.met,
            sorts=tuple(rows.run_fields(moment)),
        )
        return [
            Sheet(
                title="Plan",
                table=Table(rows.columns(), plan_look, id="plan"),
                rows=lambda: self._judged,
                stamp=lambda: (self._judged,),
                facts=lambda row, _: rows.facts(row),
                document=rows.document,
                name=lambda row: commands.target_of(row.key),
                raw=lambda row: self.mx.client.raw_model(row.key),
                empty=_NOTHING,
            ),
            Sheet(
                title="Runs",
                table=Table(run_columns, run_look, id="runs"),
                rows=lambda: [] if moment.fleet.cache is None else list(moment.fleet.cache.runs),
                stamp=lambda: (moment.fleet.cache,),
                facts=lambda run, _: rows.run_facts(run, moment),
                document=rows.run_document,
                name=lambda run: run.run_id,
                empty=("nothing was evicted yet",),
            ),
        ]

    def compose_tables(self) -> ComposeResult:
        panel = Panel("Policy", id="policy")
        panel.add_class("extra")
        yield panel
        yield from super().compose_tables()

    def ask(self) -> None:
        self._planned_for = None
        self.start(self._load_settings, group="settings", exclusive=True)

    def forget(self) -> None:
        super().forget()
        self._goal, self._plan, self._judged, self._settings = KeepLimits(), None, [], ()
        self.sheets[0].empty = _NOTHING

    async def _load_settings(self) -> None:
        try:
            self._settings = await self.mx.client.list_settings()
        except MxError:
            self._settings = ()  # the policy is shown without origins
        self.mx.paint_now()

    def paint_body(self) -> None:
        self._plan_if_changed()
        super().paint_body()
        stats = self.moment.fleet.cache
        self.query_one("#policy", Panel).show(self._policy(stats))

    # ---- the plan

    def _plan_if_changed(self) -> None:
        """A plan is of the entries as they were: plan again when they changed, not at every repaint."""
        entries = self.moment.fleet.entries
        if self._planned_for is not entries and not self.mx.watched.paused:
            self._planned_for = entries
            self.action_plan()

    def action_plan(self) -> None:
        self.start(self._make_plan, group="plan", exclusive=True)

    async def _make_plan(self) -> None:
        await asyncio.sleep(0.3)  # entries change in bursts; the last one of a burst counts
        try:
            plan = await self.mx.client.plan_eviction(self._goal)
        except MxError as error:
            self._plan, self._judged = None, []
            self.sheets[0].empty = ("there is no plan", error.message, error.remedy)
        else:
            if plan != self._plan:
                self._plan, self._judged = plan, rows.judged(plan)
        self.mx.paint_now()

    def _policy(self, stats: CacheStats | None) -> list[list[Cell | str]]:
        if stats is None:
            return [[Cell("this server has no cache", Tone.DIM)]]
        limit = stats.policy.max_size_bytes or stats.disk_bytes
        share = stats.used_bytes / limit if limit else 0.0
        over = share > stats.policy.high_water
        lines: list[list[Cell | str]] = [
            [
                f"{format_size(stats.used_bytes)} of {format_size(limit)}  ",
                Cell(bar(share, 20), Tone.WARN if over else Tone.OK),
                f" {share:.0%}   ",
                Cell(rows.next_run(stats, self.moment), Tone.DIM),
            ],
            [Cell(self._plan_words(), Tone.STRONG)],
        ]
        limits = rows.policy_lines(stats.policy, self._settings)
        if self.size.height < 30:
            short = " · ".join(f"{label} {value}" for label, value, _ in limits[:4])
            return [*lines, [Cell(short, Tone.DIM)]]
        lines += [
            [Cell(f"{label:<13} ", Tone.DIM), f"{value:>20}  ", Cell(origin, Tone.DIM)]
            for label, value, origin in limits
        ]
        return lines

    def _plan_words(self) -> str:
        goal = self._goal
        aim = "what the limits demand"
        if isinstance(goal, Shrink) and goal.to_bytes is not None:
            aim = f"down to {format_size(goal.to_bytes)}"
        plan = self._plan
        if plan is None:
            return f"target: {aim}"
        short = "" if plan.met else ", and that is short of it"
        return f"target: {aim}: frees {format_size(plan.bytes_freed)} with {len(plan.victims)} entries{short}"

    # ---- actions

    def action_run(self) -> None:
        self.mx.perform(commands.evict(self._goal))

    def action_target(self) -> None:
        self.start(self._ask_target, group="ask")

    async def _ask_target(self) -> None:
        answer = await self.app.push_screen_wait(
            AskScreen(
                "Target",
                "Down to how much? As 500GiB; empty means what the limits demand.",
                hint="500GiB",
                check=goal_of,
            )
        )
        if answer is not None:
            self._goal = goal_of(answer)
            self.action_plan()
