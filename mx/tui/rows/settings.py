"""Effective settings with their origin."""

from __future__ import annotations

from mx.core.filters import Field
from mx.core.server_state import SettingRow
from mx.tui.cells import Cell, Column, Tone
from mx.tui.facts import Facts


def is_set(row: SettingRow) -> bool:
    """Whether somebody set it: what is default needs no second look."""
    return row.origin != "default"


def origin_cell(row: SettingRow) -> Cell:
    return Cell(row.origin, Tone.ACCENT if is_set(row) else Tone.DIM)


def columns() -> list[Column[SettingRow]]:
    return [
        Column(title="SETTING", show=lambda s: Cell(s.key), width=30, field="key", elastic=True),
        Column(
            title="VALUE",
            show=lambda s: Cell(s.value, Tone.STRONG if is_set(s) else Tone.PLAIN),
            width=20,
            field="value",
            elastic=True,
        ),
        Column(title="ORIGIN", show=origin_cell, width=18, field="origin", elastic=True),
    ]


def fields() -> dict[str, Field[SettingRow]]:
    return {
        "key": Field(lambda s: s.key),
        "value": Field(lambda s: s.value),
        "origin": Field(lambda s: s.origin),
    }


def facts(row: SettingRow) -> Facts:
    variable = "MODEL_EXPRESS_" + row.key.replace(".", "__").upper()
    return Facts(
        title=row.key,
        pairs=[("value", row.value), ("origin", origin_cell(row)), ("set by", variable)],
        command="mx server settings",
    )


def document(row: SettingRow) -> dict[str, object]:
    return {"key": row.key, "value": row.value, "origin": row.origin}
