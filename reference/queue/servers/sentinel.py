"""The primary that Sentinel announces.

redis-py's own `SentinelConnectionPool` asks only when it connects, takes the first Sentinel that answers, and turns
READONLY, a definite no, into a lost connection, which leaves the outcome open. A primary that was cut off keeps its
clients' connections, and every thread may be waiting on one: so a thread asks meanwhile (`FollowingPool`). A Sentinel
that was cut off with the primary still names it, so the answer of most of them counts.
https://redis.io/docs/latest/develop/reference/sentinel-clients/
"""

import socket
import threading
import time
from collections import Counter
from typing import Any

import redis

FRESH_S = 0.1  # an answer that many connections use which are opened together
ANSWER_S = 0.3  # a Sentinel that takes longer is left out ...
REST_S = 10.0  # ... and not asked again for that long


class Primary:
    """Where the primary of one group is, as most of its Sentinels say; safe to share between threads."""

    def __init__(self, group: str, sentinels: list[redis.Redis]) -> None:
        self._group = group
        self._sentinels = sentinels
        self._resting: dict[redis.Redis, float] = {}  # Sentinel -> until when (monotonic, s)
        self._address: tuple[str, int] | None = None
        self.reset()

    def reset(self) -> None:
        """Reset, as in a forked child: a thread that is not there may have held the lock."""
        self._lock = threading.Lock()
        self._asked_at = -REST_S

    def doubt(self) -> None:
        """Ask again at the next occasion: a connection led astray."""
        self._asked_at = -REST_S

    def sockets(self) -> list[socket.socket]:
        """Those of the connections to the Sentinels."""
        pools: list[Any] = [sentinel.connection_pool for sentinel in self._sentinels]
        return [each for pool in pools for each in pool.sockets()]

    def address(self) -> tuple[str, int]:
        """Host and port, asked for unless that was done a moment ago.

        Raises:
            redis.ConnectionError: no Sentinel names one.
        """
        with self._lock:
            if self._address is None or time.monotonic() - self._asked_at > FRESH_S:
                self._address = self._ask()
            return self._address

    def _ask(self) -> tuple[str, int]:
        now = time.monotonic()
        answers: list[tuple[str, int]] = []
        reasons: list[str] = []
        awake = [sentinel for sentinel in self._sentinels if self._resting.get(sentinel, 0.0) <= now]
        for sentinel in awake or self._sentinels:
            try:
                found: Any = sentinel.sentinel_get_master_addr_by_name(self._group, return_responses=True)
                if found:
                    answers.append((found[0].decode(), found[1]))
                else:
                    reasons.append(f"one knows no {self._group!r}")
            except redis.RedisError as error:
                self._resting[sentinel] = now + REST_S
                reasons.append(str(error))
        self._asked_at = time.monotonic()
        if not answers:
            raise redis.ConnectionError(f"No Sentinel names the primary of {self._group!r}: {'; '.join(reasons)}")
        return Counter(answers).most_common(1)[0][0]
