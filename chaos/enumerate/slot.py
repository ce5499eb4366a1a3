"""A slot runs cases one after the other: it has a database of the server, an agent and a producer."""

import sys
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

import redis

from ..history import EVENTS_DIRECTORY
from ..system.environment import NAMESPACE, Environment
from ..system.processes import Managed, spawn
from ..system.proxy import Listener, Proxy
from ..system.submitter import Submitter
from ..target import Target, TargetError

LOGS_DIRECTORY = "logs"
Snapshot = list[tuple[bytes, int, bytes]]
"""Key, time to live (ms; 0: no limit) and value in the format of DUMP."""


class SlotWorker:
    """A worker behind a slot's proxy."""

    def __init__(self, listener: Listener, managed: Managed) -> None:
        self.listener, self.managed = listener, managed

    @property
    def gone(self) -> bool:
        return self.managed.poll() is not None


class Slot:
    """`with Slot(...) as slot`. The agent and the producer serve all cases of the slot; only workers are killed."""

    def __init__(self, spec: str, target: type[Target], *, url: str, directory: Path) -> None:
        self.spec, self.target, self.url = spec, target, url
        self.directory = directory.resolve()
        self._stack = ExitStack()
        self._agent_read = 0

    def __enter__(self) -> Self:
        for folder in (EVENTS_DIRECTORY, LOGS_DIRECTORY):
            (self.directory / folder).mkdir(parents=True, exist_ok=True)
        try:
            self._start()
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def _start(self) -> None:
        self.client = self._stack.enter_context(redis.Redis.from_url(self.url))
        self.client.flushdb()
        self.proxy = self._stack.enter_context(Proxy(self.url))
        target = self.target(redis_url=self.url, namespace=NAMESPACE, directory=self.directory)
        environment = Environment(self.directory, self.spec, target)
        python = target.python or sys.executable
        self.submitter = Submitter(
            self.spec, python=python, env=environment.of([python]), log_path=self._log("agent"), recorder=None
        )
        self._stack.callback(self.submitter.close)
        self.versions = self.submitter.hello()
        self._producer: Managed | None = None
        if target.producer:
            self._log("producer").unlink(missing_ok=True)  # after a resume, the old log holds a former address
            env = environment.of(target.producer)
            self._producer = spawn(target.producer, role="producer", log_path=self._log("producer"), env=env)
            self._stack.callback(self._producer.kill_session)
        self.submitter.wait_until_ready(self.check)

    def check(self) -> None:
        """Raise TargetError if the producer has ended by itself."""
        if self._producer and (status := self._producer.poll()) is not None:
            tail = self._producer.log_tail()
            raise TargetError(f"The target's producer ended by itself with status {status}; its last output: {tail}")

    def begin(self, snapshot: Snapshot, promised: frozenset[str]) -> None:
        """Reset the database to its state at the start of a case."""
        self.check()
        self.client.flushdb()
        for key, ttl_ms, value in snapshot:
            self.client.restore(key, ttl_ms, value)
        self.submitter.start_over(promised)
        self._agent_read = self._agent_events().stat().st_size

    def take_agent_events(self, events: Path) -> None:
        """Copy the agent's events since `begin` to a case's events."""
        source = self._agent_events()
        with source.open("rb") as file:
            file.seek(self._agent_read)
            (events / source.name).write_bytes(file.read())

    def snapshot(self) -> Snapshot:
        """Return the contents of the database."""
        client = self.client
        return [
            (key, max(0, int(client.pttl(key))), value)
            for key in client.scan_iter(count=1000)
            if (value := client.dump(key)) is not None
        ]

    def _agent_events(self) -> Path:
        return self.directory / EVENTS_DIRECTORY / f"agent-{self.submitter.managed.pid}.jsonl"

    def _log(self, name: str) -> Path:
        return self.directory / LOGS_DIRECTORY / f"{name}.log"
