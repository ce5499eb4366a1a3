"""The thread that waits in BLMOVE while nothing is pending, so that acks need not wait for it."""

import queue
import threading
from typing import Any

import redis

from ..queue.consumer import Consumer


class Arrival:
    """The end of one wait in BLMOVE."""

    __slots__ = ("element", "error")

    def __init__(self, element: bytes | None, error: redis.RedisError | None) -> None:
        self.element, self.error = element, error


class Waiter(threading.Thread):
    """Waits in BLMOVE when it is asked to, so that the claimer need not."""

    def __init__(self, consumer: Consumer, inbox: "queue.SimpleQueue[Any]") -> None:
        super().__init__(name="waiter", daemon=True)
        self.requests: queue.SimpleQueue[int | None] = queue.SimpleQueue()
        self._consumer, self._inbox = consumer, inbox

    def run(self) -> None:
        while (timeout_ms := self.requests.get()) is not None:
            try:
                self._inbox.put(Arrival(self._consumer.claim_waiting(timeout_ms), None))
            except redis.RedisError as error:
                self._inbox.put(Arrival(None, error))
