"""Who owns a slot of a Redis Cluster, as the nodes say.

redis-py's `RedisCluster` repeats commands by itself, after a lost reply too. A queue lies in one slot, so it needs one
thing of a cluster: a connection to the node that owns this slot. All nodes are asked, and the claim of the highest
epoch counts, as it does between them: a node that was cut off goes on to name itself.
https://redis.io/docs/latest/operate/oss_and_stack/reference/cluster-spec/
"""

import socket
import threading
import time
from collections.abc import Callable
from typing import Any

import redis
from redis.crc import key_slot

FRESH_S = 0.1  # an answer that many connections use which are opened together
REST_S = 5.0  # a node that does not answer is not asked for that long
NODES_MAX = 64


class Topology:
    """What the nodes of one cluster say; shared by all queues on it, and safe between threads."""

    def __init__(self, seeds: tuple[tuple[str, int], ...], client_of: Callable[[str, int], redis.Redis]) -> None:
        self._client_of = client_of
        self._seeds = seeds
        self._nodes = {seed: client_of(*seed) for seed in seeds}
        self._resting: dict[tuple[str, int], float] = {}  # node -> until when (monotonic, s)
        self._claims: list[tuple[int, tuple[str, int], list[tuple[int, int]]]] = []  # epoch, address, ranges of slots
        self._reasons: list[str] = []
        self.reset()

    def reset(self) -> None:
        """Reset, as in a forked child: a thread that is not there may have held the lock."""
        self._lock = threading.Lock()
        self.doubt()

    def doubt(self) -> None:
        """Ask again at the next occasion."""
        self._asked_at = -FRESH_S

    def sockets(self) -> list[socket.socket]:
        """Those of the connections to all nodes."""
        pools: list[Any] = [client.connection_pool for client in list(self._nodes.values())]
        return [each for pool in pools for each in pool.sockets()]

    def owner(self, slot: int) -> tuple[str, int]:
        """Host and port of the primary that serves a slot.

        Raises:
            redis.ConnectionError: no node that answers names one.
        """
        with self._lock:
            if time.monotonic() - self._asked_at > FRESH_S:
                self._ask()
            claims = [claim for claim in self._claims if any(first <= slot <= last for first, last in claim[2])]
            if claims:
                return max(claims)[1]
            reasons = "; ".join(self._reasons) or "the cluster does not serve it"
            raise redis.ConnectionError(f"No node of the cluster is known to serve slot {slot}: {reasons}")

    def _ask(self) -> None:
        now = time.monotonic()
        claims, self._reasons = [], []
        known = set(self._seeds)
        awake = [node for node in self._nodes if self._resting.get(node, 0.0) <= now]
        for node in awake or list(self._nodes):
            try:
                client: Any = self._nodes[node]
                table = client.execute_command("CLUSTER NODES")
            except redis.RedisError as error:
                self._resting[node] = now + REST_S
                self._reasons.append(str(error))
                continue
            for place, about in table.items():
                address = _address(place, about, node)
                flags = about["flags"].split(",")
                if not {"noaddr", "handshake", "fail"} & set(flags):
                    known.add(address)
                if "master" in flags and about["slots"]:
                    ranges = [(int(each[0]), int(each[-1])) for each in about["slots"]]
                    claims.append((int(about["epoch"]), address, ranges))
        self._asked_at = time.monotonic()
        if claims:  # else the answer before stands
            self._claims = claims
        for address in sorted(known - self._nodes.keys())[: NODES_MAX - len(self._nodes)]:
            self._nodes[address] = self._client_of(*address)


def _address(place: str, about: dict[str, Any], asked: tuple[str, int]) -> tuple[str, int]:
    """Of a node, as another one lists it: by its name where it announces one, which its certificate may name."""
    host, _, port = place.rpartition(":")
    return about.get("hostname") or host.strip("[]") or asked[0], int(port)


class SlotOwner:
    """The `Locator` of the queue whose keys lie in one slot."""

    def __init__(self, topology: Topology, key: str) -> None:
        self._topology = topology
        self._slot = key_slot(key.encode())
        self.reset, self.doubt, self.sockets = topology.reset, topology.doubt, topology.sockets

    def address(self) -> tuple[str, int]:
        """Host and port of its owner. Raises redis.ConnectionError: no node that answers names one."""
        return self._topology.owner(self._slot)
