"""Mutants that only a cluster shows: moved slots, failovers, keys in several slots."""

from typing import Any

from zeroloss.reference.failover.cluster import SlotOwner
from zeroloss.reference.queue.durability import Durability
from zeroloss.reference.queue.keys import Keys
from zeroloss.reference.shards.balance import Balance

from .mutant import mutant
from .patching import patch
from .profiles import CLUSTER, DIVIDED, RESHARDED


@mutant(expects=("STUCK", "NEEDS_RESTART", "NEEDS_TRAFFIC"), breaks="I4", profile=RESHARDED)
def moved_unheeded() -> None:
    """The node of a cluster slot is looked up once, and not again after a node reports that the slot moved."""
    known: dict[int, tuple[str, int]] = {}

    def address(self: Any) -> tuple[str, int]:
        if self._slot not in known:
            known[self._slot] = original(self)
        return known[self._slot]

    original = patch(SlotOwner, "address", address)


@mutant(expects="ACCEPTS", breaks="I2", profile=CLUSTER)
def keys_in_two_slots() -> None:
    """Idempotency keys have no hash tag, so that most lie in another slot than their queue."""

    def idempotency(self: Keys, key: str) -> str:
        return str(original(self, key)).replace("{", "").replace("}", "")

    original = patch(Keys, "idempotency", idempotency)


@mutant(expects=("STUCK", "NEEDS_RESTART"), breaks="I4", profile=CLUSTER)
def last_shard_forgotten() -> None:
    """Workers are balanced over all shards except the last one, which gets no worker."""

    def look(self: Any) -> list[Any]:
        seen: list[Any] = original(self)
        return seen[:-1]

    original = patch(Balance, "_look", look)


@mutant(expects="LOST", breaks="I2", profile=DIVIDED)
def replicas_unread() -> None:
    """The producer waits for replicas, but ignores how many of them confirmed the write."""

    def confirm(self: Any, asked: Any) -> None:
        self._shortfall(asked, self.timeout_ms)

    patch(Durability, "confirm", confirm)
