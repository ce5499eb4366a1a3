"""The assignment of worker processes to shards: N processes anywhere cover N shards, also after kills."""

import dataclasses
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator

import pytest
import redis
from support.processes.worker_process import Pool
from support.queue_fixtures import Queue
from support.waiting import wait_until
from zeroloss.reference.queue.config import Config
from zeroloss.reference.queue.keys import Keys
from zeroloss.reference.shards.balance import Balance
from zeroloss.reference.shards.layout import shard_configs
from zeroloss.reference.shards.members import ASK_TIMEOUT_S
from zeroloss.system.servers import Server

SHARDS = 3
MANY = 16
COVERED_S = 20.0  # documented time to cover all shards, with the default lease


@pytest.fixture
def config(queue: Queue) -> Config:
    return dataclasses.replace(queue.config, shards=SHARDS)


@pytest.fixture
def shards(queue: Queue, config: Config) -> Iterator[list[Queue]]:
    """Each shard as a separate queue."""
    made = [queue.configured(namespace=each.namespace) for each in shard_configs(config)]
    yield made
    for each in made:
        each.own_client.close()


def test_a_process_goes_where_the_fewest_are_and_then_where_most_waits(config: Config, shards: list[Queue]) -> None:
    balance = Balance(config)
    shards[0].consumer("a")
    shards[2].enqueue(1)
    assert balance.choose([]).namespace == "{tasks-2}"
    assert balance.choose(["{tasks-2}"]).namespace == "{tasks-1}"
    assert Counter(balance.choose(["{tasks-2}", "{tasks-1}"] * 2).namespace for _ in range(5)) == {"{tasks-0}": 5}


def test_a_pool_that_starts_many_at_once_covers_all_shards(config: Config) -> None:
    balance, attended = Balance(config), []
    for _ in range(2 * SHARDS):
        attended.append(balance.choose(attended).namespace)
    assert set(Counter(attended).values()) == {2}


def test_a_process_is_moved_only_where_work_has_no_worker_and_it_can_be_spared(
    queue: Queue, config: Config, shards: list[Queue]
) -> None:
    def relocation(*attended: str) -> str | None:
        queue.client.delete(*[f"{each.namespace}:moving" for each in shard_configs(config)])
        return Balance(config).relocation(attended)

    shards[0].consumer("a")
    assert relocation("{tasks-0}") is None  # no work and no other process
    shards[1].enqueue(1)
    assert relocation("{tasks-0}") == "{tasks-0}"  # no task waits on its own shard
    shards[0].enqueue(1)
    assert relocation("{tasks-0}") is None  # moving would leave work without a worker
    shards[0].consumer("b")
    assert relocation("{tasks-0}") == "{tasks-0}"
    shards[1].consumer("c")
    assert relocation("{tasks-0}") == "{tasks-0}"  # two processes are here, and the third shard has none
    assert relocation("{tasks-0}", "{tasks-2}") is None  # a process is on its way to the third shard
    shards[2].consumer("d")
    assert relocation("{tasks-0}") is None


def test_two_pools_do_not_move_a_process_to_the_same_shard_at_once(config: Config, shards: list[Queue]) -> None:
    for name in ("a", "b"):
        shards[0].consumer(name)
        shards[1].consumer(name)
    one, other = Balance(config), Balance(config)
    assert one.relocation(["{tasks-0}", "{tasks-1}"]) is not None
    assert other.relocation(["{tasks-0}", "{tasks-1}"]) is None


def test_the_tasks_that_a_dead_worker_held_are_work_too(config: Config, shards: list[Queue]) -> None:
    balance = Balance(config)
    shards[0].consumer("a")
    dead = shards[1].consumer("dead")
    shards[1].enqueue(1)
    shards[1].claim(dead)
    shards[1].expire("dead")
    assert balance.relocation(["{tasks-0}"]) == "{tasks-0}"


def test_shards_that_hang_are_waited_for_at_the_same_time(open_own_server: Callable[..., Server]) -> None:
    server = open_own_server(appendfsync=None)
    balance = Balance(Config(redis_url=server.url, shards=MANY))
    balance.choose([])
    server.pause()
    for ask in (balance.choose, balance.relocation):
        began = time.monotonic()
        ask([])
        assert time.monotonic() - began < MANY * ASK_TIMEOUT_S / 2
    server.resume()


def test_a_pool_whose_shards_all_hang_ends_within_seconds_of_its_signal(
    start_pool: Callable[..., Pool], open_own_server: Callable[..., Server]
) -> None:
    server = open_own_server(appendfsync=None)
    settings = {"REDIS_URL": server.url, "ZEROLOSS_SHARDS": str(MANY), "ZEROLOSS_BLOCK_MS": "200"}
    pool = start_pool("--processes", "1", **settings)
    with redis.Redis.from_url(server.url) as client:
        wait_until(lambda: client.keys("*:consumers"), 60, "the pool does not start")
    server.pause()
    wait_until(lambda: pool.said("is left out"), 30, "the shards are not asked")
    pool.signal(signal.SIGTERM)
    pool.wait(MANY * ASK_TIMEOUT_S / 2)
    server.resume()


def living(queue: Queue, config: Config) -> list[int]:
    """Return the number of consumers with a live lease for each shard."""
    seconds, _ = queue.client.time()
    keys = [Keys(each.namespace).consumers for each in shard_configs(config)]
    return [int(queue.client.zcount(key, seconds * 1000, "+inf")) for key in keys]


def test_pools_cover_all_shards_and_one_takes_over_when_another_is_killed(
    start_pool: Callable[..., Pool], queue: Queue, config: Config, shards: list[Queue]
) -> None:
    """Two processes in each pool: after the kill of a pool, one process moves, since no task waits on its own shard."""
    settings = {"ZEROLOSS_SHARDS": str(SHARDS), "ZEROLOSS_LEASE_MS": "1500", "ZEROLOSS_RENEW_MS": "500"}
    settings["ZEROLOSS_BLOCK_MS"] = "200"
    first, second = (start_pool("--processes", "2", **settings) for _ in range(2))
    wait_until(lambda: sum(living(queue, config)) >= 4, 60, "the pools do not start")  # slow on a busy machine
    wait_until(lambda: min(living(queue, config)) > 0, COVERED_S, "a shard has no worker")
    children = first.children()
    for process in [first.process, *children]:
        process.send_signal(signal.SIGKILL)
    for shard in shards:
        shard.enqueue(1)
    wait_until(
        lambda: [shard.counters().get("dead_lettered", 0) for shard in shards] == [1] * SHARDS,
        COVERED_S,
        "a shard with work has no worker",
    )
    assert second.process.poll() is None
