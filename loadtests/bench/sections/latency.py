"""Latency without a backlog: from just before a task is sent to the start of its handler."""

import math
import time
from collections.abc import Callable
from functools import partial

from ..context import Context
from ..marks import Marks
from ..peers import OURS, PEERS
from ..queues import Queue, equipped
from ..rows import AtLeast, Row, number, ratio

RATES = {50: 3.0, 500: 2.0}  # tasks/s -> duration in seconds
QUICK_RATES = {50: 1.0, 500: 0.5}
WARM = 20  # first tasks, not counted: the client connects with them, and the worker imports
PERCENTILES = (50, 99)
LATE_S = 3.0  # wait after the last task was sent; a task that has not begun by then counts as never begun

Latencies = dict[tuple[int, int], float]
"""(tasks/s, percentile) -> ms"""


def measure(context: Context) -> list[Row]:
    queues = equipped((OURS, *PEERS), context)
    subjects: dict[str, Callable[[], Latencies]] = {queue.name: partial(_round, queue, context) for queue in queues}
    found = context.interleaved(subjects, _shown)
    rows = []
    for rate, percentile in ((rate, percentile) for rate in RATES for percentile in PERCENTILES):
        figures = {name: [latencies[rate, percentile] for latencies in rounds] for name, rounds in found.items()}
        rows += _rows(f"p{percentile} at {rate} tasks/s", figures)
    return rows


def _rows(figure: str, found: dict[str, list[float]]) -> list[Row]:
    """Return one figure of all queues, the best first, and the ratio of the best other queue to ours."""
    rows = [Row(label=f"{figure}: {name}", unit="ms", values=tuple(values)) for name, values in found.items()]
    rows.sort(key=lambda row: row.median)
    ours = found.pop(OURS.name, None)
    if ours and found:
        best = min(found, key=lambda name: Row(label=name, unit="ms", values=tuple(found[name])).median)
        target = AtLeast(1.2 if figure.startswith("p50") else 1)
        rows.append(ratio(f"{figure}: the best peer, {best}, against zeroloss", found[best], ours, target))
    return rows


def _round(queue: Queue, context: Context) -> Latencies:
    context.empty_server()
    marks = Marks(context.folder / "marks")
    found: Latencies = {}
    with context.processes.running(*queue.worker(marks.env)) as worker:
        queue.feed(WARM)
        context.wait_until(lambda: marks.count() >= WARM, worker)
        for rate, seconds in (QUICK_RATES if context.quick else RATES).items():
            before, count = marks.count() + WARM, int(rate * seconds)
            queue.feed(WARM + count, rate=rate)
            until = time.monotonic() + LATE_S
            while marks.count() < before + count and time.monotonic() < until:
                time.sleep(0.01)
            ms = sorted(marks.latencies_ms()[before : before + count])
            ms += [math.inf] * (count - len(ms))
            for percentile in PERCENTILES:
                found[rate, percentile] = ms[count * percentile // 100]
    return found


def _shown(latencies: Latencies) -> str:
    return ", ".join(f"p{percentile} {number(ms)} ms at {rate}/s" for (rate, percentile), ms in latencies.items())
