"""A primary cut off from replicas and Sentinels, but not from its clients: two primaries for a while."""

from dataclasses import dataclass
from typing import ClassVar

from ...history import Aim
from ...system.servers import SentinelServer
from ..base import Effect, Fault, Stage
from ..registry import fault
from .base import bring_back, fail_over


@fault
@dataclass(frozen=True, kw_only=True)
class PrimaryCutOff(Fault):
    """Cuts the primary off from replicas and Sentinels, while clients still write to it (I1, I2, I3).

    A replica is promoted, and for a while there are two primaries. Then clients move to the new one, the partition
    heals, and the old primary becomes a replica, which discards every write it accepted since the cut.
    """

    name: ClassVar[str] = "primary-cut-off"
    threatens: ClassVar[tuple[str, ...]] = ("I1", "I2", "I3")
    aims_at: ClassVar[Aim] = "server"
    everywhere: ClassVar[bool] = True
    fails_over: ClassVar[bool] = True

    follow_after_s: float = 1.0
    """Seconds for which clients stay with the old primary after a new one was announced."""
    patience_s: float = 20.0
    """Maximum wait for the promotion of a replica, in seconds."""

    def inject(self, stage: Stage) -> Effect:
        def strike(server: SentinelServer) -> str:
            server.cut_off()
            return "The primary was cut off from replicas and Sentinels"

        return fail_over(stage, strike, follow_after_s=self.follow_after_s, patience_s=self.patience_s)

    def heal(self, stage: Stage) -> None:
        bring_back(stage)
