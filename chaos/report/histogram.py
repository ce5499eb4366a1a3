"""A distribution as bars on a logarithmic axis: latencies span decades, and the tail is what matters."""

import math
from collections.abc import Collection
from typing import NamedTuple

BARS_PER_DECADE = 8


class Bar(NamedTuple):
    left: float
    """Share of the width, 0 to 1."""
    width: float
    height: float
    """Share of the highest bar, 0 to 1."""
    tasks: int
    from_ms: float
    to_ms: float


class Histogram(NamedTuple):
    bars: list[Bar]
    ticks: list[tuple[float, float]]
    """(share of the width, ms) of the powers of ten."""
    low_ms: float
    high_ms: float

    def place(self, ms: float) -> float:
        """Return the position on the axis as a share of its width, limited to 0 and 1."""
        share = math.log10(max(ms, self.low_ms) / self.low_ms) / math.log10(self.high_ms / self.low_ms)
        return min(1.0, share)


def histogram(values_ms: Collection[float]) -> Histogram | None:
    """Return the bars over whole decades from at least 0.1 ms; None without values."""
    if not values_ms:
        return None
    clamped = [max(ms, 0.1) for ms in values_ms]
    low = math.floor(math.log10(min(clamped)) + 1e-9)
    high = max(low + 1, math.ceil(math.log10(max(clamped)) - 1e-9))
    bars_count = (high - low) * BARS_PER_DECADE
    counts = [0] * bars_count
    for ms in clamped:
        position = int((math.log10(ms) - low) * BARS_PER_DECADE)
        counts[min(max(position, 0), bars_count - 1)] += 1
    highest = max(counts)
    bars = [
        Bar(
            left=number / bars_count,
            width=1 / bars_count,
            height=count / highest,
            tasks=count,
            from_ms=10 ** (low + number / BARS_PER_DECADE),
            to_ms=10 ** (low + (number + 1) / BARS_PER_DECADE),
        )
        for number, count in enumerate(counts)
        if count
    ]
    ticks = [((decade - low) / (high - low), float(10**decade)) for decade in range(low, high + 1)]
    return Histogram(bars, ticks, float(10**low), float(10**high))
