"""I1 to I8: what a reliable queue promises, each stated once, as prose and as a predicate over plain data.

A predicate knows nothing of Redis or of any queue: it takes ids, digests and places, and returns one sentence per
violation, none if the law holds. The checker, the property tests and the model all call these.
"""

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple


@dataclass(frozen=True, kw_only=True)
class Invariant:
    """One law: `number` is how everything refers to it, `check` is its predicate."""

    number: str
    title: str
    law: str
    check: Callable[..., list[str]]


class Transition(NamedTuple):
    """One attempt to finish (`ack`), `fail` or `release` a task."""

    verb: str
    consumer: str
    delivery: int
    """Delivery number that the consumer presents for the task."""
    held: Collection[int]
    """Delivery numbers of the tasks that this consumer held just before."""
    succeeded: bool


class Answer(NamedTuple):
    """One answer to an enqueue that carried an idempotency key; `task` is None when it was refused."""

    key: str
    digest: str
    task: str | None


def conservation(
    accepted: Collection[str], finished: Collection[str], places: Mapping[str, Sequence[str]]
) -> list[str]:
    """I1. `places`: name of a place (`pending`, `processing:w1`, ...) -> the ids there, with repetitions."""
    found: dict[str, list[str]] = {}
    for place, ids in places.items():
        for task in ids:
            found.setdefault(task, []).append(place)
    finished = frozenset(finished)
    violations = []
    for task in dict.fromkeys(accepted):
        where = found.get(task, [])
        if task in finished and where:
            violations.append(f"Task {task} is finished and yet lies in {_places(where)}.")
        elif task not in finished and not where:
            violations.append(f"Task {task} was accepted, is not finished, and lies nowhere.")
        elif len(where) > 1:
            violations.append(f"Task {task} lies in {len(where)} places: {_places(where)}.")
    return violations


def no_loss(
    accepted: Collection[str],
    completed: Collection[str],
    dead: Mapping[str, str | None],
    waiting: Collection[str] = (),
) -> list[str]:
    """I2. `dead`: id -> reason in dead_letter; `waiting`: ids that the queue still holds, and so hasn't lost yet."""
    completed, waiting = frozenset(completed), frozenset(waiting)
    violations = []
    for task in dict.fromkeys(accepted):
        if task in completed or task in waiting or dead.get(task):
            continue
        if task in dead:
            violations.append(f"Task {task} was given up without a reason and without having completed.")
        else:
            violations.append(f"Task {task} was accepted, never completed, and is gone.")
    return violations


def ownership(transitions: Iterable[Transition]) -> list[str]:
    """I3. A delivery is a consumer and its number, which is never reused."""
    return [
        f"Consumer {consumer} could {verb} a task that it did not hold: its delivery {delivery}."
        for verb, consumer, delivery, held, succeeded in transitions
        if succeeded and delivery not in held
    ]


def bounded_recovery(recovered_after_s: Mapping[str, float | None], within_s: float) -> list[str]:
    """I4. `recovered_after_s`: id of a task whose worker died -> seconds until claimable again; None: not by itself."""
    violations = []
    for task, seconds in recovered_after_s.items():
        if seconds is None:
            violations.append(f"Task {task} was not recovered within {within_s:g} s, nor later by itself.")
        elif seconds > within_s:
            violations.append(f"Task {task} was recovered after {seconds:.3f} s, later than {within_s:g} s.")
    return violations


def bounded_attempts(failures: Mapping[str, int], failures_max: int, dead: Collection[str]) -> list[str]:
    """I5. `failures`: id -> attempts of an unfinished task that raised or killed their worker."""
    dead = frozenset(dead)
    violations = []
    for task, count in failures.items():
        if count > failures_max:
            violations.append(f"Task {task} failed {count} times, more than {failures_max}.")
        elif count == failures_max and task not in dead:
            violations.append(f"Task {task} failed {count} times and is not in dead_letter.")
    return violations


def no_invention(
    submitted: Mapping[str, str | None],
    executed: Iterable[tuple[str, str | None]],
    refused: Collection[str] = (),
    differences: Mapping[str, str] | None = None,
) -> list[str]:
    """I6. `submitted`: id -> digest of the payload; `executed`: (id, digest) of each execution. None: not known.

    `differences`: id -> clause on how the payload differs, where that is known.
    """
    refused = frozenset(refused)
    violations = []
    for task, digest in dict.fromkeys(executed):
        if task not in submitted:
            violations.append(f"Task {task} was executed and never submitted.")
            continue
        if task in refused:
            violations.append(f"Task {task} was executed although it had been refused.")
        expected = submitted[task]
        if digest is not None and expected is not None and digest != expected:
            clause = (differences or {}).get(task) or f"{digest} for {expected}"
            violations.append(f"Task {task} was executed with another payload than was submitted ({clause}).")
    return violations


def order(accepted: Sequence[str], executed: Sequence[str]) -> list[str]:
    """I7. Both list ids in the order of events, each as often as it occurred; unknown ids are a matter of I6."""
    position = {task: number for number, task in enumerate(accepted)}
    violations = []
    latest: str | None = None
    for task in dict.fromkeys(executed):
        if task not in position:
            continue
        if latest is not None and position[task] < position[latest]:
            violations.append(f"Task {task} was executed after task {latest}, which was accepted later.")
        else:
            latest = task
    return violations


def idempotent_enqueue(answers: Iterable[Answer]) -> list[str]:
    """I8. Answers in the order they were given; the first accepted one of a key fixes its request and its id."""
    first: dict[str, Answer] = {}
    violations = []
    for answer in answers:
        if answer.task is None:
            continue
        known = first.setdefault(answer.key, answer)
        if answer.digest != known.digest:
            violations.append(f"Key {answer.key} was accepted with two different requests.")
        elif answer.task != known.task:
            violations.append(f"Key {answer.key} with the same request gave two tasks: {known.task} and {answer.task}.")
    return violations


def _places(where: list[str]) -> str:
    return ", ".join(place if times == 1 else f"{place} ({times} times)" for place, times in Counter(where).items())


INVARIANTS: dict[str, Invariant] = {
    invariant.number: invariant
    for invariant in (
        Invariant(
            number="I1",
            title="Conservation",
            law="An accepted task is, at every instant Redis can be observed or can stop, in exactly one of pending, "
            "delayed, one consumer's hands, dead_letter, or finished. Every transition is one atomic step.",
            check=conservation,
        ),
        Invariant(
            number="I2",
            title="No loss",
            law="An accepted task is executed to completion at least once, or is in dead_letter with a reason.",
            check=no_loss,
        ),
        Invariant(
            number="I3",
            title="Ownership",
            law="Only the delivery that is held can be finished, failed or released. A late ack of an earlier one gets "
            "LeaseLost and changes nothing, even by the same consumer.",
            check=ownership,
        ),
        Invariant(
            number="I4",
            title="Bounded recovery",
            law="A task whose worker died is claimable again within lease + one sweep, with or without traffic.",
            check=bounded_recovery,
        ),
        Invariant(
            number="I5",
            title="Bounded attempts",
            law="A handler that keeps raising, or a task that keeps killing its worker, ends in dead_letter after the "
            "configured number; it never blocks the others.",
            check=bounded_attempts,
        ),
        Invariant(
            number="I6",
            title="No invention",
            law="Nothing is executed that was not submitted; a payload arrives byte for byte.",
            check=no_invention,
        ),
        Invariant(
            number="I7",
            title="Order",
            law="Without faults, one consumer sees tasks of one priority in the order they were accepted.",
            check=order,
        ),
        Invariant(
            number="I8",
            title="Idempotent enqueue",
            law="The same idempotency key and request (type, payload, priority, schedule) yield one task and the same "
            "id; with another request, an error.",
            check=idempotent_enqueue,
        ),
    )
}
