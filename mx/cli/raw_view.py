"""Records as their store holds them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

from mx.cli.options import Invocation
from mx.core.server_state import RawRecord


def show(run: Invocation, records: Sequence[RawRecord]) -> None:
    """As YAML documents, each under a comment that says where it lies; JSON: {records: [...]}."""

    def human() -> None:
        for record in records:
            run.out.line(f"# {record.backend}: {record.place}")
            for line in record.text.rstrip("\n").split("\n"):
                run.out.line(line)
            if len(records) > 1:
                run.out.line("---")

    run.out.emit({"records": [asdict(record) for record in records]}, human=human)
