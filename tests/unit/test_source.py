"""What others publish is told as it is, or not at all: no value of theirs breaks a listing."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mx.core.source import SourceEntry, SourceIdentity, WorkerRecord, summarise, training_step


def identity(extra: dict[str, str]) -> SourceIdentity:
    return SourceIdentity(model_name="org/model", extra_parameters=extra)


@pytest.mark.parametrize(
    ("text", "step"),
    [
        ("0", 0),
        ("42", 42),
        ("007", 7),
        (str((1 << 64) - 1), (1 << 64) - 1),
        (str(1 << 64), None),
        ("9" * 5000, None),
        ("0" * 5000 + "7", 7),
        ("0" * 5000, 0),
        ("", None),
        ("-1", None),
        ("1.5", None),
        ("٣", None),
        ("³", None),
    ],
    ids=lambda value: str(value)[:24],
)
def test_a_training_step_is_an_unsigned_64_bit_decimal(text: str, step: int | None) -> None:
    assert training_step(identity({"training_step": text})) == step
    assert training_step(identity({"version": text})) == step


def test_a_step_that_is_none_leaves_the_turn_to_the_version() -> None:
    assert training_step(identity({"training_step": "9" * 5000, "version": "3"})) == 3


numerals = st.integers(min_value=0).map(str) | st.integers(1, 6000).map(lambda count: "7" * count)


@given(
    extra=st.dictionaries(
        st.sampled_from(["training_step", "version", "layout_signature"]) | st.text(), st.text() | numerals
    ),
    rank=st.integers(0, (1 << 32) - 1),
    status=st.integers(),
)
def test_any_record_has_a_listing_row(extra: dict[str, str], rank: int, status: int) -> None:
    worker = WorkerRecord(worker_rank=rank, status=status)
    row = summarise(SourceEntry("5a5f555570065064", "aaaa0001", identity(extra), worker))
    assert row.worker_rank == rank
    assert row.training_step is None or 0 <= row.training_step < 1 << 64
