"""The job of `rq`, as its work horses import it, and its worker's settings and queue class."""

import os
import time
from typing import Any

from rq import Queue

from ..ledger import effect

REDIS_URL = os.environ["REDIS_URL"]
LOCK_S = 20


def work(payload: dict[str, Any]) -> None:
    with effect(payload["id"], payload=payload):
        time.sleep(payload["work_ms"] / 1000)


class ShortLock(Queue):  # type: ignore[misc]  # RQ is in its own environment
    """RQ's queue, with a lock of `LOCK_S`, not 899 s: a worker that dies during maintenance leaves it behind."""

    def acquire_maintenance_lock(self) -> bool:
        """Return whether the lock was free, and take it: one worker at a time does maintenance."""
        return bool(self.connection.set(self.registry_cleaning_key, 1, nx=True, ex=LOCK_S))
