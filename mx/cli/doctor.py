"""``mx doctor``: what on this machine, or on the way to the server, would keep mx from its work."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from mx.cli.exits import ExitCode
from mx.cli.options import invocation_of
from mx.cli.output import Cell, Column, Output
from mx.core.doctor.finding import CheckName, Level

if TYPE_CHECKING:
    from mx.cli.checks.examination import Checked

app = typer.Typer()


_STYLES = {Level.OK: "green", Level.INFO: "", Level.WARNING: "yellow", Level.ERROR: "red"}


@app.command()
def doctor(
    ctx: typer.Context,
    only: Annotated[
        list[CheckName] | None,
        typer.Option("--only", case_sensitive=False, help="Only this; repeatable."),
    ] = None,
    problems: Annotated[bool, typer.Option("--problems", help="Warnings and errors only.")] = False,
) -> None:
    """Look for what is wrong here and on the way to the server, and say what to do about it.

    Looks at settings and secrets, the server with its clock and stores, the cache's disk, GPUs and
    network cards, limits of the process, NIXL and the transports that UCX opens, UCX's variables, vLLM's
    plugin, and versions. Works without a server and without NIXL; nothing is changed. Exits 1 when
    something is an error.

    JSON: {ok, errors, warnings, checks: [{check, seconds, findings: [{level, text, remedy}]}]}.
    """
    from mx.cli.checks.examination import examine
    from mx.cli.checks.site import Site

    run = invocation_of(ctx)
    checks = examine(Site(run), only=only or tuple(CheckName))
    counts = Counter(finding.level for check in checks for finding in check.findings)
    document = {
        "ok": not counts[Level.ERROR],
        "errors": counts[Level.ERROR],
        "warnings": counts[Level.WARNING],
        "checks": [_document(check) for check in checks],
    }
    run.out.emit(document, human=lambda: _print(run.out, checks, problems=problems))
    run.out.say(_summary(counts))
    if counts[Level.ERROR]:
        raise typer.Exit(ExitCode.FAILURE)


def _document(check: Checked) -> dict[str, object]:
    findings = [{"level": one.level.value, "text": one.text, "remedy": one.remedy} for one in check.findings]
    return {"check": check.name.value, "seconds": round(check.seconds, 3), "findings": findings}


def _print(out: Output, checks: Sequence[Checked], *, problems: bool) -> None:
    rows: list[tuple[str | Cell, ...]] = []
    for check in checks:
        for one in check.findings:
            if problems and one.level in (Level.OK, Level.INFO):
                continue
            rows.append((check.name.value, Cell(one.level.value, _STYLES[one.level]), one.text))
            if one.remedy:
                rows.append(("", "", f"→ {one.remedy}"))
    if rows:
        out.table((Column("CHECK"), Column("LEVEL"), Column("FOUND")), rows)


def _summary(counts: Counter[Level]) -> str:
    parts = [
        f"{counts[level]} {word}{'s' * (counts[level] != 1)}"
        for level, word in ((Level.ERROR, "error"), (Level.WARNING, "warning"))
        if counts[level]
    ]
    return ", ".join(parts) if parts else "nothing is wrong"
