"""`up --redis cluster` starts a cluster, the producer, the monitor and workers."""

import json
import urllib.request
from pathlib import Path

import psutil
import redis
from support.processes.up import Up
from support.waiting import wait_until


def stats(system: Up) -> dict[str, object]:
    with urllib.request.urlopen(f"{system.addresses()['monitor']}/stats") as answer:
        found: dict[str, object] = json.load(answer)
        return found


def test_up_starts_a_cluster_whose_shards_share_the_tasks_and_ends_it(tmp_path: Path) -> None:
    system = Up(tmp_path / "up.log", "--redis", "cluster")
    try:
        wait_until(lambda: "worker    5 threads" in system.said() and len(system.addresses()) == 2, 60)
        assert system.redis_url().startswith("redis+cluster://127.0.0.1:")
        for number in range(6):
            system.post(payload=number)
        wait_until(lambda: stats(system)["counters"]["completed"] == 6, 60, "the tasks do not run")  # type: ignore[index]
        shards = stats(system)["shards"]
        assert isinstance(shards, dict)
        assert {name: shard["counters"]["completed"] for name, shard in shards.items()} == {
            "{tasks-0}": 2,
            "{tasks-1}": 2,
            "{tasks-2}": 2,
        }
    finally:
        system.end()


def accepted(system: Up, number: int) -> bool:
    try:
        system.post(payload=number)
    except urllib.error.HTTPError as refused:
        assert refused.code == 503
        return False
    return True


def test_a_node_that_is_killed_takes_only_its_shards_from_a_cluster_that_up_started(tmp_path: Path) -> None:
    system = Up(tmp_path / "up.log", "--redis", "cluster")
    try:
        wait_until(lambda: "5 threads in each of 3 processes, for --shards 3" in system.said(), 60)
        wait_until(lambda: len(system.addresses()) == 2, 20)
        nodes = [each for each in psutil.Process(system.process.pid).children() if "valkey" in each.name()]
        ports = system.redis_url().removeprefix("redis+cluster://").split(",")
        with redis.Redis.from_url(f"redis://{ports[0]}") as client:
            assert client.config_get("cluster-require-full-coverage") == {"cluster-require-full-coverage": "no"}
        nodes[2].kill()
        sentence = f"The node {ports[2]} ended with status -9; its shards refuse tasks, and the others go on."
        wait_until(lambda: sentence in system.said(), 10)
        # Until the other nodes agree that it failed, tasks for its shard are refused.
        for number in range(6):
            wait_until(lambda number=number: accepted(system, number), 20, "no task is accepted")  # type: ignore[misc]
        wait_until(lambda: system.said().count("attempt 1") >= 6, 30, "the tasks do not run")
        assert "stopping the rest" not in system.said()
        nodes[1].kill()  # one of three nodes is not a majority, and refuses all tasks
        wait_until(lambda: f"The node {ports[1]} ended with status -9; stopping the rest." in system.said(), 10)
        assert system.process.wait(60) == 2
    finally:
        system.end()


def test_data_of_a_cluster_that_up_starts_cannot_be_kept(tmp_path: Path) -> None:
    system = Up(tmp_path / "up.log", "--redis", "cluster", "--data", str(tmp_path / "kept"))
    assert system.process.wait(30) == 2
    assert "--data needs a single server" in system.said()
