"""Drain and recovery with a growing backlog.

A backlog of a thousand tasks is drained too fast to be timed. So each backlog is held at its size: every few ms claimed
tasks are replaced from a stock, at any size, and the rate of completed tasks is read meanwhile.
"""

import statistics
import time
from functools import partial

import redis
from zeroloss.reference import Config
from zeroloss.reference.queue.reaper import Reaper

from ..backlog import PENDING, elements, stage
from ..context import Context
from ..errors import BenchError
from ..peers import OURS
from ..queues import Queue
from ..rows import number

SIZES = (1_000, 10_000, 100_000, 1_000_000)
QUICK_SIZES = (1_000, 100_000)
DRAIN, RECOVERY = "drain, backlog of", "recovery of a dead worker's full share, backlog of"
FIGURES = {DRAIN: "tasks/s", RECOVERY: "ms"}

SHARE = Config().ahead + Config().threads
RECOVERIES = 20
STOCK = "bench:stock"
HOLD_S, QUICK_HOLD_S = 1.5, 0.7
WARM_S = 0.5
TOP_UP_S = 0.002

# KEYS  pending, stock
# ARGV  the size
_TOP_UP = """
local missing = ARGV[1] - redis.call('LLEN', KEYS[1])
while missing > 0 do
  local some = redis.call('RPOP', KEYS[2], math.min(missing, 1000))
  if not some then return redis.error_reply('the stock is empty') end
  redis.call('LPUSH', KEYS[1], unpack(some))
  missing = missing - #some
end
"""


def measure(context: Context) -> dict[int, list[dict[str, float]]]:
    """Return size -> its rounds."""
    sizes = QUICK_SIZES if context.quick else SIZES
    subjects = {f"backlog of {size:,}": partial(_round, size, context) for size in sizes}
    found = context.interleaved(
        subjects, lambda each: f"{number(each[DRAIN])} tasks/s, recovery {number(each[RECOVERY])} ms"
    )
    return {size: found[name] for size, name in zip(sizes, subjects, strict=True) if name in found}


def _round(size: int, context: Context) -> dict[str, float]:
    client = context.empty_server()
    stage(client, size, key=PENDING)
    recovery_ms = statistics.median(_recovery_ms(client, number, context) for number in range(RECOVERIES))
    return {RECOVERY: recovery_ms, DRAIN: _drain(client, size, context)}


def _recovery_ms(client: redis.Redis, number: int, context: Context) -> float:
    """Measure one sweep that finds a dead worker with its full share of tasks."""
    dead = f"dead-{number}"
    held = dict(enumerate(elements(SHARE, first=1 << 60 | number << 16), start=1))
    client.hset(f"tasks:processing:{dead}", mapping=held)
    client.zadd("tasks:consumers", {dead: 1})
    reaper = Reaper(client, Config(redis_url=context.server.url))
    began = time.perf_counter()
    recovered = reaper.sweep().recovered
    ms = (time.perf_counter() - began) * 1000
    if recovered != SHARE:
        raise BenchError(f"{recovered} tasks were recovered where {SHARE} were held")
    return ms


def _drain(client: redis.Redis, size: int, context: Context) -> float:
    hold_s = QUICK_HOLD_S if context.quick else HOLD_S
    stage(client, int((hold_s + WARM_S) * OURS.rate * 2), key=STOCK, first=1 << 61)
    top_up = client.register_script(_TOP_UP)
    with context.processes.running(*Queue(OURS, context).worker()) as worker:
        context.wait_until(lambda: _done(client) > 0, worker)
        samples = []
        until = time.monotonic() + WARM_S
        for phase_s in (hold_s, 0.0):
            while time.monotonic() < until:
                top_up(keys=[PENDING, STOCK], args=[size])
                time.sleep(TOP_UP_S)
            samples.append((time.monotonic(), _done(client)))
            until += phase_s
    (began, before), (ended, after) = samples
    return (after - before) / (ended - began)


def _done(client: redis.Redis) -> int:
    return int(client.hget("tasks:counters", "completed") or 0)
