"""The grammar of --filter and --sort, and the choice by prefix, as rules that hold for any rows."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mx.cli.pick import pick
from mx.core.filters import Field, arrange, duration, number, select
from mx.errors import NotFoundError, UsageError


@dataclass(frozen=True, slots=True)
class Row:
    name: str
    load: float | None
    age: float


FIELDS: dict[str, Field[Row]] = {
    "name": Field(lambda row: row.name),
    "load": Field(lambda row: row.load, number),
    "age": Field(lambda row: row.age, duration),
}
rows = st.lists(
    st.builds(
        Row,
        name=st.text(max_size=5),
        load=st.none() | st.floats(0, 1),
        age=st.integers(0, 1000).map(float),
    ),
    max_size=8,
)


@given(rows, st.integers(0, 1000))
def test_a_bound_and_its_opposite_part_the_rows(found: list[Row], bound: int) -> None:
    older = select(found, [f"age>{bound}s"], FIELDS)
    rest = select(found, [f"age<={bound}s"], FIELDS)
    assert sorted([*older, *rest], key=repr) == sorted(found, key=repr)
    assert all(row.age > bound for row in older)


@given(rows, st.floats(0, 1))
def test_an_unknown_value_passes_unequal_only(found: list[Row], bound: float) -> None:
    unknown = [row for row in found if row.load is None]
    for sign in ("<", "<=", ">", ">=", "="):
        assert not [row for row in select(found, [f"load{sign}{bound}"], FIELDS) if row.load is None]
    assert [row for row in select(found, [f"load!={bound}"], FIELDS) if row.load is None] == unknown


@given(rows, st.text("abc!", min_size=1, max_size=3).filter(lambda word: word.strip("!")))
def test_a_word_and_its_absence_part_the_rows(found: list[Row], word: str) -> None:
    word = word.lstrip("!")
    with_word = select(found, [word], FIELDS)
    without = select(found, [f"!{word}"], FIELDS)
    assert len(with_word) + len(without) == len(found)
    assert all(word in row.name.casefold() for row in with_word)


@given(rows, st.sampled_from(["name", "load", "age"]), st.sampled_from(["", ":asc", ":desc"]))
def test_sorting_keeps_every_row_and_puts_the_unknown_last(
    found: list[Row], field: str, direction: str
) -> None:
    ordered = arrange(found, field + direction, FIELDS)
    assert sorted(ordered, key=repr) == sorted(found, key=repr)
    values = [FIELDS[field].get(row) for row in ordered]
    known = [value for value in values if value is not None]
    assert values[: len(known)] == known
    keys = [value.casefold() if isinstance(value, str) else value for value in known]
    assert keys == sorted(keys, reverse=direction == ":desc")  # type: ignore[type-var]


@given(st.text(max_size=30))
def test_any_text_is_a_filter_or_a_usage_error(text: str) -> None:
    with contextlib.suppress(UsageError):
        select([Row("a", None, 1.0)], [text], FIELDS)
    with contextlib.suppress(UsageError):
        arrange([Row("a", None, 1.0)], text, FIELDS)


def test_equal_rows_keep_their_order() -> None:
    found = [Row(name, 0.5, 1.0) for name in "cab"]
    assert arrange(found, "load", FIELDS) == found
    assert arrange(found, "load:desc", FIELDS) == found


@given(st.sets(st.text("0123456789abcdef", min_size=4, max_size=4), min_size=1, max_size=6), st.data())
def test_pick_gives_the_only_one_that_fits(ids: set[str], data: st.DataObject) -> None:
    wanted = data.draw(st.sampled_from(sorted(ids)))
    prefix = wanted[: data.draw(st.integers(1, 4))]
    fits = [one for one in ids if one.startswith(prefix)]
    names = dict.fromkeys(ids, "")
    if len(fits) == 1:
        assert pick(prefix, names, noun="thing", listing="mx list") == wanted
    else:
        with pytest.raises(UsageError):
            pick(prefix, names, noun="thing", listing="mx list")


@given(st.text(max_size=6), st.dictionaries(st.text(max_size=4), st.text(max_size=4), max_size=4))
def test_pick_never_guesses(wanted: str, names: dict[str, str]) -> None:
    try:
        chosen = pick(wanted, names, noun="thing", listing="mx list")
    except (NotFoundError, UsageError):
        assert wanted not in names
    else:
        assert chosen == wanted or chosen.startswith(wanted) or names[chosen] == wanted
