"""The reports of a worker process: on each task to the log and to metrics, on itself to the monitor.

Data for the monitor travels with each renewal, without a round trip of its own. The protocol does not promise its
arrival: counts whose reply is lost are not sent again, so no number is ever too high.
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
RUNNING_MAX = 20  # tasks named in one renewal: those that have run longest
TYPE_CHARS_MAX = 100

BUCKETS = (*map(str, BOUNDS_MS), "inf")
_WAIT = tuple(f"wait:{bucket}" for bucket in BUCKETS)
_RUN = tuple(f"run:{bucket}" for bucket in BUCKETS)


class Observer(Protocol):
    """Counts each task, for metrics. Called in the worker's own threads: it must be quick, and must not raise."""

    def begun(self, task: Task, waited_s: float | None) -> None:
        """Count the start of a handler. `waited_s`: since enqueue or due time; None: a later attempt, or not known."""

    def ended(self, task: Task, seconds: float) -> None:
        """Count the end of a handler, which returned or raised after `seconds`."""

    def settled(self, task: Task, outcome: str) -> None:
        """Count an outcome, one of this module's, that Redis has. A task of an unknown type never began."""


class Journal:
    """Logs and counts the outcomes of one process's tasks, and describes the process. For its claimer's thread."""

    def __init__(self, threads: int, observer: Observer | None = None) -> None:
        self._began = time.monotonic()
        self._self = {"host": socket.gethostname(), "pid": os.getpid(), "version": __version__, "threads": threads}
        self._observer = observer
        self._counts: Counter[str] = Counter()
        self._ahead_ms = 0.0  # Redis's clock less this process's monotonic one; 0: not known

    def begun(self, delivery: Delivery) -> None:
        """Record the start of a handler; its thread calls this."""
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
        """Record that Redis has the ack."""
        self._settled(task, SUCCEEDED)

    def failed(self, delivery: Delivery, retried: bool) -> None:
        """Record that Redis has the failure, and whether it retries the task."""
        task = delivery.task
        outcome = "will be retried" if retried else "goes to the dead-letter list"
        # Indented, so that none of its lines can be taken for another entry of the log.
        where = indent(f"\n{delivery.traceback}", "    ") if delivery.traceback else ""
        told = (task.shown_id, task.shown_type, task.attempt, outcome, delivery.error, where)
        logger.warning("Task %s of type %s, attempt %d, %s: %s%s", *told, extra={"task": task})
        self._settled(task, RETRIED if retried else DEAD_LETTERED)

    def given_up(self, task: Task | None, reason: str) -> None:
        """Record that Redis has dead-lettered an entry that cannot run here. `task`: None if it is unreadable."""
        what = f"Task {task.shown_id}" if task else "An entry"
        logger.error("%s goes to the dead-letter list: %s", what, reason, extra={"task": task})
        if task:
            self._settled(task, DEAD_LETTERED)

    def lost(self, task: Task, when: str) -> None:
        """Record that another worker recovered the task."""
        logger.warning("Task %s was recovered %s.", task.shown_id, when, extra={"task": task})

    def _settled(self, task: Task, outcome: str) -> None:
        if self._observer:
            self._observer.settled(task, outcome)

    def _waited_ms(self, delivery: Delivery) -> float | None:
        """Return the wait from enqueue or due time to the first attempt; None for later attempts, or if unknown."""
        if not self._ahead_ms or delivery.started is None or delivery.task.attempt != 1:
            return None
        return max(0.0, delivery.started * 1000 + self._ahead_ms - delivery.task.enqueued_at)

    def hear(self, sent: float, time_ms: int) -> None:
        """Estimate Redis's clock from a reply: the `time_ms` in it, and when the request was `sent` (monotonic, s)."""
        self._ahead_ms = time_ms - (sent + time.monotonic()) * 500

    def report(self, deliveries: Iterable[Delivery]) -> Report:
        """Return the report to send now, and reset the counts in it. `deliveries`: all that the process has in hand."""
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
