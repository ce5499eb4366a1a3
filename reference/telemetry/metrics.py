"""Metrics by task type for Prometheus: counted in the worker processes, served by their parent at `/metrics`.

The processes of a pool write to files of prometheus_client's multiprocess mode, one set for each place in the pool. A
process that takes the place of another one continues its counts, so that files do not pile up.
https://prometheus.github.io/client_python/multiprocess/
"""

import logging
import os
import struct
import tempfile
import time
from collections.abc import Container, Iterator
from contextlib import contextmanager, suppress

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest, multiprocess, values

from ..queue.task import Task
from ..worker.journal import DEAD_LETTERED, RETRIED, SUCCEEDED

logger = logging.getLogger(__name__)

DIRECTORY = "PROMETHEUS_MULTIPROC_DIR"
OTHER = "other"  # types without a handler here: producers may send any number of them
BUCKETS_S = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)

READS_MAX, AGAIN_S = 10, 0.02

_COUNTERS = {
    "started": "Handlers begun",
    SUCCEEDED: "Tasks whose handler returned",
    "failed": "Handlers that raised",
    RETRIED: "Tasks that failed and come back",
    DEAD_LETTERED: "Tasks given up, for their handler or as there is none",
    "redelivered": "Handlers begun for a task whose worker had vanished",
}


class TaskMetrics:
    """An `Observer` that counts by task type; types without a handler count as `other`."""

    def __init__(self, types: Container[str], registry: CollectorRegistry | None = None) -> None:
        registry = registry or CollectorRegistry()
        self._types = types
        self._counters = {
            name: Counter(f"zeroloss_task_{name}", text, ["type"], registry=registry)
            for name, text in _COUNTERS.items()
        }
        self._run = Histogram(
            "zeroloss_task_run_seconds", "How long handlers ran", ["type"], registry=registry, buckets=BUCKETS_S
        )
        self._wait = Histogram(
            "zeroloss_task_wait_seconds",
            "From enqueue, or the due time, to the start of the first attempt",
            ["type"],
            registry=registry,
            buckets=BUCKETS_S,
        )

    def begun(self, task: Task, waited_s: float | None) -> None:
        """Count a start."""
        self._count("started", task)
        if task.recoveries:
            self._count("redelivered", task)
        if waited_s is not None:
            self._wait.labels(self._type(task)).observe(waited_s)

    def ended(self, task: Task, seconds: float) -> None:
        """Count how long a handler ran."""
        self._run.labels(self._type(task)).observe(seconds)

    def settled(self, task: Task, outcome: str) -> None:
        """Count an outcome. A retried task has failed, and so has a dead-lettered task that has a handler here."""
        self._count(outcome, task)
        if outcome != SUCCEEDED and task.type in self._types:
            self._count("failed", task)

    def _count(self, name: str, task: Task) -> None:
        self._counters[name].labels(self._type(task)).inc()

    def _type(self, task: Task) -> str:
        return task.type if task.type in self._types else OTHER


@contextmanager
def shared_directory() -> Iterator[str | None]:
    """Yield the folder for the counts of a pool's processes; None if no folder can be made."""
    if given := os.environ.get(DIRECTORY):  # then `/metrics` serves the application's own metrics, too
        yield given
        return
    try:
        made = tempfile.TemporaryDirectory(prefix="zeroloss-metrics-")
    except OSError as error:
        logger.warning("/metrics is not served, because no temporary folder can be made: %s.", error)
        yield None
        return
    with made as directory:
        yield directory


def count_in_place(place: int) -> None:
    """Let this process count in the files of its place in the pool. Call this before it makes a metric."""
    own = os.getpid()

    def identifier() -> str:
        return f"{place}" if os.getpid() == own else f"{place}-{os.getpid()}"  # a process that a handler forked

    values.ValueClass = values.MultiProcessValue(identifier)  # type: ignore[no-untyped-call]


def exposition(directory: str) -> bytes:
    """Return the counts of all processes of a pool, in Prometheus's text format.

    It retries for a moment, as a file that a process is just creating cannot be read.
    """
    registry = CollectorRegistry()
    multiprocess.MultiProcessCollector(registry, directory)  # type: ignore[no-untyped-call]
    for _ in range(READS_MAX - 1):
        with suppress(struct.error, RuntimeError):
            return generate_latest(registry)
        time.sleep(AGAIN_S)
    return generate_latest(registry)
