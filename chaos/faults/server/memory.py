"""Shared code of the faults of the server's memory: lower maxmemory for a while, and count the effects."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from ..base import InFlight, Stage, server_client, waited_for

PATIENCE_S = 10.0
"""Maximum extension, in seconds, of a memory shortage that has had no effect yet."""


@dataclass(frozen=True, kw_only=True)
class Starved:
    """Effects of a shortage. `held`: bytes used before; `count`: see `starve`; `accepted`, `completed`: tasks."""

    held: int
    count: int
    accepted: int
    completed: int
    lasted: tuple[int, int]
    """Begin and end of the shortage, monotonic, ns."""
    tasks: tuple[str, ...]
    """Tasks in flight during the shortage."""


def starve(stage: Stage, *, policy: str, share: float, for_s: float, counted: Callable[[Any], int]) -> Starved:
    """Set maxmemory to a share of the used memory for `for_s`. `counted` reads the server's counter of the effect."""
    in_flight = InFlight(stage)
    with server_client(stage) as client:
        before, completed, accepted = counted(client), stage.ledger.completed_count, len(stage.promised())
        with _limited(client, policy, share) as held:
            since_t = time.monotonic_ns()
            stage.wait(for_s)
            # In a run with few tasks, seconds can pass without a submission.
            waited_for(stage, lambda: counted(client) - before or len(stage.promised()) - accepted, PATIENCE_S)
            count = counted(client) - before
            until_t = time.monotonic_ns()
            stage.ledger.poll()
            completed = stage.ledger.completed_count - completed
            accepted = len(stage.promised()) - accepted
    return Starved(
        held=held,
        count=count,
        accepted=accepted,
        completed=completed,
        lasted=(since_t, until_t),
        tasks=in_flight.tasks(),
    )


@contextmanager
def _limited(client: Any, policy: str, share: float) -> Iterator[int]:
    """Set the limit and the policy, and restore both at the end. Yields the memory used before, in bytes."""
    found = client.config_get("maxmemory", "maxmemory-policy")
    before = {_text(name): _text(value) for name, value in found.items()}
    try:
        held = int(client.info("memory")["used_memory"])
        client.config_set("maxmemory-policy", policy)
        client.config_set("maxmemory", max(1, round(held * share)))  # 0 would be no limit
        yield held
    finally:
        for name, value in before.items():
            client.config_set(name, value)


def _text(name: Any) -> str:
    return name.decode() if isinstance(name, bytes) else str(name)
