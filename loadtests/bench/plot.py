"""A plot of one figure of several queues as SVG: a dot each, on a logarithmic axis, with a line over its rounds."""

import math
from collections.abc import Sequence
from html import escape

from .rows import Row, number

WIDTH, LINE, LEFT, RIGHT, TOP, BOTTOM = 760, 26, 190, 90, 44, 34
OURS_COLOUR, OTHERS_COLOUR, GRID_COLOUR = "#c0392b", "#34495e", "#d5d8dc"


def dots(title: str, rows: Sequence[Row], ours: str) -> str:
    """`rows` in the order given, from the top; those whose label begins with `ours` stand out."""
    rows = [row for row in rows if all(math.isfinite(value) and value > 0 for value in row.values)]
    values = [value for row in rows for value in row.values]
    first = math.floor(math.log10(min(values)))
    last = max(math.ceil(math.log10(max(values))), first + 1)
    height = TOP + LINE * len(rows) + BOTTOM

    def x(value: float) -> float:
        return LEFT + (math.log10(value) - first) / (last - first) * (WIDTH - LEFT - RIGHT)

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" '
        'font-family="sans-serif" font-size="13">',
        f'<rect width="{WIDTH}" height="{height}" fill="white"/>',
        f'<text x="{LEFT}" y="20" font-size="15">{escape(title)}, {escape(rows[0].unit)}</text>',
    ]
    for exponent in range(first, last + 1):
        at, label = x(10.0**exponent), number(10.0**exponent)
        parts.append(f'<path d="M{at:.1f} {TOP - 8}V{height - BOTTOM + 4}" stroke="{GRID_COLOUR}"/>')
        parts.append(f'<text x="{at:.1f}" y="{height - 12}" text-anchor="middle" fill="#666">{label}</text>')
    for position, row in enumerate(rows):
        y = TOP + LINE * position + LINE / 2
        colour = OURS_COLOUR if row.label.startswith(ours) else OTHERS_COLOUR
        low, middle, high = x(min(row.values)), x(row.median), x(max(row.values))
        parts += [
            f'<text x="{LEFT - 12}" y="{y + 4:.1f}" text-anchor="end">{escape(row.label)}</text>',
            f'<path d="M{low:.1f} {y:.1f}H{high:.1f}" stroke="{colour}" stroke-width="2"/>',
            f'<circle cx="{middle:.1f}" cy="{y:.1f}" r="5" fill="{colour}"/>',
            f'<text x="{high + 10:.1f}" y="{y + 4:.1f}" fill="{colour}">{number(row.median)}</text>',
        ]
    return "\n".join([*parts, "</svg>"]) + "\n"
