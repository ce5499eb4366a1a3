"""Mutants that misinterpret lost connections, or leak a resource at each of them."""

import socket
from itertools import count
from typing import Any

import redis
from zeroloss.reference.queue.enqueuer import Enqueuer
from zeroloss.reference.queue.servers import pool
from zeroloss.reference.worker import presence
from zeroloss.reference.worker.claimer import Claimer

from .mutant import LEAK, mutant
from .patching import patch
from .profiles import DEFAULT, RECONNECTS

LOSSES = 4


@mutant(expects=LEAK, breaks="I4", profile=RECONNECTS)
def five_connections_leaked() -> None:
    """Each new connection leaves five others open."""
    kept: list[socket.socket] = []

    def leaking(gate: Any, connection_class: type[Any], locate: Any) -> type[Any]:
        class Leaking(original(gate, connection_class, locate)):  # type: ignore[misc]
            def _connect(self) -> Any:
                kept.extend(socket.create_connection((self.host, self.port)) for _ in range(5))
                return super()._connect()

        return Leaking

    original = patch(pool, "_through", leaking)


@mutant(expects=("STUCK", "NEEDS_RESTART"), breaks="I4", profile=RECONNECTS)
def deaf_after_four_losses() -> None:
    """A worker claims nothing more after its fourth loss of Redis."""
    lost = count(1)

    def back_off(self: Any, error: redis.RedisError) -> None:
        original(self, error)
        if next(lost) >= LOSSES:
            self._wants_more = self._can_wait = lambda: False

    original = patch(Claimer, "_back_off", back_off)


@mutant(expects="KEEPS_THROUGH", breaks="I3", profile=RECONNECTS)
def presence_comes_back_late() -> None:
    """After its connections are cut, a worker announces its presence seconds too late: its tasks were recovered."""
    patch(presence, "RETURN_S", 3.0)


@mutant(
    breaks="I4",
    profile=RECONNECTS,
    blind_spot="Replies to the producer are lost too seldom for it to have no connection left.",
)
def connection_not_returned() -> None:
    """After each lost reply the producer keeps one connection out of its pool, until the pool is empty."""

    def push(self: Any, call: Any) -> Any:
        try:
            return original(self, call)
        except redis.ConnectionError:
            self._client.connection_pool.get_connection()
            raise

    original = patch(Enqueuer, "_push", push)


@mutant(breaks="I4", profile=DEFAULT, blind_spot="The lease alone keeps what the target promises, only later.")
def absence_unseen() -> None:
    """A worker never announces its presence, so only the end of its lease reveals that it died."""
    patch(presence.Presence, "_is_marked", lambda _self: True)
