"""A line of the result: a figure, measured once in each round, and the target that it has, if it has one."""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class AtLeast:
    """A target that a figure must reach."""

    value: float

    def shortfall(self, figure: float) -> float:
        """By which share of the target the figure misses it; 0 when it is met."""
        return max(0.0, (self.value - figure) / self.value)

    def __str__(self) -> str:
        return f"at least {number(self.value)}"


@dataclass(frozen=True, slots=True)
class AtMost:
    """A target that a figure must not exceed."""

    value: float

    def shortfall(self, figure: float) -> float:
        """As for `AtLeast`; whatever exceeds a target of nothing misses it wholly."""
        excess = max(0.0, figure - self.value)
        return excess / self.value if self.value else min(excess, 1.0)

    def __str__(self) -> str:
        return f"at most {number(self.value)}"


Target = AtLeast | AtMost


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """What was measured, its unit, and a value for each round. `note`: what a reader must know beside it."""

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
        """`met`, `missed by ...`, or nothing where there is no target."""
        if self.target is None:
            return ""
        shortfall = self.target.shortfall(self.median)
        if not shortfall:
            return "met"
        return f"missed by {shortfall:.0%}" if shortfall >= 0.01 else f"missed by {shortfall:.1%}"


def ratio(
    label: str, over: Sequence[float], under: Sequence[float], target: Target | None = None, note: str = ""
) -> Row:
    """`over` / `under`, round by round: what slows a whole round down slows both, and cancels out."""
    values = tuple(a / b for a, b in zip(over, under, strict=True))
    return Row(label=label, unit="x", values=values, target=target, note=note)


def number(value: float) -> str:
    """Three digits that count, thousands apart; ∞ for what never came."""
    if math.isinf(value):
        return "∞"
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"
