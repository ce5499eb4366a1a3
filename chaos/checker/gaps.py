"""What a history lacks without which nothing can be concluded about the queue: no PASS, and no violation either.

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
"""That many files of the ledger are named."""

UNSEEN = frozenset({Fate.LOST, Fate.EXCUSED, Fate.FAILED, Fate.DEAD})
"""What a task may seem to have come to if its body ran and was not recorded."""


def gaps_of(evidence: Evidence, fates: Mapping[str, Fate]) -> list[str]:
    """What is missing, a sentence each, with the likely cause."""
    return [
        *_wrong_ledgers(evidence),
        *_missing_lines(evidence),
        *_missing_from_the_plan(evidence),
        *_missing_submissions(evidence),
        *_missing_bodies(evidence, fates),
    ]


def _wrong_ledgers(evidence: Evidence) -> Iterator[str]:
    """Each worker process has a file of its own, and the same is wrong with all of them."""
    yield from evidence.wrong_ledgers[:WRONG_LEDGERS_MAX]


def _missing_lines(evidence: Evidence) -> Iterator[str]:
    for file, numbers in sorted(evidence.lines.items()):
        last = max(numbers)
        # Counted first: a number from a file may be of any size.
        missing = last - len(numbers)
        if missing > 0:
            first = next(number for number in range(1, last) if number not in numbers)
            are = "is" if missing == 1 else "are"
            yield f"{plural(missing, 'line')} of {file}.jsonl {are} missing, the first of them number {first:,}."
    # The harness's own part of a history of this format is numbered from its beginning to its end.
    if evidence.begin and evidence.begin.format >= NUMBERED and evidence.begin.file is None:
        yield "The history names a format whose lines are numbered, and they are not."


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
    # A run that was stopped before has not submitted all, and says itself that it did not come to its end.
    if not isinstance(planned, int) or healed_t is None:
        return
    deadline_t = evidence.phases.get("deadline")
    # What is submitted past the deadline is a poke, and no part of the plan.
    submitted = sum(
        task.invoked_t is not None and (deadline_t is None or task.invoked_t <= deadline_t)
        for task in evidence.tasks.values()
    )
    if submitted < planned:
        yield f"Only {submitted:,} of the {planned:,} planned tasks were submitted, as far as the history shows."


def _missing_bodies(evidence: Evidence, fates: Mapping[str, Fate]) -> Iterator[str]:
    if evidence.wrong_ledgers or any(task.executions for task in evidence.tasks.values()):
        return
    # What must be given up needs no body to be; what still waits in the broker has had none.
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
