"""Low bandwidth between workers and server."""

from dataclasses import dataclass
from typing import ClassVar

from ...system.proxy import Link
from ..base import Effect, Stage
from ..registry import fault
from .base import WayFault, slow_down


@fault
@dataclass(frozen=True, kw_only=True)
class NetThrottle(WayFault):
    """Limits the bytes per second between workers and server (I3, I4).

    Large payloads delay lease renewals that wait behind them.
    """

    name: ClassVar[str] = "net-throttle"
    threatens: ClassVar[tuple[str, ...]] = ("I3", "I4")

    bytes_per_s: int = 20_000
    """Limit in each direction of each connection."""
    for_s: float = 5.0
    """Duration, in seconds."""

    def inject(self, stage: Stage) -> Effect:
        return slow_down(stage, self, Link(bytes_per_s=self.bytes_per_s), self.for_s)
