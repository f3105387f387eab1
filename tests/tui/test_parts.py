"""Rules of what lies under the screens: widths, pictures, filters, rates, what is shown while it is held."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from mx.core import filters
from mx.core.feed import EntryGone, FeedPosition, FleetChanges, LinkLost
from mx.core.fleet import NOTHING_TOLD, apply
from mx.core.transfer import TransferState
from mx.testing import fleet_samples as some
from mx.tui.cells import GAP, Cell, Column, broken, fit, lay_out, shorten_name
from mx.tui.pictures import bar, plot, sparkline
from mx.tui.rates import Rates, worker_of
from mx.tui.state import Look, Phase, Watched

texts = st.text(max_size=60)
widths = st.integers(0, 80)


@given(texts, widths, st.booleans())
def test_fitted_text_is_exactly_so_wide(text: str, width: int, right: bool) -> None:
    fitted = fit(text, width, right=right)
    assert cell_len(fitted) == width
    assert all(char.isprintable() for char in fitted)


@given(st.text(st.characters(categories=("L", "N", "Zs")), max_size=80), st.integers(8, 40))
def test_broken_text_fits_and_nothing_of_it_is_lost(text: str, width: int) -> None:
    pieces = broken(text, width)
    assert all(cell_len(piece) <= width for piece in pieces)
    assert "".join("".join(pieces).split()) == "".join(text.split())


def test_a_name_loses_its_owner_before_its_end() -> None:
    assert shorten_name("Qwen/Qwen3-8B", 13) == "Qwen/Qwen3-8B"
    assert shorten_name("Qwen/Qwen3-8B", 12) == "Qwen3-8B"
    assert len(shorten_name("meta-llama/Llama-3.3-70B-Instruct", 12)) == 12


@given(
    st.lists(st.tuples(st.integers(1, 30), st.booleans(), st.integers(0, 5)), min_size=1, max_size=9),
    st.integers(1, 200),
)
def test_columns_fit_or_only_those_that_must_are_left(
    wanted: list[tuple[int, bool, int]], width: int
) -> None:
    columns = [
        Column(title="x", show=lambda row: Cell(str(row)), width=size, elastic=elastic, level=level)
        for size, elastic, level in wanted
    ]
    laid = lay_out(columns, width)
    needed = sum(size for _, size in laid) + GAP * max(0, len(laid) - 1)
    assert needed <= width or all(column.level == 0 for column, _ in laid)
    assert all(size >= column.width for column, size in laid)
    assert [column for column in columns if column.level == 0] == [c for c, _ in laid if c.level == 0]
    assert lay_out(columns, width, wide=True)[0][0] is columns[0]


@given(st.floats(-2, 3), st.integers(1, 60))
def test_bars_have_their_width(share: float, width: int) -> None:
    assert len(bar(share, width)) == width


@given(st.lists(st.floats(0, 1e6), max_size=400), st.integers(1, 120), st.integers(1, 6))
def test_plots_have_their_size_and_show_what_moved(values: list[float], width: int, height: int) -> None:
    lines = plot(values, width, height)
    assert [len(line) for line in lines] == [width] * height
    assert len(sparkline(values, width)) == width
    if any(value > 0 for value in values):
        assert any(char in "▂▃▄▅▆▇█" for line in lines for char in line) or "▁" in lines[-1]


def a_look() -> Look[int]:
    return Look(
        {
            "size": filters.Field(lambda row: row, filters.number),
            "name": filters.Field(lambda row: f"n{row}"),
        },
        ident=lambda row: row,
        is_problem=lambda row: row % 2 == 1,
        sorts=("size", "name"),
    )


@given(st.lists(st.text(max_size=20), max_size=6), st.lists(st.integers(0, 50), unique=True, max_size=20))
def test_no_filter_that_is_typed_raises_or_hides_what_the_last_good_one_shows(
    typed: list[str], rows: list[int]
) -> None:
    look = a_look()
    for text in typed:
        before = look.choose(rows)
        look.set_filter(text)
        shown = look.choose(rows)
        assert set(shown) <= set(rows)
        if look.filter_error:
            assert shown == before


@given(st.lists(st.integers(0, 50), unique=True, max_size=20), st.sets(st.integers(0, 50)), st.integers(0, 9))
def test_an_action_is_about_marks_that_are_there_or_else_the_cursor(
    rows: list[int], marked: set[int], presses: int
) -> None:
    look = a_look()
    look.marked = set(marked)
    for _ in range(presses):
        look.next_sort()
    shown = look.choose(rows)
    assert sorted(shown) == sorted(rows)
    there = [row for row in shown if row in marked]
    cursor = shown[0] if shown else None
    assert look.chosen_of(shown, cursor) == (there or ([] if cursor is None else [cursor]))


@given(st.lists(st.tuples(st.integers(0, 40), st.floats(0.01, 3)), max_size=40))
def test_rates_are_never_negative_and_idle_workers_cost_nothing(steps: list[tuple[int, float]]) -> None:
    rates, now_ms, seconds = Rates(), some.NOW_MS, 0.0
    running = some.report(1, state=TransferState.RUNNING, done=0.0)
    for gib, took_s in steps:
        now_ms += round(took_s * 1000)
        seconds += took_s
        rates.note([replace(running, bytes_done=gib * some.GIB, seconds=seconds)], now_ms=now_ms)
        rates.sample(now_ms=now_ms)
        assert rates.now(worker_of(running)) >= 0
        assert all(value >= 0 for value in rates.total)
    for _ in range(80):
        now_ms += 1000
        rates.sample(now_ms=now_ms)
    assert len(rates) == 0


def gone(number: int) -> FleetChanges:
    key = some.entries()[number % len(some.entries())].key
    return FleetChanges(FeedPosition(some.FEED, 2 + number), some.NOW_MS + number, (EntryGone(key),))


@given(st.lists(st.one_of(st.integers(0, 20), st.booleans(), st.none()), max_size=25))
def test_what_is_held_stays_and_what_is_let_go_is_the_latest(steps: list[int | bool | None]) -> None:
    """A number is a change, a bool pauses or goes on, None loses the link."""
    watched = Watched()
    watched.take(some.snapshot(), now_ms=1000)
    latest, held, missed = apply(NOTHING_TOLD, some.snapshot()), None, 0
    for step in steps:
        if isinstance(step, bool):
            watched.pause(step)
            held, missed = (latest if step else None), 0
        elif step is None:
            lost = LinkLost("gone", 1, 2.0)
            watched.take(lost, now_ms=2000)
            latest = apply(latest, lost)
        else:
            watched.take(gone(step), now_ms=3000)
            latest = apply(latest, gone(step))
            missed += held is not None
        assert watched.shown == (latest if held is None else held)
        assert watched.missed == missed
        assert (watched.link(now_ms=3000).phase is Phase.LOST) == (latest.lost is not None)


def test_ages_go_by_the_servers_clock_and_stand_at_the_end_of_a_recording() -> None:
    watched = Watched()
    assert watched.server_now_ms(now_ms=5) == 5
    watched.take(some.snapshot(), now_ms=1000)
    assert watched.server_now_ms(now_ms=4000) == some.NOW_MS + 3000
    watched.end()
    assert watched.server_now_ms(now_ms=90_000) == some.NOW_MS
    assert watched.link(now_ms=90_000).phase is Phase.ENDED
