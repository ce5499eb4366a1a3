"""Finds the owner of a slot of a Redis Cluster, by asking the nodes.

redis-py's `RedisCluster` repeats commands by itself, even after a lost reply. A queue lies in one slot, so it only
needs a connection to the node that owns this slot. All nodes are asked, and the claim with the highest epoch counts, as
between the nodes themselves: a node that was cut off still names itself.
https://redis.io/docs/latest/operate/oss_and_stack/reference/cluster-spec/
"""

from collections.abc import Callable, Iterable
from typing import Any

import redis
from redis.crc import key_slot

from .locator import Address, Locator

NODES_MAX = 64


class SlotOwner(Locator):
    """Finds the primary that serves the slot of a key."""

    rest_s = 5.0

    def __init__(self, key: str, seeds: Iterable[Address], client_of: Callable[[str, int], redis.Redis]) -> None:
        self._slot = key_slot(key.encode())
        self._seeds = tuple(seeds)
        self._claims: list[tuple[int, Address]] = []  # of nodes to own the slot: epoch, address
        super().__init__(self._seeds, client_of)

    def address(self) -> Address:
        with self._lock:
            if not self._is_fresh():
                self._ask()
            if self._claims:
                return max(self._claims)[1]
            reasons = "; ".join(self._reasons) or "the cluster does not serve it"
            raise redis.ConnectionError(f"No node of the cluster is known to serve slot {self._slot}: {reasons}")

    def _ask(self) -> None:
        claims, any_slot = [], False
        known = set(self._seeds)
        for asked, table in self._ask_each(lambda node: node.execute_command("CLUSTER NODES")):
            for place, about in table.items():
                address = _address(place, about, asked)
                flags = about["flags"].split(",")
                if not {"noaddr", "handshake", "fail"} & set(flags):
                    known.add(address)
                if "master" in flags and about["slots"]:
                    any_slot = True
                    if any(int(each[0]) <= self._slot <= int(each[-1]) for each in about["slots"]):
                        claims.append((int(about["epoch"]), address))
        if any_slot:  # else the previous claims stay
            self._claims = claims
            self._forget(self._clients.keys() - known)
        for address in sorted(known - self._clients.keys())[: NODES_MAX - len(self._clients)]:
            self._clients[address] = self._client_of(*address)


def _address(place: str, about: dict[str, Any], asked: Address) -> Address:
    """Return a node's address from another node's list; its host name, if announced, as certificates may need it."""
    host, _, port = place.rpartition(":")
    return about.get("hostname") or host.strip("[]") or asked[0], int(port)
