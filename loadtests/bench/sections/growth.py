"""Whether an operation becomes slower with more data. Flat within noise: four fifths of the speed are left."""

from collections.abc import Mapping, Sequence

from ..context import Context
from ..rows import AtLeast, Row, ratio
from . import growth_backlog, growth_dead_letters, growth_delayed

FLAT = AtLeast(0.8)


def measure(context: Context) -> list[Row]:
    rows = []
    for part in (growth_backlog, growth_delayed, growth_dead_letters):
        rows += _rows(part.FIGURES, part.measure(context))
    return rows


def _rows(figures: Mapping[str, str], found: Mapping[int, Sequence[Mapping[str, float]]]) -> list[Row]:
    """Return for each figure the values at each size, and the share of the speed that is left at the largest."""
    rows = []
    for figure, unit in figures.items():
        values = {size: tuple(each[figure] for each in rounds) for size, rounds in found.items()}
        for size, each in values.items():
            rows.append(Row(label=f"{figure} {size:,}", unit=unit, values=each))
        if len(values) > 1:
            smallest, largest = min(values), max(values)
            over, under = values[largest], values[smallest]
            if not unit.endswith("/s"):  # a time: less is better
                over, under = under, over
            rows.append(ratio(f"{figure} {largest:,} against {smallest:,}: speed", over, under, FLAT))
    return rows
