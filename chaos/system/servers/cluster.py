"""A Redis Cluster on the loopback interface: three primaries with a replica each, all from the embedded binary."""

from collections import Counter
from pathlib import Path
from typing import Any, ClassVar

import redis
from redis.crc import key_slot

from ...history import Recorder
from ..proxy import Link, Proxy
from .embedded import EmbeddedServer
from .server import LOOPBACK, AppendFsync, HeldPort, Server, SeveralServers
from .server import ServerUnavailable as Unavailable

PRIMARIES = 3
SLOTS = 16_384
NODE_TIMEOUT_MS = 2_000
"""Milliseconds of silence after which a node counts as failing, and its replica asks for votes."""


REPLICATION = ("psync", "sync")
"""The commands with which a replica starts to follow a primary."""
LOST = Link(to_server_lost=True, to_worker_lost=True)


class ClusterNode(Server):
    """The additions of a cluster node to a stand-alone server.

    A node connects to others from its own loopback address. They reach its cluster bus through a proxy port, `door`.
    """

    _port: HeldPort

    def enter(self, host: str, proxy: Proxy) -> None:
        """Choose the node's host and ports. Call it before the start."""
        self.host = host
        self.bus = HeldPort()
        self.door = proxy.listen(opaque=True, to=(LOOPBACK, self.bus.number))

    @property
    def port(self) -> int:
        return self._port.number

    def ask(self, *command: Any) -> Any:
        """Send a command and return the answer. Raises redis.RedisError."""
        with self._client() as client:
            return client.execute_command(*command)  # type: ignore[no-untyped-call]

    def cluster_options(self) -> list[str]:
        """Return the server options of a cluster node."""
        cluster = {
            "--cluster-enabled": "yes",
            "--cluster-require-full-coverage": "no",  # a lost shard does not stop the others
            "--cluster-port": str(self.bus.number),
            "--cluster-announce-ip": LOOPBACK,
            "--cluster-announce-bus-port": str(self.door.port),
            "--bind-source-addr": self.host,
            "--cluster-node-timeout": str(NODE_TIMEOUT_MS),
            "--cluster-replica-validity-factor": "0",  # promote a replica however long it was disconnected
            "--repl-diskless-sync-delay": "0",
        }
        return [word for option in cluster.items() for word in option]


class EmbeddedNode(ClusterNode, EmbeddedServer):
    """A node of the embedded binary."""

    def close(self) -> None:
        super().close()
        self.bus.close()

    def _options(self) -> list[str]:
        return [*super()._options(), *self.cluster_options()]


class ClusterServer(SeveralServers):
    """The cluster as one server: `stop`, `kill` and `pause` act on the node that owns slot 0 now."""

    kind: ClassVar[str] = "cluster"

    def __init__(self, directory: Path, appendfsync: AppendFsync | None, recorder: Recorder | None = None) -> None:
        self._directory, self._appendfsync, self._recorder = directory.resolve(), appendfsync, recorder
        self._proxy = Proxy(f"redis://{LOOPBACK}:0/0").__enter__()
        self._joined = False
        self.nodes = [self._node(number) for number in range(1, 2 * PRIMARIES + 1)]
        for number, node in enumerate(self.nodes, start=1):
            node.enter(f"127.0.1.{number}", self._proxy)

    def _node(self, number: int) -> ClusterNode:
        return EmbeddedNode(self._directory / f"node-{number}", self._appendfsync, self._recorder)

    @property
    def url(self) -> str:
        """URL of the node that owns slot 0."""
        return self.owner(0).url

    @property
    def client_url(self) -> str:
        return f"redis+cluster://{','.join(f'{LOOPBACK}:{node.port}' for node in self.nodes)}"

    @property
    def running(self) -> bool:
        return self.nodes[0].running

    def start(self) -> None:
        """Start the stopped nodes and end any partition; the first time, join the nodes to a cluster.

        Return when all slots are served.
        """
        for node in [node for node in self.nodes if not node.door.link.clear]:
            self.rejoin(node)
        for node in self.nodes:
            if not node.running:
                node.start()
        if not self._joined:
            self._join()
            self._joined = True
        self.await_settled()

    def stop(self) -> int:
        return self.owner(0).stop()

    def kill(self) -> int:
        return self.owner(0).kill()

    def pause(self) -> None:
        self.owner(0).pause()

    def resume(self) -> None:
        for node in self.nodes:
            if node.running:
                node.resume()

    def close(self) -> None:
        for node in self.nodes:
            node.close()
        self._proxy.close()

    def describe(self) -> str:
        return f"{self.nodes[0].describe()}, and {2 * PRIMARIES - 1} others: {PRIMARIES} primaries, a replica each"

    def owner(self, slot: int) -> ClusterNode:
        """Return the running node that serves a slot, by the highest epoch that any node reports.

        Raises:
            ServerUnavailable: no running node serves it.
        """
        claims = [claim for node in self.nodes if node.running for claim in _claims(node, slot)]
        for _, port in sorted(claims, reverse=True):
            found = next((node for node in self.nodes if node.port == port and node.running), None)
            if found:
                return found
        raise Unavailable(f"No cluster node serves slot {slot}.")

    def await_settled(self) -> None:
        """Wait until every slot is served and each primary has a replica that follows it.

        Raises:
            ServerUnavailable: it takes longer than `SETTLE_DEADLINE_S`.
        """
        self._await(lambda: all(_is_settled(node) for node in self.nodes), "The cluster does not settle")

    def is_served(self, slot: int) -> bool:
        """Whether a running node serves a slot."""
        try:
            return self.owner(slot).running
        except Unavailable:
            return False

    def busiest_slot(self) -> tuple[int, int]:
        """Return the slot with the most keys, and their number.

        Raises redis.RedisError; ServerUnavailable: there are no keys.
        """
        counts: Counter[int] = Counter()
        for node in self._primaries():
            keys = node.ask("KEYS", "*")
            counts.update(key_slot(key.encode()) for key in keys)
        if not counts:
            raise Unavailable("The cluster holds no keys.")
        return counts.most_common(1)[0]

    def refusals(self) -> dict[str, int]:
        """Return kind of error -> number of commands that all nodes have refused so far because of a slot."""
        found: Counter[str] = Counter()
        for node in self.nodes:
            for name, count in node.ask("INFO", "errorstats").items():
                if (kind := name.removeprefix("errorstat_")) in ("MOVED", "ASK", "TRYAGAIN", "CLUSTERDOWN"):
                    found[kind] += int(count["count"])
        return dict(found)

    def accepts(self, node: ClusterNode) -> bool:
        """Whether a node accepts writes. A node that has noticed its isolation does not."""
        return bool(node.ask("CLUSTER INFO")["cluster_state"] == "ok")

    def offset(self, node: ClusterNode) -> int:
        """Return the offset up to which a primary has written its replication stream. Raises redis.RedisError."""
        return int(node.ask("INFO", "replication")["master_repl_offset"])

    def await_replicated(self, node: ClusterNode) -> int:
        """Wait until the node's replica has confirmed everything written by now, and return that offset.

        Raises ServerUnavailable: the replica does not confirm it in time.
        """
        offset = self.offset(node)
        self._await(
            lambda: int(node.ask("INFO", "replication")["slave0"]["offset"]) >= offset,
            "The replica does not confirm what its primary has written",
        )
        return offset

    def cut_off(self, node: ClusterNode) -> None:
        """Isolate a node from all others; clients still reach it.

        Its replica reads from the client port, so the node disconnects the replica and refuses it from now on.
        """
        node.ask("ACL", "SETUSER", "default", *(f"-{command}" for command in REPLICATION))
        node.door.set_link(LOST)
        for other in self.nodes:
            other.door.set_link(LOST, node.host)
        node.ask("CLIENT", "KILL", "TYPE", "REPLICA")

    def rejoin(self, node: ClusterNode) -> None:
        """End a node's isolation."""
        for other in self.nodes:
            other.door.set_link(Link())
            other.door.reset_all()
        if node.running:
            node.ask("ACL", "SETUSER", "default", *(f"+{command}" for command in REPLICATION))

    def _primaries(self) -> list[ClusterNode]:
        owners = [self.owner(SLOTS * number // PRIMARIES + 1) for number in range(PRIMARIES)]
        return list(dict.fromkeys(owners))

    def move_slot(self, slot: int, to: ClusterNode | None = None) -> tuple[ClusterNode, ClusterNode]:
        """Move a slot with its keys to another primary, in steps; return the source and the destination.

        Raises:
            redis.RedisError: a node refused.
        """
        source = self.owner(slot)
        target = to or next(node for node in self._primaries() if node is not source)
        source_id, target_id = source.ask("CLUSTER", "MYID"), target.ask("CLUSTER", "MYID")
        target.ask("CLUSTER", "SETSLOT", slot, "IMPORTING", source_id)
        source.ask("CLUSTER", "SETSLOT", slot, "MIGRATING", target_id)
        while keys := source.ask("CLUSTER", "GETKEYSINSLOT", slot, 10):
            source.ask("MIGRATE", LOOPBACK, target.port, "", 0, 5_000, "KEYS", *keys)
        for node in (target, source):
            node.ask("CLUSTER", "SETSLOT", slot, "NODE", target_id)
        return source, target

    def _join(self) -> None:
        primaries, replicas = self.nodes[:PRIMARIES], self.nodes[PRIMARIES:]
        bounds = [SLOTS * number // PRIMARIES for number in range(PRIMARIES + 1)]
        for epoch, node in enumerate(self.nodes, start=1):
            node.ask("CLUSTER", "SET-CONFIG-EPOCH", epoch)
        for node, first, end in zip(primaries, bounds, bounds[1:], strict=False):
            node.ask("CLUSTER", "ADDSLOTSRANGE", first, end - 1)
        for node in self.nodes[1:]:
            node.ask("CLUSTER", "MEET", LOOPBACK, self.nodes[0].port, self.nodes[0].door.port)
        self._await(
            lambda: all(len(_table(node)) == len(self.nodes) for node in self.nodes), "The nodes do not meet each other"
        )
        for replica, primary in zip(replicas, primaries, strict=True):
            replica.ask("CLUSTER", "REPLICATE", primary.ask("CLUSTER", "MYID"))


def _table(node: ClusterNode) -> list[dict[str, Any]]:
    """Return a node's view of all nodes. Raises redis.RedisError."""
    found: dict[str, dict[str, Any]] = node.ask("CLUSTER NODES")
    return [{"port": int(address.rpartition(":")[2]), **about} for address, about in found.items()]


def _claims(node: ClusterNode, slot: int) -> list[tuple[int, int]]:
    """Return (epoch, port) of the nodes that serve a slot, as one node sees it; empty if that does not answer."""
    try:
        table = _table(node)
    except redis.RedisError:
        return []
    return [
        (int(about["epoch"]), about["port"])
        for about in table
        if "fail" not in about["flags"].split(",")
        and any(int(found[0]) <= slot <= int(found[-1]) for found in about["slots"])
    ]


def _is_settled(node: ClusterNode) -> bool:
    about = node.ask("CLUSTER INFO")
    # The state is ok as soon as the node sees most of the nodes that it knows, which may still be few.
    if about["cluster_state"] != "ok" or int(about["cluster_slots_ok"]) != SLOTS:
        return False
    if any("fail" in one["flags"] for one in _table(node)):
        return False
    replication = node.ask("INFO", "replication")
    if replication["role"] == "master":
        return bool(replication["connected_slaves"] == 1 and replication["slave0"]["state"] == "online")
    return bool(replication["master_link_status"] == "up")
