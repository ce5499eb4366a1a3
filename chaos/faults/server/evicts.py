"""A server that evicts keys to free memory."""

from dataclasses import dataclass
from typing import Any, ClassVar

from ..base import Effect, Missed, Stage
from ..registry import fault
from .base import ServerFault
from .memory import starve

SHARE = 0.5


@fault
@dataclass(frozen=True, kw_only=True)
class ServerEvicts(ServerFault):
    """Sets an evicting policy and a low maxmemory, so that the server evicts the queue's keys (I1, I2).

    No queue can keep tasks that its server evicts. The loss must be detected and reported.
    """

    name: ClassVar[str] = "server-evicts"
    threatens: ClassVar[tuple[str, ...]] = ("I1", "I2")

    for_s: float = 1.0
    """Duration, in seconds."""
    policy: str = "allkeys-random"
    """Eviction policy: allkeys-random, allkeys-lru or allkeys-lfu."""

    def inject(self, stage: Stage) -> Effect:
        starved = starve(stage, policy=self.policy, share=SHARE, for_s=self.for_s, counted=_evicted)
        if not starved.count:
            raise Missed(f"The server evicted nothing within {self.for_s:g} s.")
        return Effect(
            evidence=f"With maxmemory at half of the {starved.held} bytes that it held, and {self.policy}, the server "
            f"evicted {starved.count} keys (evicted_keys).",
            tasks=starved.tasks,
        )


def _evicted(client: Any) -> int:
    """Return how many keys the server has evicted so far."""
    return int(client.info("stats")["evicted_keys"])
