"""A Redis Cluster under test, and the faults that need one."""

import functools
from collections.abc import Iterator
from pathlib import Path

import pytest
from redis.crc import key_slot
from support.fault_stage import Scene
from zeroloss.faults import Missed
from zeroloss.faults.cluster.partition import ClusterPartition
from zeroloss.faults.cluster.primary_sigkill import ClusterPrimarySigkill
from zeroloss.faults.cluster.reshard import ClusterReshard
from zeroloss.plan.plan import make_plan
from zeroloss.plan.requests import PlanError, parse_faults
from zeroloss.system.servers import ClusterServer, Server, open_server
from zeroloss.system.servers.cluster import ClusterNode


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClusterServer]:
    with open_server("cluster", appendfsync=None, directory=tmp_path_factory.mktemp("cluster")) as server:
        assert isinstance(server, ClusterServer)
        yield server


def test_a_slot_that_is_moved_away_and_back_keeps_its_keys(cluster: ClusterServer, scene: Scene) -> None:
    owner = cluster.owner(8_000)
    for number in range(5):
        owner.ask("SET", f"{{{tag_of(8_000)}}}:{number}", "value")
    assert cluster.busiest_slot() == (8_000, 5)
    effect = scene.play(ClusterReshard(away_s=0.0), cluster)
    assert effect.evidence.startswith(f"Slot 8000 with 5 keys went from port {owner.port} to port ")
    assert cluster.owner(8_000) is owner
    assert owner.ask("CLUSTER", "COUNTKEYSINSLOT", 8_000) == 5


def test_a_killed_primary_of_a_cluster_is_replaced_by_its_replica_and_comes_back_as_one(
    cluster: ClusterServer, scene: Scene
) -> None:
    slot, count = cluster.busiest_slot()
    old = cluster.owner(slot)
    effect = scene.play(ClusterPrimarySigkill(follow_s=0.0), cluster)
    assert f"The primary of slot {slot} on port {old.port} exited with status -9 while " in effect.evidence
    assert cluster.owner(slot) is not old
    assert cluster.busiest_slot() == (slot, count)
    assert old.ask("INFO", "replication")["role"] == "slave"


def test_a_primary_that_is_cut_off_writes_alone_then_refuses_and_loses_what_it_alone_had(
    cluster: ClusterServer, scene: Scene
) -> None:
    slot, _ = cluster.busiest_slot()
    old = cluster.owner(slot)
    cut_off = ClusterServer.cut_off

    def write_alone(server: ClusterServer, node: ClusterNode) -> None:
        cut_off(server, node)
        node.ask("SET", f"{{{tag_of(slot)}}}:alone", "value")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ClusterServer, "cut_off", write_alone)
        effect = scene.play(ClusterPartition(follow_s=0.0), cluster)
    assert f"The primary of slot {slot} on port {old.port} was cut off from the other nodes while " in effect.evidence
    assert "went on to 0 bytes" not in effect.evidence
    new = cluster.owner(slot)
    assert new is not old
    assert new.ask("GET", f"{{{tag_of(slot)}}}:alone") is None
    assert old.ask("INFO", "replication")["role"] == "slave"


@functools.cache
def tag_of(slot: int) -> str:
    return next(tag for tag in map(str, range(10**6)) if key_slot(tag.encode()) == slot)


@pytest.mark.container
def test_a_cluster_in_a_container_each_is_divided_and_heals(docker: None, tmp_path: Path, scene: Scene) -> None:
    with open_server("cluster-container", appendfsync=None, directory=tmp_path) as server:
        assert isinstance(server, ClusterServer)
        server.owner(8_000).ask("SET", tag_of(8_000), "value")
        scene.play(ClusterReshard(away_s=0.0), server)
        effect = scene.play(ClusterPartition(follow_s=0.0), server)
        assert effect.evidence.startswith("The primary of slot 8000 on port ")
        assert server.owner(8_000).ask("GET", tag_of(8_000)) == "value"


@pytest.mark.parametrize(
    "fault", [ClusterReshard(), ClusterPrimarySigkill(), ClusterPartition()], ids=lambda fault: fault.name
)
def test_a_fault_of_a_cluster_takes_no_effect_on_one_server(
    fault: ClusterReshard | ClusterPrimarySigkill | ClusterPartition, embedded: Server, scene: Scene
) -> None:
    with pytest.raises(Missed, match="This fault needs a cluster"):
        scene.play(fault, embedded)


@pytest.mark.parametrize(
    ("faults", "server", "sentence"),
    [
        ("cluster-reshard", "embedded", "needs a cluster: use --redis cluster"),
        ("cluster-primary-sigkill", "sentinel", "needs a cluster: use --redis cluster"),
        ("server-sigkill", "cluster", "is for one server"),
        ("server-sigkill", "cluster-container", "is for one server"),
        ("net-latency", "cluster", "supports one server only"),
        ("primary-sigkill", "cluster", "use --redis sentinel"),
    ],
)
def test_a_fault_that_does_not_fit_a_cluster_is_refused(faults: str, server: str, sentence: str) -> None:
    with pytest.raises(PlanError, match=sentence):
        make_plan(
            seed=1, target="reference", server=server, appendfsync="always", workers=1, tasks=10,
            faults=parse_faults(faults, None),
        )  # fmt: skip
