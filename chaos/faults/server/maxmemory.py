"""The server's memory is full."""

from dataclasses import dataclass
from functools import partial
from typing import ClassVar

from ..base import Effect, Stage, errors_answered
from ..registry import fault
from .base import ServerFault
from .memory import starve


@fault
@dataclass(frozen=True, kw_only=True)
class ServerMaxmemory(ServerFault):
    """Sets maxmemory below the used memory, without eviction, for seconds (I1, I2, I4).

    Whatever adds is refused, even a move from one list to another. What was accepted must be worked off all the same,
    and what is refused must not be promised. https://redis.io/docs/latest/develop/reference/eviction/
    """

    name: ClassVar[str] = "server-maxmemory"
    threatens: ClassVar[tuple[str, ...]] = ("I1", "I2", "I4")
    count: ClassVar[int] = 2

    for_s: float = 3.0
    """How long its memory is full."""

    def inject(self, stage: Stage) -> Effect:
        starved = starve(
            stage, policy="noeviction", for_s=self.for_s, did="refused", counted=partial(errors_answered, kind="OOM")
        )
        return Effect(
            evidence=f"With maxmemory at half of the {starved.held} bytes that it held, the server refused "
            f"{starved.count} commands within {self.for_s:g} s; {starved.completed} tasks were completed meanwhile.",
            tasks=starved.tasks,
        )
