"""A reliable task queue for Redis: at least once, and nothing lost on the way.

Copy this folder, under any name: it imports only itself, the standard library and `redis` (the HTTP parts also
`falcon`, `waitress` and `prometheus_client`). Tasks move atomically from `tasks:pending` to a processing list, are
acked when done, recovered when their worker dies, retried, and dead-lettered with a reason.
"""

import importlib

TYPE_CHECKING = False  # as typing's, whose import would delay the first signal handler
if TYPE_CHECKING:
    from .queue.config import Config
    from .queue.consumer import Consumer
    from .queue.enqueuer import Accepted, Enqueuer, Submission
    from .queue.errors import LeaseLost, QueueError
    from .queue.reaper import Reaper
    from .queue.task import Task
    from .worker.handlers import handler

__all__ = [
    "Accepted",
    "Config",
    "Consumer",
    "Enqueuer",
    "LeaseLost",
    "QueueError",
    "Reaper",
    "Submission",
    "Task",
    "handler",
]

__version__ = "0.1.0"

_MODULES = {
    "Accepted": "queue.enqueuer",
    "Config": "queue.config",
    "Consumer": "queue.consumer",
    "Enqueuer": "queue.enqueuer",
    "LeaseLost": "queue.errors",
    "QueueError": "queue.errors",
    "Reaper": "queue.reaper",
    "Submission": "queue.enqueuer",
    "Task": "queue.task",
    "handler": "worker.handlers",
}


def __getattr__(name: str) -> object:
    """Import what is asked for when it is asked for, so that `__main__` handles signals before `redis` is imported."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f".{_MODULES[name]}", __name__), name)
