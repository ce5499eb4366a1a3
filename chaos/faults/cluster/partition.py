"""A primary of a cluster cut off from all other nodes, but not from its clients."""

from dataclasses import dataclass
from typing import ClassVar

from ..base import Effect, InFlight, Stage, held_back, wait_for
from ..registry import fault
from .base import ClusterFailover, busiest_primary


@fault
@dataclass(frozen=True, kw_only=True)
class ClusterPartition(ClusterFailover):
    """Cuts the primary of the busiest slot off from all other nodes, while clients still reach it (I1, I2, I3).

    It accepts writes until it detects the partition, and then refuses them (CLUSTERDOWN). Its replica is elected. When
    the partition heals, the old primary becomes a replica, which discards every write it accepted since the cut.
    """

    name: ClassVar[str] = "cluster-partition"

    patience_s: float = 20.0
    """Maximum wait, in seconds, until the replica is elected and the old primary refuses writes."""
    follow_s: float = 2.0
    """Seconds from the election to the end of the partition, in which clients must find the new primary."""

    def inject(self, stage: Stage) -> Effect:
        in_flight = InFlight(stage)
        with busiest_primary(stage) as (server, slot, old):
            with held_back(stage) as waiting:
                offset = server.await_replicated(old)
                server.cut_off(old)
            wait_for(
                stage,
                lambda: server.owner(slot) is not old and not server.accepts(old),
                self.patience_s,
                f"No replica was elected, or the old primary went on, for {self.patience_s:g} s.",
            )
            own_bytes = server.offset(old) - offset
            new = server.owner(slot)
            stage.wait(self.follow_s)
        return Effect(
            evidence=f"The primary of slot {slot} on port {old.port} was cut off from the other nodes while {waiting} "
            f"promised tasks waited, went on to {own_bytes:,} bytes past the last common write, and refused writes "
            f"then; the replica on port {new.port} was elected.",
            tasks=in_flight.tasks(),
        )
