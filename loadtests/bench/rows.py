"""A line of the result: a figure, measured once in each round, and its target, if it has one."""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class AtLeast:
    """A target that a figure must reach."""

    value: float

    def shortfall(self, figure: float) -> float:
        """Return by which share of the target the figure misses it; 0 if the target is met."""
        return max(0.0, (self.value - figure) / self.value)

    def __str__(self) -> str:
        return f"at least {number(self.value)}"


@dataclass(frozen=True, slots=True)
class AtMost:
    """A target that a figure must not exceed."""

    value: float

    def shortfall(self, figure: float) -> float:
        """Return by which share of the target the figure exceeds it; for a target of 0 the excess itself, at most 1."""
        excess = max(0.0, figure - self.value)
        return excess / self.value if self.value else min(excess, 1.0)

    def __str__(self) -> str:
        return f"at most {number(self.value)}"


Target = AtLeast | AtMost


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """One figure, its unit, and a value for each round. `note`: a remark that the reader needs."""

    label: str
    unit: str
    values: tuple[float, ...]
    target: Target | None = None
    note: str = ""

    @property
    def median(self) -> float:
        return statistics.median(self.values)

    @property
    def verdict(self) -> str:
        """`met`, `missed by ...`, or empty without a target."""
        if self.target is None:
            return ""
        shortfall = self.target.shortfall(self.median)
        if not shortfall:
            return "met"
        return f"missed by {shortfall:.0%}" if shortfall >= 0.01 else f"missed by {shortfall:.1%}"


def ratio(
    label: str, over: Sequence[float], under: Sequence[float], target: Target | None = None, note: str = ""
) -> Row:
    """Return the row of `over` / `under`, round by round: a slow round slows both, which cancels out."""
    values = tuple(a / b for a, b in zip(over, under, strict=True))
    return Row(label=label, unit="x", values=values, target=target, note=note)


def number(value: float) -> str:
    """Format a number: three significant digits, thousands separated; ∞ for an event that never came."""
    if math.isinf(value):
        return "∞"
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"
