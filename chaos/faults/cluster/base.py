"""Shared code of the faults that make a replica replace the primary of a cluster."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import ClassVar

import redis

from ...history import Aim
from ...system.servers import ClusterServer, ServerUnavailable
from ...system.servers.cluster import ClusterNode
from ..base import Fault, Missed, Stage


@dataclass(frozen=True, kw_only=True)
class ClusterFailover(Fault):
    """Base of the faults that disturb the primary of the busiest slot until its replica is elected."""

    threatens: ClassVar[tuple[str, ...]] = ("I1", "I2", "I3")
    aims_at: ClassVar[Aim] = "server"
    everywhere: ClassVar[bool] = True
    fails_over: ClassVar[bool] = True
    in_cluster: ClassVar[bool] = True

    def heal(self, stage: Stage) -> None:
        if isinstance(stage.server, ClusterServer):
            stage.server.start()


@contextmanager
def busiest_primary(stage: Stage) -> Iterator[tuple[ClusterServer, int, ClusterNode]]:
    """Yield the cluster, the slot with the most keys, and the primary of that slot.

    Raises Missed if the server is not a cluster, or if the server fails a command in the `with` body.
    """
    server = stage.server
    if not isinstance(server, ClusterServer):
        raise Missed("This fault needs a cluster, which elects a replica by itself.")
    try:
        slot, _ = server.busiest_slot()
        yield server, slot, server.owner(slot)
    except (ServerUnavailable, redis.RedisError) as error:
        raise Missed(f"The failover did not take place: {str(error).rstrip('.')}.") from None
