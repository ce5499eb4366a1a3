"""Gaps: evidence missing from a history without which a run shows neither a PASS nor a violation.

Missing evidence is not evidence: a history without its beginning, with fewer submissions than the plan, or without any
task body would acquit a queue that loses tasks, or accuse one that loses none.
"""

from collections.abc import Iterator, Mapping

from .evidence import Evidence
from .stated import option
from .verdicts import Fate
from .wording import plural

NUMBERED = 2
"""The first version of the format in which the harness numbers its lines."""

WRONG_LEDGERS_MAX = 3
"""Number of invalid ledger files that are named."""

UNSEEN = frozenset({Fate.LOST, Fate.EXCUSED, Fate.FAILED, Fate.DEAD})
"""Outcomes that a task may wrongly seem to have if its body ran without being recorded."""


def gaps_of(evidence: Evidence, fates: Mapping[str, Fate]) -> list[str]:
    """Return a sentence for each gap, with its likely cause."""
    return [
        *_wrong_ledgers(evidence),
        *_missing_lines(evidence),
        *_missing_from_the_plan(evidence),
        *_missing_submissions(evidence),
        *_missing_bodies(evidence, fates),
    ]


def _wrong_ledgers(evidence: Evidence) -> Iterator[str]:
    """Yield the first sentences only: each worker process has a file of its own, and all have the same mistake."""
    yield from evidence.wrong_ledgers[:WRONG_LEDGERS_MAX]


def _missing_lines(evidence: Evidence) -> Iterator[str]:
    for file, numbers in sorted(evidence.lines.items()):
        last = max(numbers)
        # Counts are compared first: a line number read from a file may be of any size.
        missing = last - len(numbers)
        if missing > 0:
            first = next(number for number in range(1, last) if number not in numbers)
            are = "is" if missing == 1 else "are"
            yield f"{plural(missing, 'line')} of {file}.jsonl {are} missing, the first of them number {first:,}."
    # The harness's own part of a history of this format is numbered from its beginning to its end.
    if evidence.begin and evidence.begin.format >= NUMBERED and evidence.begin.file is None:
        yield "The history states a format with numbered lines, but its lines have no numbers."


def _missing_from_the_plan(evidence: Evidence) -> Iterator[str]:
    if evidence.begin is None:
        yield "The history has no `run` `begin` event, so that target, plan and faults are unknown."
    elif not isinstance(evidence.begin.plan, Mapping):
        yield "The plan in the `run` `begin` event can't be read: it is not an object."
    else:
        if not isinstance(_planned(evidence), int):
            yield "The plan in the `run` `begin` event does not say how many `tasks` there are."
        if not isinstance(option(evidence.begin, "faults"), list):
            yield "The plan in the `run` `begin` event does not list its `faults`."


def _missing_submissions(evidence: Evidence) -> Iterator[str]:
    planned, healed_t = _planned(evidence), evidence.phases.get("healed")
    # A run that was stopped earlier has not submitted all tasks, and reports that it did not end.
    if not isinstance(planned, int) or healed_t is None:
        return
    deadline_t = evidence.phases.get("deadline")
    # A task submitted after the deadline is a poke, and not part of the plan.
    submitted = sum(
        task.invoked_t is not None and (deadline_t is None or task.invoked_t <= deadline_t)
        for task in evidence.tasks.values()
    )
    if submitted < planned:
        yield f"Only {submitted:,} of the {planned:,} planned tasks were submitted, as far as the history shows."


def _missing_bodies(evidence: Evidence, fates: Mapping[str, Fate]) -> Iterator[str]:
    if evidence.wrong_ledgers or any(task.executions for task in evidence.tasks.values()):
        return
    # A task that must be given up may have had no body; one that still waits in the broker has had none.
    gone = [
        name
        for name, task in evidence.tasks.items()
        if task.promised and fates[name] in UNSEEN and name not in (evidence.doomed or ())
    ]
    if gone:
        found = evidence.census.found if evidence.census else {}
        reasons = [reason for name in gone for reason in found.get(name, {}).values() if reason]
        yield (
            f"No task body was recorded, and {len(gone):,} promised tasks left the broker: does your task call "
            "`effect`, and is ZEROLOSS_LEDGER set in that process?"
            + "".join(f" The broker's first reason for giving one up: {reason}" for reason in reasons[:1])
        )


def _planned(evidence: Evidence) -> object:
    return option(evidence.begin, "tasks")
