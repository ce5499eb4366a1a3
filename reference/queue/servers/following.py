"""A pool whose connections lead to a server that may be another one at any time: a primary, the owner of a slot."""

import socket
import threading
import time
import weakref
from contextlib import suppress
from typing import Any, Protocol

import redis

from .pool import Gate, Pool

LOOK_S = 0.5  # between two questions while connections stand


class Locator(Protocol):
    """Says which server it is now; safe to share between threads."""

    def address(self) -> tuple[str, int]:
        """Host and port, asked for unless that was done a moment ago.

        Raises:
            redis.ConnectionError: nobody says.
        """

    def doubt(self) -> None:
        """Ask again at the next occasion: a connection led astray."""

    def reset(self) -> None:
        """Reset, as in a forked child: a thread that is not there may have held a lock."""

    def sockets(self) -> list[socket.socket]:
        """Those of the connections on which it asks."""


class FollowingPool(Pool):
    """Its connections lead where `locator` says; when that is another server, those to the one before are closed.

    Those in use get the time between two looks, which most replies need not, and are shut then: a wait at a server that
    was cut off would otherwise end seconds later. What was sent on them is a lost reply to its caller.
    """

    def __init__(self, *, locator: Locator, gate: Gate, **options: Any) -> None:
        self._locator = locator
        super().__init__(gate=gate, locate=self._locate, **options)

    def sockets(self) -> list[socket.socket]:
        return [*super().sockets(), *self._locator.sockets()]

    def reset(self) -> None:
        self._locator.reset()
        self._leads_to: tuple[str, int] | None = None
        self._unwatched = threading.Lock()  # taken once, by the starter of the thread
        super().reset()

    def follow(self) -> None:
        """Ask, where connections stand, and leave the server before if it is another one now."""
        if super().sockets():
            self._shut_others(self._leads_to)
            with suppress(redis.RedisError):  # without an answer the one before stands
                self._lead_to(self._locator.address())

    def _close_idle(self) -> None:
        self._locator.doubt()
        super()._close_idle()

    def _locate(self) -> tuple[str, int]:
        address = self._locator.address()
        self._lead_to(address)
        if self._unwatched.acquire(blocking=False):
            threading.Thread(target=_watch, name="locator", args=(weakref.ref(self),), daemon=True).start()
        return address

    def _lead_to(self, address: tuple[str, int]) -> None:
        before, self._leads_to = self._leads_to, address
        if before in (None, address):
            return
        self._close_idle()

    def _shut_others(self, address: tuple[str, int] | None) -> None:
        for connection in list(self._connections):
            if (sock := connection._sock) and (connection.host, connection.port) != address:
                with suppress(OSError):
                    socket.socket.shutdown(sock, socket.SHUT_RDWR)  # below TLS: another thread reads above it


def _watch(reference: "weakref.ref[FollowingPool]") -> None:
    while pool := reference():
        pool.follow()
        del pool
        time.sleep(LOOK_S)
