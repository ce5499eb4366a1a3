"""What the faults of the server's memory share: for a while it may hold a part of what it holds."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from ..base import InFlight, Stage, server_client, waited_for

PATIENCE_S = 10.0
"""How long memory stays short beyond its time, where nothing has come that it met."""


@dataclass(frozen=True, kw_only=True)
class Starved:
    """What came of it. `held`: bytes before; `count`: of what was counted; the others: tasks, meanwhile."""

    held: int
    count: int
    accepted: int
    completed: int
    lasted: tuple[int, int]
    """From when until when, monotonic, ns."""
    tasks: tuple[str, ...]
    """Those in flight."""


def starve(stage: Stage, *, policy: str, share: float, for_s: float, counted: Callable[[Any], int]) -> Starved:
    """For that long maxmemory is this share of what is held; `counted` reads how often the server did something."""
    in_flight = InFlight(stage)
    with server_client(stage) as client:
        before, completed, accepted = counted(client), stage.ledger.completed_count, len(stage.promised())
        with _limited(client, policy, share) as held:
            since_t = time.monotonic_ns()
            stage.wait(for_s)
            # In a run with few tasks none may come for some seconds.
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
    """The limit and the policy, put back at the end; gives what is held now, in bytes."""
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
