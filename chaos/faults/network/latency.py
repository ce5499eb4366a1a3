"""A slow network between workers and server."""

from dataclasses import dataclass
from typing import ClassVar

from ...system.proxy import Link
from ..base import Effect, Stage
from ..registry import fault
from .base import WayFault, slow_down


@fault
@dataclass(frozen=True, kw_only=True)
class NetLatency(WayFault):
    """Delays all traffic between workers and server, by a varying time (I3, I4).

    A worker that would renew its lease just in time renews it too late.
    """

    name: ClassVar[str] = "net-latency"
    threatens: ClassVar[tuple[str, ...]] = ("I3", "I4")

    delay_ms: int = 100
    """Delay in each direction."""
    jitter_ms: int = 100
    """Maximum extra delay of each piece of traffic, drawn from the plan's seed."""
    for_s: float = 5.0
    """Duration, in seconds."""

    def inject(self, stage: Stage) -> Effect:
        link = Link(delay_ms=self.delay_ms, jitter_ms=self.jitter_ms, seed=stage.random.getrandbits(32))
        return slow_down(stage, self, link, self.for_s)
