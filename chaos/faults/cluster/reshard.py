"""The slot with the most keys moves to another node, and back."""

from dataclasses import dataclass
from typing import ClassVar

import redis

from ...history import Aim
from ...system.servers import ClusterServer, ServerUnavailable
from ..base import Effect, Fault, InFlight, Missed, Stage
from ..registry import fault


@fault
@dataclass(frozen=True, kw_only=True)
class ClusterReshard(Fault):
    """Moves the slot with the most keys to another primary, key by key, and back (I1, I2, I3, I8).

    During the move the nodes refuse commands for the slot (ASK, TRYAGAIN), and afterwards the old owner does (MOVED).
    """

    name: ClassVar[str] = "cluster-reshard"
    threatens: ClassVar[tuple[str, ...]] = ("I1", "I2", "I3", "I8")
    aims_at: ClassVar[Aim] = "server"
    everywhere: ClassVar[bool] = True
    in_cluster: ClassVar[bool] = True

    away_s: float = 2.0
    """Seconds for which the slot stays at the other node, if it moves back."""
    back: bool = True
    """Whether the slot moves back."""

    def inject(self, stage: Stage) -> Effect:
        server = stage.server
        if not isinstance(server, ClusterServer):
            raise Missed("This fault needs a cluster: no other server has slots to move.")
        in_flight = InFlight(stage)
        try:
            slot, keys = server.busiest_slot()
            source, target = server.move_slot(slot)
            came_back = ""
            if self.back:
                stage.wait(self.away_s)
                if server.move_slot(slot, to=source) != (target, source):
                    raise Missed(f"Slot {slot} did not come back to the node that it came from.")
                came_back = f" and, {self.away_s:g} s later, back"
            refused = sum(server.refusals().values())
        except (ServerUnavailable, redis.RedisError) as error:
            raise Missed(f"The slot did not move: {str(error).rstrip('.')}.") from None
        return Effect(
            evidence=f"Slot {slot} with {keys} keys went from port {source.port} to port {target.port}{came_back}; the "
            f"nodes had refused {refused} commands by then.",
            tasks=in_flight.tasks(),
        )
