"""The rights that docs/acl.md gives to each part suffice on a real server, and each command is needed."""

import re
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import falcon.testing
import pytest
import redis
from support.places import ROOT
from support.processes.worker_process import Pool
from support.queue_fixtures import Queue, entry
from support.waiting import wait_until
from zeroloss.reference.http import producer
from zeroloss.reference.http.readiness import connect_probe
from zeroloss.reference.monitor import app as monitor
from zeroloss.reference.queue.config import Config
from zeroloss.reference.queue.connection import connect, refuse_old_server
from zeroloss.reference.queue.enqueuing.submission import Submission
from zeroloss.reference.queue.protocol import refuse_at_start
from zeroloss.reference.shards import layout, members
from zeroloss.system.servers import Server

PAGE = (ROOT / "docs" / "acl.md").read_text()
RULES = dict(re.findall(r"^ACL SETUSER (\w+) on >SECRET (.+)$", PAGE, re.MULTILINE))
ALWAYS_ALLOWED = {"auth", "hello", "config|resetstat"}  # allowed to all users, and used by this test itself


class Guarded:
    """A server with a user that has the rights of the page."""

    def __init__(self, server: Server, user: str, more: str = "", namespace: str = "tasks") -> None:
        self.server, self.user = server, user
        rules = f"{RULES[user]} {more}".replace("tasks:", f"{namespace}:")
        self.granted = re.findall(r"\+(\S+)", rules)
        self.admin = redis.Redis.from_url(server.url)
        self.admin.execute_command("ACL", "SETUSER", user, "on", ">SECRET", *rules.split())
        self.queue = Queue(self.admin, server.url)
        self.url = server.url.replace("redis://", f"redis://{user}:SECRET@")
        self.config = Config(redis_url=self.url)

    def begin(self) -> None:
        """Reset the command counts."""
        self.admin.config_resetstat()

    def used(self) -> set[str]:
        counted = self.admin.info("commandstats")
        return {name.removeprefix("cmdstat_") for name in counted} - ALWAYS_ALLOWED

    def refused(self) -> list[str]:
        return [entry["object"] for entry in self.admin.acl_log()]


@pytest.fixture
def guard(open_own_server: Callable[..., Server]) -> Iterator[Callable[..., Guarded]]:
    made: list[Guarded] = []

    def guarded(user: str, more: str = "", namespace: str = "tasks") -> Guarded:
        made.append(Guarded(open_own_server("embedded", appendfsync="always"), user, more, namespace))
        return made[-1]

    yield guarded
    for one in made:
        one.queue.own_client.close()
        one.admin.close()


@pytest.mark.parametrize(
    ("durability", "more", "status"), [("memory", "", 202), ("fsync", "+waitaof", 202), ("replicas:1", "+wait", 503)]
)
def test_a_producer_enqueues_and_is_ready_with_its_rights_and_needs_each(
    guard: Callable[..., Guarded], durability: str, more: str, status: int
) -> None:
    """No replica exists here, so the last case answers 503."""
    assert f"`{more}`" in PAGE or not more
    guarded = guard("producer", more)
    guarded.queue.consumer().leave()  # records the protocol
    guarded.begin()
    config = Config(redis_url=guarded.url, durability=durability, durability_timeout_ms=100)
    refuse_at_start(config)
    http = falcon.testing.TestClient(producer.create_app(connect(config), config))
    for _ in range(2):
        answer = http.simulate_post("/task", json={"payload": 1}, headers={"Idempotency-Key": "k"})
        assert answer.status_code == status, answer.text
    later = http.simulate_post("/task", json={"payload": 1, "priority": "low", "delay_ms": 60_000})
    assert later.status_code == status, later.text
    ready = http.simulate_get("/readyz")
    assert ready.status_code == (200 if status == 202 else 503), ready.text
    used = guarded.used()
    assert guarded.refused() == []
    assert used == set(guarded.granted), f"used: {' '.join(f'+{name}' for name in sorted(used))}"


MONITOR_ACTS = "~tasks:pending ~tasks:pending:* ~tasks:bell ~tasks:dead_letter +del +eval +evalsha +lpush +xdel"


@pytest.mark.parametrize("more", ["", MONITOR_ACTS], ids=["looks", "acts"])
def test_a_monitor_does_all_with_its_rights_and_needs_each(guard: Callable[..., Guarded], more: str) -> None:
    assert f"`{more}`" in PAGE or not more
    guarded = guard("monitor", more)
    queue = guarded.queue
    queue.dead_lettered()
    queue.dead_lettered()
    queue.client.zadd(queue.keys.delayed, {entry("later"): 1e15})
    queue.enqueue("a", "b")
    queue.claim(queue.consumer())
    (letter, other) = [each.id for each in queue.dead_letters.page()]
    guarded.begin()
    refuse_old_server(guarded.config)
    http = falcon.testing.TestClient(monitor.create_app(connect_probe(guarded.config), guarded.config))
    stats = http.simulate_get("/stats")
    assert (stats.status_code, stats.json["unreadable"]) == (200, {}), stats.text
    series = http.simulate_get("/series")
    assert (series.status_code, series.json["unreadable"]) == (200, {}), series.text
    looks = ("tasks/pending", "tasks/delayed", "tasks/processing?consumer=w1", f"letters/{letter}")
    for path in ("metrics", "vanished", "letters", *looks):
        assert http.simulate_get(f"/{path}").status_code == 200
    if more:
        assert http.simulate_post("/letters/requeue", json={"ids": [letter]}).json["done"] == 1
        assert http.simulate_post("/letters/purge", json={"ids": [other]}).json["done"] == 1
        while queue.pending():  # empties the list, so that the bell is removed, too
            queue.claim(queue.consumer())
        queue.client.lpush(queue.keys.bell, "1")
        assert http.simulate_post("/letters/requeue", json={"ids": [letter]}).json["done"] == 0
    used = guarded.used()
    assert guarded.refused() == []
    assert set(guarded.granted) <= used, f"used: {' '.join(f'+{name}' for name in sorted(used))}"


def test_a_monitor_that_only_looks_is_refused_to_act(guard: Callable[..., Guarded]) -> None:
    guarded = guard("monitor")
    guarded.queue.dead_lettered()
    (letter,) = [each.id for each in guarded.queue.dead_letters.page()]
    http = falcon.testing.TestClient(monitor.create_app(connect_probe(guarded.config), guarded.config))
    for verb in ("requeue", "purge"):
        answer = http.simulate_post(f"/letters/{verb}", json={"ids": [letter]})
        assert answer.status_code == 503
        assert "Redis refuses" in answer.json["detail"]
    assert len(guarded.queue.dead()) == 1


def test_a_worker_does_all_that_it_ever_does_with_its_rights_and_needs_each(
    guard: Callable[..., Guarded], tmp_path: Path
) -> None:
    """Run, retry, dead-letter, recover and leave. The log shows progress: queries of Redis would add to the counts."""
    guarded = guard("worker")
    queue = guarded.queue
    victim = queue.consumer("victim")
    queue.enqueue("of the victim")
    queue.claim(victim)
    queue.expire("victim")
    queue.enqueue("plain")
    for task_type in ("sleep", "unknown"):
        queue.enqueuer.enqueue(Submission(payload_json='"x"', task_type=task_type))
    queue.push(b"\xff")
    queue.enqueuer.enqueue_payload(3, task_type="sleep")
    guarded.begin()
    pool = Pool(
        queue.configured(redis_url=guarded.url),
        tmp_path / "worker.log",
        *("--app", "zeroloss.reference.demo", "--threads", "1"),
        ZEROLOSS_LEASE_MS="3000",
        ZEROLOSS_RENEW_MS="100",
        ZEROLOSS_SWEEP_MS="20",
        ZEROLOSS_BLOCK_MS="20",
        ZEROLOSS_BACKOFF_MS="1",
        ZEROLOSS_MAX_RETRIES="1",
    )
    try:
        for shown in ("'of the victim'", "'plain'", "attempt 2, goes to the dead-letter", "unknown"):
            wait_until(lambda shown=shown: pool.said(shown), timeout_s=30, message=shown)
        pool.one_child().kill()
        queue.enqueue("after")  # only with commands that the worker has used already
        wait_until(lambda: pool.said("'after'"), timeout_s=30)
        wait_until(lambda: "blpop" in guarded.used(), message="nobody waits for the bell")
        pool.signal(signal.SIGTERM)
        assert pool.wait(30) == 0
    finally:
        print(pool.log.read_text()[-3000:])
        pool.end()
    used = guarded.used()
    assert guarded.refused() == []
    assert used == set(guarded.granted), f"used: {' '.join(f'+{name}' for name in sorted(used))}"


SHARDED = {
    "producer": "~{tasks-*}:shards",
    "worker": "~{tasks-*}:shards ~{tasks-*}:moving +set +zcount +zcard",
}


def test_a_producer_enqueues_on_several_shards_with_its_rights_and_those_for_shards(
    guard: Callable[..., Guarded],
) -> None:
    assert f"`{SHARDED['producer']}`" in PAGE
    guarded = guard("producer", SHARDED["producer"], "{tasks-*}")
    for shard in layout.shard_configs(Config(redis_url=guarded.server.url, shards=2)):
        noted = guarded.queue.configured(namespace=shard.namespace)
        noted.consumer().leave()  # records the protocol
        noted.own_client.close()
    guarded.begin()
    config = Config(redis_url=guarded.url, shards=2)
    members.refuse_at_start(config)
    http = falcon.testing.TestClient(producer.create_app(None, config))
    answer = http.simulate_post("/tasks", json=[{"payload": n} for n in range(4)])
    assert answer.status_code == 202, answer.text
    for number in range(8):  # enough to reach each shard
        answer = http.simulate_post("/task", json={"payload": 1}, headers={"Idempotency-Key": f"k{number}"})
        assert answer.status_code == 202, answer.text
    assert http.simulate_get("/readyz").status_code == 200
    used = guarded.used()
    assert guarded.refused() == []
    assert used <= set(guarded.granted)


def test_a_worker_attends_several_shards_with_its_rights_and_those_for_shards(
    guard: Callable[..., Guarded], tmp_path: Path
) -> None:
    """One process serves two shards, so it must move."""
    assert f"`{SHARDED['worker']}`" in PAGE
    guarded = guard("worker", SHARDED["worker"], "{tasks-*}")
    for shard in layout.shard_configs(Config(redis_url=guarded.server.url, shards=2)):
        queue = guarded.queue.configured(namespace=shard.namespace)
        queue.enqueuer.enqueue_payload(shard.namespace)
        queue.own_client.close()
    guarded.begin()
    pool = Pool(
        guarded.queue.configured(redis_url=guarded.url),
        tmp_path / "worker.log",
        *("--app", "zeroloss.reference.demo", "--threads", "1", "--shards", "2"),
        ZEROLOSS_BLOCK_MS="20",
    )
    try:
        for name in ("{tasks-0}", "{tasks-1}"):
            wait_until(lambda name=name: pool.said(f"'{name}'"), timeout_s=30, message=name)
        pool.signal(signal.SIGTERM)
        assert pool.wait(30) == 0
    finally:
        print(pool.log.read_text()[-3000:])
        pool.end()
    used = guarded.used()
    assert guarded.refused() == []
    assert {"zcount", "set"} <= used <= set(guarded.granted), f"used: {sorted(used)}"
