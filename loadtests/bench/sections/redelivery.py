"""How long the task of a killed worker waits until it begins again, with default settings.

And the opposite: a live worker that only lost its connections, or was silent for a moment, must keep its task. Fast
recovery from dead workers is useless if live workers lose their tasks.
"""

import os
import random
import signal
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from subprocess import Popen

import redis
from zeroloss.reference import Config
from zeroloss.reference.queue.enqueuer import Enqueuer

from ..context import Context
from ..queues import APPS
from ..rows import AtMost, Row, number
from .relay import Relay

HOLD_S, ROBBERY_HOLD_S = 60.0, 5.0
DEADLINE_S = 30.0
BLACK_HOLE_S = 1.5
LONE = "a lone worker is killed; until its task begins elsewhere"
CHILD = "a child of a pool is killed; until its task begins again"
KILLED = "taken from a living worker: all its connections killed"
SWALLOWED = f"taken from a living worker that is not heard for {BLACK_HOLE_S:g} s"


class _Events:
    """The events that the handlers recorded."""

    def __init__(self, path: Path) -> None:
        path.unlink(missing_ok=True)
        path.touch()
        self._path = path
        self.env = {"BENCH_MARKS": str(path)}

    def all(self, event: str) -> list[tuple[int, int]]:
        """Return (pid, ns) of each event of this name."""
        lines = [line.split() for line in self._path.read_text().splitlines()]
        return [(int(pid), int(ns)) for name, pid, ns in lines if name == event]


def measure(context: Context) -> list[Row]:
    times = {LONE: partial(_lone, context), CHILD: partial(_child, context)}
    found = context.interleaved(times, lambda seconds: f"{number(seconds)} s")
    rows = [
        Row(label=label, unit="s", values=tuple(found[label]), target=AtMost(1.3 if label == LONE else 2))
        for label in found
    ]
    acts = {KILLED: partial(_robbed, context, _kill_connections), SWALLOWED: partial(_robbed, context, _swallow)}
    for label, robbed in context.interleaved(acts, lambda robbed: "yes" if robbed else "no").items():
        row = Row(label=label, unit=f"of {len(robbed)} times", values=(float(sum(robbed)),), target=AtMost(0))
        rows.append(row)
    return rows


def _lone(context: Context) -> float:
    """Measure in seconds: a whole worker dies, with its parent; another worker, with its own parent, is running."""
    client, events = context.empty_server(), _Events(context.folder / "redelivery")
    with ExitStack() as stack:
        workers = [_start(stack, context, events) for _ in range(2)]
        _wait_for_consumers(context, client, workers[0])
        pid = _begun(context, events, workers[0], HOLD_S)
        holder, other = sorted(workers, key=lambda worker: worker.pid != os.getsid(pid))
        _wait_for_any_moment()
        killed_ns = time.monotonic_ns()
        context.processes.kill(holder)
        return _seconds_until_again(context, events, other, killed_ns)


def _child(context: Context) -> float:
    """Measure in seconds: in a pool of two processes, the process that runs the task dies."""
    client, events = context.empty_server(), _Events(context.folder / "redelivery")
    with ExitStack() as stack:
        worker = _start(stack, context, events, "--processes", "2")
        _wait_for_consumers(context, client, worker)
        pid = _begun(context, events, worker, HOLD_S)
        _wait_for_any_moment()
        killed_ns = time.monotonic_ns()
        os.kill(pid, signal.SIGKILL)
        return _seconds_until_again(context, events, worker, killed_ns)


def _wait_for_any_moment() -> None:
    """Wait for a part of a sweep's interval. Sweeps are in step with the start of their worker; deaths are not."""
    time.sleep(random.uniform(0.0, Config.sweep_ms / 1000))


def _robbed(context: Context, act: Callable[[redis.Redis, Relay], None]) -> bool:
    """Return whether a live worker's task was begun a second time, with another worker there to take it."""
    client, events = context.empty_server(), _Events(context.folder / "redelivery")
    with ExitStack() as stack:
        relay = stack.enter_context(Relay(context.server.port))
        worker = _start(stack, context, events, "--redis", f"redis://127.0.0.1:{relay.port}/0")
        _begun(context, events, worker, ROBBERY_HOLD_S)
        other = _start(stack, context, events)
        _wait_for_consumers(context, client, other)
        act(client, relay)
        context.wait_until(lambda: bool(events.all("end")), worker, DEADLINE_S)
        return len(events.all("begin")) > 1


def _kill_connections(client: redis.Redis, relay: Relay) -> None:
    for address in relay.addresses():
        client.client_kill_filter(addr=address)


def _swallow(_client: redis.Redis, relay: Relay) -> None:
    relay.swallow()
    time.sleep(BLACK_HOLE_S)
    relay.release()


def _start(stack: ExitStack, context: Context, events: _Events, *options: str) -> Popen[bytes]:
    command = [
        sys.executable,
        "-m",
        "zeroloss.reference",
        "worker",
        "--app",
        "redelivery_app",
        "--redis",
        context.server.url,
    ]
    env = {"PYTHONPATH": str(APPS)} | events.env
    return stack.enter_context(context.processes.running([*command, *options], env))


def _wait_for_consumers(context: Context, client: redis.Redis, worker: Popen[bytes]) -> None:
    """Wait until both consumers are registered."""
    context.wait_until(lambda: client.zcard("tasks:consumers") == 2, worker)


def _begun(context: Context, events: _Events, worker: Popen[bytes], hold_s: float) -> int:
    """Let a task begin, and return the pid of the process that runs it."""
    config = Config(redis_url=context.server.url)
    Enqueuer(redis.Redis.from_url(context.server.url), config).enqueue_payload(hold_s, task_type="hold")
    context.wait_until(lambda: bool(events.all("begin")), worker)
    return events.all("begin")[0][0]


def _seconds_until_again(context: Context, events: _Events, worker: Popen[bytes], since_ns: int) -> float:
    context.wait_until(lambda: len(events.all("begin")) > 1, worker, DEADLINE_S)
    return (events.all("begin")[1][1] - since_ns) / 1e9
