"""The primary that Sentinel announces, and a pool whose connections all lead to it.

redis-py's own `SentinelConnectionPool` asks only when it connects, takes the first Sentinel that answers, and turns
READONLY, a definite no, into a lost connection, which leaves the outcome open. A primary that was cut off keeps its
clients' connections, and every thread may be waiting on one: so a thread of the pool's asks while connections stand.
A Sentinel that was cut off with the primary still names it, so the answer of most of them counts.
https://redis.io/docs/latest/develop/reference/sentinel-clients/
"""

import socket
import threading
import time
import weakref
from collections import Counter
from contextlib import suppress
from typing import Any

import redis

from .pool import Gate, Pool

LOOK_S = 0.5  # between two questions while connections stand
FRESH_S = 0.1  # an answer that many connections use which are opened together
ANSWER_S = 0.3  # a Sentinel that takes longer is left out ...
REST_S = 10.0  # ... and not asked again for so long


class Primary:
    """Where the primary of one group is, as most of its Sentinels say; safe to share between threads."""

    def __init__(self, group: str, sentinels: list[redis.Redis]) -> None:
        self._group = group
        self._sentinels = sentinels
        self._resting: dict[redis.Redis, float] = {}  # Sentinel -> until when (monotonic, s)
        self._address: tuple[str, int] | None = None
        self.reset()

    def reset(self) -> None:
        """Begin anew, as in a forked child: a thread that is not there may have held the lock."""
        self._lock = threading.Lock()
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


class SentinelPool(Pool):
    """Its connections lead to the primary; when another one is announced, those to the one before are closed.

    Those in use are shut, too: a wait at a primary that was cut off would otherwise end seconds later. What was sent on
    them is a lost reply to its caller.
    """

    def __init__(self, *, primary: Primary, gate: Gate, **options: Any) -> None:
        self._primary = primary
        super().__init__(gate=gate, locate=self._locate, **options)

    def sockets(self) -> list[socket.socket]:
        return [*super().sockets(), *self._primary.sockets()]

    def reset(self) -> None:
        self._primary.reset()
        self._leads_to: tuple[str, int] | None = None
        self._unwatched = threading.Lock()  # taken once, by who starts the thread
        super().reset()

    def follow(self) -> None:
        """Ask where connections stand, and leave the primary before if another one is announced."""
        if super().sockets():
            with suppress(redis.RedisError):  # without an answer the one before stands
                self._lead_to(self._primary.address())

    def _locate(self) -> tuple[str, int]:
        address = self._primary.address()
        self._lead_to(address)
        if self._unwatched.acquire(blocking=False):
            threading.Thread(target=_watch, name="sentinel", args=(weakref.ref(self),), daemon=True).start()
        return address

    def _lead_to(self, address: tuple[str, int]) -> None:
        before, self._leads_to = self._leads_to, address
        if before in (None, address):
            return
        self._close_idle()
        for connection in list(self._connections):
            if (sock := connection._sock) and (connection.host, connection.port) != address:
                with suppress(OSError):
                    socket.socket.shutdown(sock, socket.SHUT_RDWR)  # below TLS: another thread reads above it


def _watch(reference: "weakref.ref[SentinelPool]") -> None:
    while pool := reference():
        pool.follow()
        del pool
        time.sleep(LOOK_S)
