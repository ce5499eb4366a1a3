"""A real pool of worker processes, started as a user starts it."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest
from zeroloss.reference.queue.enqueuing.submission import Submission

from support.places import ROOT, TESTS
from support.queue_fixtures import Queue
from support.waiting import wait_until

STOPPING = "it claims no more"  # until this is logged, a signal may not have arrived
IN_OTHER_WORDS = """
import sys
{before}
from zeroloss.reference.__main__ import main
sys.exit(main(sys.argv[1:]))
"""
SLOW_APP = """
import os, sys, time
from zeroloss.reference import handler
print("importing", file=sys.stderr, flush=True)
while not os.path.exists(os.environ["APP_IS_THERE"]):
    time.sleep(0.005)
handler("any")(print)
"""
"""An app whose import waits until a file exists."""


class Pool:
    """`python -m zeroloss.reference worker`, with output to a file; `before` is code that the parent runs first."""

    def __init__(self, queue: Queue, log: Path, *arguments: str, before: str | None = None, **environ: str) -> None:
        self.queue, self.log = queue, log
        environment = {**os.environ, "REDIS_URL": queue.config.redis_url, "PYTHONPATH": f"{ROOT}:{TESTS}"}
        how = ["-m", "zeroloss.reference"] if before is None else ["-c", IN_OTHER_WORDS.format(before=before)]
        command = [sys.executable, *how, "worker", "--app", "support.apps.worker_app", *arguments]
        with log.open("ab") as output:
            self.process = subprocess.Popen(
                command, env={**environment, **environ}, stdout=output, stderr=output, process_group=0
            )

    def children(self) -> list[psutil.Process]:
        return psutil.Process(self.process.pid).children()

    def one_child(self) -> psutil.Process:
        return wait_until(self.children, message="the parent has started no child")[0]

    def signal(self, number: int) -> None:
        self.process.send_signal(number)

    def stop(self, number: int) -> None:
        """Signal the pool, and wait until it logs that it stops."""
        self.signal(number)
        wait_until(lambda: self.said(STOPPING))

    def wait(self, timeout_s: float = 20) -> int:
        return self.process.wait(timeout_s)

    def said(self, text: str) -> bool:
        return text in self.log.read_text()

    def end(self) -> None:
        """Kill all remaining processes of the pool."""
        if self.process.poll() is None:
            everyone = [psutil.Process(self.process.pid), *psutil.Process(self.process.pid).children(recursive=True)]
            for process in everyone:
                with suppress(psutil.NoSuchProcess):  # a process started by a handler may end by itself
                    process.send_signal(signal.SIGKILL)
            self.process.wait(30)


class Watched:
    """The records that the handlers of `worker_app` have written."""

    def __init__(self, queue: Queue) -> None:
        self.queue = queue

    def submit(self, task_type: str, task_id: str, payload: str = "null") -> None:
        self.queue.enqueuer.enqueue(Submission(payload_json=payload, task_type=task_type, task_id=task_id))

    def ran(self) -> list[str]:
        """Return `id:attempt` of the executions, in the order in which they began."""
        return [note.decode().rsplit(":", 1)[0] for note in self.queue.client.lrange("ran", 0, -1)]

    def wait_for(self, *began: str) -> None:
        """Wait until exactly these executions have begun. On a busy machine the pool may start slowly."""
        wait_until(lambda: self.ran() == [*began], timeout_s=30)

    def pids(self) -> list[int]:
        return [int(note.decode().rsplit(":", 1)[1]) for note in self.queue.client.lrange("ran", 0, -1)]

    def passed(self) -> list[str]:
        return [note.decode() for note in self.queue.client.lrange("passed", 0, -1)]

    def open_gate(self) -> None:
        self.queue.client.set("gate", 1)

    def completed(self) -> int:
        return self.queue.counters().get("completed", 0)


@pytest.fixture
def watched(queue: Queue) -> Watched:
    return Watched(queue)


@pytest.fixture
def start_pool(queue: Queue, tmp_path: Path) -> Iterator[Callable[..., Pool]]:
    """`start_pool("--threads", "2", ZEROLOSS_LEASE_MS="500")`"""
    pools: list[Pool] = []

    def start(*arguments: str, **environ: Any) -> Pool:
        pools.append(Pool(queue, tmp_path / f"worker-{len(pools)}.log", *arguments, **environ))
        return pools[-1]

    yield start
    for pool in pools:
        pool.end()
        print(pool.log.read_text()[-5_000:])  # pytest shows it if the test fails
    # Until the server notices that these clients are gone, a killed worker's claim may take the next test's task.
    wait_until(lambda: queue.client.info("clients")["blocked_clients"] == 0)


def at_the_gate(start_pool: Callable[..., Pool], watched: Watched, *arguments: str, **environ: Any) -> Pool:
    """Start a pool and wait until it runs the task `t1`, which ends when the gate is opened."""
    watched.submit("gate", "t1")
    pool = start_pool(*arguments, **environ)
    watched.wait_for("t1:1")
    return pool
