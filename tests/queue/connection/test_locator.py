"""The search for a server among nodes that come and go, without real nodes."""

from types import SimpleNamespace
from typing import Any

import pytest
import redis
from zeroloss.reference.failover import locator
from zeroloss.reference.failover.cluster import SlotOwner

SEED = ("seed", 6379)
ALL_SLOTS = [["0", "16383"]]


class Cluster:
    """Nodes, by address, that answer with the same table; `asked` and `closed` list hosts in order."""

    def __init__(self) -> None:
        self.table: dict[str, Any] = {}
        self.silent: dict[str, float] = {}  # host -> seconds that a question to it takes
        self.now = 0.0
        self.asked: list[str] = []
        self.closed: list[str] = []

    def names(self, *hosts: str) -> None:
        """Let the nodes name these hosts, each as the owner of all slots in a later epoch."""
        self.table = {
            f"{host}:6379": {"hostname": "", "flags": "master", "slots": ALL_SLOTS, "epoch": str(epoch)}
            for epoch, host in enumerate(hosts)
        }

    def client(self, host: str, _port: int) -> Any:
        return SimpleNamespace(execute_command=lambda _: self._answer(host), close=lambda: self.closed.append(host))

    def _answer(self, host: str) -> dict[str, Any]:
        self.asked.append(host)
        if host in self.silent:
            self.now += self.silent[host]
            raise redis.TimeoutError(f"{host} drops packets")
        return self.table


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Cluster:
    made = Cluster()
    monkeypatch.setattr(locator, "time", SimpleNamespace(monotonic=lambda: made.now))
    return made


@pytest.fixture
def owner(cluster: Cluster) -> SlotOwner:
    return SlotOwner("key", [SEED], cluster.client)


def test_a_node_whose_address_changes_is_always_found_and_its_old_addresses_are_forgotten(
    cluster: Cluster, owner: SlotOwner
) -> None:
    hosts = [f"pod-{number}" for number in range(100)]
    for host in hosts:
        cluster.names(host)
        owner.doubt()
        assert owner.address() == (host, 6379)
    assert set(owner._clients) == {SEED, ("pod-99", 6379)}
    assert cluster.closed == hosts[:-1]


def test_an_address_that_left_without_an_answer_does_not_rest_when_it_returns(
    cluster: Cluster, owner: SlotOwner
) -> None:
    cluster.silent = {"pod": 0.3}
    for hosts in (["pod"], ["pod"], ["other"], ["pod"]):
        cluster.names(*hosts)
        owner.doubt()
        owner.address()
    cluster.asked.clear()
    owner.doubt()
    owner.address()
    assert cluster.asked == ["seed", "pod"]


def test_a_node_that_knows_of_no_slots_makes_no_other_forgotten(cluster: Cluster, owner: SlotOwner) -> None:
    cluster.names("a", "b")
    assert owner.address() == ("b", 6379)
    for about in cluster.table.values():
        about["slots"] = []
    del cluster.table["a:6379"]
    owner.doubt()
    assert owner.address() == ("b", 6379)
    assert set(owner._clients) == {SEED, ("a", 6379), ("b", 6379)}


def test_a_round_in_which_no_node_answers_makes_none_forgotten(cluster: Cluster, owner: SlotOwner) -> None:
    cluster.names("a")
    owner.address()
    cluster.silent = {"seed": 0.3, "a": 0.3}
    owner.doubt()
    assert owner.address() == ("a", 6379)
    assert set(owner._clients) == {SEED, ("a", 6379)}
    assert cluster.closed == []


def test_an_address_that_did_not_answer_rests_from_the_end_of_its_question_on(
    cluster: Cluster, owner: SlotOwner
) -> None:
    gone = [f"gone-{number:02}" for number in range(30)]
    cluster.names(*gone, "b")
    owner.address()
    cluster.silent = dict.fromkeys(gone, owner.rest_s / 20)  # a round takes longer than the rest
    cluster.asked.clear()
    for _ in range(2):
        owner.doubt()
        owner.address()
    assert set(cluster.asked[32:]) <= {"seed", "b", *gone[:10]}
