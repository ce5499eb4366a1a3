"""Detects a starved machine: a thread that does nothing but wake up, and records when it woke up late.

On a crowded machine such a thread still wakes up on time, while busy threads wait. So it counts runnable threads, too.
It also compares the two clocks: histories have CLOCK_MONOTONIC, while Redis waits and expires keys by the wall clock.
"""

import math
import os
import time
from contextlib import suppress
from pathlib import Path

from ..history import Recorder
from .beside import Beside

EVERY_S = 0.1
LATE_S = 1.0
"""Delay of a wake-up, in seconds, from which it is recorded: it can make a healthy queue look stuck. Less is noise."""
CROWDED_S = 1.0
CROWDED = 5.0
"""Runnable threads per processor, over `CROWDED_S`, from which the machine is crowded: each gets a fifth at best."""
LOOKS = 5
SET_MS = 10
"""Smallest step of the wall clock, in ms, that is recorded. A time server that only slows it down stays far below."""
LOADAVG = Path("/proc/loadavg")


class Watch(Beside):
    """Watches inside a `with`, and records when the harness could not run, and when the wall clock was set."""

    def __init__(self, recorder: Recorder) -> None:
        super().__init__("watch")
        self._recorder = recorder
        self._compared_s, self._ahead_ms = time.monotonic(), _ahead_ms()

    def run(self) -> None:
        due_s = time.monotonic() + EVERY_S
        since_s, runnable = time.monotonic(), list[int]()
        while not self.stopping.wait(max(0.0, due_s - time.monotonic())):
            now_s = time.monotonic()
            if now_s - due_s >= LATE_S:
                self._recorder.record("harness", "late", late_ms=round(1_000 * (now_s - due_s)))
            due_s = now_s + EVERY_S
            self._compare_clocks(now_s)
            runnable += _runnable()
            if now_s - since_s >= CROWDED_S:
                if runnable and sum(runnable) >= CROWDED * len(runnable) * len(os.sched_getaffinity(0)):
                    self._recorder.record("harness", "crowded", late_ms=round(1_000 * (now_s - since_s)))
                since_s, runnable = now_s, []

    def _compare_clocks(self, now_s: float) -> None:
        ahead_ms = _ahead_ms()
        by_ms = round(ahead_ms - self._ahead_ms)
        if abs(by_ms) >= SET_MS:
            span_ms = math.ceil(1_000 * (time.monotonic() - self._compared_s))
            self._recorder.record("harness", "clock_set", late_ms=span_ms, by_ms=by_ms)
        self._compared_s, self._ahead_ms = now_s, ahead_ms


def _ahead_ms() -> float:
    """Return by how much the wall clock is ahead of CLOCK_MONOTONIC, in ms: the difference of two successive looks.

    The thread may lose its processor between the two looks, so this takes the closest of some.
    """
    looks = [(time.monotonic_ns(), time.time_ns(), time.monotonic_ns()) for _ in range(LOOKS)]
    before, wall, after = min(looks, key=lambda look: look[2] - look[0])
    return (wall - (before + after) / 2) / 1e6


def _runnable() -> list[int]:
    """Return the number of runnable threads on the machine (proc(5), loadavg); empty if it is not reported."""
    with suppress(OSError):
        return [int(LOADAVG.read_text().split()[3].partition("/")[0])]
    return []
