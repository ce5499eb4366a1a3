"""Differences between the submitted and the executed payload of a task, if both are on record."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from .evidence import Evidence, Task
from .verdicts import Fate

SHOWN_CHARACTERS = 60
EXACT_MAX = 2**53
LARGE_MIN = 10**300
"""Magnitude from which on an integer may exceed all doubles."""
_ABSENT = object()


def differences_of(evidence: Evidence, fates: Mapping[str, Fate]) -> dict[str, str]:
    """Return corrupt task -> clause on the first member that differs; only if both payloads were recorded."""
    corrupt = ((name, evidence.tasks[name]) for name, fate in fates.items() if fate is Fate.CORRUPT)
    return {name: clause for name, task in corrupt if (clause := _difference_of(task))}


def with_difference(sentence: str, differences: Mapping[str, str]) -> str:
    """Append to the verdict's sentence how the payload of the first corrupt task differs."""
    for clause in differences.values():
        return f"{sentence} In the first of them {clause}."
    return sentence


def difference(submitted: str, executed: str) -> str | None:
    """Return a clause on the first member in which two JSON texts differ; None: they are the same text."""
    if submitted == executed:
        return None
    try:
        values = json.loads(submitted), json.loads(executed)
    except (ValueError, RecursionError):
        return f"the payload that the body received is not JSON: {_clipped(executed)}"
    return next(_differences("", *values), None) or _spelling(submitted, executed)


def _difference_of(task: Task) -> str | None:
    if task.submitted_payload is None or task.executed_payload is None:
        return None
    return difference(task.submitted_payload, task.executed_payload)


def _differences(path: str, submitted: Any, executed: Any) -> Iterator[str]:
    if isinstance(submitted, dict) and isinstance(executed, dict):
        for name in dict.fromkeys([*submitted, *executed]):
            inner = f"{path}.{name}" if path else name
            yield from _differences(inner, submitted.get(name, _ABSENT), executed.get(name, _ABSENT))
    elif isinstance(submitted, list) and isinstance(executed, list) and len(submitted) == len(executed):
        for place, pair in enumerate(zip(submitted, executed, strict=True)):
            yield from _differences(f"{path}[{place}]", *pair)
    elif _shown(submitted) != _shown(executed):
        where = f"`{path}`" if path else "it"
        arrived = "did not arrive" if executed is _ABSENT else f"arrived as {_clipped(_shown(executed))}"
        yield f"{where} was submitted as {_clipped(_shown(submitted))} and {arrived}{_advice(submitted, executed)}"


def _advice(submitted: Any, executed: Any) -> str:
    """Return a hint if the executed number is the double nearest to the submitted integer; else an empty text."""
    inexact = isinstance(submitted, int) and EXACT_MAX < abs(submitted) < LARGE_MIN
    if not inexact or not isinstance(executed, int | float) or float(submitted) != executed:
        return ""
    return (
        ", the nearest double: if the worker's language reads numbers as doubles, "
        'state numbers = "double" in the target'
    )


def _spelling(submitted: str, executed: str) -> str | None:
    """Return how two texts of the same value differ, for targets whose payloads are compared byte for byte."""
    place = next((n for n, (a, b) in enumerate(zip(submitted, executed, strict=False)) if a != b), 0)
    here = slice(max(0, place - 10), place + 30)
    return f"the values are equal but the texts differ: {submitted[here]!r} was submitted, {executed[here]!r} arrived"


def _shown(value: Any) -> str:
    return "nothing" if value is _ABSENT else json.dumps(value, sort_keys=True)


def _clipped(text: str) -> str:
    return text if len(text) <= SHOWN_CHARACTERS else f"{text[:SHOWN_CHARACTERS]}..."
