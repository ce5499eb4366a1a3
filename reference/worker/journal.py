"""What a worker process reports: of each task to the log and to metrics, of itself to the monitor.

The monitor is sent it with each renewal, without a round trip of its own. It is not part of the protocol's promises:
what is on its way when a reply is lost is not sent again, so no number is ever too high.
"""

import logging
import os
import socket
import time
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable
from textwrap import indent
from typing import Protocol

import msgspec

from .. import __version__
from ..queue.consuming.registry import Report
from ..queue.lua import SERIES_BOUNDS_MS as BOUNDS_MS
from ..queue.task import Task
from ..queue.texts import printable
from .delivery import Delivery

logger = logging.getLogger(__name__)

SUCCEEDED, RETRIED, DEAD_LETTERED = "succeeded", "retried", "dead_lettered"
RUNNING_MAX = 20  # tasks that one renewal names, those that have run longest
TYPE_CHARS_MAX = 100

BUCKETS = (*map(str, BOUNDS_MS), "inf")
_WAIT = tuple(f"wait:{bucket}" for bucket in BUCKETS)
_RUN = tuple(f"run:{bucket}" for bucket in BUCKETS)


class Observer(Protocol):
    """What counts each task, for metrics. Called in the worker's own threads: it must be quick, and raise nothing."""

    def begun(self, task: Task, waited_s: float | None) -> None:
        """A handler begins. `waited_s`: since enqueue, or the due time; None: not its first attempt, or not known."""

    def ended(self, task: Task, seconds: float) -> None:
        """Its handler has returned or raised, after that long."""

    def settled(self, task: Task, outcome: str) -> None:
        """Redis knows what came of it: one of this module's outcomes. One of no known type was never begun."""


class Journal:
    """Logs and counts what becomes of the tasks of one process, and describes the process. For its claimer's thread."""

    def __init__(self, threads: int, observer: Observer | None = None) -> None:
        self._began = time.monotonic()
        self._self = {"host": socket.gethostname(), "pid": os.getpid(), "version": __version__, "threads": threads}
        self._observer = observer
        self._counts: Counter[str] = Counter()
        self._ahead_ms = 0.0  # Redis's clock less this process's monotonic one; 0: not known

    def begun(self, delivery: Delivery) -> None:
        """A handler begins; called by its thread."""
        if self._observer:
            waited_ms = self._waited_ms(delivery)
            self._observer.begun(delivery.task, None if waited_ms is None else waited_ms / 1000)

    def ended(self, delivery: Delivery) -> None:
        """Count a delivery that has run."""
        if delivery.seconds is None:
            return
        self._counts[_RUN[bisect_left(BOUNDS_MS, delivery.seconds * 1000)]] += 1
        waited_ms = self._waited_ms(delivery)
        if waited_ms is not None:
            self._counts[_WAIT[bisect_left(BOUNDS_MS, waited_ms)]] += 1
        if self._observer:
            self._observer.ended(delivery.task, delivery.seconds)

    def acked(self, task: Task) -> None:
        """Redis knows that it is done."""
        self._settled(task, SUCCEEDED)

    def failed(self, delivery: Delivery, retried: bool) -> None:
        """Redis knows that its handler raised, and what becomes of it."""
        task = delivery.task
        outcome = "will be retried" if retried else "goes to the dead-letter list"
        # Indented, so that none of its lines can be taken for another entry of the log.
        where = indent(f"\n{delivery.traceback}", "    ") if delivery.traceback else ""
        told = (task.shown_id, task.shown_type, task.attempt, outcome, delivery.error, where)
        logger.warning("Task %s of type %s, attempt %d, %s: %s%s", *told, extra={"task": task})
        self._settled(task, RETRIED if retried else DEAD_LETTERED)

    def given_up(self, task: Task | None, reason: str) -> None:
        """Redis knows that nobody here could run it. None: not even read it."""
        what = f"Task {task.shown_id}" if task else "An entry"
        logger.error("%s goes to the dead-letter list: %s", what, reason, extra={"task": task})
        if task:
            self._settled(task, DEAD_LETTERED)

    def lost(self, task: Task, when: str) -> None:
        """It was recovered by another worker."""
        logger.warning("Task %s was recovered %s.", task.shown_id, when, extra={"task": task})

    def _settled(self, task: Task, outcome: str) -> None:
        if self._observer:
            self._observer.settled(task, outcome)

    def _waited_ms(self, delivery: Delivery) -> float | None:
        """From enqueue, or the due time, to the start of its first attempt; None of a later attempt, or not known."""
        if not self._ahead_ms or delivery.started is None or delivery.task.attempt != 1:
            return None
        return max(0.0, delivery.started * 1000 + self._ahead_ms - delivery.task.enqueued_at)

    def hear(self, sent: float, time_ms: int) -> None:
        """Learn Redis's clock from a reply: the `time_ms` in it, and when the question was sent (monotonic, s)."""
        self._ahead_ms = time_ms - (sent + time.monotonic()) * 500

    def report(self, deliveries: Iterable[Delivery]) -> Report:
        """What to send now; what it counts is forgotten here. `deliveries`: all that the process has in hand."""
        now = time.monotonic()
        running = sorted(
            ((d.started, d) for d in deliveries if d.started is not None and d.seconds is None),
            key=lambda pair: pair[0],
        )
        named = [
            [d.number, printable(d.task.type, TYPE_CHARS_MAX), int((now - started) * 1000)]
            for started, d in running[:RUNNING_MAX]
        ]
        about = {**self._self, "up_ms": int((now - self._began) * 1000), "running": named}
        minute = int(now * 1000 + self._ahead_ms) // 60_000 if self._ahead_ms else 0
        counts: dict[str, int] = {}
        if minute:
            counts, self._counts = dict(self._counts), Counter()
        return Report(msgspec.json.encode(about).decode(), minute, counts)
