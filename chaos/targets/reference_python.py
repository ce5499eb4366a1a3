"""Submissions of the reference's target by the Python API, as from a service that uses no producer."""

import time
from collections.abc import Callable, Sequence
from typing import TypeVar

import msgspec
import redis
from zeroloss.reference.queue.client import NewTask, Queue
from zeroloss.reference.queue.enqueuing.submission import Accepted
from zeroloss.reference.queue.errors import (
    IdempotencyConflict,
    InvalidTask,
    NotAccepted,
    OutcomeUnknown,
    QueueError,
    QueueFull,
    TaskTooLarge,
)
from zeroloss.reference.queue.texts import NAME_CHARS_MAX

from ..target import Conflict, Refused, Task, WrongAnswer
from .reference_http import RETRY_S, due_time, trace_context_of

Answer = TypeVar("Answer")


class PythonClient:
    """Enqueues by `Queue`. `large_bytes`: a payload size that is too large. Safe across threads."""

    def __init__(self, redis_url: str, namespace: str, large_bytes: int) -> None:
        self.queue = Queue.connect(redis_url, namespace=namespace)
        self._large = NewTask("large", "x" * large_bytes)

    def enqueue(self, task: Task, task_type: str, key: str | None, patience_s: float) -> str:
        """Enqueue as `Target.enqueue` does. A task with a key is enqueued again after it was accepted."""
        new = new_task(task, task_type, key)
        options = {name: value for name, value in new._asdict().items() if name not in ("type", "payload")}
        accepted = _patiently(lambda: self.queue.enqueue(new.type, new.payload, **options), patience_s)
        if accepted.task_id != task.id:
            raise WrongAnswer(f"Another task was promised: {accepted}")
        if key:
            self._again([new], [accepted])
        return accepted.task_id

    def enqueue_many(
        self, tasks: Sequence[Task], type_of: Callable[[Task], str], key: str | None, patience_s: float
    ) -> list[str]:
        """Enqueue as `Target.enqueue_many` does, with a task before the others that is too large."""
        # Each task has a key of its own, which no other batch uses.
        keys = [key and f"{number}-{key}"[:NAME_CHARS_MAX] for number in range(len(tasks))]
        new = [new_task(task, type_of(task), its) for task, its in zip(tasks, keys, strict=True)]
        large, *outcomes = _patiently(lambda: self.queue.enqueue_many([self._large, *new]), patience_s)
        if not isinstance(large, TaskTooLarge) or len(outcomes) != len(tasks):
            raise WrongAnswer(f"Of a batch one was to be too large, and the answer is {large}, {outcomes}"[:500])
        accepted = [(task, one) for task, one in zip(new, outcomes, strict=True) if isinstance(one, Accepted)]
        for task, one in accepted:
            if one.task_id != task.id:
                raise WrongAnswer(f"Another task was promised: {one} for {task.id}")
        if any(isinstance(one, OutcomeUnknown) for one in outcomes):
            raise RuntimeError(f"It is unknown what became of some: {outcomes}"[:500])
        if key:
            self._again([task for task, _ in accepted], [one for _, one in accepted])
        return [task.id for task, one in zip(tasks, outcomes, strict=True) if not isinstance(one, Accepted)]

    def _again(self, tasks: Sequence[NewTask], first: Sequence[Accepted]) -> None:
        """Enqueue accepted tasks again. Raises WrongAnswer if one is refused, or becomes another task."""
        try:
            _, *outcomes = self.queue.enqueue_many([self._large, *tasks])
        except (NotAccepted, OutcomeUnknown, redis.RedisError):
            return  # Redis may be down, which is not a wrong answer
        except QueueError as error:
            outcomes = [error] * len(tasks)
        for before, after in zip(first, outcomes, strict=True):
            if isinstance(after, NotAccepted | OutcomeUnknown):
                continue
            if not isinstance(after, Accepted) or after.task_id != before.task_id:
                raise WrongAnswer(f"{before} was accepted, and is {after!r} when it is enqueued again")


def new_task(task: Task, task_type: str, key: str | None) -> NewTask:
    """Return the task as the API takes it."""
    due = due_time(task, timed=not key)
    return NewTask(
        task_type,
        msgspec.Raw(task.text.encode()),
        id=task.id,
        priority=task.priority or "default",
        delay_ms=task.delay_ms if task.delay_ms and due is None else None,
        execute_at=due,
        idempotency_key=key,
        trace_context=trace_context_of(task.text),
    )


def _patiently(ask: Callable[[], Answer], patience_s: float) -> Answer:
    """Call `ask`, again for up to `patience_s` while the queue is full. Raises Refused, Conflict: a definite no."""
    give_up_s = time.monotonic() + patience_s
    while True:
        try:
            return ask()
        except IdempotencyConflict as error:
            raise Conflict(str(error)) from None
        except QueueFull as error:
            if time.monotonic() > give_up_s:
                raise Refused(str(error)) from None
        except (InvalidTask, TaskTooLarge, NotAccepted) as error:
            raise Refused(str(error)) from None
        time.sleep(RETRY_S)
