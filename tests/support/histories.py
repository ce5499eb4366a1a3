"""A small builder of hand-written histories, one readable line per event."""

from itertools import count
from typing import Any, Self

import msgspec
from zeroloss.faults import FAULTS
from zeroloss.history import Event

MS = 1_000_000


class Story:
    """Each call adds one event, 10 ms after the one before, unless `at_ms` says otherwise."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self._clock_ms = 0
        self._numbers = count(1)

    def add(self, kind: str, phase: str, *, pid: int = 1, at_ms: int | None = None, **members: Any) -> Self:
        self._clock_ms = self._clock_ms + 10 if at_ms is None else at_ms
        if kind == "fault" and phase == "begin" and (fault := FAULTS.get(members["fault"])):
            members = {"traits": msgspec.to_builtins(fault().traits()), **members}
        event = {"t": self._clock_ms * MS, "pid": pid, "kind": kind, "phase": phase, **members}
        self.events.append(msgspec.convert(event, Event))
        return self

    def begin(self, **members: Any) -> Self:
        given = {"seed": 7, "target": "mine", "command": ["zeroloss", "run"], "recover_within": 5.0, **members}
        given["plan"] = {"tasks": 0, "faults": [], **given.get("plan", {})}
        return self.add("run", "begin", **given)

    def submit(self, task: str, outcome: str | None = "ok", digest: str | None = None) -> Self:
        self.add("submit", "invoke", task=task, digest=digest)
        return self.add("submit", outcome, task=task) if outcome else self

    def started(self, task: str, execution: str, pid: int = 100, digest: str | None = None) -> Self:
        return self.add("effect", "begin", pid=pid, task=task, execution=execution, digest=digest)

    def ended(self, task: str, execution: str, pid: int = 100) -> Self:
        return self.add("effect", "end", pid=pid, task=task, execution=execution)

    def ran(self, task: str, pid: int = 100, digest: str | None = None) -> Self:
        execution = f"ran-{next(self._numbers)}"
        return self.started(task, execution, pid, digest).ended(task, execution, pid)

    def kill(self, number: int, *, pids: tuple[int, ...] = (), tasks: tuple[str, ...] = (), name: str = "") -> Self:
        name = name or "worker-kill"
        self.add("fault", "begin", fault=name, number=number)
        return self.add(
            "fault",
            "effective",
            fault=name,
            number=number,
            pids=list(pids),
            tasks=list(tasks),
            evidence="exit status -9",
        )

    def missed(self, number: int, name: str = "worker-kill") -> Self:
        self.add("fault", "begin", fault=name, number=number)
        return self.add("fault", "missed", fault=name, number=number, reason="no task was in flight")

    def census(self, after: str = "end", source: str = "target", **places: Any) -> Self:
        """Add a census: `task=place` or `task=(place, reason)`, or a list of these for a task found more than once."""
        for task, where in places.items():
            for spot in where if isinstance(where, list) else [where]:
                place, reason = spot if isinstance(spot, tuple) else (spot, None)
                self.add("census", "found", task=task, place=place, reason=reason, after=after)
        return self.add("census", "done", source=source, after=after, count=len(places))

    def late(self, late_ms: int = 2_500) -> Self:
        """Record that the harness itself was delayed."""
        return self.add("harness", "late", late_ms=late_ms)

    def clock_set(self, by_ms: int = 3_200) -> Self:
        """Record that the machine's wall clock was set in the last 100 ms."""
        return self.add("harness", "clock_set", late_ms=100, by_ms=by_ms)

    def drained(self) -> Self:
        return self.add("run", "healed").add("run", "drained")

    def deadline(self, **places: Any) -> Self:
        return self.add("run", "healed").add("run", "deadline").census("deadline", **places)

    def end(self, **places: Any) -> Self:
        return self.census("end", **places).add("run", "end")
