"""The error types, with fields. Each is a `QueueError`; Redis's own errors are not wrapped."""

from .texts import NAME_CHARS_MAX, printable


class QueueError(Exception):
    """The base of this package's errors."""


class ConfigError(QueueError):
    """A setting, or the relation of two settings, is invalid. The text is one sentence for the operator."""


class Undecodable(QueueError):
    """An entry is not a readable task. It is dead-lettered unchanged, never dropped."""


class LazyResult(QueueError):
    """A handler returned an awaitable or a generator, so its work was not done."""

    def __init__(self, type_name: str) -> None:
        super().__init__(
            f"The handler returned an object of type {type_name}, which nobody awaits or iterates: "
            "make the handler do its work before it returns."
        )
        self.type_name = type_name


class RanTooLong(QueueError):
    """A handler did not end within its time limit."""

    def __init__(self, limit_ms: int) -> None:
        super().__init__(f"It ran past its time limit of {limit_ms} ms.")
        self.limit_ms = limit_ms


class InvalidTask(QueueError):
    """A member of a task is invalid, or its payload cannot be written as JSON. Nothing was accepted."""


class TaskTooLarge(QueueError):
    """The task has more than `max_task_bytes`. It was not accepted."""

    def __init__(self, size_bytes: int, limit_bytes: int) -> None:
        super().__init__(f"The task has {size_bytes} bytes; at most {limit_bytes} are accepted.")
        self.size_bytes, self.limit_bytes = size_bytes, limit_bytes


class IdempotencyConflict(QueueError):
    """The key was used before, for a task with another id, type, payload, priority or schedule (I8)."""

    def __init__(self, key: str) -> None:
        super().__init__(f"Idempotency key {key!r} was already used for a different task.")
        self.key = key


class QueueFull(QueueError):
    """Redis holds `max_pending` tasks, or `max_scheduled` scheduled ones. Nothing was accepted."""

    def __init__(self, length: int, limit: int, what: str = "pending") -> None:
        super().__init__(f"The queue holds {length} {what} tasks; its bound is {limit}. Nothing was accepted.")
        self.length, self.limit = length, limit


class OtherProtocol(QueueError):
    """The keys of this namespace were written by a release with another protocol."""


class NotAccepted(QueueError):
    """Redis refused, or was never reached: certainly nothing was enqueued."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"Nothing was accepted: {reason}")
        self.reason = reason


class OutcomeUnknown(QueueError):
    """The command was sent and no answer came back: the task may or may not be in the queue."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"The outcome is unknown, the task may have been accepted: {reason}")
        self.reason = reason


class NotConfirmed(OutcomeUnknown):
    """The primary accepted the task, but the required durability was not reached in time. A crash may lose the task."""

    def __init__(self, level: str, reason: str) -> None:
        QueueError.__init__(
            self, f"The primary accepted it, but its durability was not confirmed as {level} in time ({reason})."
        )
        self.level, self.reason = level, reason


class LeaseLost(QueueError):
    """The consumer no longer holds this task: it was recovered elsewhere (I3)."""

    def __init__(self, consumer: str, task_id: str) -> None:
        super().__init__(f"Consumer {consumer} no longer holds task {printable(task_id, NAME_CHARS_MAX)}.")
        self.consumer, self.task_id = consumer, task_id
