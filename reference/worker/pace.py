"""The prefetch limit: a few tens of milliseconds of work, and never a slow task."""

import time
from collections.abc import Iterable
from typing import Protocol

from ..queue.config import Config
from ..queue.consuming.settling import MAX_TRANSFER_BYTES

SMOOTHING = 0.1  # weight of the newest task in the average


class Timed(Protocol):
    size_bytes: int
    started: float | None
    seconds: float | None


class Pace:
    """Measures how long tasks take, and limits the prefetch by it.

    The limit is 0 until the first task has been timed, and while the waiting tasks have `MAX_TRANSFER_BYTES` or more.
    Nothing is claimed ahead for a thread that has been busy for longer than `ahead_ms`.
    """

    def __init__(self, config: Config) -> None:
        self._config = config
        self._task_s: float | None = None
        # Tasks go back if all threads are busy for this time. Not 0: the claimer looks for idle workers as often.
        self.hoarding_s = max(0.05, config.ahead_ms / 1000 * 5)

    def learn(self, seconds: float) -> None:
        """Add the duration of one task to the average."""
        self._task_s = seconds if self._task_s is None else self._task_s + SMOOTHING * (seconds - self._task_s)

    def ahead(self, hand: Iterable[Timed]) -> int:
        """Return how many tasks may wait in hand for a thread."""
        if self._task_s is None or self._config.ahead == 0:
            return 0
        ahead_s = self._config.ahead_ms / 1000
        began_before = time.monotonic() - ahead_s
        free, waiting_bytes = self._config.threads, 0
        for d in hand:  # one pass, without calls: this runs several times for each batch of tasks
            if d.started is None:
                waiting_bytes += d.size_bytes
            elif d.seconds is None and d.started < began_before:
                free -= 1
        if waiting_bytes >= MAX_TRANSFER_BYTES:
            return 0
        return min(self._config.ahead, int(free * ahead_s / max(self._task_s, 1e-6)))

    def hoards(self, hand: Iterable[Timed]) -> bool:
        """Whether all threads run slow tasks: another worker might be free to run the tasks that wait here."""
        began_before = time.monotonic() - self.hoarding_s
        slow = sum(1 for d in hand if d.started is not None and d.seconds is None and d.started < began_before)
        return slow >= self._config.threads
