"""The textbook's unreliable queue, LPUSH and BRPOP: a claimed task is in its worker's memory and nowhere else."""

import json
import sys
from functools import cached_property
from typing import ClassVar

import redis

from ..target import Target, Task


class Brpop(Target):
    """Loses what its workers hold when they die (I2)."""

    name: ClassVar[str] = "brpop"
    worker = (sys.executable, "-m", "zeroloss.targets.brpop_worker")
    workers = 6
    recover_within = 0.5

    @cached_property
    def client(self) -> redis.Redis:
        return redis.Redis.from_url(self.redis_url)

    def enqueue(self, task: Task) -> None:
        self.client.lpush(f"{self.namespace}:pending", json.dumps(task.payload))
