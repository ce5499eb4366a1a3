"""How fast one worker process empties a backlog of tasks that do nothing, against others and the server's own limit."""

import time
from collections.abc import Callable
from dataclasses import replace
from subprocess import Popen

from .. import limit
from ..backlog import release, stage
from ..context import Context
from ..errors import BenchError
from ..peers import OURS, PEERS
from ..processes import Processes
from ..queues import Queue, equipped
from ..rows import AtLeast, Row, number, ratio

SAMPLE_S = 0.005
START_DEADLINE_S = 30.0
DRAIN_MAX_S = 15.0  # a queue that has become much slower is judged by the tasks done until then
ROUND_S, QUICK_ROUND_S = 2.5, 1.0

LIMIT = "the server's own limit"
TWO = "zeroloss, two processes"


def measure(context: Context) -> list[Row]:
    queues = equipped(PEERS, context)
    subjects: dict[str, Callable[[], float]] = {
        OURS.name: lambda: ours(context),
        TWO: lambda: ours(context, "--processes", "2", processes=2),
        LIMIT: lambda: limit.rate(context),
    }
    subjects |= {queue.name: Drained(queue, context) for queue in queues}
    found = context.interleaved(subjects, lambda rate: f"{number(rate)} tasks/s")
    if OURS.name not in found:
        return []
    rows = [Row(label=OURS.name, unit="tasks/s", values=tuple(found[OURS.name]), note=OURS.settings)]
    for queue in queues:
        if queue.name in found:
            rates = tuple(found[queue.name])
            rows.append(Row(label=queue.name, unit="tasks/s", values=rates, note=queue.peer.settings))
    for name in (TWO, LIMIT):
        if name in found:
            rows.append(Row(label=name, unit="tasks/s", values=tuple(found[name])))
    context.medians = {row.label: row.median for row in rows}
    return rows + _ratios(found, context)


def _ratios(found: dict[str, list[float]], context: Context) -> list[Row]:
    ours_, rows = found[OURS.name], []
    if fastest := fastest_python(context):
        rows.append(
            ratio(f"against the fastest at-least-once Python peer, {fastest}", ours_, found[fastest], AtLeast(55))
        )
    if "BullMQ" in found:
        rows.append(ratio("against BullMQ", ours_, found["BullMQ"], AtLeast(13)))
    if LIMIT in found:
        rows.append(ratio("share of the server's own limit", ours_, found[LIMIT], AtLeast(0.38)))
    if TWO in found:
        rows.append(ratio("two processes against one", found[TWO], ours_, AtLeast(1.3)))
    return rows


def fastest_python(context: Context) -> str | None:
    """Return the fastest at-least-once Python peer in this run's drain, or None."""
    names = [peer.name for peer in PEERS if peer.at_least_once and not peer.node and peer.name in context.medians]
    return max(names, key=lambda name: context.medians[name], default=None)


def ours(context: Context, *options: str, processes: int = 1) -> float:
    """Measure tasks/s of our own worker with these options; the backlog appears when all its processes wait."""
    client = context.empty_server()
    stage(client, context.tasks)
    queue = Queue(replace(OURS, worker=(*OURS.worker, *options)), context)
    with context.processes.running(*queue.worker()) as worker:
        context.wait_until(lambda: client.zcard("tasks:consumers") == processes, worker)
        release(client, context.tasks)
        return rate(lambda: queue.peer.left(client), context.tasks, worker, context.processes)


class Drained:
    """Drains a peer in rounds. The backlog follows the peer's speed, so that all rounds last about as long."""

    def __init__(self, queue: Queue, context: Context) -> None:
        self._queue, self._context = queue, context
        self._round_s = QUICK_ROUND_S if context.quick else ROUND_S
        self._rate: float = queue.peer.rate

    def __call__(self) -> float:
        """Measure one round, in tasks/s."""
        client = self._context.empty_server()
        count = max(50, int(self._rate * self._round_s))
        self._queue.feed(count)
        with self._context.processes.running(*self._queue.worker()) as worker:
            self._rate = rate(lambda: self._queue.peer.left(client), count, worker, self._context.processes)
        return self._rate


def rate(left: Callable[[], int], count: int, worker: Popen[bytes], processes: Processes) -> float:
    """Measure tasks/s from the first observed end of a task to the last: the start of the worker does not count.

    Raises:
        BenchError: the worker ended, or did nothing.
    """
    first_at, first_left, began = 0.0, 0, time.monotonic()
    while True:
        now_left, now = left(), time.monotonic()
        if not first_at and now_left < count:
            first_at, first_left = now, now_left
        if first_at and (now_left == 0 or now - first_at > DRAIN_MAX_S):
            break
        processes.check(worker)
        if not first_at and now - began > START_DEADLINE_S:
            raise BenchError(f"its worker did nothing in {START_DEADLINE_S:g} s")
        time.sleep(SAMPLE_S)
    if now == first_at:
        raise BenchError(f"{count} tasks were gone too fast to be timed")
    return (first_left - now_left) / (now - first_at)
