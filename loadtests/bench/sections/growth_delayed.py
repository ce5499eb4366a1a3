"""Promotion with a growing number of retries that are due at the same moment."""

import statistics
import time
from collections.abc import Iterator
from functools import partial
from itertools import islice

from zeroloss.reference import Config
from zeroloss.reference.queue.reaper import Reaper

from ..backlog import elements
from ..context import Context
from ..errors import BenchError
from ..rows import number

SIZES = (1_000, 10_000, 100_000)
PROMOTION = "promotion, due tasks:"
FIGURES = {PROMOTION: "tasks/s"}
CHUNK = 1_000
REPEATED = 20_000


def measure(context: Context) -> dict[int, list[dict[str, float]]]:
    """Return size -> its rounds."""
    subjects = {f"{PROMOTION} {size:,}": partial(_round, size, context) for size in SIZES}
    found = context.interleaved(subjects, lambda each: f"{number(each[PROMOTION])} tasks/s")
    return {size: found[name] for size, name in zip(SIZES, subjects, strict=True) if name in found}


def _round(size: int, context: Context) -> dict[str, float]:
    """Return the median of several promotions: more of them for a small size, as these are short."""
    return {PROMOTION: statistics.median(_rate(size, context) for _ in range(max(1, REPEATED // size)))}


def _rate(size: int, context: Context) -> float:
    client = context.empty_server()
    for due in _chunks(size):
        client.zadd("tasks:delayed", due)
    reaper = Reaper(client, Config(redis_url=context.server.url))
    began = time.perf_counter()
    promoted = reaper.promote()
    seconds = time.perf_counter() - began
    if promoted != size:
        raise BenchError(f"{promoted} tasks were promoted where {size} were due")
    return size / seconds


def _chunks(size: int) -> Iterator[dict[bytes, int]]:
    """Yield tasks with due times: long ago, each a ms after the previous one."""
    tasks = enumerate(elements(size), start=1)
    while chunk := list(islice(tasks, CHUNK)):
        yield {element: due_ms for due_ms, element in chunk}
