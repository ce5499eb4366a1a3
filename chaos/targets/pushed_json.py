"""The client of `brpop` and the `shared-list` targets, which pushes a task's JSON onto one list."""

from functools import cached_property

import redis

from ..target import Target, Task


class PushedJson(Target):
    """Pushes onto the list `NAMESPACE:pending`."""

    workers = 6
    recover_within = 0.5
    raw_payloads = True

    @cached_property
    def client(self) -> redis.Redis:
        return redis.Redis.from_url(self.redis_url)

    def enqueue(self, task: Task) -> None:
        self.client.lpush(f"{self.namespace}:pending", task.text)
