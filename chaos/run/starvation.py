"""Notices that the machine is starved: a thread that does nothing but wake up, and says when it came late.

A crowded machine lets such a thread run all the same, and those that have work to do wait. So it counts these too.
"""

import os
import time
from contextlib import suppress
from pathlib import Path

from ..history import Recorder
from .beside import Beside

EVERY_S = 0.1
LATE_S = 1.0
"""What comes so late for want of the machine may make a healthy queue look stuck; what comes less late is noise."""
CROWDED_S = 1.0
CROWDED = 5.0
"""That many threads for each processor that would run, over a second: each gets a fifth of its time at the best."""
LOADAVG = Path("/proc/loadavg")


class Watch(Beside):
    """Runs inside a `with`. What keeps the harness from running, be it a busy machine or a SIGSTOP, goes on record."""

    def __init__(self, recorder: Recorder) -> None:
        super().__init__("watch")
        self._recorder = recorder

    def run(self) -> None:
        due_s = time.monotonic() + EVERY_S
        since_s, runnable = time.monotonic(), list[int]()
        while not self.stopping.wait(max(0.0, due_s - time.monotonic())):
            now_s = time.monotonic()
            if now_s - due_s >= LATE_S:
                self._recorder.record("harness", "late", late_ms=round(1_000 * (now_s - due_s)))
            due_s = now_s + EVERY_S
            runnable += _runnable()
            if now_s - since_s >= CROWDED_S:
                if runnable and sum(runnable) >= CROWDED * len(runnable) * len(os.sched_getaffinity(0)):
                    self._recorder.record("harness", "crowded", late_ms=round(1_000 * (now_s - since_s)))
                since_s, runnable = now_s, []


def _runnable() -> list[int]:
    """How many threads of the machine run or would (proc(5), loadavg); empty: this system does not say."""
    with suppress(OSError):
        return [int(LOADAVG.read_text().split()[3].partition("/")[0])]
    return []
