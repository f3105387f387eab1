"""Filter and sort: one grammar for every listing, on the command line and in the terminal UI.

    age>90s   load<=0.5   rank=0   status!=ready   model~llama   llama   !llama

``~`` is "contains"; a bare word is looked for in every text column, ``!word`` must be in none.
Several filters must all hold. Case does not matter. An unknown value passes ``!=`` only and sorts last.
"""

from __future__ import annotations

import difflib
import operator
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from mx.core.units import parse_duration, parse_size
from mx.errors import UsageError

T = TypeVar("T")
Value = str | float | None

_TERM = re.compile(r"([A-Za-z][\w-]*)\s*(!=|>=|<=|=|>|<|~)\s*(.*)", re.DOTALL)
_ORDER: Mapping[str, Callable[[float, float], bool]] = {
    ">": operator.gt,
    ">=": operator.ge,
    "<": operator.lt,
    "<=": operator.le,
    "=": operator.eq,
    "!=": operator.ne,
}


def number(text: str) -> float:
    """A plain number. Raises ValueError."""
    return float(text)


def duration(text: str) -> float:
    """Seconds. Raises ValueError."""
    return parse_duration(text)


def size(text: str) -> float:
    """Bytes. Raises ValueError."""
    return float(parse_size(text))


@dataclass(frozen=True, slots=True)
class Field(Generic[T]):
    """A column that can be filtered and sorted; ``parse`` reads a number, None marks text."""

    get: Callable[[T], Value]
    parse: Callable[[str], float] | None = None


def select(rows: Iterable[T], filters: Sequence[str], fields: Mapping[str, Field[T]]) -> list[T]:
    """The rows for which every filter holds. Raises UsageError for a filter that can't be read."""
    tests = [_test(text, fields) for text in filters]
    return [row for row in rows if all(test(row) for test in tests)]


def arrange(rows: Iterable[T], order: str, fields: Mapping[str, Field[T]]) -> list[T]:
    """The rows sorted by ``FIELD``, ``FIELD:desc`` or ``FIELD:asc``. Raises UsageError."""
    name, _, direction = order.partition(":")
    if direction not in ("", "asc", "desc"):
        raise UsageError(f"sort {order!r}: after the colon stands asc or desc, not {direction!r}")
    get = _field(name, fields, where=f"sort {order!r}").get
    known = [(value, row) for row in rows if (value := get(row)) is not None]
    unknown = [row for row in rows if get(row) is None]
    known.sort(key=lambda pair: _key(pair[0]), reverse=direction == "desc")
    return [row for _, row in known] + unknown


def _key(value: str | float) -> tuple[float, str]:
    return (0.0, value.casefold()) if isinstance(value, str) else (value, "")


def _field(name: str, fields: Mapping[str, Field[T]], *, where: str) -> Field[T]:
    field = fields.get(name.lower())
    if field is None:
        near = difflib.get_close_matches(name.lower(), fields, n=1)
        meant = f"; did you mean {near[0]}?" if near else ""
        raise UsageError(f"{where}: no column {name!r}{meant}", remedy=f"columns: {', '.join(fields)}")
    return field


def _test(text: str, fields: Mapping[str, Field[T]]) -> Callable[[T], bool]:
    term = _TERM.fullmatch(text.strip())
    if term is None:
        return _word(text.strip(), fields)
    name, sign, wanted = term.groups()
    field = _field(name, fields, where=f"filter {text!r}")
    if field.parse is None or sign == "~":
        return _text(field.get, sign, wanted.casefold(), where=f"filter {text!r}")
    try:
        bound = field.parse(wanted)
    except ValueError as error:
        raise UsageError(f"filter {text!r}: {error}") from None
    compare, get, missing = _ORDER[sign], field.get, sign == "!="

    def holds(row: T) -> bool:
        value = get(row)
        return compare(value, bound) if isinstance(value, (int, float)) else missing

    return holds


def _text(get: Callable[[T], Value], sign: str, wanted: str, *, where: str) -> Callable[[T], bool]:
    def shown(row: T) -> str:
        value = get(row)
        return "" if value is None else str(value).casefold()

    match sign:
        case "=":
            return lambda row: shown(row) == wanted
        case "!=":
            return lambda row: shown(row) != wanted
        case "~":
            return lambda row: wanted in shown(row)
        case _:
            raise UsageError(f"{where}: {sign} needs a column of numbers", remedy="use =, != or ~ for text")


def _word(text: str, fields: Mapping[str, Field[T]]) -> Callable[[T], bool]:
    absent = text.startswith("!")
    word = text.removeprefix("!").casefold()
    if not word:
        raise UsageError(f"filter {text!r} is empty", remedy="as in: age>90s, model~llama, llama, !llama")
    getters = [field.get for field in fields.values() if field.parse is None]
    return lambda row: any(word in str(get(row) or "").casefold() for get in getters) is not absent
