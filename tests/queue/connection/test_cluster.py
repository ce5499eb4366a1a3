"""One queue on a Redis Cluster: its connections lead to the current owner of its slot."""

import os
from collections.abc import Iterator
from contextlib import suppress

import pytest
import redis
from redis.crc import key_slot
from redis.exceptions import AskError, MovedError, TryAgainError
from support.waiting import wait_until
from zeroloss.reference.failover.urls import ClusterUrl, read_cluster_url
from zeroloss.reference.queue.client import Queue
from zeroloss.reference.queue.config import Config
from zeroloss.reference.queue.connection import NeverSent, Script, connect
from zeroloss.reference.queue.consumer import Consumer
from zeroloss.reference.queue.enqueuer import Enqueuer
from zeroloss.reference.queue.enqueuing.submission import Submission
from zeroloss.reference.queue.errors import ConfigError, NotAccepted
from zeroloss.reference.queue.keys import Keys
from zeroloss.reference.queue.servers.urls import shown_url
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
    """A stable cluster without data."""
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
    config = config_of(cluster, redis_url=f"redis://127.0.0.1:{cluster.owner(SLOT).port}")  # follows no redirection
    with connect(config) as client:
        enqueuer = Enqueuer(client, config)
        enqueuer.enqueue(Submission("1"))
        cluster.move_slot(SLOT)
        sent = enqueuer.send_requests([[Submission("2")]])
        assert sent is not None
        assert sent.receive() is None
        assert enqueuer.send_requests([[Submission("2")]]) is None, "the connection to the old owner is kept"


class Moving:
    """A slot in migration: some or all of its keys are at the other node already."""

    def __init__(self, cluster: ClusterServer) -> None:
        self.source = cluster.owner(SLOT)
        owners = (cluster.owner(slot) for slot in (0, 8_000, 16_000))
        self.target = next(node for node in owners if node is not self.source)
        self._ids = [node.ask("CLUSTER", "MYID") for node in (self.source, self.target)]
        self.target.ask("CLUSTER", "SETSLOT", SLOT, "IMPORTING", self._ids[0])
        self.source.ask("CLUSTER", "SETSLOT", SLOT, "MIGRATING", self._ids[1])

    def move(self, *keys: str) -> None:
        self.source.ask("MIGRATE", "127.0.0.1", self.target.port, "", 0, 5_000, "KEYS", *keys)

    def move_all(self) -> None:
        while keys := self.source.ask("CLUSTER", "GETKEYSINSLOT", SLOT, 10):
            self.move(*keys)

    def end(self) -> None:
        for node in (self.target, self.source):
            node.ask("CLUSTER", "SETSLOT", SLOT, "NODE", self._ids[1])


@pytest.mark.parametrize(
    ("error", "sentence"),
    [(AskError, "the slot of this queue is being moved"), (TryAgainError, "during rehashing of slot")],
    ids=["ASK", "TRYAGAIN"],
)
def test_a_slot_on_its_way_refuses_each_step_and_runs_none_on_half_of_the_keys(
    cluster: ClusterServer, error: type[Exception], sentence: str
) -> None:
    config = config_of(cluster)
    with Queue.connect(cluster.client_url, namespace=NAMESPACE) as queue, connect(config) as client:
        queue.enqueue("email", 1)
        consumer = Consumer(client, config, "w1")
        consumer.renew()
        moving = Moving(cluster)
        if error is AskError:
            moving.move_all()
        else:
            moving.move(Keys(NAMESPACE).pending, Keys(NAMESPACE).bell)
        with pytest.raises(NotAccepted, match=f"Nothing was accepted: Redis refused.*{sentence}"):
            queue.enqueue("email", 2)
        for step in (consumer.renew, consumer.claim):
            with pytest.raises(error):
                step()
        moving.move_all()
        moving.end()
        queue.enqueue("email", 2)
        with suppress(MovedError):  # the connection leads to the old owner; a worker retries
            consumer.renew()
        consumer.renew()
        assert [Task(each.entry, each.number).payload for _ in range(2) for each in consumer.claim()] == [1, 2]


def test_a_node_that_is_cut_off_says_so_and_is_left_for_the_one_that_serves_its_slot(cluster: ClusterServer) -> None:
    old = cluster.owner(SLOT)
    with Queue.connect(cluster.client_url, namespace=NAMESPACE) as queue:
        queue.enqueue("email", 1)
        cluster.await_replicated(old)
        cluster.cut_off(old)
        try:
            wait_until(lambda: not cluster.accepts(old), 30, "the node does not notice that it is alone")
            wait_until(lambda: is_replaced(cluster, old.port), 30, "no replica is promoted")
            promised = 2
            try:
                queue.enqueue("email", 2)
                promised += 1  # the cached topology was five seconds old, so the client asked the nodes again
            except NotAccepted as error:
                assert "The cluster is down" in str(error)
            queue.enqueue("email", 2)  # on a new connection
        finally:
            cluster.start()
        assert queue.stats().pending == promised


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
