"""What the faults of the server's memory share: for a while it may hold half of what it holds."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from ..base import InFlight, Missed, Stage, server_client

SHARE = 0.5


@dataclass(frozen=True, kw_only=True)
class Starved:
    """What came of it. `held`: bytes before; `count`: of what was counted; `completed`: tasks, meanwhile."""

    held: int
    count: int
    completed: int
    tasks: tuple[str, ...]
    """Those in flight."""


def starve(stage: Stage, *, policy: str, for_s: float, did: str, counted: Callable[[Any], int]) -> Starved:
    """Too small a maxmemory for that long, with this policy; `counted` reads how often the server `did` something.

    Raises Missed: it did nothing of the kind.
    """
    in_flight = InFlight(stage)
    with server_client(stage) as client:
        before, completed = counted(client), stage.ledger.completed_count
        with _limited(client, policy) as held:
            stage.wait(for_s)
            count = counted(client) - before
            completed = stage.ledger.completed_count - completed
    if not count:
        raise Missed(f"The server {did} nothing within {for_s:g} s.")
    return Starved(held=held, count=count, completed=completed, tasks=in_flight.tasks())


@contextmanager
def _limited(client: Any, policy: str) -> Iterator[int]:
    """The limit and the policy, put back at the end; gives what is held now, in bytes."""
    found = client.config_get("maxmemory", "maxmemory-policy")
    before = {_text(name): _text(value) for name, value in found.items()}
    try:
        held = int(client.info("memory")["used_memory"])
        client.config_set("maxmemory-policy", policy)
        client.config_set("maxmemory", round(held * SHARE))
        yield held
    finally:
        for name, value in before.items():
            client.config_set(name, value)


def _text(name: Any) -> str:
    return name.decode() if isinstance(name, bytes) else str(name)
