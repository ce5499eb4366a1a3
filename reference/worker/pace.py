"""How much to claim ahead of the handler threads: a few tens of milliseconds of work, and never a slow task."""

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
    """Learns how long tasks take.

    Nothing is claimed ahead before the first task has been timed, nor while a command's worth of bytes waits in hand
    already, and a thread that has been busy for longer than `ahead_ms` counts as occupied: nothing is claimed for it.
    """

    def __init__(self, config: Config) -> None:
        self._config = config
        self._task_s: float | None = None
        self.hoarding_s = config.ahead_ms / 1000 * 5  # waiting work that long, behind busy threads only, is given back

    def learn(self, seconds: float) -> None:
        """Take in how long one task took."""
        self._task_s = seconds if self._task_s is None else self._task_s + SMOOTHING * (seconds - self._task_s)

    def ahead(self, hand: Iterable[Timed]) -> int:
        """How many tasks may wait in hand for a thread."""
        if self._task_s is None or self._config.ahead == 0:
            return 0
        ahead_s = self._config.ahead_ms / 1000
        began_before = time.monotonic() - ahead_s
        free, waiting_bytes = self._config.threads, 0
        for d in hand:  # once, and nothing called for each: this is asked several times for each batch of tasks
            if d.started is None:
                waiting_bytes += d.size_bytes
            elif d.seconds is None and d.started < began_before:
                free -= 1
        if waiting_bytes >= MAX_TRANSFER_BYTES:
            return 0
        return min(self._config.ahead, int(free * ahead_s / max(self._task_s, 1e-6)))

    def hoards(self, hand: Iterable[Timed]) -> bool:
        """Whether what waits in hand waits behind slow tasks only: another worker might be free to run it."""
        began_before = time.monotonic() - self.hoarding_s
        slow = sum(1 for d in hand if d.started is not None and d.seconds is None and d.started < began_before)
        return slow >= self._config.threads
