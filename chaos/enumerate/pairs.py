"""Pairs of crashes: the worker that recovers from the first crash is killed at each of its own points."""

from collections.abc import Sequence

from ..system.proxy import ANY_ROLE, Phase, read_point
from .plan import Crash, plan_crashes
from .table import Row

PAIRS_PER_NAME = 2
"""Number of occurrences that are tried of each command of the recovering worker."""


def worth_a_pair(singles: Sequence[Row]) -> list[Row]:
    """Return, for each command, the first crash whose recovery had work to do; prefer those with an unseen reply."""
    chosen: dict[str, Row] = {}
    for row in sorted(singles, key=lambda row: not row.crashes[0].endswith(Phase.EXECUTED)):
        if row.redelivery_ms is not None and row.reached:
            chosen.setdefault(row.crashes[0].partition("#")[0], row)
    return list(chosen.values())


def plan_pairs(row: Row, recordings: Sequence[Row]) -> list[tuple[Crash, ...]]:
    """Return the pairs: this crash, then each point that all recorded recoveries from it reached.

    `recordings`: rows of this crash and of others.
    """
    recoveries = [
        {(ANY_ROLE, name): count for name, count in one.recovery.items()}
        for one in recordings
        if one.crashes == row.crashes
    ]
    return [(first_crash(row), second) for second in plan_crashes(recoveries, PAIRS_PER_NAME)]


def first_crash(row: Row) -> Crash:
    """Return the crash of a row with a single crash."""
    point, _, phase = row.crashes[0].rpartition(" ")
    return Crash(*read_point(point), Phase(phase))
