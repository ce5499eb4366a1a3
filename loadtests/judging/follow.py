"""From the promise to the execution: every accepted task is looked for in the ledger that the workers write.

The ledger is the one of `chaos/ledger.py`: JSON lines in `worker-*.jsonl`, a file for each worker process. A line with
the phase `end` says that a task was executed, and when, by the monotonic clock of the machine that it ran on.
"""

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

EARLY_KEPT_NS = 60_000_000_000
"""That long is an execution kept whose promise is not known yet: a Locust worker reports twice a second."""

EARLY_S = 0.05
"""A task that ended that long before it was due was executed early: clocks and roundings are less apart."""


@dataclass(frozen=True, slots=True)
class Promise:
    """An accepted task. `kind`: what sent it; `sent_s`: when the request began, or it is due, s since the epoch."""

    task: str
    kind: str
    sent_s: float


@dataclass(frozen=True, slots=True)
class Executed:
    """A promise that was kept, `ms` after its request began."""

    promise: Promise
    ms: float


def refusal_of(ledger: str | Path) -> str | None:
    """A sentence that says why no ledger can be read there; None: it can."""
    if Path(ledger).is_dir():
        return None
    return f"--ledger {ledger} is not a folder: name the one that the workers have in ZEROLOSS_LEDGER."


class Follower:
    """Reads what is added to the ledger from now on. Must run on the machine whose workers write it."""

    def __init__(self, ledger: Path) -> None:
        self._ledger = ledger
        self._read = {path.name: path.stat().st_size for path in ledger.glob("worker-*.jsonl")}
        self._open: dict[str, Promise] = {}
        self._early: dict[str, int] = {}
        # Locust's other processes know the time of day only; between two clocks of one machine this is exact.
        self._epoch_ns = time.time_ns() - time.monotonic_ns()
        self.promised = 0
        self.early = 0
        """How many tasks were executed before they were due."""
        self.silent = True
        """Whether no worker has written anything to the ledger since then."""
        self.last_executed_s: float | None = None
        """When the last followed task ended, in seconds since the epoch."""

    def follow(self, promise: Promise) -> Iterator[Executed]:
        """Look for this task from now on. Yields it if it was seen to be executed before its promise was known."""
        self.promised += 1
        ended_ns = self._early.pop(promise.task, None)
        if ended_ns is None:
            self._open[promise.task] = promise
        else:
            yield self._executed(promise, ended_ns)

    def poll(self) -> Iterator[Executed]:
        """The tasks that were executed since the last time."""
        for path in self._ledger.glob("worker-*.jsonl"):
            for task, ended_ns in self._ends_in(path):
                promise = self._open.pop(task, None)
                if promise:
                    yield self._executed(promise, ended_ns)
                else:
                    self._early[task] = ended_ns
        self._forget_strangers()

    def waiting(self) -> list[Promise]:
        """The promises that are not kept yet, the oldest first."""
        return list(self._open.values())

    def _executed(self, promise: Promise, ended_ns: int) -> Executed:
        ended_s = (ended_ns + self._epoch_ns) / 1e9
        self.last_executed_s = max(ended_s, self.last_executed_s or ended_s)
        self.early += ended_s < promise.sent_s - EARLY_S
        return Executed(promise, max(0.0, (ended_s - promise.sent_s) * 1000))

    def _ends_in(self, path: Path) -> Iterator[tuple[str, int]]:
        start = self._read.get(path.name, 0)
        if path.stat().st_size <= start:
            return
        self.silent = False
        with path.open("rb") as file:
            file.seek(start)
            text = file.read()
        whole = text[: text.rfind(b"\n") + 1]  # the rest is still being written
        self._read[path.name] = start + len(whole)
        for line in whole.splitlines():
            if b'"end"' in line:  # half of the lines are begins, and need no parser
                event = json.loads(line)
                if event["phase"] == "end":
                    yield event["task"], event["t"]

    def _forget_strangers(self) -> None:
        # A second execution of a task, or a task of another client: there is no promise to come.
        oldest_ns = time.monotonic_ns() - EARLY_KEPT_NS
        for task, ended_ns in list(self._early.items()):
            if ended_ns > oldest_ns:
                return
            del self._early[task]
