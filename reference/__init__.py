"""A reliable task queue for Redis: at least once, and nothing lost on the way.

Copy this folder, under any name: it imports only itself, the standard library, `redis` and `msgspec` (the HTTP parts
also `falcon`, `waitress` and `prometheus_client`, traces `opentelemetry`). Tasks move atomically from `tasks:pending`
to a hash of their worker, are acked when done, recovered when their worker dies, retried, and dead-lettered with a
reason.
"""

import importlib

TYPE_CHECKING = False  # in place of typing's: that import would delay the first signal handler
if TYPE_CHECKING:
    from .queue.client import NewTask, Queue
    from .queue.config import Config
    from .queue.dead_letters import DeadLetter, NotRequeueable
    from .queue.enqueuing.submission import Accepted
    from .queue.errors import (
        ConfigError,
        IdempotencyConflict,
        InvalidTask,
        NotAccepted,
        NotConfirmed,
        OutcomeUnknown,
        QueueError,
        QueueFull,
        TaskTooLarge,
    )
    from .queue.task import Task
    from .stats.gauges import Reading
    from .worker.handlers import Reject, Retry, around, handler

__all__ = [
    "Accepted",
    "Config",
    "ConfigError",
    "DeadLetter",
    "IdempotencyConflict",
    "InvalidTask",
    "NewTask",
    "NotAccepted",
    "NotConfirmed",
    "NotRequeueable",
    "OutcomeUnknown",
    "Queue",
    "QueueError",
    "QueueFull",
    "Reading",
    "Reject",
    "Retry",
    "Task",
    "TaskTooLarge",
    "around",
    "handler",
]

__version__ = "0.1.0"

_MODULES = {
    "Accepted": "queue.enqueuing.submission",
    "Config": "queue.config",
    "ConfigError": "queue.errors",
    "DeadLetter": "queue.dead_letters",
    "IdempotencyConflict": "queue.errors",
    "InvalidTask": "queue.errors",
    "NewTask": "queue.client",
    "NotAccepted": "queue.errors",
    "NotConfirmed": "queue.errors",
    "NotRequeueable": "queue.dead_letters",
    "OutcomeUnknown": "queue.errors",
    "Queue": "queue.client",
    "QueueError": "queue.errors",
    "QueueFull": "queue.errors",
    "Reading": "stats.gauges",
    "Reject": "worker.handlers",
    "Retry": "worker.handlers",
    "Task": "queue.task",
    "TaskTooLarge": "queue.errors",
    "around": "worker.handlers",
    "handler": "worker.handlers",
}


def __getattr__(name: str) -> object:
    """Import a public name on its first use, so that `__main__` handles signals before `redis` is imported."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f".{_MODULES[name]}", __name__), name)
