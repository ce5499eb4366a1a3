"""A primary of a cluster is killed, and its replica takes its slots."""

from dataclasses import dataclass
from typing import ClassVar

import redis

from ...history import Aim, ServerEnd
from ...system.servers import ClusterServer, ServerUnavailable
from ..base import Effect, Fault, InFlight, Missed, Stage, held_back, wait_for
from ..registry import fault


@fault
@dataclass(frozen=True, kw_only=True)
class ClusterPrimarySigkill(Fault):
    """SIGKILLs the primary of the busiest slot; a replica is elected, and clients find it (I1, I2, I3).

    What it had acknowledged and not sent to the replica yet is gone. It is started again as a replica.
    """

    name: ClassVar[str] = "cluster-primary-sigkill"
    threatens: ClassVar[tuple[str, ...]] = ("I1", "I2", "I3")
    aims_at: ClassVar[Aim] = "server"
    ends_server: ClassVar[ServerEnd] = "killed"
    everywhere: ClassVar[bool] = True
    fails_over: ClassVar[bool] = True
    in_cluster: ClassVar[bool] = True

    patience_s: float = 20.0
    """How long to wait until the replica is elected."""
    follow_s: float = 2.0
    """How long clients may take to find it."""

    def inject(self, stage: Stage) -> Effect:
        server = stage.server
        if not isinstance(server, ClusterServer):
            raise Missed("Only a cluster elects a replica by itself.")
        in_flight = InFlight(stage)
        try:
            slot, _ = server.busiest_slot()
            old = server.owner(slot)
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
        except (ServerUnavailable, redis.RedisError) as error:
            raise Missed(f"The failover did not take place: {str(error).rstrip('.')}.") from None
        return Effect(
            evidence=f"The primary of slot {slot} on port {old.port} exited with status {status} while {waiting} "
            f"promised tasks waited; the replica on port {new.port} was elected.",
            tasks=in_flight.tasks(),
        )

    def heal(self, stage: Stage) -> None:
        if isinstance(stage.server, ClusterServer):
            stage.server.start()
