"""Spans of time: those that cover a period, and the gaps between them."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from zeroloss.checker.spans import Covered, Spans

SPANS = st.lists(st.tuples(st.integers(0, 30), st.integers(0, 10)).map(lambda one: (one[0], one[0] + one[1])))
LONG_AGO = [(0, 100), (10, 20), (40, 50), (300, 310)]


@pytest.mark.parametrize(
    ("span", "found"),
    [((0, 9), [(0, 100)]), ((20, 40), [(40, 50), (10, 20), (0, 100)]), ((101, 299), []), ((310, 400), [(300, 310)])],
)
def test_the_spans_that_last_during_another_are_found_the_latest_to_begin_first(span: Any, found: Any) -> None:
    assert list(Spans((one, one) for one in LONG_AGO).during(span)) == found


@pytest.mark.parametrize(
    ("span", "least", "gaps"),
    [
        ((30, 90), 1, []),  # inside the longest span, which contains others
        ((50, 200), 10, [(100, 200)]),
        ((50, 305), 10, [(100, 300)]),
        ((90, 110), 11, []),
        ((305, 400), 10, [(310, 400)]),
        ((320, 320), 1, []),
        ((320, 310), 1, []),
    ],
)
def test_a_gap_is_what_none_of_the_spans_covers_for_long_enough(span: Any, least: int, gaps: Any) -> None:
    assert list(Covered(LONG_AGO).gaps(span, least)) == gaps


@given(spans=SPANS, from_t=st.integers(0, 40), length=st.integers(0, 40))
def test_each_moment_of_a_span_is_covered_or_in_a_gap(spans: list[tuple[int, int]], from_t: int, length: int) -> None:
    until_t = from_t + length
    during = set(Spans((one, one) for one in spans).during((from_t, until_t)))
    assert during == {(begin_t, over_t) for begin_t, over_t in spans if begin_t <= until_t and over_t >= from_t}
    open_moments = {t for t in range(from_t, until_t) if not any(begin_t <= t < over_t for begin_t, over_t in spans)}
    gaps = list(Covered(spans).gaps((from_t, until_t), 1))
    assert {t for begin_t, over_t in gaps for t in range(begin_t, over_t)} == open_moments
