"""A backlog of our own queue, written straight into Redis: the time of a million enqueues is not measured."""

from collections.abc import Iterator
from itertools import islice

import redis

PENDING, BELL = "tasks:pending", "tasks:bell"
STAGED = "bench:staged"
CHUNK = 1_000


def stage(client: redis.Redis, count: int, key: str = STAGED, first: int = 0) -> None:
    """Put `count` tasks into a list where no worker sees them."""
    tasks = elements(count, first)
    while chunk := list(islice(tasks, CHUNK)):
        client.lpush(key, *chunk)


def release(client: redis.Redis, count: int) -> None:
    """Make all staged tasks pending in one step, and ring the bell for waiting workers."""
    pipeline = client.pipeline(transaction=True)
    pipeline.hset("tasks:counters", mapping={"enqueued": count, "completed": 0})
    pipeline.rename(STAGED, PENDING)
    pipeline.delete(BELL)
    pipeline.lpush(BELL, "1")
    pipeline.execute()


def elements(count: int, first: int = 0) -> Iterator[bytes]:
    """Yield entries as the queue itself writes them, all of the same length, with a small payload."""
    for number in range(first, first + count):
        yield b'd,1,0,0,1700000000000,0,;{"id":"%032x","type":"bench","payload":[0,""]}' % number
