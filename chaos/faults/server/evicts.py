"""The server makes room by throwing keys away."""

from dataclasses import dataclass
from typing import ClassVar

from ..base import Effect, InFlight, Missed, Stage, server_client
from ..registry import fault
from .base import ServerFault
from .maxmemory import Memory


@fault
@dataclass(frozen=True, kw_only=True)
class ServerEvicts(ServerFault):
    """Sets an evicting policy and too small a maxmemory: the server throws keys away, the queue's own too (I1, I2).

    No queue can hold what its server throws away. What matters is that the loss is seen and reported.
    """

    name: ClassVar[str] = "server-evicts"
    threatens: ClassVar[tuple[str, ...]] = ("I1", "I2")

    for_s: float = 1.0
    """For how long."""
    policy: str = "allkeys-random"
    """Which keys go first: allkeys-random, allkeys-lru or allkeys-lfu."""

    def inject(self, stage: Stage) -> Effect:
        in_flight = InFlight(stage)
        with server_client(stage) as client, Memory(client) as memory:
            before = int(client.info("stats")["evicted_keys"])
            held = memory.set(policy=self.policy, share=0.5)
            stage.wait(self.for_s)
            evicted = int(client.info("stats")["evicted_keys"]) - before
        if not evicted:
            raise Missed(f"The server evicted nothing within {self.for_s:g} s.")
        return Effect(
            evidence=f"With maxmemory at half of the {held} bytes that it held, and {self.policy}, the server evicted "
            f"{evicted} keys (evicted_keys).",
            tasks=in_flight.tasks(),
        )
