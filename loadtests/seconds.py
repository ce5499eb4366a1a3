"""The traffic of each second, for the timeline of `zeroloss run --load`."""

import math
from typing import Any

import gevent
from locust.env import Environment

from .record import Record


class Seconds:
    """Counts this process's own requests, and records them once a second."""

    def __init__(self, record: Record, environment: Environment, request_type: str) -> None:
        self._record, self._environment, self._type = record, environment, request_type
        self._times_ms: list[float] = []
        self._failures = 0
        environment.events.request.add_listener(self._count)
        environment.events.test_stop.add_listener(lambda **_: self._tell())
        gevent.spawn(self._tell_often)

    def _count(self, request_type: str, response_time: float, exception: Exception | None, **_: Any) -> None:
        if request_type == self._type:
            self._times_ms.append(response_time)
            self._failures += exception is not None

    def _tell_often(self) -> None:
        while True:
            gevent.sleep(1.0)
            self._tell()

    def _tell(self) -> None:
        times_ms, failures = sorted(self._times_ms), self._failures
        self._times_ms, self._failures = [], 0
        if times_ms:
            p95_ms = times_ms[math.ceil(0.95 * len(times_ms)) - 1]
            self._record.write("load", "second", requests=len(times_ms), failures=failures, p95_ms=round(p95_ms, 1))
