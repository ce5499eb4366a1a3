"""What a worker process says of itself with each renewal, for the monitor: no round trip of its own.

It is not part of the protocol's promises. What is on its way when a reply is lost is not sent again, so no number is
ever too high.
"""

import os
import socket
import time
from bisect import bisect_left
from collections import Counter
from collections.abc import Collection

import msgspec

from .. import __version__
from ..queue.consuming.registry import Report
from ..queue.lua import SERIES_BOUNDS_MS as BOUNDS_MS
from ..queue.texts import printable
from .delivery import Delivery

RUNNING_MAX = 20  # tasks that one renewal names, those that have run longest
TYPE_CHARS_MAX = 100

BUCKETS = (*map(str, BOUNDS_MS), "inf")
_WAIT = tuple(f"wait:{bucket}" for bucket in BUCKETS)
_RUN = tuple(f"run:{bucket}" for bucket in BUCKETS)


class Journal:
    """Counts what the charts show of one process, and describes the process. For its claimer's thread."""

    def __init__(self, threads: int) -> None:
        self._began = time.monotonic()
        self._self = {"host": socket.gethostname(), "pid": os.getpid(), "version": __version__, "threads": threads}
        self._counts: Counter[str] = Counter()
        self._ahead_ms = 0.0  # Redis's clock less this process's monotonic one; 0: not known

    def waited_ms(self, delivery: Delivery) -> float | None:
        """From enqueue, or the due time, to the start of its first attempt; None of a later attempt, or not known."""
        if not self._ahead_ms or delivery.started is None or delivery.task.attempt != 1:
            return None
        return max(0.0, delivery.started * 1000 + self._ahead_ms - delivery.task.enqueued_at)

    def learn(self, delivery: Delivery) -> None:
        """Count a delivery that has run."""
        if delivery.seconds is not None:
            self._counts[_RUN[bisect_left(BOUNDS_MS, delivery.seconds * 1000)]] += 1
        waited_ms = self.waited_ms(delivery)
        if waited_ms is not None:
            self._counts[_WAIT[bisect_left(BOUNDS_MS, waited_ms)]] += 1

    def hear(self, sent: float, time_ms: int) -> None:
        """Learn Redis's clock from a reply: the `time_ms` in it, and when the question was sent (monotonic, s)."""
        self._ahead_ms = time_ms - (sent + time.monotonic()) * 500

    def report(self, deliveries: Collection[Delivery]) -> Report:
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
