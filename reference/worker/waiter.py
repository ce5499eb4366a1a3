"""The thread that waits for the bell while nothing is pending, so that acks need not wait for it."""

import queue
import threading
from typing import Any

import redis

from ..queue.consumer import Consumer


class Waiter(threading.Thread):
    """For each requested delivery number, waits for the bell and claims one task under this number.

    The result, a `Settlement` or Redis's error, goes to the inbox.
    """

    def __init__(self, consumer: Consumer, inbox: "queue.SimpleQueue[Any]", timeout_ms: int) -> None:
        super().__init__(name="waiter", daemon=True)
        self.requests: queue.SimpleQueue[int | None] = queue.SimpleQueue()
        self._consumer, self._inbox, self._timeout_ms = consumer, inbox, timeout_ms

    def run(self) -> None:
        while (number := self.requests.get()) is not None:
            try:
                self._inbox.put(self._consumer.claim_waiting(number, self._timeout_ms))
            except redis.RedisError as error:
                self._inbox.put(error)
