"""Notices that the machine is starved: a thread that does nothing but wake up, and says when it came late."""

import time

from ..history import Recorder
from .beside import Beside

EVERY_S = 0.1
LATE_S = 1.0
"""What comes so late for want of the machine may make a healthy queue look stuck; what comes less late is noise."""


class Watch(Beside):
    """Runs inside a `with`. What keeps the harness from running, be it a busy machine or a SIGSTOP, goes on record."""

    def __init__(self, recorder: Recorder) -> None:
        super().__init__("watch")
        self._recorder = recorder

    def run(self) -> None:
        due_s = time.monotonic() + EVERY_S
        while not self.stopping.wait(max(0.0, due_s - time.monotonic())):
            now_s = time.monotonic()
            if now_s - due_s >= LATE_S:
                self._recorder.record("harness", "late", late_ms=round(1_000 * (now_s - due_s)))
            due_s = now_s + EVERY_S
