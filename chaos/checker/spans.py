"""Spans of time with a fast search, so that many faults and many tasks cost little. Times are ns."""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator
from itertools import accumulate
from typing import Generic, TypeVar

Span = tuple[int, int]
"""(from, to), both inclusive."""
NEVER = 2**63
"""A time later than any on record."""
Item = TypeVar("Item")


class Spans(Generic[Item]):
    """Items, each with the span that it lasted."""

    def __init__(self, items: Iterable[tuple[Span, Item]]) -> None:
        ordered = sorted(items, key=lambda one: one[0][0])
        self._items = ordered
        self._begins = [begin_t for (begin_t, _), _ in ordered]
        self._latest = list(accumulate((over_t for (_, over_t), _ in ordered), max))
        """Latest end among the items up to each place: if it is too early, no item before that place matches."""

    def during(self, span: Span) -> Iterator[Item]:
        """Yield the items whose span overlaps this one, the latest begin first."""
        from_t, until_t = span
        place = bisect_right(self._begins, until_t) - 1
        while place >= 0 and self._latest[place] >= from_t:
            (_, over_t), item = self._items[place]
            if over_t >= from_t:
                yield item
            place -= 1


class Covered:
    """The union of several spans."""

    def __init__(self, spans: Iterable[Span]) -> None:
        self._begins: list[int] = []
        self._ends: list[int] = []
        for begin_t, over_t in sorted(spans):
            if self._ends and begin_t <= self._ends[-1]:
                self._ends[-1] = max(self._ends[-1], over_t)
            else:
                self._begins.append(begin_t)
                self._ends.append(over_t)

    def gaps(self, span: Span, least: int) -> Iterator[Span]:
        """Yield the parts of the span that are not covered and are at least `least` long."""
        from_t, until_t = span
        for place in range(bisect_left(self._ends, from_t), bisect_left(self._begins, until_t)):
            if self._begins[place] - from_t >= least:
                yield from_t, self._begins[place]
            from_t = self._ends[place]
        if until_t - from_t >= least:
            yield from_t, until_t
