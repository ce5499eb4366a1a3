"""The laws in one run: which of them it tested, and how they were broken."""

from collections.abc import Mapping

from ...invariants import INVARIANTS, bounded_recovery, conservation, no_invention, no_loss
from ..evidence import CensusRecord, Evidence
from ..verdicts import LIVENESS_DEFECTS, Fate, Promise, Property, Redelivery
from .baseline import promises_fifo, promises_order

STATED_BY = {"I3": ("attempts_grow",), "I5": ("max_attempts", "backoff", "backoff (late)"), "I8": ("idempotent",)}
"""Law -> promises; a target that states one of them has the law judged."""


def laws_of(
    evidence: Evidence,
    census: CensusRecord | None,
    fates: Mapping[str, Fate],
    late: list[Redelivery],
    promises: list[Promise],
    disorder: list[str],
    late_comers: list[str],
    differences: Mapping[str, str],
) -> list[Property]:
    """Return all laws, in their order."""
    violations = _of_history(evidence, census, fates, late, differences)
    tested = _tested(evidence, census)
    if promises_order(evidence) or promises_fifo(evidence):
        tested.add("I7")
        violations["I7"] = disorder + [
            f"Task {name} began long after later ones had been completed." for name in late_comers
        ]
    for law, names in STATED_BY.items():
        stated = [one for one in promises if one.name in names and one.stated is not None]
        violations[law] = [clause for one in stated for clause in one.broken]
        tested |= {law} if stated else set()
    return [
        Property(
            number=number,
            title=law.title,
            law=law.law,
            violations=violations.get(number, []),
            tested=number in tested or bool(violations.get(number)),
        )
        for number, law in INVARIANTS.items()
    ]


def _tested(evidence: Evidence, census: CensusRecord | None) -> set[str]:
    """Return the laws that the run tested: it reached a situation in which they can be broken."""
    tasks = evidence.tasks.values()
    met = {
        "I1": census is not None and any(task.promised for task in tasks),
        "I2": any(task.promised for task in tasks) and evidence.drained,
        "I4": any(one.end is None for task in tasks for one in task.executions),
        "I6": any(task.executions for task in tasks),
    }
    return {law for law, is_met in met.items() if is_met}


def _of_history(
    evidence: Evidence,
    census: CensusRecord | None,
    fates: Mapping[str, Fate],
    late: list[Redelivery],
    differences: Mapping[str, str],
) -> dict[str, list[str]]:
    """Return the violations of the laws that every history can show broken."""
    tasks = evidence.tasks
    promised = [name for name, task in tasks.items() if task.promised and fates[name] is not Fate.EXCUSED]
    completed = [name for name in promised if tasks[name].completed]
    undecided = [name for name in promised if fates[name] is Fate.UNDECIDED]
    found = census.found if census else {}
    # One place per task: an outside census is not a snapshot, and may see a moving task twice.
    places = {"broker": [name for name in promised if name in found], "undecided": undecided}
    finished = [name for name in completed if name not in found]
    reasons = {name: _reason(found.get(name, {})) for name in promised if fates[name] is Fate.FAILED}
    # A task given up unexpectedly violates I2 even with a reason; `against_wish` then has the sentence.
    dead = {name: reasons.get(name, fates[name].value) for name in promised if fates[name] in (Fate.DEAD, Fate.FAILED)}
    against_wish = [
        f"Task {name} was given up although it can be done; the queue's reason: {reason}"
        for name, reason in reasons.items()
        if reason
    ]
    submitted = {name: next(iter(task.digests_submitted), None) for name, task in tasks.items() if task.submitted}
    executed = [
        (name, digest)
        for name, task in tasks.items()
        if task.executions
        for digest in (task.corrupt_digests or (None,))
    ]
    refused = [name for name, task in tasks.items() if task.refused]
    recovered_s: dict[str, float | None] = {one.task: one.ms / 1000 for one in late if one.ms is not None}
    recovered_s |= {name: None for name, fate in fates.items() if fate in LIVENESS_DEFECTS}
    within_s = (evidence.begin.recover_within if evidence.begin else None) or 0.0
    waiting = [name for name in promised if fates[name] is Fate.STUCK] + undecided
    return {
        "I1": conservation(promised, finished, places),
        "I2": no_loss(promised, completed, dead, waiting) + against_wish,
        "I4": bounded_recovery(recovered_s, within_s),
        "I6": no_invention(submitted, executed, refused, differences),
    }


def _reason(places: Mapping[str, str | None]) -> str | None:
    return next((reason for reason in places.values() if reason), None)
