"""One queue on a real server, with access to all of its state that tests inspect."""

import dataclasses
import json
import os
import socket
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import redis
from hypothesis import HealthCheck, Phase, settings
from redis.exceptions import OutOfMemoryError
from zeroloss.reference.queue.config import Config
from zeroloss.reference.queue.connection import connect
from zeroloss.reference.queue.consumer import Consumer
from zeroloss.reference.queue.consuming.settling import Claimed
from zeroloss.reference.queue.dead_letters import DeadLetters
from zeroloss.reference.queue.enqueuer import Enqueuer
from zeroloss.reference.queue.enqueuing.submission import Submission
from zeroloss.reference.queue.keys import Keys
from zeroloss.reference.queue.reaper import Reaper
from zeroloss.reference.queue.task import Task, encode

NIGHTLY_TIMEOUT_S = 4 * 3600

_slow_is_fine = [HealthCheck.too_slow, HealthCheck.function_scoped_fixture, HealthCheck.differing_executors]
settings.register_profile("dev", max_examples=25, deadline=None, suppress_health_check=_slow_is_fine)
settings.register_profile("ci", settings.get_profile("dev"), max_examples=50, derandomize=True, database=None)
# For mutants only a failure matters, so examples are not shrunk.
settings.register_profile(
    "mutation", settings.get_profile("ci"), max_examples=10, phases=[Phase.explicit, Phase.generate]
)
settings.register_profile("nightly", settings.get_profile("dev"), max_examples=2_000, print_blob=True)


def load_hypothesis_profile() -> None:
    """Load the profile `HYPOTHESIS_PROFILE`; by default `ci` where `CI` is set, and `dev` elsewhere."""
    settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE") or ("ci" if os.environ.get("CI") else "dev"))


load_hypothesis_profile()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Raise the time limit of each test under `nightly`: 2,000 examples exceed the usual limit."""
    if settings.get_current_profile_name() == "nightly":
        for item in items:
            item.add_marker(pytest.mark.timeout(NIGHTLY_TIMEOUT_S), append=False)


class Queue:
    """The actors of one queue, and a view of its keys. Lists are returned in the order in which tasks are claimed.

    A lease lasts a minute by default. No test waits for its end: `expire` ends it at once.
    """

    def __init__(self, client: redis.Redis, url: str, **settings: Any) -> None:
        defaults = {"redis_url": url, "lease_ms": 60_000, "renew_ms": 20_000, "backoff_ms": 60_000}
        self.client = client
        self.config = Config(**{**defaults, **settings})
        self.keys = Keys(self.config.namespace)
        self.own_client = connect(self.config)  # the queue's own kind of client: no hidden retries
        self.enqueuer = Enqueuer(self.own_client, self.config)
        self.reaper = Reaper(self.own_client, self.config)
        self.dead_letters = DeadLetters(self.own_client, self.config)

    def configured(self, **changes: Any) -> "Queue":
        """Return the same queue with other settings."""
        return Queue(self.client, self.config.redis_url, **{**dataclasses.asdict(self.config), **changes})

    def consumer(self, name: str = "w1") -> Consumer:
        """Return a consumer with a live lease. A known name continues after the highest number it was given."""
        consumer = Consumer(self.own_client, self.config, name)
        consumer.reserve(int(self.client.hget(self.keys.numbers, name) or 0))
        consumer.renew()
        return consumer

    def enqueue(self, *payloads: Any) -> list[str]:
        """Enqueue the payloads and return their ids in order."""
        return [self.enqueuer.enqueue_payload(payload).task_id for payload in payloads]

    def enqueue_text(self, payload_json: str) -> str:
        return self.enqueuer.enqueue(Submission(payload_json=payload_json)).task_id

    def claim(self, consumer: Consumer) -> Task:
        (claimed,) = consumer.claim()
        return Task(claimed.entry, claimed.number)

    def kill(self, consumer: Consumer) -> int:
        """End the consumer's lease and recover its tasks, as after a crash. Return the number of recovered tasks."""
        self.expire(consumer.name)
        return self.reaper.recover(consumer.name)

    def expire(self, name: str = "w1") -> None:
        """End a lease at once."""
        # A script: with full memory the server would refuse a plain ZADD.
        ending = "#!lua flags=allow-oom\nreturn redis.call('ZADD', KEYS[1], 'XX', 1, ARGV[1])"
        self.client.eval(ending, 1, self.keys.consumers, name)

    def dead_lettered(self, payload: Any = None, error: str = "ValueError: no") -> Task:
        """Dead-letter a new task, and return it as its last holder saw it."""
        self.enqueue(payload)
        consumer = self.consumer("undertaker")
        task = self.claim(consumer)
        consumer.dead_letter(Claimed(task.number, task.entry), error)
        consumer.leave()
        return task

    def make_due(self) -> None:
        """Make all delayed tasks due: set their scores to times in the past, in the same order."""
        for score, entry in enumerate(self.delayed(), start=1):
            self.client.zadd(self.keys.delayed, {entry: score}, xx=True)

    def pending(self, priority: str = "default") -> list[bytes]:
        high, default, low = self.keys.lists
        key = {"high": high, "default": default, "low": low}[priority]
        return list(reversed(self.client.lrange(key, 0, -1)))

    def push(self, *entries: bytes) -> None:
        """Push entries to pending, in this order, without ringing the bell, as a user could by hand."""
        self.client.lpush(self.keys.pending, *entries)

    def rings(self) -> bool:
        return self.client.llen(self.keys.bell) == 1

    def held(self, name: str = "w1") -> list[bytes]:
        """Return the consumer's entries, oldest first."""
        held = self.client.hgetall(self.keys.processing(name))
        return [held[number] for number in sorted(held, key=int)]

    def hold(self, name: str, *entries: bytes) -> None:
        """Add entries to a consumer's hash, under numbers from 1, without changing its registry entry."""
        self.client.hset(self.keys.processing(name), mapping=dict(enumerate(entries, start=1)))

    def delayed(self) -> list[bytes]:
        return self.client.zrange(self.keys.delayed, 0, -1)

    def dead(self) -> list[bytes]:
        """Return the dead letters, newest first."""
        return [letter.entry for letter in self.dead_letters.page()]

    def counters(self) -> dict[str, int]:
        return {name.decode(): int(value) for name, value in self.client.hgetall(self.keys.counters).items()}

    def lease_left_ms(self, name: str = "w1") -> float | None:
        """Return the rest of a lease by the server's clock, in ms; negative if it has ended, None without an entry."""
        end_ms = self.client.zscore(self.keys.consumers, name)
        seconds, microseconds = self.client.time()
        return None if end_ms is None else end_ms - seconds * 1000 - microseconds / 1000

    def everything(self) -> dict[str, Any]:
        """Return all keys with their values, for tests that nothing was changed."""
        readers = {
            b"list": lambda key: self.client.lrange(key, 0, -1),
            b"zset": lambda key: self.client.zrange(key, 0, -1, withscores=True),
            b"hash": self.client.hgetall,
            b"string": self.client.get,
            b"stream": self.client.xrange,
        }
        keys = sorted(self.client.scan_iter(match="*", count=1000))
        return {key.decode(): readers[self.client.type(key)](key) for key in keys}


def entry(task_id: str = "t1", payload_json: str = "null", *, task_type: str = "default", **counts: Any) -> bytes:
    """Return an entry as Redis stores it; `counts`: priority, attempt, retries, recoveries, since, salt."""
    head = {"priority": "d", "attempt": 1, "retries": 0, "recoveries": 0, "since": 1_700_000_000_000, "salt": 0}
    words = ",".join(str(value) for value in {**head, **counts}.values())
    return f"{words},;".encode() + encode(task_id=task_id, task_type=task_type, payload_json=payload_json)


def body(each: bytes | Claimed) -> bytes:
    """Return the JSON of an entry, without its header."""
    entry = each if isinstance(each, bytes) else each.entry
    return entry if entry.lstrip().startswith(b"{") else entry.partition(b";")[2]


def read(each: bytes | Claimed) -> Task:
    return Task(each) if isinstance(each, bytes) else Task(each.entry, each.number)


def ids(entries: Iterable[bytes | Claimed]) -> list[str]:
    return [json.loads(body(each))["id"] for each in entries]


def payloads(entries: Iterable[bytes | Claimed]) -> list[Any]:
    return [json.loads(body(each))["payload"] for each in entries]


def raw_payload(each: bytes | Claimed) -> str:
    return bytes(read(each).raw_payload).decode()


@pytest.fixture
def queue(server: Any, client: redis.Redis) -> Iterator[Queue]:
    """An empty queue on each kind of server."""
    made = Queue(client, server.url)
    yield made
    made.own_client.close()


@pytest.fixture
def dead_port() -> Iterator[int]:
    """A loopback port without a listener. It stays bound, so no other process can listen on it."""
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        yield holder.getsockname()[1]


@contextmanager
def memory_full(queue: Queue) -> Iterator[None]:
    queue.client.config_set("maxmemory-policy", "noeviction")
    queue.client.config_set("maxmemory", "1")
    try:
        with pytest.raises(OutOfMemoryError):
            queue.client.set("any", "thing")
        yield
    finally:
        queue.client.config_set("maxmemory", "0")
