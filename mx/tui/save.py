"""Rows as files: JSON, or CSV where the name ends so."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from mx.errors import UnavailableError

Document = Mapping[str, object]


def as_json(rows: Sequence[Document]) -> str:
    return json.dumps(list(rows), indent=2, ensure_ascii=False) + "\n"


def as_csv(rows: Sequence[Document]) -> str:
    """One column for each member; lists and objects as JSON."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(names)
    for row in rows:
        writer.writerow([_plain(row.get(name)) for name in names])
    return text.getvalue()


def _plain(value: object) -> object:
    if value is None:
        return ""
    return json.dumps(value, ensure_ascii=False) if isinstance(value, (list, dict, tuple)) else value


def save(name: str, rows: Sequence[Document]) -> str:
    """Write a new file; what was written, in words. An existing file is left alone. Blocking.

    Raises UnavailableError.
    """
    path = Path(name).expanduser()
    text = as_csv(rows) if path.suffix.lower() == ".csv" else as_json(rows)
    try:
        with path.open("x", encoding="utf-8", newline="") as file:
            file.write(text)
    except FileExistsError:
        raise UnavailableError(f"{path} is there already", remedy="choose another name") from None
    except OSError as error:
        raise UnavailableError(f"{path}: {error.strerror or error}", remedy="choose another place") from error
    return f"{len(rows)} rows written to {path}"
