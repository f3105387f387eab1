"""Screen 2: the entries of the cache."""

from __future__ import annotations

from functools import partial
from typing import Any, ClassVar

from mx.core.cache_view import EntryDetail, ListedEntry
from mx.core.eviction import Shrink
from mx.errors import MxError
from mx.tui import commands
from mx.tui.facts import Facts
from mx.tui.keys import GLOBAL, TABLE, Key, bindings
from mx.tui.rows import cache as rows
from mx.tui.screens.dialogs import AskScreen
from mx.tui.screens.tables import Sheet, TableScreen
from mx.tui.state import Look
from mx.tui.widgets.table import Table

KEYS = (
    Key("e", "e", "ensure", "ensure a model: have the server download it", "ensure"),
    Key("x", "x", "evict", "evict what is marked, after its plan", "evict…"),
    Key("i", "i", "pin", "pin: nothing evicts it", "pin"),
    Key("u", "u", "unpin", "unpin"),
    Key("v", "v", "verify", "compute every digest anew", "verify"),
    Key("ctrl+d", "ctrl+d", "delete", "delete files and records, after the plan", "delete…"),
)


class CacheScreen(TableScreen):
    NAME = "cache"
    KEYS: ClassVar = (*TABLE, *KEYS)
    BINDINGS: ClassVar = bindings((*TABLE, *KEYS, *GLOBAL))

    def make_sheets(self) -> list[Sheet[Any]]:
        moment = self.moment
        columns = rows.columns(moment)
        look = Look(
            rows.fields(moment),
            ident=lambda entry: entry.key,
            is_problem=rows.is_problem,
            sorts=tuple(column.field for column in columns if column.field),
            sort="unused",
        )

        def raw(entry: ListedEntry) -> Any:
            return self.mx.client.raw_model(entry.key)

        def fetch(entry: ListedEntry) -> Any:
            return self.mx.client.show_model(entry.key)

        return [
            Sheet(
                title="Cache",
                table=Table(columns, look, id="entries"),
                rows=lambda: list(moment.fleet.entries.values()),
                stamp=lambda: (moment.fleet.entries,),
                facts=self._facts,
                document=lambda entry: rows.document(entry, moment),
                name=lambda entry: commands.target_of(entry.key),
                fetch=fetch,
                freshness=lambda entry: (entry.status, entry.pin, entry.readers),
                raw=raw,
                empty=(
                    "the cache is empty",
                    "e has the server get a model",
                    "or: mx model download Qwen/Qwen3-8B",
                ),
            )
        ]

    def _facts(self, entry: ListedEntry, extra: object) -> Facts:
        if isinstance(extra, EntryDetail):
            return rows.facts(entry, self.moment, extra)
        return rows.facts(entry, self.moment, why=extra.message if isinstance(extra, MxError) else "")

    def _chosen(self) -> list[ListedEntry]:
        return self.sheet.chosen

    def action_ensure(self) -> None:
        self.start(self._ensure, group="ask")

    async def _ensure(self) -> None:
        answer = await self.app.push_screen_wait(
            AskScreen(
                "Ensure a model",
                "Which model shall be there, whole and verified? NAME or NAME@REVISION; addresses too.",
                hint="Qwen/Qwen3-8B",
                check=commands.ref_of,
            )
        )
        if answer is not None:
            self.mx.perform(commands.ensure(commands.ref_of(answer)))

    def action_evict(self) -> None:
        keys = frozenset(entry.key for entry in self._chosen())
        if keys:
            self.mx.perform(commands.evict(Shrink(keys=keys)))

    def action_pin(self) -> None:
        if self._chosen():
            self.start(partial(self._pin, self._chosen()), group="ask")

    async def _pin(self, entries: list[ListedEntry]) -> None:
        what = str(entries[0].key) if len(entries) == 1 else f"{len(entries)} entries"
        reason = await self.app.push_screen_wait(
            AskScreen("Pin", f"Why shall {what} stay? Others see the reason; it may be empty.")
        )
        if reason is not None:
            self.mx.perform(commands.pin([entry.key for entry in entries], reason=reason.strip()))

    def action_unpin(self) -> None:
        keys = [entry.key for entry in self._chosen() if entry.pin]
        if keys:
            self.mx.perform(commands.unpin(keys))
        else:
            self.notify("nothing of this is pinned", timeout=3)

    def action_verify(self) -> None:
        keys = [entry.key for entry in self._chosen()]
        if keys:
            self.mx.perform(commands.verify(keys))

    def action_delete(self) -> None:
        entries = self._chosen()
        if entries:
            self.mx.perform(commands.delete(entries))
