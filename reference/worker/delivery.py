"""One claimed task in a worker process, and its states."""

import threading
from dataclasses import dataclass, field
from enum import Enum

from ..queue.config import Config
from ..queue.task import Task


class State(Enum):
    """The state of a delivery. Only the claimer changes it."""

    HELD = "in hand, and with no handler thread: it waits to be begun alone, or to be given back"
    OUT = "in hand, and with the handler threads: it waits for one, or runs"
    DONE = "in hand, to be acked"
    FAILED = "in hand, to be retried or given up"
    REFUSED = "as FAILED, and Redis refused to store it: tried again after the next renewal"
    ADRIFT = "recovered by others, and with the handler threads yet: what comes of it counts no more"
    GONE = "neither in hand nor with a handler thread"


@dataclass(slots=True, eq=False)
class Delivery:
    """One claimed task of this process. A handler thread sets `started`, and `end` sets its outcome, once.

    claimed ──▶ HELD ──begun────▶ OUT ──it returned──▶ DONE ────acked──▶ GONE
                 │ ◀──withdrawn── │ └───it raised────▶ FAILED ─failed──▶ GONE
                 │                │              FAILED ──refused──▶ REFUSED ──renewal──▶ FAILED
                 │                └───recovered by others──▶ ADRIFT ──comes back──▶ GONE
                 └── given back ──▶ GONE        HELD, DONE, FAILED, REFUSED ──recovered by others──▶ GONE
    """

    task: Task
    state: State = State.HELD
    started: float | None = None  # monotonic, s; None: not begun
    seconds: float | None = None  # how long it ran; None: not finished
    error: str | None = None  # why its handler failed
    traceback: str = ""  # where its handler failed
    config: Config | None = None  # the settings of its task type; None: the worker's
    after_ms: int | None = None  # delay of the retry that its handler chose; None: the backoff
    number: int = field(init=False)  # its delivery number
    size_bytes: int = field(init=False)
    _ended: threading.Lock = field(default_factory=threading.Lock, init=False, repr=False)  # held: it has an outcome

    def __post_init__(self) -> None:
        self.number, self.size_bytes = self.task.number, len(self.task.entry)

    def end(self, error: str | None, seconds: float) -> bool:
        """Set the outcome unless it is set. Return whether it was set now: the caller then tells the claimer.

        A task past its time limit may be found by the main thread and return in its own at the same moment.
        """
        if not self._ended.acquire(blocking=False):
            return False
        self.error, self.seconds = error, seconds
        return True
