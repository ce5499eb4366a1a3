"""Whether the answers under one idempotency key agree (I8): only one request is accepted, and under one id.

Judged if the target states that it is idempotent, under all faults. An answer that no client received is not judged.
"""

from collections.abc import Collection, Iterator

from ..evidence import Evidence, Task
from ..stated import option


def answers_of(evidence: Evidence, forgotten: Collection[str]) -> dict[str, list[str]]:
    """Return breach -> tasks. `forgotten`: tasks to skip, which a crash may have lost together with their keys."""
    found: dict[str, list[str]] = {}
    if option(evidence.begin, "idempotent") is not True:
        return found
    for name, task in evidence.tasks.items():
        if name in forgotten:
            continue
        for breach in _breaches(task):
            found.setdefault(breach, []).append(name)
    return found


def _breaches(task: Task) -> Iterator[str]:
    accepted = {answer.digest for answer in task.answers if answer.ok}
    if len(accepted) > 1:
        yield "accepted with two payloads under one idempotency key (I8)"
    if len({answer.promised for answer in task.answers if answer.promised is not None}) > 1:
        yield "promised under two ids for one idempotency key (I8)"
    if any(answer.conflict and {answer.digest} == accepted for answer in task.answers):
        yield "accepted and also refused as another request under its idempotency key (I8)"
    spellings = {digest for answer in task.answers if answer.ok for digest in (answer.digest, answer.raw_digest)}
    if len(accepted) == 1 and set(task.digests_executed) - spellings:
        yield "executed with another payload than was accepted under its idempotency key (I8)"
