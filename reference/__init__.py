"""A reliable task queue for Redis: at least once, and nothing lost on the way.

Copy this folder, under any name: it imports only itself, the standard library and `redis` (the HTTP parts also
`falcon`, `waitress` and `prometheus_client`). Tasks move atomically from `tasks:pending` to a processing list, are
acked when done, recovered when their worker dies, retried, and dead-lettered with a reason.
"""

from .config import Config
from .consumer import Consumer
from .enqueuer import Accepted, Enqueuer, Submission
from .errors import LeaseLost, QueueError
from .handlers import handler
from .reaper import Reaper
from .task import Task

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
