"""``mx cache list``: a line for each entry, once or kept up to date."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import typer

from mx.cli import cache_view as view
from mx.cli import live
from mx.cli.live import WatchOption
from mx.cli.options import invocation_of, with_client
from mx.cli.output import Output
from mx.core import filters
from mx.core.cache_view import CacheListing, ListedEntry
from mx.core.fleet import Fleet

Row = tuple[ListedEntry, float]

WideOption = Annotated[bool, typer.Option("--wide", "-w", help="Every column, however narrow the terminal.")]


def row_fields() -> dict[str, filters.Field[Row]]:
    """Columns for --filter and --sort."""
    column, number = filters.Field, filters.number
    return {
        "model": column(lambda row: row[0].key.name),
        "revision": column(lambda row: row[0].key.commit),
        "provider": column(lambda row: row[0].key.provider.value),
        "status": column(lambda row: row[0].status.value),
        "size": column(lambda row: row[0].disk_bytes, filters.size),
        "files": column(lambda row: row[0].files, number),
        "unused": column(lambda row: row[1], filters.duration),
        "held": column(lambda row: view.held(row[0])),
    }


@dataclass(frozen=True, slots=True)
class Query:
    """Which entries, in which order. Raises UsageError for a filter or an order that can't be read."""

    conditions: Sequence[str]
    sort: str
    limit: int | None
    wide: bool = False

    def __post_init__(self) -> None:
        # Said before the server is asked: a typo should not cost a round trip.
        filters.select([], self.conditions, row_fields())
        filters.arrange([], self.sort, row_fields())

    def rows(self, listing: CacheListing) -> list[Row]:
        fields = row_fields()
        rows = [(one, view.unused_s(one, listing)) for one in listing.entries]
        return filters.arrange(filters.select(rows, self.conditions, fields), self.sort, fields)[: self.limit]

    def document(self, listing: CacheListing) -> view.Document:
        return {
            "entries": [view.entry_document(one, unused_s) for one, unused_s in self.rows(listing)],
            "used_bytes": listing.used_bytes,
            "free_bytes": listing.free_bytes,
            "max_size_bytes": listing.max_size_bytes,
        }

    def print(self, out: Output, listing: CacheListing) -> None:
        view.print_entries(out, self.rows(listing), listing, wide=self.wide)

    def live(self) -> live.Rows[ListedEntry]:
        return live.Rows(
            select=lambda fleet: {one.key: one for one, _ in self.rows(fleet.listing)},
            row=_row,
            whole=lambda fleet: self.document(fleet.listing),
            print=lambda run, fleet: self.print(run.out, fleet.listing),
        )


def _row(entry: ListedEntry, fleet: Fleet) -> view.Document:
    return view.entry_document(entry, view.unused_s(entry, fleet.listing))


def list_(
    ctx: typer.Context,
    conditions: Annotated[
        list[str] | None,
        typer.Option("--filter", metavar="EXPR", help="As size>1GiB, unused>7d, model~llama; repeatable."),
    ] = None,
    sort: Annotated[
        str, typer.Option("--sort", metavar="FIELD[:desc]", help="Order of the rows.")
    ] = "unused",
    limit: Annotated[int | None, typer.Option("--limit", min=1, metavar="COUNT", help="At most.")] = None,
    wide: WideOption = False,
    watch: WatchOption = False,
) -> None:
    """List entries: each revision, whole or metadata, with what protects it.

    Columns for --filter and --sort: model revision provider status size files unused held.

    JSON: {entries: [{model, revision, provider, weights, status, bytes, pinned, readers, ...}],
    used_bytes, free_bytes, max_size_bytes}.
    """
    run = invocation_of(ctx)
    query = Query(conditions or (), sort, limit, wide)
    if watch:
        live.watch(ctx, query.live())
        return
    listing = with_client(ctx, lambda client: client.list_models())
    run.out.emit(query.document(listing), human=lambda: query.print(run.out, listing))
