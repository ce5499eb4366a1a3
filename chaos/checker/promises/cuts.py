"""Whether a worker keeps what it runs, and acks what it has finished, when its connections are cut for a moment."""

from collections.abc import Iterable

from ..evidence import Evidence, FaultRecord
from ..stated import seconds
from ..verdicts import Duplicate

SECOND = 1_000_000_000
SOON = 5 * SECOND
"""Time after a cut, in ns, in which a starved machine may have kept the worker from reconnecting."""


def taken_of(evidence: Evidence, duplicates: Iterable[Duplicate]) -> list[str]:
    """Return the tasks that ran twice, at the same time or in one process, only because of a cut shorter than stated.

    Both executions must have been completed: a worker that died had nothing to keep. A process that lives on after a
    cut still knows that it has finished a task, and can ack it again.
    """
    keeps_s = seconds(evidence.begin, "keeps_through")
    if keeps_s is None:
        return []

    def short(cut: FaultRecord) -> bool:
        since_t, until_t = cut.lasted or (cut.from_t, cut.over_t)
        return cut.traits.cuts and until_t - since_t < keeps_s * SECOND and not _starved(evidence, cut)

    return [
        one.task
        for one in duplicates
        if (one.overlapping or one.by_one)
        and one.faults
        and not one.others
        and all(short(evidence.faults[fault.number]) for fault in one.faults)
    ]


def _starved(evidence: Evidence, cut: FaultRecord) -> bool:
    starved = (*evidence.late, *evidence.crowded, *evidence.clock_set)
    return any(late.since_t <= cut.over_t + SOON and late.t >= cut.from_t for late in starved)
