"""The dead-letter stream with a growing number of letters."""

import random
import statistics
import time
from collections.abc import Callable, Iterator
from functools import partial
from itertools import islice

import redis
from zeroloss.reference import Config
from zeroloss.reference.queue.dead_letters import DeadLetters

from ..backlog import elements
from ..context import Context
from ..errors import BenchError
from ..rows import number

SIZES = (1_000, 10_000, 100_000, 1_000_000)
QUICK_SIZES = (1_000, 100_000)
PAGE, REQUEUE = "a page of 100, dead letters in all", "requeueing one task, dead letters in all"
FIGURES = {PAGE: "ms", REQUEUE: "ms"}
CHUNK = 1_000
REPEATS = 20
REPEAT_S = 1.0  # no more repeats after that


def measure(context: Context) -> dict[int, list[dict[str, float]]]:
    """Return size -> its rounds. The streams are made once, and each round takes a few letters from them."""
    sizes = QUICK_SIZES if context.quick else SIZES
    client = context.empty_server()
    for size in sizes:
        _bury(client, size)
    subjects = {}
    for size in sizes:
        ids = (f"{number_ + 1}-0" for number_ in random.sample(range(size), REPEATS * context.rounds))
        subjects[f"dead letters: {size:,}"] = partial(_round, size, ids, context)
    found = context.interleaved(
        subjects, lambda each: f"a page {number(each[PAGE])} ms, requeueing one {number(each[REQUEUE])} ms"
    )
    return {size: found[name] for size, name in zip(sizes, subjects, strict=True) if name in found}


def _bury(client: redis.Redis, size: int) -> None:
    letters = enumerate(elements(size), start=1)
    while chunk := list(islice(letters, CHUNK)):
        with client.pipeline(transaction=False) as pipeline:
            for number_, entry in chunk:
                fields = {"entry": entry, "reason": "failed", "error": "ValueError: what the handler said"}
                pipeline.xadd(f"dead-{size}:dead_letter", fields, id=f"{number_}-0")
            pipeline.execute()


def _round(size: int, ids: Iterator[str], context: Context) -> dict[str, float]:
    """Measure one round. `ids`: distinct letters from anywhere in the stream."""
    config = Config(redis_url=context.server.url, namespace=f"dead-{size}")
    letters = DeadLetters(redis.Redis.from_url(context.server.url), config)

    def page() -> None:
        if len(letters.page(100)) != 100:
            raise BenchError("the page was not full")

    def requeue() -> None:
        if letters.requeue(next(ids)) != 1:
            raise BenchError("a dead task was not requeued")

    return {PAGE: _median_ms(page), REQUEUE: _median_ms(requeue)}


def _median_ms(act: Callable[[], None]) -> float:
    found: list[float] = []
    until = time.monotonic() + REPEAT_S
    while len(found) < REPEATS and (not found or time.monotonic() < until):
        began = time.perf_counter()
        act()
        found.append((time.perf_counter() - began) * 1000)
    return statistics.median(found)
