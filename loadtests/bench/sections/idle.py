"""The cost of an idle worker: its share of a processor."""

import time
from contextlib import ExitStack
from subprocess import Popen

from ..context import Context
from ..errors import BenchError
from ..marks import Marks
from ..peers import ONE_WORKER_EACH, OURS
from ..processes import cpu_seconds
from ..queues import Queue, equipped
from ..rows import AtMost, Row, number

WATCH_S, QUICK_WATCH_S = 10.0, 4.0
CALM_S = 2.0  # wait after the first task, until the worker is idle


def measure(context: Context) -> list[Row]:
    """Measure all workers side by side: their own processor time counts, not the clock's."""
    shares: dict[str, list[float]] = {}
    queues = equipped((OURS, *ONE_WORKER_EACH), context)
    for number_ in range(context.rounds):
        found = _round(queues, context)
        for name, share in found.items():
            shares.setdefault(name, []).append(share)
        text = ", ".join(f"{name} {number(share)}" for name, share in found.items())
        context.say(f"  {number_ + 1}/{context.rounds} % of a core: {text}")
    rows = [
        Row(
            label=f"idle worker: {name}",
            unit="% of a core",
            values=tuple(values),
            target=AtMost(1) if name == OURS.name else None,
        )
        for name, values in shares.items()
        if len(values) == context.rounds
    ]
    return sorted(rows, key=lambda row: row.median)


def _round(queues: list[Queue], context: Context) -> dict[str, float]:
    """Return the percentage of a core for each queue whose worker is up."""
    context.empty_server()
    with ExitStack() as stack:
        workers: dict[str, Popen[bytes]] = {}
        for queue in queues:
            marks = Marks(context.folder / f"marks-{queue.name}")
            worker = stack.enter_context(context.processes.running(*queue.worker(marks.env)))
            queue.feed(1)
            try:
                context.wait_until(lambda: marks.count() > 0, worker)  # noqa: B023  it is called before the next turn
            except BenchError as error:
                context.say(f"  {queue.name} is left out: {error}")
            else:
                workers[queue.name] = worker
        time.sleep(CALM_S)
        before = {name: cpu_seconds(worker.pid) for name, worker in workers.items()}
        began = time.monotonic()
        time.sleep(QUICK_WATCH_S if context.quick else WATCH_S)
        watched_s = time.monotonic() - began
        after = {name: cpu_seconds(worker.pid) for name, worker in workers.items()}
    return {name: (after[name] - before[name]) / watched_s * 100 for name in workers}
