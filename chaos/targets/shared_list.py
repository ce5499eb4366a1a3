"""A queue that is often written: BRPOPLPUSH into one processing list, shared by all, that nobody ever reads again."""

import json
import sys
from functools import cached_property
from typing import ClassVar

import redis

from ..target import Target, Task


class SharedList(Target):
    """Strands what its workers hold when they die (I4); between LREM and RPUSH of a failed task it loses it (I1)."""

    name: ClassVar[str] = "shared-list"
    worker = (sys.executable, "-m", "zeroloss.targets.shared_list_worker")
    workers = 6
    recover_within = 0.5

    @cached_property
    def client(self) -> redis.Redis:
        return redis.Redis.from_url(self.redis_url)

    def enqueue(self, task: Task) -> None:
        self.client.lpush(f"{self.namespace}:pending", json.dumps(task.payload))
