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
    """As RQ's own, whose lock lasts 899 s: what a worker leaves that was broken off while it looked after the queue."""

    def acquire_maintenance_lock(self) -> bool:
        """One at a time."""
        return bool(self.connection.set(self.registry_cleaning_key, 1, nx=True, ex=LOCK_S))
