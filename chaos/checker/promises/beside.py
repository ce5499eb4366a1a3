"""Promises that a target may state beyond at-least-once, and how a history shows them broken.

A promise that is not stated is not judged: at-least-once allows duplicates, any order and any number of retries.
"""

from collections.abc import Collection, Iterable, Mapping

from ..evidence import Evidence
from ..stated import option, seconds
from ..verdicts import LIVENESS_DEFECTS, VIOLATIONS, Duplicate, Fate, Promise, Redelivery, Result, Verdict
from ..wording import plural
from .availability import ended_of, interrupted_of, refused_of
from .cuts import taken_of
from .lateness import late_retries_of, late_starts_of, sooner_of
from .memory import accepted_of, left_of
from .recoveries import passed_of
from .retries import early_of, endless_of, not_again_of, retries_of, same_attempt_of, too_few_of
from .schedules import begun_while_paused, early_starts_of, slighted_of, starved_of
from .time_limit import interrupted_beside_of, waited_for_of


def promises_of(
    evidence: Evidence,
    fates: Mapping[str, Fate],
    *,
    duplicates: Collection[Duplicate],
    too_many: Collection[str],
    out_of_order: Collection[str],
    late: Iterable[Redelivery],
    answers: Mapping[str, Collection[str]],
) -> list[Promise]:
    """Return every promise, stated or not, in the order of a target's members."""
    begin = evidence.begin
    within_s = begin.recover_within if begin else None
    bound = option(begin, "unexplained_duplicates")
    limits = evidence.retries.of_most
    attempts = limits.max_attempts
    waits = ", ".join(f"{from_s:g} to {to_s:g} s" for from_s, to_s in limits.backoff)
    ordered = any(option(begin, name) is True for name in ("in_order", "fifo"))
    idempotent = option(begin, "idempotent") is True
    grows = option(begin, "attempts_grow") is True
    retries = list(retries_of(evidence))
    priorities = option(begin, "priorities")
    lower = option(begin, "lower_within")
    delays = option(begin, "delays") is True
    drains = option(begin, "drains_when_full") is True
    keeps, grace, limit, pauses = (
        seconds(begin, name) for name in ("keeps_through", "grace", "time_limit", "pauses_within")
    )
    ended = ended_of(evidence)
    return [
        Promise(
            name="recover_within",
            stated=None
            if within_s is None
            else f"A dead worker's task can be claimed again within {within_s:g} s{_sooner(evidence)}.",
            verdict=Verdict.LIVENESS,
            broken=_clause([one.task for one in late], "recovered later than promised after a worker had died"),
        ),
        Promise(
            name="order",
            stated="Tasks begin in the order in which they were accepted." if ordered else None,
            verdict=Verdict.VIOLATION,
            broken=_clause(out_of_order, "begun out of the order in which they were accepted (I7)"),
        ),
        Promise(
            name="unexplained_duplicates",
            stated=f"At most {bound} tasks are completed more often than faults explain."
            if isinstance(bound, int)
            else None,
            verdict=Verdict.DUPLICATES,
            broken=_clause(too_many, "completed more often than any fault explains"),
        ),
        Promise(
            name="idempotent",
            stated="A task that is submitted twice under one key is one task, and another one is refused under it."
            if idempotent
            else None,
            verdict=Verdict.VIOLATION,
            broken=_clause(_twice(evidence, duplicates), "submitted again under its key and executed again")
            * idempotent
            + [clause for what, names in answers.items() for clause in _clause(names, what)],
        ),
        Promise(
            name="max_attempts",
            stated=f"A task is given up once it has raised {attempts} times." if attempts is not None else None,
            verdict=Verdict.VIOLATION,
            broken=_clause(endless_of(evidence, retries), "tried again after the last attempt (I5)")
            + _clause(too_few_of(evidence, fates), "given up before its last attempt (I5)"),
        ),
        Promise(
            name="backoff",
            stated=f"Before a retry the queue waits {waits}." if waits else None,
            verdict=Verdict.VIOLATION,
            broken=_clause(early_of(evidence, retries), "tried again sooner than the backoff (I5)"),
        ),
        Promise(
            name="backoff (late)",
            stated="A retry that is due begins once a worker is idle." if waits else None,
            verdict=Verdict.LIVENESS,
            broken=_clause(
                late_retries_of(evidence, retries), "tried again long after the backoff, while a worker was idle (I5)"
            ),
        ),
        Promise(
            name="attempts_grow",
            stated="Each execution of a task has a higher attempt than those claimed before it." if grows else None,
            verdict=Verdict.VIOLATION,
            broken=_clause(same_attempt_of(evidence), "executed under an attempt that does not grow (I3)"),
        ),
        Promise(
            name="priorities",
            stated=f"Of many tasks accepted by one call those of priority {priorities[0]} begin first."
            if priorities
            else None,
            verdict=Verdict.VIOLATION,
            broken=slighted_of(evidence),
        ),
        Promise(
            name="lower_within",
            stated=f"While many tasks of a priority wait, one of them begins among any {lower} of others."
            if isinstance(lower, int)
            else None,
            verdict=Verdict.LIVENESS,
            broken=starved_of(evidence),
        ),
        Promise(
            name="delays",
            stated="A scheduled task begins no sooner than it is due." if delays else None,
            verdict=Verdict.VIOLATION,
            broken=_clause(early_starts_of(evidence), "begun before it was due"),
        ),
        Promise(
            name="pauses_within",
            stated=f"No task begins later than {pauses:g} s after a pause, until claiming is resumed."
            if pauses is not None
            else None,
            verdict=Verdict.VIOLATION,
            broken=_clause(begun_while_paused(evidence), "begun while claiming was paused"),
        ),
        Promise(
            name="starts_when_idle",
            stated="A task that is accepted, and due, begins once a worker is idle."
            if option(begin, "starts_when_idle") is True
            else None,
            verdict=Verdict.LIVENESS,
            broken=_clause(late_starts_of(evidence), "begun long after it could, while a worker was idle"),
        ),
        Promise(
            name="accepts",
            stated="Every task is accepted while nothing disturbs the server, the producer or the way to them."
            if option(begin, "accepts") is True
            else None,
            verdict=Verdict.LIVENESS,
            broken=_clause(refused_of(evidence), "not accepted though nothing was disturbed"),
        ),
        Promise(
            name="drains_when_full",
            stated="While the server's memory is full no task is accepted." if drains else None,
            verdict=Verdict.VIOLATION,
            broken=_clause(accepted_of(evidence), "accepted though the server's memory was full"),
        ),
        Promise(
            name="drains_when_full (late)",
            stated="While the server's memory is full what was accepted goes on." if drains else None,
            verdict=Verdict.LIVENESS,
            broken=_clause(
                left_of(evidence, retries), "left waiting in a full memory, while nothing went on and a worker was idle"
            ),
        ),
        Promise(
            name="keeps_through",
            stated=f"A worker whose connections are cut for less than {keeps:g} s keeps what it runs, and acks it."
            if keeps is not None
            else None,
            verdict=Verdict.DUPLICATES,
            broken=_clause(
                taken_of(evidence, duplicates),
                "begun again after a short cut, though a worker ran or had finished it",
            ),
        ),
        Promise(
            name="grace",
            stated=f"A worker that is asked to end lets what it runs go on for {grace:g} s."
            if grace is not None
            else None,
            verdict=Verdict.DUPLICATES,
            broken=[
                *_clause(
                    interrupted_of(evidence),
                    "interrupted, or lost to another one, by a worker that had been asked to end",
                ),
                *_clause(
                    interrupted_beside_of(evidence), "interrupted by a process that ended at another task's time limit"
                ),
            ],
        ),
        Promise(
            name="time_limit",
            stated=f"A task whose body hangs has failed after {limit:g} s." if limit is not None else None,
            verdict=Verdict.LIVENESS,
            broken=_clause(waited_for_of(evidence), "waited for long after its time limit"),
        ),
        Promise(
            name="workers_stay",
            stated="A process that runs tasks ends only if it is asked to, killed, or ended by a task's body."
            if option(begin, "workers_stay") is True
            else None,
            verdict=Verdict.LIVENESS,
            broken=[f"{plural(len(ended), 'process', 'processes')} ended for no reason: {', '.join(ended[:3])}"]
            if ended
            else [],
        ),
        Promise(
            name="recovers_in_order",
            stated="What an ended worker held comes back in the order in which it was accepted."
            if option(begin, "recovers_in_order") is True
            else None,
            verdict=Verdict.VIOLATION,
            broken=_clause(passed_of(evidence), "begun behind later ones that their ended worker had held"),
        ),
        Promise(
            name="requeue",
            stated="A dead letter that is requeued runs again." if option(begin, "requeues") is True else None,
            verdict=Verdict.VIOLATION,
            broken=_clause(not_again_of(evidence, fates), "requeued and not run again"),
        ),
    ]


def clauses_of(promises: Iterable[Promise], verdict: Verdict) -> list[str]:
    """Return the clauses of broken promises that lead to this verdict."""
    return [clause for promise in promises if promise.verdict is verdict for clause in promise.broken]


def only_promises_broken(result: Result) -> bool:
    """Return whether a run showed that at-least-once holds, and its verdict is due to other promises of the target."""
    beside = {one.verdict for one in result.promises if one.broken and one.name != "recover_within"}
    kept = not set(result.fates.values()) & (VIOLATIONS | LIVENESS_DEFECTS) and not result.late
    return kept and not result.doubts and result.verdict in beside | {Verdict.LEAK}


def note_of(promises: Iterable[Promise]) -> str:
    """Return a sentence for the report: which promises were judged and which were not stated."""
    promises = list(promises)
    stated = [one.name for one in promises if one.stated]
    silent = [one.name for one in promises if not one.stated]
    said = f"The target states {', '.join(stated)}" if stated else "The target states nothing beyond at-least-once"
    return f"{said}; not stated, and not judged: {', '.join(silent)}." if silent else f"{said}."


def _twice(evidence: Evidence, duplicates: Iterable[Duplicate]) -> list[str]:
    """Return the tasks that ran again only because they had been submitted again."""
    return [one.task for one in duplicates if not one.explained and _again(evidence, one.task)]


def _again(evidence: Evidence, name: str) -> bool:
    task = evidence.tasks[name]
    return task.invoked - task.fail > 1


def _sooner(evidence: Evidence) -> str:
    return "".join(f", after {fault} within {within_s:g} s" for fault, within_s in sooner_of(evidence).items())


def _clause(names: Collection[str], what: str) -> list[str]:
    if not names:
        return []
    few = ", ".join(list(names)[:3])
    return [f"{plural(len(names), 'task')} {'was' if len(names) == 1 else 'were'} {what}: {few}"]
