"""Sizes, durations, rates: what is read, what is refused, and that text and value agree both ways."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mx.core.units import (
    format_age,
    format_duration,
    format_rate,
    format_size,
    format_size_exact,
    parse_duration,
    parse_size,
)


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0", 0),
        ("1048576", 1024**2),
        ("500GiB", 500 * 1024**3),
        ("500 gib", 500 * 1024**3),
        ("10GB", 10 * 1000**3),
        ("64Mi", 64 * 1024**2),
        ("1.5KiB", 1536),
        ("12b", 12),
        ("2TB", 2 * 1000**4),
        ("1EiB", 1024**6),
        (7, 7),
    ],
)
def test_sizes_are_read(text: str | int, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize(
    "text", ["", "GiB", "-1", "1e3", "ten", "10 GB 5", "0x10", "1,5GiB", "٣GiB", "1..2", "nan", -1, True]
)
def test_what_is_no_size_is_refused(text: str | int) -> None:
    with pytest.raises(ValueError, match=r"such as 64MiB"):
        parse_size(text)


def test_an_unclear_unit_names_both_clear_ones() -> None:
    with pytest.raises(ValueError, match="write 10GiB or 10GB"):
        parse_size("10G")


@given(st.integers(min_value=0, max_value=2**70))
def test_exact_sizes_come_back(size: int) -> None:
    assert parse_size(format_size_exact(size)) == size


@given(st.integers(min_value=0, max_value=2**63))
def test_shown_sizes_are_near(size: int) -> None:
    assert parse_size(format_size(size)) == pytest.approx(size, rel=0.006, abs=0.5)


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 B"),
        (512, "512 B"),
        (1023, "1023 B"),
        (1024, "1.00 KiB"),
        (1536, "1.50 KiB"),
        (64 * 1024**2, "64.0 MiB"),
        (1024**3 - 1, "1.00 GiB"),
        (500 * 1024**3, "500 GiB"),
        (-2048, "-2.00 KiB"),
    ],
)
def test_sizes_are_shown(size: int, text: str) -> None:
    assert format_size(size) == text


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("30s", 30),
        ("45m", 2700),
        ("2h", 7200),
        ("7d", 604_800),
        ("1w", 604_800),
        ("1h30m", 5400),
        ("1h 30m", 5400),
        ("2H", 7200),
        ("250ms", 0.25),
        ("1.5h", 5400),
        ("90", 90),
        ("0", 0),
        (90, 90),
        (0.5, 0.5),
    ],
)
def test_durations_are_read(text: str | float, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize(
    "text",
    [
        *("", " ", "s", "-1s", "1x", "1h30", "30m1h", "1h1h", "1y", "1:30", "٣s", "inf", "nan", "9" * 400),
        *(-1, math.nan, math.inf, True),
    ],
)
def test_what_is_no_duration_is_refused(text: str | float) -> None:
    with pytest.raises(ValueError, match="such as 30s, 45m"):
        parse_duration(text)


@given(st.floats(min_value=0, max_value=1e9))
def test_durations_come_back_to_the_millisecond(seconds: float) -> None:
    assert parse_duration(format_duration(seconds)) == pytest.approx(seconds, abs=0.000_501)


@given(st.integers(min_value=0, max_value=10**10))
def test_whole_seconds_come_back_exactly(seconds: int) -> None:
    assert parse_duration(format_duration(seconds)) == seconds


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0s"), (604_800, "7d"), (5400, "1h30m"), (0.25, "250ms"), (90061, "1d1h1m1s")]
)
def test_durations_are_shown(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text


@pytest.mark.parametrize("seconds", [-1.0, math.nan, math.inf])
def test_a_duration_that_is_none_is_not_shown(seconds: float) -> None:
    with pytest.raises(ValueError, match="not a duration"):
        format_duration(seconds)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0s"), (-5, "0s"), (12.9, "12s"), (192, "3m 12s"), (3600, "1h"), (3605, "1h"), (187_200, "2d 4h")],
)
def test_ages_are_shown(seconds: float, text: str) -> None:
    assert format_age(seconds) == text


@pytest.mark.parametrize(
    ("bytes_per_s", "text"),
    [
        (0, "0 bit/s"),
        (-1, "0 bit/s"),
        (1.25e9, "10.0 Gbit/s"),
        (3.9e9, "31.2 Gbit/s"),
        (12.5e6, "100 Mbit/s"),
        (124_999_999, "1.00 Gbit/s"),
        (1e3, "8.00 kbit/s"),
    ],
)
def test_rates_are_shown_in_decimal_bits(bytes_per_s: float, text: str) -> None:
    assert format_rate(bytes_per_s) == text
