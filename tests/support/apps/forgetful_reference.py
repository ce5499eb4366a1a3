"""The reference queue with idempotency keys that expire before the client can use them again."""

import threading
import time
from collections.abc import Mapping

from zeroloss.target import Task
from zeroloss.targets.reference import Reference

KEPT_MS = 1
APART_S = 0.02
"""Pause after each submission, by which time its key has expired, however the requests of several threads meet."""
_one_by_one = threading.Lock()


class Forgetful(Reference):
    """Keeps a key for 1 ms, and submits one task at a time."""

    env: Mapping[str, str] = {**Reference.env, "ZEROLOSS_IDEMPOTENCY_TTL_MS": str(KEPT_MS)}

    def enqueue(self, task: Task) -> str | None:
        """Submit the task after the key of the one before has expired."""
        with _one_by_one:
            try:
                return super().enqueue(task)
            finally:
                time.sleep(APART_S)
