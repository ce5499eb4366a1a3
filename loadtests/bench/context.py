"""The context of every section of the bench: the server, the options, and the processes that it starts."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from subprocess import Popen
from typing import TypeVar

import redis
from zeroloss.system.environments import environment
from zeroloss.target import TargetError

from .errors import BenchError
from .processes import Processes
from .server import Server

T = TypeVar("T")

POLL_S = 0.01


@dataclass(kw_only=True)
class Context:
    """One run of the command.

    `rounds`: number of measurements of each figure. `tasks`: the backlog of our own queue in a drain. `quick`: use
    shorter rounds. `folder`: for files and logs, removed at the end. `say`: prints a line of progress.
    """

    rounds: int
    tasks: int
    quick: bool
    server: Server
    processes: Processes
    folder: Path
    say: Callable[[str], None]
    medians: dict[str, float] = field(default_factory=dict)
    """Tasks/s of each queue that the section `drain` has measured in this run."""

    def client(self) -> redis.Redis:
        """Return a client of the server."""
        return redis.Redis.from_url(self.server.url)

    def empty_server(self) -> redis.Redis:
        """Empty the server, and return a client of it."""
        client = self.client()
        client.flushall()
        client.config_resetstat()
        return client

    def environment(self, requirements: Sequence[str]) -> Path:
        """Return the folder of a virtual environment with these requirements, made once in the user's cache.

        Raises:
            BenchError: it can't be made.
        """
        try:
            return environment(requirements, self.say)
        except TargetError as error:
            raise BenchError(str(error)) from None

    def wait_until(self, condition: Callable[[], bool], worker: Popen[bytes], deadline_s: float = 30.0) -> None:
        """Wait until a condition holds.

        Raises:
            BenchError: the worker ended, or the deadline passed.
        """
        until = time.monotonic() + deadline_s
        while not condition():
            self.processes.check(worker)
            if time.monotonic() > until:
                raise BenchError(f"its worker was waited for in vain for {deadline_s:g} s")
            time.sleep(POLL_S)

    def interleaved(self, subjects: Mapping[str, Callable[[], T]], show: Callable[[T], str]) -> dict[str, list[T]]:
        """Measure each subject once a round, in turn, each round from another subject on; return all values by name.

        A subject that fails once is dropped, with the reason: half of its rounds could not be compared with the others.
        """
        found: dict[str, list[T]] = {name: [] for name in subjects}
        for number in range(self.rounds):
            order = list(found)
            for name in order[number % len(order) :] + order[: number % len(order)]:
                try:
                    value = subjects[name]()
                except BenchError as error:
                    self.say(f"  {name} is left out: {error}")
                    del found[name]
                else:
                    found[name].append(value)
                    self.say(f"  {number + 1}/{self.rounds} {name}: {show(value)}")
            if not found:
                break
        return found
