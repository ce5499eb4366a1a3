"""The server's memory for one waiting task, as the queue's own client stores it."""

import redis
from zeroloss.reference import Task

from ..context import Context
from ..errors import BenchError
from ..peers import ONE_WORKER_EACH, OURS
from ..queues import Queue, equipped
from ..rows import AtMost, Row, number, ratio

PAYLOADS = (10, 100, 1_000)  # bytes of the text in it
COMPARED = 100
BEYOND_MAX = 120
COUNT, QUICK_COUNT = 3_000, 500


def measure(context: Context) -> list[Row]:
    """Measure once, not in rounds: the same tasks take the same memory each time."""
    ours = Queue(OURS, context)
    taken, rows = {}, []
    for size in PAYLOADS:
        taken[size] = _bytes(ours, size, context)
        label = f"a pending task of {ours.name}, text of {size:,} bytes"
        rows.append(Row(label=label, unit="bytes", values=(taken[size],)))
        beyond = taken[size] - _payload_bytes(context.client())
        target = AtMost(BEYOND_MAX) if size == COMPARED else None
        rows.append(Row(label=f"{label}, beyond its payload", unit="bytes", values=(beyond,), target=target))
    for queue in equipped(ONE_WORKER_EACH, context):
        try:
            theirs = _bytes(queue, COMPARED, context)
        except BenchError as error:
            context.say(f"  {queue.name} is left out: {error}")
            continue
        context.say(f"  {queue.name}: {number(theirs)} bytes")
        label = f"a pending task, text of {COMPARED} bytes: {queue.name} against zeroloss"
        rows.append(ratio(label, [theirs], [taken[COMPARED]], note=f"{number(theirs)} bytes"))
    return rows


def _payload_bytes(client: redis.Redis) -> int:
    """Return the size of the payload of a pending task: beside the text it holds the time at which it was sent."""
    entry: bytes = client.lindex("tasks:pending", 0)  # type: ignore[assignment]
    return len(Task(entry).raw_payload)


def _bytes(queue: Queue, payload_bytes: int, context: Context) -> float:
    """Return bytes per task, from the difference between one task and many: a queue's fixed memory does not count."""
    client = context.empty_server()
    queue.feed(1, payload_bytes=payload_bytes)
    before = client.info("memory")["used_memory"]
    count = QUICK_COUNT if context.quick else COUNT
    queue.feed(count, payload_bytes=payload_bytes)
    return float(client.info("memory")["used_memory"] - before) / count
