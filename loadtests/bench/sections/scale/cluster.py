"""One, two and three primaries of a cluster, a shard on each: the servers' time for a task, and tasks/s.

All primaries share this machine's processors with producer and workers, so the servers' time is the decisive figure: if
it does not grow, then with processors of their own tasks/s grow with the number of primaries.
"""

import socket
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from functools import partial

import redis
from redis.crc import key_slot
from zeroloss.reference import NewTask, Queue

from ...context import Context
from ...errors import BenchError
from ...queues import APPS
from ...rows import Row, number, ratio
from .spent import server_seconds

PRIMARIES = (1, 2, 3)
BATCH = 500
SLOTS = 16_384
START_DEADLINE_S = 30.0
DRAIN_MAX_S = 60.0
POLL_S = 0.02
ENQUEUE, DRAIN = "enqueue, batches of 500: servers' time", "drain: servers' time"
ENQUEUE_RATE, DRAIN_RATE = "enqueue, batches of 500", "drain"
FIGURES = {ENQUEUE: "µs/task", DRAIN: "µs/task", ENQUEUE_RATE: "tasks/s", DRAIN_RATE: "tasks/s"}


def measure(context: Context) -> list[Row]:
    counts = PRIMARIES[:2] if context.quick else PRIMARIES
    subjects = {_name(count): partial(_round, context, count) for count in counts}
    found = context.interleaved(
        subjects,
        lambda each: "; ".join(f"{figure} {number(value)} {FIGURES[figure]}" for figure, value in each.items()),
    )
    one, rows = _name(PRIMARIES[0]), []
    for figure, unit in FIGURES.items():
        values = {name: tuple(each[figure] for each in rounds) for name, rounds in found.items()}
        rows += [Row(label=f"{figure}, {name}", unit=unit, values=each) for name, each in values.items()]
        rows += [
            ratio(f"{figure}, {name} against {one}", each, values[one])
            for name, each in values.items()
            if one in values and name != one
        ]
    return rows


def _shown(found: dict[str, float]) -> str:
    return "; ".join(f"{figure} {number(value)} {FIGURES[figure]}" for figure, value in found.items())


def _name(primaries: int) -> str:
    return "1 primary" if primaries == 1 else f"{primaries} primaries"


def _round(context: Context, primaries: int) -> dict[str, float]:
    """Fill all shards from one process, then drain them with a worker process for each."""
    namespaces = [f"{{tasks-{number_}}}" for number_ in range(primaries)] if primaries > 1 else ["{tasks}"]
    with _cluster(context, namespaces) as nodes, ExitStack() as stack:
        clients = [stack.enter_context(closing(redis.Redis(port=port))) for port in nodes]
        url = f"redis+cluster://{','.join(f'127.0.0.1:{port}' for port in nodes)}"
        settings = {"namespace": "{tasks}", "shards": primaries}
        tasks = context.tasks // 2
        with Queue.connect(url, **settings) as queue:
            batch = [NewTask("bench", [0, ""])] * BATCH
            queue.enqueue_many(batch)
            before, began = server_seconds(clients), time.monotonic()
            for _ in range(tasks // BATCH):
                queue.enqueue_many(batch)
            enqueue_s, enqueue_rate = server_seconds(clients) - before, tasks / (time.monotonic() - began)
        drain_s, drain_rate = _drain(context, url, clients, namespaces)
        return {
            ENQUEUE: enqueue_s / tasks * 1e6,
            DRAIN: drain_s * 1e6,
            ENQUEUE_RATE: enqueue_rate,
            DRAIN_RATE: drain_rate,
        }


def _drain(context: Context, url: str, clients: list[redis.Redis], namespaces: list[str]) -> tuple[float, float]:
    """Return the servers' time for one task (s), and tasks/s, both without the first tasks."""
    command = [sys.executable, "-m", "zeroloss.reference", "worker", "--app", "reference_app", "--redis", url]
    command += ["--namespace", "{tasks}", "--shards", str(len(namespaces)), "--processes", str(len(namespaces))]
    environment = {"REDIS_URL": context.server.url, "PYTHONPATH": str(APPS)}

    def completed() -> list[int]:
        counted = zip(clients, namespaces, strict=True)
        return [int(client.hget(f"{name}:counters", "completed") or 0) for client, name in counted]

    total = sum(
        int(client.hget(f"{name}:counters", "enqueued")) for client, name in zip(clients, namespaces, strict=True)
    )
    with context.processes.running(command, environment) as worker:
        context.wait_until(lambda: all(completed()), worker, START_DEADLINE_S)
        first, before, began = sum(completed()), server_seconds(clients), time.monotonic()
        until = began + DRAIN_MAX_S
        while (done := sum(completed())) < total and time.monotonic() < until:
            context.processes.check(worker)
            time.sleep(POLL_S)
        took, spent = time.monotonic() - began, server_seconds(clients) - before
    if done <= first:
        raise BenchError("everything was drained before it could be measured: use more --tasks")
    return spent / (done - first), (done - first) / took


@contextmanager
def _cluster(context: Context, namespaces: list[str]) -> Iterator[list[int]]:
    """Start primaries without replicas, each with the slot of one namespace; the first has all other slots, too."""
    slots = [key_slot(name.encode()) for name in namespaces]
    with ExitStack() as stack:
        ports = [stack.enter_context(_node(context)) for _ in namespaces]
        clients = [stack.enter_context(closing(redis.Redis(port=port))) for port in ports]
        for place, client in enumerate(clients):
            own = [slots[place]] if place else sorted(set(range(SLOTS)) - set(slots[1:]))
            client.execute_command("CLUSTER SET-CONFIG-EPOCH", place + 1)
            client.execute_command("CLUSTER ADDSLOTS", *own)
            client.execute_command("CLUSTER MEET", "127.0.0.1", ports[0])
        until = time.monotonic() + START_DEADLINE_S
        while not all(_is_ok(client) for client in clients):
            if time.monotonic() > until:
                raise BenchError(f"the cluster did not come up within {START_DEADLINE_S:g} s")
            time.sleep(POLL_S)
        yield ports


@contextmanager
def _node(context: Context) -> Iterator[int]:
    """Start a server of a cluster, wait until it answers, and yield its port."""
    port = _free_port()
    folder = context.folder / f"node-{port}"
    folder.mkdir()
    with context.processes.running(context.server.command(port, folder, "--cluster-enabled", "yes")) as process:
        client = redis.Redis(port=port)
        context.wait_until(lambda: _answers(client), process, START_DEADLINE_S)
        client.close()
        yield port


def _answers(client: redis.Redis) -> bool:
    try:
        return bool(client.ping())
    except redis.ConnectionError:
        return False


def _is_ok(client: redis.Redis) -> bool:
    found: dict[str, str] = client.execute_command("CLUSTER INFO")
    return found["cluster_state"] == "ok"


def _free_port() -> int:
    """Find a free port with a free port 10,000 above it, for the cluster bus."""
    while True:
        with socket.socket() as probe, socket.socket() as bus:
            probe.bind(("127.0.0.1", 0))
            port: int = probe.getsockname()[1]
            if port > 55_000:
                continue
            try:
                bus.bind(("127.0.0.1", port + 10_000))
            except OSError:
                continue
            return port
