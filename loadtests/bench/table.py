"""The result as Markdown, JSON and lines on a screen."""

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

from .rows import Row, number

COLUMNS = "| what | median | lowest to highest | target | |"
RULE = "| --- | --- | --- | --- | --- |"


def line(row: Row) -> str:
    """Return one row as a line for the screen."""
    text = f"{row.label}: {_figure(row, row.median)}"
    if row.target is not None:
        text += f" ({row.target}: {row.verdict})"
    return text


def markdown(results: Mapping[str, Sequence[Row]], about: Mapping[str, str], plots: Sequence[str]) -> str:
    """Return the whole result as Markdown. `about`: the conditions of the measurement. `plots`: files beside it."""
    parts = ["# Bench", "", "Written by the command that it names; do not edit.", ""]
    parts += [f"- {name}: {text}" for name, text in about.items()]
    parts += ["", *(f"![{plot}]({plot})" for plot in plots)]
    if aims := [f"| {section} {_cells(row)}" for section, rows in results.items() for row in rows if row.target]:
        parts += ["", "## Targets", "", f"| section {COLUMNS}", f"| --- {RULE}", *aims]
    for section, rows in results.items():
        parts += ["", f"## {section}", "", COLUMNS, RULE]
        parts += [_cells(row) for row in rows]
        noted = [row for row in rows if row.note and row.unit != "x"]
        parts += [""] if noted else []
        parts += [f"- {row.label}: {row.note}." for row in noted]
    return "\n".join(parts) + "\n"


def _cells(row: Row) -> str:
    spread = f"{number(min(row.values))} to {number(max(row.values))}" if len(row.values) > 1 else ""
    label = f"{row.label} ({row.note})" if row.note and row.unit == "x" else row.label
    target = "" if row.target is None else str(row.target)
    return f"| {label} | {_figure(row, row.median)} | {spread} | {target} | {row.verdict} |"


def _figure(row: Row, value: float) -> str:
    return f"{number(value)}x" if row.unit == "x" else f"{number(value)} {row.unit}"


def as_json(results: Mapping[str, Sequence[Row]], about: Mapping[str, str]) -> str:
    """Return all values, round by round, as JSON."""
    sections = {section: [_members(row) for row in rows] for section, rows in results.items()}
    return json.dumps({"about": dict(about), "sections": sections}, indent=1, ensure_ascii=False) + "\n"


def _members(row: Row) -> dict[str, Any]:
    members: dict[str, Any] = {
        "what": row.label,
        "unit": row.unit,
        "median": _finite(row.median),
        "rounds": [_finite(value) for value in row.values],
    }
    if row.target is not None:
        members |= {"target": str(row.target), "verdict": row.verdict}
    if row.note:
        members["note"] = row.note
    return members


def _finite(value: float) -> float | None:
    """Return a value for JSON, which has no infinity: an event that never came is null."""
    return None if math.isinf(value) else round(value, 6)
