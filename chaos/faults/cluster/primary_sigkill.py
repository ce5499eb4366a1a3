"""SIGKILL of a primary of a cluster; its replica takes over its slots."""

from dataclasses import dataclass
from typing import ClassVar

from ...history import ServerEnd
from ..base import Effect, InFlight, Stage, held_back, wait_for
from ..registry import fault
from .base import ClusterFailover, busiest_primary


@fault
@dataclass(frozen=True, kw_only=True)
class ClusterPrimarySigkill(ClusterFailover):
    """SIGKILLs the primary of the busiest slot; a replica is elected, and clients find it (I1, I2, I3).

    Writes that it acknowledged but had not sent to the replica are lost. It is started again as a replica.
    """

    name: ClassVar[str] = "cluster-primary-sigkill"
    ends_server: ClassVar[ServerEnd] = "killed"

    patience_s: float = 20.0
    """Maximum wait for the election of the replica, in seconds."""
    follow_s: float = 2.0
    """Seconds that clients need to find the new primary."""

    def inject(self, stage: Stage) -> Effect:
        in_flight = InFlight(stage)
        with busiest_primary(stage) as (server, slot, old):
            with held_back(stage) as waiting:
                server.await_replicated(old)
                status = old.kill()
            wait_for(
                stage,
                lambda: server.is_served(slot) and server.owner(slot) is not old,
                self.patience_s,
                f"No replica was elected within {self.patience_s:g} s.",
            )
            new = server.owner(slot)
            stage.wait(self.follow_s)
        return Effect(
            evidence=f"The primary of slot {slot} on port {old.port} exited with status {status} while {waiting} "
            f"promised tasks waited; the replica on port {new.port} was elected.",
            tasks=in_flight.tasks(),
        )
