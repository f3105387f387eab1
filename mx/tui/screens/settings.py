"""Screen 7: every effective setting of the server, and where it came from."""

from __future__ import annotations

from typing import Any, ClassVar

from mx.core.server_state import SettingRow
from mx.errors import MxError
from mx.tui.keys import GLOBAL, TABLE, Key, bindings
from mx.tui.rows import settings as rows
from mx.tui.screens.tables import Sheet, TableScreen
from mx.tui.state import Look
from mx.tui.widgets.table import Table

_ASKING = ("no settings yet", "the server is asked for them once the link stands")
KEYS = (Key("R", "R", "reload", "ask the server again", "reload"),)


class SettingsScreen(TableScreen):
    NAME = "settings"
    KEYS: ClassVar = (*TABLE, *KEYS)
    BINDINGS: ClassVar = bindings((*TABLE, *KEYS, *GLOBAL))

    def make_sheets(self) -> list[Sheet[Any]]:
        self._rows: tuple[SettingRow, ...] = ()
        look = Look(
            rows.fields(),
            ident=lambda row: row.key,
            is_problem=rows.is_set,
            sorts=tuple(rows.fields()),
        )
        return [
            Sheet(
                title="Settings",
                table=Table(rows.columns(), look, id="settings"),
                rows=lambda: list(self._rows),
                stamp=lambda: (self._rows,),
                facts=lambda row, _: rows.facts(row),
                document=rows.document,
                name=lambda row: f"{row.key} = {row.value}",
                empty=_ASKING,
            )
        ]

    def ask(self) -> None:
        self.action_reload()

    def forget(self) -> None:
        super().forget()
        self._rows = ()
        self.sheet.empty = _ASKING

    def action_reload(self) -> None:
        self.start(self._load, group="settings", exclusive=True)

    async def _load(self) -> None:
        try:
            self._rows = await self.mx.client.list_settings()
        except MxError as error:
            self.sheet.empty = ("no settings", error.message, error.remedy)
        self.mx.paint_now()
