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
    """A worker whose connections were cut says only seconds later that it is there, when others have its tasks."""
    patch(presence, "RETURN_S", 3.0)


@mutant(
    breaks="I4",
    profile=RECONNECTS,
    blind_spot="Replies to the producer are lost too seldom for it to have no connection left.",
)
def connection_not_returned() -> None:
    """After a lost reply the producer does not give its connection back, until it has none left."""

    def push(self: Any, call: Any) -> Any:
        try:
            return original(self, call)
        except redis.ConnectionError:
            self._client.connection_pool.get_connection()
            raise

    original = patch(Enqueuer, "_push", push)


@mutant(breaks="I4", profile=DEFAULT, blind_spot="The lease alone keeps what the target promises, only later.")
def absence_unseen() -> None:
    """A worker never says that it is there, so that only its lease tells that it has died."""
    patch(presence.Presence, "_mark", lambda _self: 1)
