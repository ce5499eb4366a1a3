"""One queue on a Redis Cluster: its connections lead to the node that owns its slot, wherever that is."""

import os
from collections.abc import Iterator

import pytest
import redis
from redis.crc import key_slot
from support.waiting import wait_until
from zeroloss.reference.queue.client import Queue
from zeroloss.reference.queue.config import Config
from zeroloss.reference.queue.connection import NeverSent, Script, connect
from zeroloss.reference.queue.consumer import Consumer
from zeroloss.reference.queue.enqueuer import Enqueuer
from zeroloss.reference.queue.enqueuing.submission import Submission
from zeroloss.reference.queue.errors import ConfigError, NotAccepted
from zeroloss.reference.queue.keys import Keys
from zeroloss.reference.queue.servers.urls import ClusterUrl, read_cluster_url, shown_url
from zeroloss.reference.queue.task import Task
from zeroloss.system.servers import ClusterServer, open_server

NAMESPACE = "{tasks}"
SLOT = key_slot(NAMESPACE.encode())
PING = Script("return redis.call('PING')")


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClusterServer]:
    with open_server("cluster", appendfsync=None, directory=tmp_path_factory.mktemp("cluster")) as server:
        assert isinstance(server, ClusterServer)
        yield server


@pytest.fixture
def cluster(opened: ClusterServer) -> ClusterServer:
    """Settled and empty."""
    opened.start()
    for node in {opened.owner(slot).port: opened.owner(slot) for slot in (0, 8_000, 16_000)}.values():
        node.ask("FLUSHALL")
    return opened


def port_reached(client: redis.Redis) -> int:
    return int(client.info("server")["tcp_port"])


def config_of(cluster: ClusterServer, **settings: object) -> Config:
    return Config(**{"redis_url": cluster.client_url, "namespace": NAMESPACE, **settings})


@pytest.mark.parametrize(
    ("url", "read"),
    [
        ("redis+cluster://a:1,b", ClusterUrl((("a", 1), ("b", 6379)), "redis://node/0")),
        ("redis+cluster://me:p@[::1]:1/0", ClusterUrl((("::1", 1),), "redis://me:p@node/0")),
        ("rediss+cluster://a?ssl_ca_certs=/c", ClusterUrl((("a", 6379),), "rediss://node/0?ssl_ca_certs=%2Fc")),
    ],
)
def test_the_url_of_a_cluster_names_nodes_and_one_login(url: str, read: ClusterUrl) -> None:
    assert read_cluster_url(url) == read


@pytest.mark.parametrize(
    ("url", "sentence"),
    [
        ("redis+cluster://", "name at least one node"),
        ("redis+cluster://a:0", "a port is a number"),
        ("redis+cluster://a/1", "database 0 only"),
        ("redis+cluster://a?db=1", "database 0 only"),
        ("redis+cluster://:secret/secret@a", "percent codes"),
        ("redis+cluster://a?socket_timeout=1", "The option 'socket_timeout' of redis_url "),
        ("redis+cluster://a", "no hash tag"),
    ],
)
def test_a_cluster_url_that_is_invalid_is_refused_by_one_sentence(url: str, sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence) as caught:
        connect(Config(redis_url=url))
    assert "secret" not in str(caught.value)
    assert "secret" not in shown_url(url)


def test_a_client_reaches_the_owner_of_its_slot_from_any_node(cluster: ClusterServer) -> None:
    for node in cluster.nodes:
        with connect(config_of(cluster, redis_url=f"redis+cluster://127.0.0.1:{node.port}")) as client:
            assert port_reached(client) == cluster.owner(SLOT).port


def test_a_task_passes_through_a_queue_on_a_cluster(cluster: ClusterServer) -> None:
    config = config_of(cluster)
    with Queue.connect(cluster.client_url, namespace=NAMESPACE) as queue, connect(config) as client:
        accepted = queue.enqueue("email", 1, idempotency_key="k")
        consumer = Consumer(client, config, "w1")
        consumer.renew()
        settlement = consumer.claim_waiting(consumer.reserve(1), 100)
        (claimed,) = settlement.claimed
        assert Task(claimed.entry, claimed.number).id == accepted.task_id
        consumer.settle([claimed.number], 0)
        assert queue.stats().counters["completed"] == 1


def test_a_producer_goes_on_at_once_when_its_slot_has_moved(cluster: ClusterServer) -> None:
    with Queue.connect(cluster.client_url, namespace=NAMESPACE) as queue:
        for number in range(2):
            queue.enqueue("email", number, idempotency_key=f"k{number}")
            source, target = cluster.move_slot(SLOT)
            assert source is not target
            assert queue.enqueue("email", number, idempotency_key=f"k{number}").replayed
        assert queue.stats().pending == 2


def test_a_request_that_was_sent_to_the_slot_s_old_owner_did_nothing(cluster: ClusterServer) -> None:
    config = config_of(cluster, redis_url=f"redis://127.0.0.1:{cluster.owner(SLOT).port}")  # which follows nothing
    with connect(config) as client:
        enqueuer = Enqueuer(client, config)
        enqueuer.enqueue(Submission("1"))
        cluster.move_slot(SLOT)
        sent = enqueuer.send_requests([[Submission("2")]])
        assert sent is not None
        assert sent.receive() is None
        assert enqueuer.send_requests([[Submission("2")]]) is None, "the connection to the old owner is kept"


def test_a_slot_on_its_way_refuses_each_step_and_runs_none_on_half_of_the_keys(cluster: ClusterServer) -> None:
    source = cluster.owner(SLOT)
    with Queue.connect(cluster.client_url, namespace=NAMESPACE) as queue:
        queue.enqueue("email", 1)
        target = next(node for node in (cluster.owner(slot) for slot in (0, 8_000, 16_000)) if node is not source)
        source_id, target_id = source.ask("CLUSTER", "MYID"), target.ask("CLUSTER", "MYID")
        target.ask("CLUSTER", "SETSLOT", SLOT, "IMPORTING", source_id)
        source.ask("CLUSTER", "SETSLOT", SLOT, "MIGRATING", target_id)
        source.ask("MIGRATE", "127.0.0.1", target.port, Keys(NAMESPACE).pending, 0, 5_000)
        with pytest.raises(NotAccepted, match="refused"):
            queue.enqueue("email", 2)
        while keys := source.ask("CLUSTER", "GETKEYSINSLOT", SLOT, 10):
            source.ask("MIGRATE", "127.0.0.1", target.port, "", 0, 5_000, "KEYS", *keys)
        with pytest.raises(NotAccepted, match="refused"):
            queue.enqueue("email", 2)
        for node in (target, source):
            node.ask("CLUSTER", "SETSLOT", SLOT, "NODE", target_id)
        queue.enqueue("email", 2)
        assert queue.stats().pending == 2


def test_a_killed_owner_is_followed_to_its_replica_and_a_down_cluster_is_a_definite_no(cluster: ClusterServer) -> None:
    old = cluster.owner(SLOT)
    with Queue.connect(cluster.client_url, namespace=NAMESPACE) as queue:
        queue.enqueue("email", 1)
        old.kill()
        with pytest.raises(NotAccepted):
            queue.enqueue("email", 2)
        wait_until(lambda: is_replaced(cluster, old.port), 30, "no replica is promoted")
        wait_until(lambda: accepts(queue), 2.0, "the producer keeps to the old owner")


def is_replaced(cluster: ClusterServer, old_port: int) -> bool:
    try:
        return cluster.owner(SLOT).port != old_port
    except Exception:  # noqa: BLE001  the vote is under way
        return False


def accepts(queue: Queue) -> bool:
    try:
        return bool(queue.enqueue("email", 3))
    except NotAccepted:
        return False


def test_a_forked_child_has_connections_of_its_own_to_the_cluster(cluster: ClusterServer) -> None:
    with connect(config_of(cluster)) as client:
        mine = client.client_id()
        child = os.fork()
        if child == 0:
            os._exit(0 if client.client_id() != mine else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert client.client_id() == mine


def test_a_command_is_never_sent_where_no_node_answers(dead_port: int) -> None:
    config = Config(redis_url=f"redis+cluster://127.0.0.1:{dead_port}", namespace=NAMESPACE)
    with connect(config) as client, pytest.raises(NeverSent, match=f"serve slot {SLOT}"):
        PING(client, [], [])
