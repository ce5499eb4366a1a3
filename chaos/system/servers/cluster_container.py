"""A Redis Cluster of containers: like the embedded cluster, with the image of the `container` server."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from .cluster import ClusterNode, ClusterServer
from .container import ContainerServer
from .server import LOOPBACK

if TYPE_CHECKING:
    from testcontainers.community.redis import RedisContainer


class ContainerNode(ClusterNode, ContainerServer):
    """A node in a container on the host's network: nodes and clients reach it like a local process."""

    engine_options: ClassVar[Mapping[str, Any]] = {"network_mode": "host"}

    def close(self) -> None:
        super().close()
        self.bus.close()

    def _command(self) -> list[str]:
        return [*super()._command(), "--port", str(self.port), "--bind", LOOPBACK, *self.cluster_options()]

    def _publish(self, redis: "RedisContainer") -> None:
        from testcontainers.core.config import ConnectionMode, testcontainers_config
        from testcontainers.core.wait_strategies import LogMessageWaitStrategy

        testcontainers_config.tc_host_override = LOOPBACK
        testcontainers_config.connection_mode_override = ConnectionMode.docker_host
        redis.ports.clear()
        redis.waiting_for(LogMessageWaitStrategy("Ready to accept connections"))


class ContainerClusterServer(ClusterServer):
    """The cluster as one server, in containers. Needs a Docker engine on this machine, running Linux."""

    kind: ClassVar[str] = "cluster-container"

    def _node(self, number: int) -> ClusterNode:
        return ContainerNode(self._appendfsync)
