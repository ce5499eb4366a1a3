"""Inject one fault into a real server and real worker processes, outside a run."""

import random
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry
from zeroloss.faults import Effect, Fault, Stage
from zeroloss.history.tail import LedgerTail
from zeroloss.system.environment import Environment
from zeroloss.system.processes import Managed, spawn
from zeroloss.system.servers import Server
from zeroloss.system.workers import WorkerPool
from zeroloss.target import Target

from support.waiting import wait_until

BUSY = """
import os, time
from zeroloss.ledger import effect
number = 0
while True:
    number += 1
    with effect(f"task-{os.getpid()}-{number}"):
        time.sleep(0.05)
"""


class Scene:
    """The environment of one fault: `workers(PROGRAM, ...)` starts workers, `play(FAULT)` injects and heals a fault."""

    def __init__(self, directory: Path) -> None:
        (directory / "events").mkdir()
        self.directory = directory
        self.ledger = LedgerTail(directory / "events")
        self.pool: WorkerPool | None = None

    def workers(self, *programs: str) -> WorkerPool:
        target = Target(redis_url="redis://127.0.0.1:1/0", namespace="zeroloss", directory=self.directory)
        env = Environment(self.directory, "package.module:Class", target).of([sys.executable])

        def start(slot: int) -> Managed:
            log = self.directory / f"worker-{slot}.log"
            return spawn([sys.executable, "-c", programs[slot]], role="worker", log_path=log, env=env)

        self.pool = WorkerPool(len(programs), start, self.ledger.abandon)
        self.pool.start()
        return self.pool

    def wait_for_task(self) -> None:
        """Wait until a worker is inside a task. On a busy machine workers may start slowly."""
        wait_until(lambda: self.ledger.poll() or self.ledger.open_tasks(), 30)

    def stage(self, server: Server | None = None, **members: Any) -> Stage:
        return Stage(
            server=server,  # type: ignore[arg-type]
            workers=self.pool or WorkerPool(0, _none, self.ledger.abandon),
            ledger=self.ledger,
            random=random.Random(1),
            wait=time.sleep,
            **members,
        )

    def play(self, fault: Fault, server: Server | None = None, **members: Any) -> Effect:
        """Inject the fault, heal it in any case, and return the reported effect."""
        stage = self.stage(server, **members)
        try:
            return fault.inject(stage)
        finally:
            fault.heal(stage)

    def play_in_traffic(self, fault: Fault, server: Server, traffic: "Traffic") -> Effect:
        """Inject the fault once the server has answered these clients, and wait until it answers them again."""
        wait_until(lambda: traffic.acknowledged)
        effect = self.play(fault, server)
        acknowledged = traffic.acknowledged
        wait_until(lambda: traffic.acknowledged > acknowledged)
        return effect


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    made = Scene(tmp_path)
    yield made
    if made.pool:
        made.pool.close()


def _none(slot: int) -> Managed:
    raise AssertionError(f"no worker was asked for in slot {slot}")


class Traffic:
    """A client that writes to a server until the `with` block ends, and retries while the server is unavailable."""

    def __init__(self, server: Server, act: Callable[[redis.Redis], Any]) -> None:
        self._url, self._act = server.url, act
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._write, daemon=True)
        self.acknowledged = 0
        self.failed = 0

    def __enter__(self) -> "Traffic":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(15)
        assert not self._thread.is_alive()

    def _write(self) -> None:
        with redis.Redis.from_url(self._url, retry=Retry(NoBackoff(), 0), socket_timeout=10) as client:
            while not self._stop.wait(0.002):
                with suppress(redis.RedisError):
                    self.failed += 1
                    self._act(client)
                    self.failed -= 1
                    self.acknowledged += 1
