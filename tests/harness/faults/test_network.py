"""Faults of the network between workers and server: the proxy's counts prove each one, and it heals afterwards."""

import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry
from support.fault_stage import BUSY, Scene, Traffic
from support.runs import carry_out
from support.waiting import wait_until
from zeroloss.checker.verdicts import Fate, Verdict
from zeroloss.faults import FAULTS, Missed
from zeroloss.faults.client.reply_loss import ClientReplyLoss
from zeroloss.faults.network.disconnect import NetDisconnect
from zeroloss.faults.network.latency import NetLatency
from zeroloss.faults.network.partition import NetPartition
from zeroloss.faults.network.reply_loss import NetReplyLoss
from zeroloss.faults.network.reply_reset import NetReplyReset
from zeroloss.faults.network.reset import NetReset
from zeroloss.faults.network.silence import NetSilence
from zeroloss.faults.network.throttle import NetThrottle
from zeroloss.history import Run, load
from zeroloss.plan.plan import make_plan
from zeroloss.plan.requests import PlanError, parse_faults
from zeroloss.system.network import Network, measure
from zeroloss.system.processes import spawn
from zeroloss.system.proxy import Link, Proxy
from zeroloss.system.servers import Server

SPEAKS = """
import os, time, redis
from redis.backoff import NoBackoff
from redis.retry import Retry
from zeroloss.ledger import effect
client = redis.Redis.from_url(URL, socket_timeout=0.1, retry=Retry(NoBackoff(), 0))
number = 0
while True:
    number += 1
    with effect(f"task-{os.getpid()}-{number}"):
        try:
            client.incr(KEY)
        except redis.RedisError:
            pass
        time.sleep(0.01)
"""


@pytest.fixture
def network(embedded: Server) -> Iterator[Network]:
    """A proxied network with two slots."""
    with Network(embedded.url, 2) as made:
        yield made
    assert made.proxy.failure is None


@pytest.fixture
def client(embedded: Server) -> Iterator[redis.Redis]:
    """A client that bypasses the proxy."""
    with redis.Redis.from_url(embedded.url) as connected:
        connected.flushall()
        yield connected


@pytest.fixture
def talkers(scene: Scene, network: Network, client: redis.Redis) -> list[str]:
    """The keys of two workers that send commands all the time; each worker increments its own key."""
    keys = ["worker-0", "worker-1"]
    scene.workers(
        *(
            SPEAKS.replace("URL", repr(listener.url)).replace("KEY", repr(key))
            for listener, key in zip(network.listeners, keys, strict=True)
        )
    )
    wait_until(lambda: all(grown(client, key) for key in keys))
    return keys


def grown(client: redis.Redis, key: str) -> int:
    return int(client.get(key) or 0)


def grows(client: redis.Redis, *keys: str) -> None:
    before = {key: grown(client, key) for key in keys}
    wait_until(lambda: all(grown(client, key) > before[key] for key in keys), message="a worker is not heard any more")


def test_one_worker_is_cut_off_and_the_other_goes_on_and_afterwards_both_do(
    scene: Scene, network: Network, client: redis.Redis, talkers: list[str]
) -> None:
    before = [grown(client, key) for key in talkers]
    effect = scene.play(NetPartition(for_s=1.5), network=network)
    assert "cut off for 1.5 s: the proxy held back" in effect.evidence
    assert "held back 0 bytes to the server" not in effect.evidence
    assert effect.tasks
    assert len(effect.pids) == 1
    assert scene.pool
    cut = next(number for number, worker in enumerate(scene.pool.living()) if worker.pid in effect.pids)
    assert network.listeners[1 - cut].to_server.held_bytes == 0
    assert grown(client, talkers[1 - cut]) > before[1 - cut]
    grows(client, *talkers)


def test_a_connection_dies_without_a_word_and_a_new_connection_works(
    scene: Scene, network: Network, client: redis.Redis, talkers: list[str]
) -> None:
    effect = scene.play(NetSilence(for_s=0.5), network=network)
    sent, answered = re.findall(r"([\d,]+)(?= bytes to the server| from it)", effect.evidence)
    assert (sent, answered) != ("0", "0")
    grows(client, *talkers)


def test_neither_end_of_a_silent_connection_hears_that_the_other_has_hung_up(
    network: Network, client: redis.Redis
) -> None:
    listener = network.listeners[0]
    with redis.Redis.from_url(listener.url, socket_timeout=0.2, retry=Retry(NoBackoff(), 0)) as worker:
        worker.client_setname("silent")
        assert listener.silence() == 1
        with pytest.raises(redis.TimeoutError):
            worker.ping()
    names = [one["name"] for one in client.client_list()]
    assert "silent" in names
    assert listener.silence() == 0


def test_a_command_whose_reply_the_worker_does_not_hear_is_executed(
    scene: Scene, network: Network, client: redis.Redis, talkers: list[str]
) -> None:
    effect = scene.play(NetPartition(for_s=1.5, way="to-worker", workers="all"), network=network)
    assert "All 2 workers cut off" in effect.evidence
    assert "held back 0 bytes to the server" in effect.evidence
    assert all(listener.to_worker.held_bytes for listener in network.listeners)
    grows(client, *talkers)


def test_a_partition_lasts_longer_than_the_target_takes_to_recover_by_default(
    scene: Scene, network: Network, talkers: list[str]
) -> None:
    effect = scene.play(NetPartition(), network=network, recover_within_s=0.2)
    assert "cut off for 1.3 s" in effect.evidence


@pytest.mark.parametrize(
    "fault", [NetPartition(for_s=0.1), NetLatency(for_s=0.1), NetThrottle(for_s=0.1), NetReset(patience_s=0.1),
              NetReplyReset(patience_s=0.1), NetReplyLoss(for_s=0.1), NetSilence(for_s=0.1)],
    ids=lambda fault: fault.name,
)  # fmt: skip
def test_where_nothing_passes_nothing_was_hit(scene: Scene, network: Network, fault: NetPartition) -> None:
    scene.workers(BUSY, BUSY)
    wait_until(lambda: scene.ledger.poll() or scene.ledger.seen)
    with pytest.raises(Missed):
        scene.play(fault, network=network)
    assert [listener.link.clear for listener in network.listeners] == [True, True]


def test_without_a_proxy_there_is_no_way_to_hit_at(scene: Scene) -> None:
    scene.workers(BUSY)
    with pytest.raises(Missed, match="do not go through the proxy"):
        scene.play(NetPartition())


@pytest.mark.parametrize(
    "fault", [NetLatency(for_s=1.5, delay_ms=10, jitter_ms=10), NetThrottle(for_s=1.5, bytes_per_s=5_000)],
    ids=lambda fault: fault.name,
)  # fmt: skip
def test_a_slow_way_is_seen_by_what_came_late(
    scene: Scene, network: Network, client: redis.Redis, talkers: list[str], fault: NetLatency
) -> None:
    effect = scene.play(fault, network=network)
    assert "ms late on average" in effect.evidence
    assert all(listener.to_server.late_bytes and listener.to_worker.late_bytes for listener in network.listeners)
    assert [listener.link for listener in network.listeners] == [Link(), Link(seed=1)]
    grows(client, *talkers)


def test_a_reply_is_cut_in_its_middle_and_the_worker_speaks_again(
    scene: Scene, network: Network, client: redis.Redis, talkers: list[str]
) -> None:
    effect = scene.play(NetReplyReset(), network=network)
    assert "was reset after" in effect.evidence
    assert sum(len(listener.cut) for listener in network.listeners) == 1
    grows(client, *talkers)


def test_a_command_that_comes_no_more_is_given_up_for_another(
    scene: Scene, network: Network, client: redis.Redis, talkers: list[str]
) -> None:
    for listener in network.listeners:
        network.proxy.call(lambda listener=listener: listener._counts.update({("*", "NEVER"): 10**12}))
    effect = scene.play(NetReplyReset(), network=network)
    assert "was reset after" in effect.evidence
    assert "NEVER" not in effect.evidence
    grows(client, *talkers)


def test_a_share_of_the_replies_is_cut_and_the_worker_speaks_again(
    scene: Scene, network: Network, client: redis.Redis, talkers: list[str]
) -> None:
    effect = scene.play(NetReplyLoss(share=0.5, for_s=1.5), network=network)
    cut = [number for listener in network.listeners for number in listener.cut]
    told = re.search(r"(\d+) replies broke off with their connections within 1\.5 s", effect.evidence)
    assert told
    assert all(0 < relayed < size for relayed, size in cut)
    answered = sum(
        count for listener in network.listeners for (role, _), count in listener.counts().items() if role == "*"
    )
    # replies under way at the end of the fault are cut too, after the count
    assert 1 < int(told[1]) <= len(cut) < answered
    grows(client, *talkers)


def test_connections_are_reset_and_counted_and_the_worker_speaks_again(
    scene: Scene, network: Network, client: redis.Redis, talkers: list[str]
) -> None:
    effect = scene.play(NetReset(workers="all"), network=network)
    assert "All 2 workers: the proxy reset 2 open connections." in effect.evidence
    grows(client, *talkers)


@pytest.mark.container
def test_a_container_is_taken_off_its_network_and_is_the_same_at_the_same_port_afterwards(
    scene: Scene, docker: None, open_own_server: Callable[..., Server]
) -> None:
    server = open_own_server("container", appendfsync=None)
    scene.workers(BUSY)
    with Traffic(server, lambda client: client.incr("a")) as traffic:
        wait_until(lambda: traffic.acknowledged)
        effect = scene.play(NetDisconnect(for_s=1.5), server)
        before = traffic.acknowledged
        wait_until(lambda: traffic.acknowledged > before)
        assert traffic.failed
    assert "is the same afterwards" in effect.evidence
    assert effect.pids


def test_a_server_without_a_network_of_its_own_cannot_be_taken_off_it(scene: Scene, embedded: Server) -> None:
    scene.workers(BUSY)
    with pytest.raises(Missed, match="This fault needs a server in a container"):
        scene.play(NetDisconnect(for_s=0.1), embedded)
    with pytest.raises(PlanError, match="use --redis container"):
        make_plan(
            seed=1, target="reference", server="embedded", appendfsync="off", workers=1, tasks=1,
            faults=parse_faults("net-disconnect", None),
        )  # fmt: skip


def test_the_proxys_cost_is_measured_and_reported(embedded: Server) -> None:
    with Proxy(embedded.url) as proxy:
        cost = measure(embedded.url, proxy, probes=20)
    assert cost.direct_ms > 0
    assert cost.through_ms > 0
    assert f"{cost.through_ms:.3f} ms there and {cost.direct_ms:.3f} ms directly (medians of 20" in cost.sentence


def test_the_proxy_is_not_put_before_a_server_that_it_cannot_stand_before() -> None:
    with pytest.raises(PlanError, match="redis:// URLs only"):
        make_plan(
            seed=1, target="reference", server="unix:///tmp/redis.sock", appendfsync="off", workers=1, tasks=1,
            faults=parse_faults("net-partition", None),
        )  # fmt: skip


def test_the_faults_of_the_network_are_the_ones_that_need_the_proxy() -> None:
    assert {name for name, fault in FAULTS.items() if fault.through_proxy} == {
        "net-partition", "net-latency", "net-throttle", "net-reply-reset", "net-reply-loss", "net-reset",
        "net-silence", "client-reply-loss",
    }  # fmt: skip


def test_a_run_puts_the_proxy_before_every_worker_and_says_what_it_costs(tmp_path: Path) -> None:
    outcome = carry_out(tmp_path, "reference", "net-reply-reset:count=2,net-reset:count=2", tasks=400)
    assert outcome.failure is None
    result = outcome.result
    assert (result.verdict, result.because) == (Verdict.PASS, result.because)
    assert set(result.fates.values()) <= {Fate.DONE, Fate.DUPLICATE, Fate.DEAD}
    assert next(one.count for one in result.situations if one.name == "reply-lost") == 2
    assert any("through the proxy: a PING takes" in note for note in result.notes)
    begin = next(event for event in load(tmp_path / "run") if isinstance(event, Run))
    assert begin.network["probes"] > 0


def test_a_run_without_such_a_fault_goes_past_the_proxy(tmp_path: Path) -> None:
    assert carry_out(tmp_path, "brpop", "none", tasks=5).failure is None
    begin = next(event for event in load(tmp_path / "run") if isinstance(event, Run))
    assert begin.network is None


def test_replies_to_those_who_submit_break_off_and_those_to_workers_do_not(
    scene: Scene, network: Network, client: redis.Redis, talkers: list[str]
) -> None:
    submits = SPEAKS.replace("URL", repr(network.client_url("producer"))).replace("KEY", repr("submitted"))
    process = spawn([sys.executable, "-c", submits], role="producer", log_path=scene.directory / "producer.log")
    try:
        wait_until(lambda: grown(client, "submitted"))
        effect = scene.play(ClientReplyLoss(share=0.5, for_s=0.5), network=network, workload_over=lambda: False)
        told = re.fullmatch(r"(\d+) replies to clients were cut, with their connections\.", effect.evidence)
        assert told
        assert 1 <= int(told[1]) <= len(network.clients["producer"].cut)
        assert not any(listener.cut for listener in network.listeners)
        grows(client, "submitted")
    finally:
        process.kill_session()


def test_where_all_is_submitted_no_reply_to_a_client_can_be_lost(scene: Scene, network: Network) -> None:
    network.client_url("producer")
    with pytest.raises(Missed, match="No reply was due"):
        scene.play(ClientReplyLoss(for_s=0.1), network=network, workload_over=lambda: True)
    with pytest.raises(Missed, match="do not go through the proxy"):
        scene.play(ClientReplyLoss())


def test_only_those_who_submit_go_through_the_proxy_for_a_fault_of_theirs(tmp_path: Path) -> None:
    outcome = carry_out(tmp_path, "reference", "client-reply-loss:share=0.9", tasks=90)
    assert outcome.result.verdict is Verdict.PASS, outcome.result.because
    assert not any("through the proxy" in note for note in outcome.result.notes)
