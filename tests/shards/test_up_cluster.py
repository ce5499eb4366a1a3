"""`up --redis cluster`: a cluster, producer, monitor and workers by one command."""

import json
import urllib.request
from pathlib import Path

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


def test_data_of_a_cluster_that_up_starts_cannot_be_kept(tmp_path: Path) -> None:
    system = Up(tmp_path / "up.log", "--redis", "cluster", "--data", str(tmp_path / "kept"))
    assert system.process.wait(30) == 2
    assert "--data is for one server" in system.said()
