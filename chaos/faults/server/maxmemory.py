"""The server's memory is full."""

from dataclasses import dataclass
from typing import Any, ClassVar

from ..base import Effect, InFlight, Missed, Stage, server_client
from ..registry import fault
from .base import ServerFault


@fault
@dataclass(frozen=True, kw_only=True)
class ServerMaxmemory(ServerFault):
    """Sets maxmemory below what the server holds, without eviction, for seconds (I1, I2, I4).

    Whatever adds is refused, even a move from one list to another. What was accepted has to be worked off all the same,
    and what is refused must not be promised. https://redis.io/docs/latest/develop/reference/eviction/
    """

    name: ClassVar[str] = "server-maxmemory"
    threatens: ClassVar[tuple[str, ...]] = ("I1", "I2", "I4")
    count: ClassVar[int] = 2

    for_s: float = 3.0
    """How long its memory is full."""

    def inject(self, stage: Stage) -> Effect:
        in_flight = InFlight(stage)
        with server_client(stage) as client, Memory(client) as memory:
            refused, completed = _refused(client), stage.ledger.completed_count
            held = memory.set(policy="noeviction", share=0.5)
            stage.wait(self.for_s)
            refused = _refused(client) - refused
            completed = stage.ledger.completed_count - completed
        if not refused:
            raise Missed(f"The server refused nothing within {self.for_s:g} s.")
        return Effect(
            evidence=f"With maxmemory at half of the {held} bytes that it held, the server refused {refused} commands "
            f"within {self.for_s:g} s; {completed} tasks were completed meanwhile.",
            tasks=in_flight.tasks(),
        )


class Memory:
    """The server's limit on its memory, put back at the end of the `with`."""

    def __init__(self, client: Any) -> None:
        self._client = client

    def __enter__(self) -> "Memory":
        found = self._client.config_get("maxmemory", "maxmemory-policy")
        self._before = {_text(name): _text(value) for name, value in found.items()}
        return self

    def __exit__(self, *_: object) -> None:
        for name, value in self._before.items():
            self._client.config_set(name, value)

    def set(self, *, policy: str, share: float) -> int:
        """Set the limit to a share of what is held now; returns that, in bytes."""
        held = int(self._client.info("memory")["used_memory"])
        self._client.config_set("maxmemory-policy", policy)
        self._client.config_set("maxmemory", round(held * share))
        return held


def _refused(client: Any) -> int:
    """How often it has answered OOM so far."""
    return int(client.info("errorstats").get("errorstat_OOM", {}).get("count", 0))


def _text(name: Any) -> str:
    return name.decode() if isinstance(name, bytes) else str(name)
