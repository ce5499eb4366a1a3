"""Latency against rate, as one SVG file that is readable on a light and on a dark page."""

import math
from collections.abc import Iterable, Sequence
from html import escape
from typing import Protocol

WIDTH, HEIGHT = 760, 420
LEFT, RIGHT, TOP, BOTTOM = 76, 150, 40, 52
SERIES = (
    ("p50_ms", "p50", "#7aa6d8"),
    ("p95_ms", "p95", "#2a78d6"),
    ("p99_ms", "p99", "#174a86"),
    ("effect_p95_ms", "enqueue → effect p95", "#d98e00"),
)
LABEL_GAP = 14
STYLE = (
    "text{font:12px system-ui,sans-serif;fill:#5d6066}.t{font-size:14px;font-weight:600}"
    "line{stroke:#9a9da3;stroke-width:.6}.slo{stroke:#b3261e;stroke-dasharray:5 4;stroke-width:1.2}"
    ".best{stroke:#0b7a3b;stroke-width:1.4}polyline{fill:none;stroke-width:2}"
)


class Measured(Protocol):
    """A step of the search."""

    @property
    def rate(self) -> float: ...
    @property
    def held(self) -> bool: ...


def plot(steps: Sequence[Measured], best: float | None, slo_p95_ms: float) -> str:
    """Draw the steps by rate; steps that broke a threshold are hollow. `best`: the highest rate that holds."""
    shown = sorted((step for step in steps if step.rate > 0), key=lambda step: step.rate)
    latencies = [getattr(step, name) for step in shown for name, _, _ in SERIES] or [1.0]
    low = 10 ** math.floor(math.log10(max(0.1, min(latencies))))
    high = 10 ** math.ceil(math.log10(max(*latencies, slo_p95_ms, low * 10)))
    most = max([step.rate for step in shown] + [best or 1.0]) * 1.02

    def x(rate: float) -> float:
        return LEFT + rate / most * (WIDTH - LEFT - RIGHT)

    def y(ms: float) -> float:
        share = math.log10(max(ms, low) / low) / math.log10(high / low)
        return HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM)

    title = "Latency against rate" + ("" if best is None else f": {best:,.0f} requests/s hold")
    parts = [text(LEFT, 22, title, kind="t")]
    for ms in _round_latencies(low, high):
        parts.append(line(LEFT, y(ms), WIDTH - RIGHT, y(ms)) + text(LEFT - 8, y(ms) + 4, f"{ms:,g} ms", "end"))
    for rate in _round_rates(most):
        parts.append(text(x(rate), HEIGHT - BOTTOM + 18, f"{rate:,.0f}", "middle"))
    parts.append(text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 12, "requests per second, as measured", "middle"))
    parts.append(line(LEFT, y(slo_p95_ms), WIDTH - RIGHT, y(slo_p95_ms), "slo"))
    parts.append(text(LEFT + 6, y(slo_p95_ms) - 5, f"p95 allowed: {slo_p95_ms:,.0f} ms", "start"))
    if best is not None:
        parts.append(line(x(best), TOP, x(best), HEIGHT - BOTTOM, "best"))
    label_y = math.inf
    for name, label, colour in sorted(SERIES, key=lambda series: getattr(shown[-1], series[0]) if shown else 0):
        points = [(x(step.rate), y(getattr(step, name)), step) for step in shown]
        parts.append(f'<polyline stroke="{colour}" points="{" ".join(f"{px:.1f},{py:.1f}" for px, py, _ in points)}"/>')
        parts += [dot(px, py, 3.2, colour, step.held) for px, py, step in points]
        if points:
            label_y = min(points[-1][1], label_y - LABEL_GAP)
            parts.append(text(points[-1][0] + 8, label_y + 4, label, colour=colour))
    return document(WIDTH, HEIGHT, STYLE, parts)


def _round_latencies(low: float, high: float) -> list[float]:
    decades = round(math.log10(high / low))
    return [low * 10**decade * part for decade in range(decades) for part in (1, 2, 5)] + [high]


def _round_rates(most: float) -> list[float]:
    step = 10 ** math.floor(math.log10(most))
    step = next(step * part for part in (0.1, 0.2, 0.5, 1) if most / (step * part) <= 8)
    return [step * number for number in range(int(most / step) + 1)]


def document(width: int, height: int, style: str, parts: Iterable[str]) -> str:
    """Return the SVG file as text. `style`: CSS for the classes of its parts."""
    opening = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}"><style>{style}</style>'
    return "\n".join([opening, *parts, "</svg>\n"])


def line(x1: float, y1: float, x2: float, y2: float, kind: str = "") -> str:
    """Return a line of the class `kind`."""
    return f'<line class="{kind}" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"/>'


def text(x: float, y: float, words: str, anchor: str = "start", kind: str = "", colour: str = "") -> str:
    """Return text that begins, has its middle, or ends at `x`, by `anchor`."""
    style = f' style="fill:{colour}"' if colour else ""
    return f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{style}>{escape(words)}</text>'


def dot(x: float, y: float, radius: float, colour: str, filled: bool = True) -> str:
    """Return a circle, hollow if it is not filled."""
    return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius}" stroke="{colour}" fill="{colour if filled else "white"}"/>'
