"""Which bytes are asked for next."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from mx.client.receive.plan import Span, SpanPlan, SpanRules
from mx.core.cached import MissingFile
from mx.core.model import ListedFile

RULES = SpanRules(least_bytes=16, most_bytes=256, helper_bytes=32)


def missing(*sizes: int, offset: int = 0) -> list[MissingFile]:
    return [MissingFile(ListedFile(f"f{n}", size), min(offset, size)) for n, size in enumerate(sizes)]


@given(
    sizes=st.lists(st.tuples(st.integers(0, 2000), st.integers(0, 2000)), max_size=12),
    readers=st.integers(1, 9),
    order=st.randoms(use_true_random=False),
)
def test_every_missing_byte_is_handed_out_once_and_in_order(
    sizes: list[tuple[int, int]], readers: int, order: object
) -> None:
    files = [
        MissingFile(ListedFile(f"f{n}", size), min(offset, size)) for n, (size, offset) in enumerate(sizes)
    ]
    plan = SpanPlan(files, readers=readers, rules=RULES)
    handed: dict[str, list[Span]] = {each.file.path: [] for each in files}
    reading: list[Span] = []
    while True:
        if len(reading) < readers and (span := plan.take()) is not None:
            front = not any(other.file == span.file for other in reading)
            assert span.length <= (RULES.most_bytes if front else RULES.helper_bytes) + RULES.least_bytes // 2
            handed[span.file.path].append(span)
            reading.append(span)
        elif reading:
            done = reading.pop(order.randrange(len(reading)))  # type: ignore[attr-defined]
            plan.done(done)
        else:
            break
    for each in files:
        spans = handed[each.file.path]
        assert spans, "also a file of which nothing is left is handed out: somebody has to accept it"
        assert spans[0].offset == each.offset
        assert all(a.end == b.offset for a, b in itertools.pairwise(spans))
        assert spans[-1].end == each.file.size_bytes
        assert all(span.length for span in spans) or each.missing_bytes == 0


def test_each_reader_has_a_file_of_its_own_while_there_are_enough() -> None:
    plan = SpanPlan(missing(100, 300, 200), readers=3, rules=RULES)
    taken = [plan.take() for _ in range(3)]
    assert [span.file.path for span in taken if span] == ["f1", "f2", "f0"], "the largest first"


def test_one_file_gets_helpers_and_then_no_span_keeps_them_waiting() -> None:
    plan = SpanPlan(missing(1000), readers=4, rules=RULES)
    taken = [plan.take() for _ in range(4)]
    assert [(span.offset, span.length) for span in taken if span] == [(0, 32), (32, 32), (64, 32), (96, 32)]


def test_spans_shrink_towards_the_end() -> None:
    plan = SpanPlan(missing(4000, 4000), readers=2, rules=RULES)
    lengths = []
    while (span := plan.take()) is not None:
        lengths.append(span.length)
        plan.done(span)
    assert lengths[0] == RULES.most_bytes
    assert lengths[-1] <= 2 * RULES.least_bytes


def test_no_crumb_is_left_over() -> None:
    plan = SpanPlan(missing(20), readers=1, rules=RULES)
    assert plan.take() == Span(ListedFile("f0", 20), 0, 20)
    assert plan.take() is None
