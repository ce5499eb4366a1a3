"""A narrow way to the server."""

from dataclasses import dataclass
from typing import ClassVar

from ...history import Aim
from ...system.proxy import Link
from ..base import Effect, Fault, Stage
from ..registry import fault
from .base import Workers, mend, slow_down


@fault
@dataclass(frozen=True, kw_only=True)
class NetThrottle(Fault):
    """So few bytes a second pass between workers and server that they queue up (I3, I4).

    Large payloads stand before the renewal of a lease.
    """

    name: ClassVar[str] = "net-throttle"
    threatens: ClassVar[tuple[str, ...]] = ("I3", "I4")
    aims_at: ClassVar[Aim] = "network"
    through_proxy: ClassVar[bool] = True

    workers: Workers = "all"
    """`all`, or `one` that is inside a task."""
    bytes_per_s: int = 20_000
    """In each direction of each connection."""
    for_s: float = 5.0
    """How long it lasts."""
    patience_s: float = 10.0
    """How long to wait until a worker is inside a task."""

    def inject(self, stage: Stage) -> Effect:
        return slow_down(stage, self.workers, Link(bytes_per_s=self.bytes_per_s), self.for_s, self.patience_s)

    def heal(self, stage: Stage) -> None:
        mend(stage)
