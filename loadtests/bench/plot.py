"""An SVG plot of one figure for several queues: one dot each, on a logarithmic axis, with a line over its rounds."""

import math
from collections.abc import Sequence

from ..plot import document, dot, line, text
from .rows import Row, number

WIDTH, LINE, LEFT, RIGHT, TOP, BOTTOM = 760, 26, 190, 90, 44, 34
OURS_COLOUR, OTHERS_COLOUR = "#c0392b", "#34495e"
STYLE = (
    "svg{background:white}text{font:13px sans-serif}.t{font-size:15px}.scale{fill:#666}"
    ".grid{stroke:#d5d8dc}.ours{stroke:#c0392b;stroke-width:2}.other{stroke:#34495e;stroke-width:2}"
)


def dots(title: str, rows: Sequence[Row], ours: str) -> str:
    """Draw the rows in their order, from the top; rows whose label begins with `ours` stand out."""
    rows = [row for row in rows if all(math.isfinite(value) and value > 0 for value in row.values)]
    values = [value for row in rows for value in row.values]
    first = math.floor(math.log10(min(values)))
    last = max(math.ceil(math.log10(max(values))), first + 1)
    height = TOP + LINE * len(rows) + BOTTOM

    def x(value: float) -> float:
        return LEFT + (math.log10(value) - first) / (last - first) * (WIDTH - LEFT - RIGHT)

    parts = [text(LEFT, 20, f"{title}, {rows[0].unit}", kind="t")]
    for exponent in range(first, last + 1):
        at, label = x(10.0**exponent), number(10.0**exponent)
        parts.append(line(at, TOP - 8, at, height - BOTTOM + 4, "grid"))
        parts.append(text(at, height - 12, label, "middle", "scale"))
    for position, row in enumerate(rows):
        y = TOP + LINE * position + LINE / 2
        is_ours = row.label.startswith(ours)
        colour = OURS_COLOUR if is_ours else OTHERS_COLOUR
        low, middle, high = x(min(row.values)), x(row.median), x(max(row.values))
        parts += [
            text(LEFT - 12, y + 4, row.label, "end"),
            line(low, y, high, y, "ours" if is_ours else "other"),
            dot(middle, y, 5, colour),
            text(high + 10, y + 4, number(row.median), colour=colour),
        ]
    return document(WIDTH, height, STYLE, parts)
