"""A Redis Cluster under test, and the faults that need one."""

from collections.abc import Iterator

import pytest
from support.fault_stage import Scene
from zeroloss.faults import Missed
from zeroloss.faults.cluster.primary_sigkill import ClusterPrimarySigkill
from zeroloss.faults.cluster.reshard import ClusterReshard
from zeroloss.plan.plan import make_plan
from zeroloss.plan.requests import PlanError, parse_faults
from zeroloss.system.servers import ClusterServer, Server, open_server


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClusterServer]:
    with open_server("cluster", appendfsync=None, directory=tmp_path_factory.mktemp("cluster")) as server:
        assert isinstance(server, ClusterServer)
        yield server


def test_a_slot_that_is_moved_away_and_back_keeps_its_keys(cluster: ClusterServer, scene: Scene) -> None:
    owner = cluster.owner(8_000)
    keys = [f"{{{tag}}}:{number}" for tag in range(60) for number in range(5)]
    for key in keys:
        if cluster.owner(owner.ask("CLUSTER", "KEYSLOT", key)) is owner:
            owner.ask("SET", key, "value")
    slot, count = cluster.busiest_slot()
    assert count == 5
    effect = scene.play(ClusterReshard(away_s=0.0), cluster)
    assert effect.evidence.startswith(f"Slot {slot} with 5 keys went from port {owner.port} to port ")
    assert cluster.owner(slot) is owner
    assert owner.ask("CLUSTER", "COUNTKEYSINSLOT", slot) == 5


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


@pytest.mark.parametrize("fault", [ClusterReshard(), ClusterPrimarySigkill()], ids=lambda fault: fault.name)
def test_a_fault_of_a_cluster_takes_no_effect_on_one_server(
    fault: ClusterReshard | ClusterPrimarySigkill, embedded: Server, scene: Scene
) -> None:
    with pytest.raises(Missed, match="Only a cluster "):
        scene.play(fault, embedded)


@pytest.mark.parametrize(
    ("faults", "server", "sentence"),
    [
        ("cluster-reshard", "embedded", "needs a cluster: use --redis cluster"),
        ("cluster-primary-sigkill", "sentinel", "needs a cluster: use --redis cluster"),
        ("server-sigkill", "cluster", "is for one server"),
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
