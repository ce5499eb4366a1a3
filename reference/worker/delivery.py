"""One task in a worker process's hands."""

from ..queue.config import Config
from ..queue.task import Task


class Delivery:
    """One task in this process's hands. A handler thread sets `started`, then `seconds` and what went wrong."""

    __slots__ = (
        "after_ms",
        "config",
        "dropped",
        "element",
        "error",
        "queued",
        "seconds",
        "started",
        "task",
        "traceback",
    )

    def __init__(self, task: Task) -> None:
        self.task = task
        self.element = task.element
        self.started: float | None = None  # monotonic, s; None: not begun
        self.seconds: float | None = None  # how long it ran; None: not finished
        self.error: str | None = None  # why its handler failed
        self.traceback = ""  # ... and where
        self.config: Config | None = None  # what holds for its type of task; None: the worker's
        self.after_ms: int | None = None  # when its handler wants it back; None: after the backoff
        self.dropped = False  # it was recovered: do not begin it
        self.queued = False  # handed to the handler threads, and not come back from them
