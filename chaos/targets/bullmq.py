"""BullMQ on Redis, with a shorter lock and a shorter interval between checks for stalled jobs."""

from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import redis

from ..target import Found, Target
from . import pins

APP = str(Path(__file__).with_name("bullmq_app.mjs"))
PLACES = {"wait": "pending", "active": "processing", "delayed": "delayed", "failed": "failed"}
"""Key of the queue -> place in the census."""


class BullMQ(Target):
    """A job is locked while it runs; one whose lock has run out is stalled, and runs again once, by default."""

    name: ClassVar[str] = "bullmq"
    npm = pins.BULLMQ
    worker = ("node", APP, "worker")
    enqueue_command = ("node", APP, "client")
    numbers = "double"
    recover_within = 10.0
    settings: ClassVar[str] = (
        "lockDuration 5 s and stalledInterval 2 s (default 30 each); concurrency 4 (default 1); maxStalledCount stays "
        "1: a job that stalls twice is failed"
    )
    promise: ClassVar[str] = (
        "A job whose worker dies is stalled, and moved back to the waiting status; at least once in the worst case."
    )
    promise_url: ClassVar[str] = "https://docs.bullmq.io/guide/workers/stalled-jobs"

    @cached_property
    def client(self) -> redis.Redis:
        return redis.Redis.from_url(self.redis_url, decode_responses=True)

    def census(self) -> Iterator[Found]:
        for name, place in PLACES.items():
            key = f"bull:zeroloss:{name}"
            listed = name in ("wait", "active")
            ids: Any = self.client.lrange(key, 0, -1) if listed else self.client.zrange(key, 0, -1)
            for task in ids:
                reason: Any = self.client.hget(f"bull:zeroloss:{task}", "failedReason") if name == "failed" else None
                yield Found(task, place, reason)
