"""Finds the address of a server by asking several others."""

import socket
import threading
import time
from collections.abc import Callable, Iterable
from typing import Any

import redis

FRESH_S = 0.1  # how long an answer counts for further connections that are opened

Address = tuple[str, int]


class Locator:
    """Asks several servers for the address of another one; safe to share between threads."""

    rest_s: float
    """How long a server that did not answer is left out, unless all servers would be left out."""

    def __init__(self, places: Iterable[Address], client_of: Callable[[str, int], redis.Redis]) -> None:
        self._client_of = client_of
        self._clients = {place: client_of(*place) for place in places}
        self._resting: dict[Address, float] = {}  # until when (monotonic, s)
        self._reasons: list[str] = []  # why there was no valid answer
        self.reset()

    def reset(self) -> None:
        """Reset, also in a forked child: a thread of the parent may have held the lock."""
        self._lock = threading.Lock()
        self.doubt()

    def doubt(self) -> None:
        """Make the next call ask again: a connection led to the wrong server, or to none."""
        self._asked_at = float("-inf")

    def sockets(self) -> list[socket.socket]:
        """Return the sockets of the connections used for asking."""
        pools: list[Any] = [client.connection_pool for client in list(self._clients.values())]
        return [each for pool in pools for each in pool.sockets()]

    def close(self) -> None:
        """Close the connections used for asking; the next question opens new ones."""
        for client in list(self._clients.values()):
            client.close()

    def address(self) -> Address:
        """Return host and port, asking for them unless that was done a moment ago.

        Raises:
            redis.ConnectionError: no server gives the address.
        """
        raise NotImplementedError

    def _is_fresh(self) -> bool:
        return time.monotonic() - self._asked_at <= FRESH_S

    def _ask_each(self, question: Callable[[Any], Any]) -> list[tuple[Address, Any]]:
        """Return each server that answered, with its answer; the errors of the others go to `_reasons`."""
        began = time.monotonic()
        self._reasons = []
        answers = []
        awake = [place for place in self._clients if self._resting.get(place, 0.0) <= began]
        for place in awake or list(self._clients):
            try:
                answers.append((place, question(self._clients[place])))
            except redis.RedisError as error:
                # From now on: a round of many that do not answer may take longer than the rest.
                self._resting[place] = time.monotonic() + self.rest_s
                self._reasons.append(str(error))
        self._asked_at = time.monotonic()
        return answers

    def _forget(self, places: Iterable[Address]) -> None:
        """Ask these servers no more: they are gone, and each may cost a wait for its answer."""
        for place in places:
            self._clients.pop(place).close()
            self._resting.pop(place, None)
