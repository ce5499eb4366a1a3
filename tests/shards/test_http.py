"""The producer's apps and the monitor with several shards."""

import asyncio
import dataclasses
import json
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Callable
from typing import Any

import falcon.testing
import jsonschema
import pytest
import redis
from support.processes.over_http import assert_problem
from support.queue_fixtures import Queue as Seen
from support.queue_fixtures import entry
from zeroloss.reference.http import producer, producer_asgi
from zeroloss.reference.http.sharded import ShardedGroupCommit
from zeroloss.reference.monitor import app as monitor
from zeroloss.reference.queue.client import Queue
from zeroloss.reference.queue.config import Config
from zeroloss.reference.queue.connection import connect
from zeroloss.reference.queue.enqueuer import Enqueuer
from zeroloss.reference.queue.enqueuing.submission import Accepted, Submission
from zeroloss.reference.queue.errors import ConfigError
from zeroloss.reference.queue.keys import Keys
from zeroloss.reference.shards import members, spread
from zeroloss.reference.shards.layout import Layout, shard_configs, shard_of
from zeroloss.system.servers import Server

SHARDS = 3
NAMES = [f"{{tasks-{number}}}" for number in range(SHARDS)]


@pytest.fixture
def config(queue: Seen) -> Config:
    return dataclasses.replace(queue.config, shards=SHARDS)


@pytest.fixture(params=[producer, producer_asgi], ids=["wsgi", "asgi"])
def producer_of(request: pytest.FixtureRequest) -> Callable[[Config], falcon.testing.TestClient]:
    return lambda config: falcon.testing.TestClient(request.param.create_app(None, config))


@pytest.fixture
def http(config: Config) -> falcon.testing.TestClient:
    return falcon.testing.TestClient(monitor.create_app(None, config))


def key_of(number: int) -> str:
    """Return a key that belongs to this shard."""
    return next(key for key in map(str, range(1_000)) if shard_of(key, SHARDS) == number)


def read(http: falcon.testing.TestClient, path: str) -> Any:
    answer = http.simulate_get(path)
    assert answer.status_code == 200, answer.text
    return answer.json


def test_the_producer_answers_each_task_of_a_batch_and_shows_each_shard(
    queue: Seen, config: Config, producer_of: Callable[[Config], falcon.testing.TestClient]
) -> None:
    http = producer_of(config)
    ready, described = read(http, "/readyz"), read(http, "/openapi.json")["paths"]["/readyz"]["get"]
    assert ready["shards"] == dict.fromkeys(NAMES, "ready")
    jsonschema.validate(ready, described["responses"]["200"]["content"]["application/json"]["schema"])
    queue.client.set(Keys(NAMES[1]).pending, "no list")
    body = json.dumps([{"payload": number} for number in range(40)])
    answer = http.simulate_post(
        "/tasks", body=body, headers={"Content-Type": "application/json", "Idempotency-Key": "k"}
    )
    assert answer.status_code == 207, answer.text
    refused = [index for index in range(40) if shard_of(f"k\t{index}", SHARDS) == 1]
    assert [index for index, each in enumerate(answer.json["results"]) if each["status"] == "refused"] == refused
    assert (answer.json["queued"], answer.json["refused"]) == (40 - len(refused), len(refused))
    for _ in range(SHARDS):
        assert http.simulate_post("/task", json={"payload": 1}).status_code == 202
    assert "no list" not in str(read(http, "/readyz")["shards"][NAMES[0]])
    assert read(http, "/readyz")["shards"][NAMES[1]] != "ready"


def test_no_shard_of_a_server_that_is_gone_is_ready(
    dead_port: int, producer_of: Callable[[Config], falcon.testing.TestClient]
) -> None:
    config = Config(redis_url=f"redis://127.0.0.1:{dead_port}/0", shards=2)
    http = producer_of(config)
    assert http.simulate_get("/readyz").status_code == 503
    assert http.simulate_post("/task", json={"payload": 1}).json["type"].endswith("not-accepted")
    with Queue.connect(config.redis_url, shards=2) as connected, pytest.raises(redis.ConnectionError):
        connected.stats()
    assert falcon.testing.TestClient(monitor.create_app(None, config)).simulate_get("/stats").status_code == 503


@pytest.fixture
def recorded(queue: Seen, config: Config) -> Config:
    """Shards that are one more than the parts were started with while Redis was away."""
    members.Shards(dataclasses.replace(config, shards=SHARDS + 1)).agree()
    return config


OTHER_NUMBER = f"is one of {SHARDS + 1}, not of {SHARDS}"


def test_a_producer_of_another_number_of_shards_is_not_ready_and_says_why(
    recorded: Config,
    producer_of: Callable[[Config], falcon.testing.TestClient],
    caplog: pytest.LogCaptureFixture,
) -> None:
    http = producer_of(recorded)
    answer = http.simulate_get("/readyz")
    assert_problem(answer, 503, "No task can be accepted: ", OTHER_NUMBER, kind="redis-refuses")
    assert int(answer.headers["retry-after"]) > 0
    assert http.simulate_post("/task", json={"payload": 1}).json["type"].endswith("not-accepted")
    assert caplog.records == []


@pytest.mark.parametrize("path", ["/stats", "/letters", "/letters/0%2F1-1"])
def test_a_monitor_of_another_number_of_shards_shows_nothing_and_says_why(recorded: Config, path: str) -> None:
    answer = falcon.testing.TestClient(monitor.create_app(None, recorded)).simulate_get(path)
    assert_problem(answer, 503, OTHER_NUMBER, "set ZEROLOSS_SHARDS to that")


def test_the_metrics_of_a_monitor_of_another_number_of_shards_are_that_it_reads_nothing(recorded: Config) -> None:
    answer = falcon.testing.TestClient(monitor.create_app(None, recorded)).simulate_get("/metrics")
    assert (answer.status_code, answer.text.splitlines()[-1]) == (200, "zeroloss_up 0.0")


def test_a_walk_over_the_shards_makes_the_settings_of_each_once(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Config] = []
    check = Config.__post_init__
    monkeypatch.setattr(Config, "__post_init__", lambda made_now: (made.append(made_now), check(made_now)))
    shards = members.Shards(Config(shards=256))
    each = members.EachShard(shards, lambda config: config.namespace)
    for _ in range(2):
        assert dict(each) == {name: name for name in each}
    assert len(made) == 1 + 256  # the first has them all
    shards.layout = Layout(2, 3)
    assert list(each) == list(each.values()) == ["{tasks-0}", "{tasks-1}", "{tasks-2}"]
    assert "{tasks-3}" not in each


def test_a_shard_that_hangs_delays_no_task_of_another_one(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as hanging:
        url = f"redis://127.0.0.1:{hanging.getsockname()[1]}/0"
        configs = shard_configs(config)
        configs[1] = dataclasses.replace(configs[1], redis_url=url)
        for module in (spread, members):
            monkeypatch.setattr(module, "shard_config", lambda _, number: configs[number])

        async def ask() -> None:
            group = ShardedGroupCommit(config, 6)

            def enqueue(number: int) -> Any:
                return asyncio.ensure_future(group.enqueue([Submission("1", idempotency_key=key_of(number))]))

            stuck = enqueue(1)
            for _ in range(5):
                outcomes = await asyncio.gather(enqueue(0), enqueue(2))
                assert all(isinstance(outcome, Accepted) for (outcome,) in outcomes)
            assert not stuck.done()
            stuck.cancel()

        asyncio.run(ask())


def test_the_monitor_shows_sums_and_says_which_shard_is_unattended(
    queue: Seen, config: Config, http: falcon.testing.TestClient
) -> None:
    for number in (1, 2):
        queue.configured(namespace=NAMES[number]).push(*[entry(f"{number}-{each}") for each in range(number)])
    queue.configured(namespace=NAMES[1]).consumer("w1")
    stats = read(http, "/stats")
    assert stats["pending"] == stats["pending_by_priority"]["default"] == 3
    assert [stats["shards"][name]["pending"] for name in NAMES] == [0, 1, 2]
    assert stats["paused"] is False
    titles = [trouble["title"] for trouble in stats["troubles"]]
    assert titles == [f"No worker attends {NAMES[2]}", "Tasks wait too long"]
    assert 'zeroloss_pending_tasks{priority="default"} 3.0' in http.simulate_get("/metrics").text


def test_tasks_are_listed_by_shard_and_those_held_by_their_consumer(
    queue: Seen, http: falcon.testing.TestClient
) -> None:
    last = queue.configured(namespace=NAMES[2])
    last.push(entry("held"), entry("waiting"))
    last.claim(last.consumer("w1"))
    assert read(http, "/tasks/pending")["total"] == 0
    assert [task["id"] for task in read(http, "/tasks/pending?shard=%7Btasks-2%7D")["tasks"]] == ["waiting"]
    assert [task["id"] for task in read(http, "/tasks/processing?consumer=w1")["tasks"]] == ["held"]
    assert read(http, "/series")["queue"] == NAMES[0]
    assert read(http, "/series?shard=%7Btasks-2%7D")["queue"] == NAMES[2]
    refusal = http.simulate_get("/series?shard=tasks")
    assert (refusal.status_code, refusal.json["detail"]) == (400, f"shard must be one of {', '.join(NAMES)}.")


def test_dead_letters_and_vanished_consumers_of_all_shards_are_one_list(
    queue: Seen, http: falcon.testing.TestClient
) -> None:
    fields = {"reason": "failed", "error": "ValueError: no", "traceback": "", "consumer": "w1"}
    for name in NAMES:
        keys = Keys(name)
        queue.client.xadd(keys.dead_letter, {"entry": entry(f"of {name}", attempt=2), **fields})
        queue.client.xadd(keys.vanished, {"consumer": f"w of {name}", "about": "", "recovered": 1, "dead_lettered": 0})
    assert {one["consumer"] for one in read(http, "/vanished")["vanished"]} == {f"w of {name}" for name in NAMES}
    letters = read(http, "/letters")["letters"]
    assert {letter["id"] for letter in letters} == {f"of {name}" for name in NAMES}
    first, second, third = (letter["letter"] for letter in letters)
    quoted = first.replace("/", "%2F")
    assert read(http, f"/letters/{quoted}")["id"] == letters[0]["id"]
    for verb, each in (("requeue", first), ("purge", second)):
        assert http.simulate_post(f"/letters/{verb}", json={"ids": [each]}).json == {"done": 1, "unreadable": 0}
    assert http.simulate_get(f"/letters/{quoted}").status_code == 404
    assert [letter["letter"] for letter in read(http, "/letters")["letters"]] == [third]
    for wrong in ("9/1-1", "1/x", "1-1", "x/1-1"):
        assert http.simulate_get("/letters", params={"before": wrong}).status_code == 400


@pytest.mark.parametrize("server", ["waitress", "asgi"])
def test_the_command_of_each_server_spreads_what_it_promises_over_the_shards(embedded: Server, server: str) -> None:
    command = [sys.executable, "-m", "zeroloss.reference", "producer", "--port", "0", "--server", server]
    command += ["--shards", str(SHARDS), "--redis", embedded.url]
    with redis.Redis.from_url(embedded.url) as client:
        client.flushall()
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            try:
                assert process.stdout is not None
                url = process.stdout.readline().rpartition(" ")[2].strip()
                for _ in range(SHARDS):
                    request = urllib.request.Request(f"{url}/task", b'{"payload": 1}')
                    request.add_header("Content-Type", "application/json")
                    with urllib.request.urlopen(request) as answer:
                        assert answer.status == 202
            finally:
                process.terminate()
        assert [client.llen(Keys(name).pending) for name in NAMES] == [1] * SHARDS
        assert client.llen("tasks:pending") == 0


def test_settings_of_several_shards_are_refused_with_a_client_of_one_queue(config: Config) -> None:
    with connect(config) as client:
        for make in (producer.create_app, producer_asgi.create_app, monitor.create_app, Queue, Enqueuer):
            with pytest.raises(ConfigError, match="shards"):
                make(client, config)
    alone = dataclasses.replace(config, shards=1)
    for make in (producer.create_app, producer_asgi.create_app, monitor.create_app):
        with pytest.raises(ConfigError, match="shards"):
            make(None, alone)
