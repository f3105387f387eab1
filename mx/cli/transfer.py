"""``mx transfer``: loads that run or ran, as the workers report them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from enum import StrEnum
from typing import Annotated

import typer

from mx.cli import complete, live
from mx.cli.live import WatchOption
from mx.cli.options import Invocation, invocation_of, with_client
from mx.cli.output import Cell, Column, Output
from mx.cli.pick import pick
from mx.cli.transfer_top import top
from mx.client.base import Client
from mx.core import filters
from mx.core.fleet import Fleet
from mx.core.transfer import STAGES, TransferReport, TransferState
from mx.core.units import format_age, format_size

app = typer.Typer(no_args_is_help=True)

# More than a server keeps, finished and running.
_ALL = 20_000


class StateChoice(StrEnum):
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"


@app.callback()
def transfer() -> None:
    """Transfers: one load of one rank, from peers or from disk, and what it took."""


def _fields() -> dict[str, filters.Field[TransferReport]]:
    column, number = filters.Field, filters.number
    return {
        "id": column(lambda report: report.transfer_id),
        "model": column(lambda report: report.model_name),
        "worker": column(lambda report: report.worker_id),
        "rank": column(lambda report: report.worker_rank, number),
        "state": column(lambda report: report.state),
        "strategy": column(lambda report: report.strategy),
        "size": column(lambda report: report.bytes_done, filters.size),
        "seconds": column(lambda report: report.seconds, filters.duration),
        "rate": column(lambda report: report.gbit_s, number),
        "started": column(lambda report: report.started_at_ms, number),
        "reason": column(lambda report: report.reason),
    }


@app.command("list")
def list_(
    ctx: typer.Context,
    state: Annotated[
        StateChoice | None, typer.Option("--state", case_sensitive=False, help="This state only.")
    ] = None,
    conditions: Annotated[
        list[str] | None,
        typer.Option(
            "--filter", metavar="EXPR", help="As size>1GiB, rate<10, model~llama, !text; repeatable."
        ),
    ] = None,
    sort: Annotated[
        str, typer.Option("--sort", metavar="FIELD[:desc]", help="Order of the rows.")
    ] = "started:desc",
    limit: Annotated[
        int, typer.Option("--limit", min=0, metavar="COUNT", help="First rows only; 0 means all.")
    ] = 100,
    wide: Annotated[
        bool, typer.Option("--wide", "-w", help="Every column, however narrow the terminal.")
    ] = False,
    watch: WatchOption = False,
) -> None:
    """List transfers, the newest first.

    Columns for --filter and --sort: id model worker rank state strategy size seconds rate (Gbit/s)
    started reason.

    JSON: {transfers: [{transfer_id, model_name, state, strategy, bytes_done, gbit_s, stages_s, ...}]}.
    """
    run = invocation_of(ctx)
    fields = _fields()
    # Said before the server is asked: a typo should not cost a round trip.
    filters.select([], conditions or (), fields)
    filters.arrange([], sort, fields)

    def shown(found: Sequence[TransferReport]) -> list[TransferReport]:
        return wanted(found)[: limit or None]

    def wanted(found: Sequence[TransferReport]) -> list[TransferReport]:
        reports = [report for report in found if state is None or report.state is TransferState(state.value)]
        return filters.arrange(filters.select(reports, conditions or (), fields), sort, fields)

    def document(found: Sequence[TransferReport]) -> dict[str, object]:
        return {"transfers": [report_document(report) for report in shown(found)]}

    def print_all(run: Invocation, found: Sequence[TransferReport]) -> None:
        reports = wanted(found)
        _print_reports(run, reports[: limit or None], total=len(reports), wide=wide)

    if watch:
        live.watch(
            ctx,
            live.Rows(
                select=lambda fleet: {
                    one.transfer_id: one for one in wanted(fleet.transfers)[: limit or None]
                },
                row=lambda report, fleet: report_document(report),
                whole=lambda fleet: document(fleet.transfers),
                print=lambda run, fleet: print_all(run, fleet.transfers),
            ),
        )
        return
    found = with_client(ctx, lambda client: client.list_transfers(limit=_ALL))
    run.out.emit(document(found), human=lambda: print_all(run, found))


app.command("top")(top)


@app.command()
def show(
    ctx: typer.Context,
    transfer_id: Annotated[
        str,
        typer.Argument(
            metavar="ID", help="Transfer id, or the beginning of one.", autocompletion=complete.transfers
        ),
    ],
    watch: WatchOption = False,
) -> None:
    """Show one transfer: seconds per stage, and what each source gave.

    JSON: the members of `mx transfer list`, for one.
    """
    run = invocation_of(ctx)
    if watch:
        live.watch(ctx, _watched(transfer_id))
        return
    report = _pick(transfer_id, with_client(ctx, lambda client: client.list_transfers(limit=_ALL)))
    run.out.emit(report_document(report), human=lambda: describe(run.out, report))


def _pick(wanted: str, found: Sequence[TransferReport]) -> TransferReport:
    """Raises NotFoundError, UsageError."""
    reports = {report.transfer_id: report for report in found}
    return reports[pick(wanted, dict.fromkeys(reports, ""), noun="transfer", listing="mx transfer list")]


def _watched(wanted: str) -> live.Whole[TransferReport]:
    async def read(_client: Client, fleet: Fleet) -> TransferReport:
        return _pick(wanted, fleet.transfers)

    return live.Whole(
        subject=lambda fleet: _pick(wanted, fleet.transfers),
        read=read,
        document=report_document,
        print=lambda run, report, fleet: describe(run.out, report),
    )


def report_document(report: TransferReport) -> dict[str, object]:
    """Every member of the report, and the rate that follows from them."""
    return {
        **{name: getattr(report, name) for name in TransferReport.__dataclass_fields__},
        "stages_s": dict(report.stages_s),
        "sources": [asdict(share) for share in report.sources],
        "gbit_s": report.gbit_s,
    }


_COLUMNS = (
    Column("ID"),
    Column("MODEL", elastic=True),
    Column("WORKER"),
    Column("RANK", justify="right"),
    Column("STATE"),
    Column("FROM"),
    Column("SIZE", justify="right"),
    Column("TIME", justify="right"),
    Column("GBIT/S", justify="right"),
    Column("AGE", justify="right", optional=True),
    Column("REASON", optional=True),
)
_STYLES = {TransferState.RUNNING: "yellow", TransferState.DONE: "green", TransferState.FAILED: "red"}


def _print_reports(run: Invocation, reports: list[TransferReport], *, total: int, wide: bool) -> None:
    if not reports:
        run.out.say("no transfer matches; the server remembers the loads since it was started")
        return
    cells = [
        (
            report.transfer_id,
            report.model_name,
            report.worker_id,
            str(report.worker_rank),
            Cell(report.state, _STYLES[report.state]),
            report.strategy,
            _progress(report),
            f"{report.seconds:.2f} s",
            f"{report.gbit_s:.1f}",
            format_age(run.now() - report.started_at_ms / 1000),
            report.reason or "-",
        )
        for report in reports
    ]
    run.out.table(_COLUMNS, cells, wide=wide)
    if total > len(reports):
        run.out.say(f"{len(reports)} of {total} rows; --limit 0 shows all")


def _progress(report: TransferReport) -> str:
    if report.state is TransferState.RUNNING and report.bytes_total:
        return f"{100 * report.bytes_done // report.bytes_total} % of {format_size(report.bytes_total)}"
    return format_size(report.bytes_done)


def describe(out: Output, report: TransferReport) -> None:
    """The report for a person."""
    out.line(f"transfer {report.transfer_id}  {report.state}")
    verified = f"{'every segment' if report.verified else 'not'} verified"
    reread = f", {report.segments_reread} read again" if report.segments_reread else ""
    out.fields(
        [
            ("model", report.model_name),
            ("source", report.source_id),
            ("worker", f"{report.worker_id} rank {report.worker_rank}"),
            ("strategy", report.strategy),
            ("reason", report.reason),
            ("bytes", f"{format_size(report.bytes_done)} of {format_size(report.bytes_total)}, {verified}"),
            ("tensors", str(report.tensors) if report.tensors else ""),
            ("segments", f"{report.segments}{reread}" if report.segments else ""),
            ("time", f"{report.seconds:.3f} s"),
            ("rate", f"{report.gbit_s:.1f} Gbit/s"),
        ],
        indent=2,
    )
    known = [stage for stage in STAGES if stage in report.stages_s]
    stages = [*known, *(stage for stage in report.stages_s if stage not in STAGES)]
    if stages:
        out.line()
        out.line("stages")
        out.fields([(stage, f"{report.stages_s[stage]:.3f} s") for stage in stages], indent=2)
    for share in report.sources:
        out.line()
        out.line(f"from {share.worker_id}  {share.endpoint}")
        out.fields(
            [
                ("bytes", f"{format_size(share.bytes)} in {share.segments} segments"),
                ("rate", f"{share.gbit_s:.1f} Gbit/s"),
                ("verified", "yes" if share.verified else "no"),
                ("dropped", share.dropped),
            ],
            indent=2,
        )
