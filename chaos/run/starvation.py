"""Notices that the machine is starved: a thread that does nothing but wake up, and says when it came late."""

import threading
import time
from typing import Self

from ..history import Recorder

EVERY_S = 0.1
LATE_S = 1.0
"""What comes so late for want of the machine may make a healthy queue look stuck; what comes less late is noise."""


class Watch:
    """Runs inside a `with`. What keeps the harness from running, be it a busy machine or a SIGSTOP, goes on record."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="watch", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._thread.join()

    def _watch(self) -> None:
        due_s = time.monotonic() + EVERY_S
        while not self._stopping.wait(max(0.0, due_s - time.monotonic())):
            now_s = time.monotonic()
            if now_s - due_s >= LATE_S:
                self._recorder.record("harness", "late", late_ms=round(1_000 * (now_s - due_s)))
            due_s = now_s + EVERY_S
