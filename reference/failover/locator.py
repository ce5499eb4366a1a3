"""Where the server is now, as several others say."""

import socket
import threading
import time
from collections.abc import Callable, Iterable
from typing import Any

import redis

FRESH_S = 0.1  # an answer that many connections use which are opened together

Address = tuple[str, int]


class Locator:
    """Asks several servers where another one is; safe to share between threads."""

    rest_s: float
    """A server that does not answer is not asked for that long, unless none would be left."""

    def __init__(self, places: Iterable[Address], client_of: Callable[[str, int], redis.Redis]) -> None:
        self._client_of = client_of
        self._clients = {place: client_of(*place) for place in places}
        self._resting: dict[Address, float] = {}  # until when (monotonic, s)
        self._reasons: list[str] = []  # why there was no answer, or none that counts
        self.reset()

    def reset(self) -> None:
        """Reset, as in a forked child: a thread that is not there may have held the lock."""
        self._lock = threading.Lock()
        self.doubt()

    def doubt(self) -> None:
        """Ask again at the next occasion: a connection led astray."""
        self._asked_at = float("-inf")

    def sockets(self) -> list[socket.socket]:
        """Those of the connections on which it asks."""
        pools: list[Any] = [client.connection_pool for client in list(self._clients.values())]
        return [each for pool in pools for each in pool.sockets()]

    def address(self) -> Address:
        """Host and port, asked for unless that was done a moment ago.

        Raises:
            redis.ConnectionError: no server says.
        """
        raise NotImplementedError

    def _is_fresh(self) -> bool:
        return time.monotonic() - self._asked_at <= FRESH_S

    def _ask_each(self, question: Callable[[Any], Any]) -> list[tuple[Address, Any]]:
        """Who was asked, and its answer; `_reasons` has why there is none."""
        now = time.monotonic()
        self._reasons = []
        answers = []
        awake = [place for place in self._clients if self._resting.get(place, 0.0) <= now]
        for place in awake or list(self._clients):
            try:
                answers.append((place, question(self._clients[place])))
            except redis.RedisError as error:
                self._resting[place] = now + self.rest_s
                self._reasons.append(str(error))
        self._asked_at = time.monotonic()
        return answers
