"""Follows every accepted task from the promise to its execution, in the ledger that the workers write.

The ledger is the one of `chaos/ledger.py`: JSON lines in `worker-*.jsonl`, a file for each worker process. A line with
the phase `end` records the execution of a task, and its time by the monotonic clock of the worker's machine.
"""

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

EARLY_KEPT_NS = 60_000_000_000
"""How long an execution is kept before its promise is known: a Locust worker reports promises twice a second."""

EARLY_S = 0.05
"""A task that ended this long before its due time was executed early: clocks and rounding differ by less."""


@dataclass(frozen=True, slots=True)
class Promise:
    """An accepted task. `kind`: its name in the statistics; `sent_s`: start of the wait, or due time, since epoch."""

    task: str
    kind: str
    sent_s: float


@dataclass(frozen=True, slots=True)
class Executed:
    """A promise that was kept, `ms` after its `sent_s`."""

    promise: Promise
    ms: float


def refusal_of(ledger: str | Path) -> str | None:
    """Return a sentence that says why there is no readable ledger; None if there is one."""
    if Path(ledger).is_dir():
        return None
    return f"--ledger {ledger} is not a folder: name the one that the workers have in ZEROLOSS_LEDGER."


class Follower:
    """Reads new lines of the ledger. It must run on the machine whose workers write the ledger."""

    def __init__(self, ledger: Path) -> None:
        self._ledger = ledger
        self._read = {path.name: path.stat().st_size for path in ledger.glob("worker-*.jsonl")}
        self._open: dict[str, Promise] = {}
        self._early: dict[str, int] = {}
        # Locust's other processes send wall-clock times; this converts exactly between two clocks of one machine.
        self._epoch_ns = time.time_ns() - time.monotonic_ns()
        self.promised = 0
        self.early = 0
        """Number of tasks that were executed before they were due."""
        self.silent = True
        """Whether no worker has written to the ledger since this object was made."""
        self.last_executed_s: float | None = None
        """When the last followed task ended, in seconds since the epoch."""

    def follow(self, promise: Promise) -> Iterator[Executed]:
        """Look for this task from now on. Yield it if its execution was seen already."""
        self.promised += 1
        ended_ns = self._early.pop(promise.task, None)
        if ended_ns is None:
            self._open[promise.task] = promise
        else:
            yield self._executed(promise, ended_ns)

    def poll(self) -> Iterator[Executed]:
        """Yield the promises that were kept since the last call."""
        for path in self._ledger.glob("worker-*.jsonl"):
            for task, ended_ns in self._ends_in(path):
                promise = self._open.pop(task, None)
                if promise:
                    yield self._executed(promise, ended_ns)
                else:
                    self._early[task] = ended_ns
        self._forget_strangers()

    def waiting(self) -> list[Promise]:
        """Return the promises that are not kept yet, oldest first."""
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
        # These are second executions, or tasks of other clients: no promise will follow.
        oldest_ns = time.monotonic_ns() - EARLY_KEPT_NS
        for task, ended_ns in list(self._early.items()):
            if ended_ns > oldest_ns:
                return
            del self._early[task]
