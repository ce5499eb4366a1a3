"""The state of its life in which a task got lost, and the fault that was active then.

If the run was traced, the last command that carried the task decides; else its executions and the faults do.
"""

from bisect import bisect_left
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from enum import StrEnum

from ..checker.evidence import Evidence, Execution, FaultRecord, Task
from ..history.trace import Trail
from .commands import last_change

SECOND = 1_000_000_000
SOON_S = 1.0
"""Seconds after a fault within which its effect on a task that is claimed, acked or retried shows."""
RECOVERED_SHARE = 0.5
"""Share of interrupted executions that another one must follow for the queue to count as one that recovers tasks: then
the other tasks got lost on recovery."""


class Where(StrEnum):
    """The states, in the order of a task's life."""

    ENQUEUE = "at enqueue"
    WAITING = "before any worker claimed it"
    CLAIMED = "claimed and not yet begun"
    UNBEGUN = "promised and not yet begun"
    BODY = "interrupted in its body"
    DONE = "done and not acked"
    RETRY = "while being retried"
    GIVEN_UP = "when the queue gave it up"
    RECOVERY = "during recovery"


@dataclass(frozen=True, slots=True)
class Place:
    """State in which one task got lost. `fault`: the fault that was active then; None: no fault."""

    where: Where
    fault: FaultRecord | None


class Finder:
    """Finds where the tasks of one run got lost."""

    def __init__(self, evidence: Evidence, trails: Mapping[str, Trail]) -> None:
        self._evidence, self._trails = evidence, trails
        self._effective = [fault for fault in evidence.faults.values() if fault.effective_t is not None]
        self._exits = {gone.sid or gone.pid: gone.t for gone in evidence.exits}
        begun = sorted((task.ok_t, task) for task in evidence.tasks.values() if task.ok_t and task.executions)
        self._promised_t, self._begun = [t for t, _ in begun], [task for _, task in begun]
        self.recovers = self._recovers()

    def place(self, name: str) -> Place:
        """Return where the task got lost, or stands still."""
        task = self._evidence.tasks[name]
        trail = self._trails.get(name)
        last = last_execution(task)
        if last is None:
            return self._unbegun(name, task, trail)
        if last.completed:
            return Place(Where.DONE, self._at(last.end or 0))
        if last.raised:
            most = self._evidence.retries.of(name).max_attempts
            raised = sum(one.raised for one in task.executions)
            given_up = most is not None and raised >= most
            return Place(Where.GIVEN_UP if given_up else Where.RETRY, self._at(last.end or 0))
        fault = self.interrupter(name, last)
        step = last_change(trail)
        if step and step.pid and step.pid != last.pid and step.t > last.begin:
            return Place(Where.RECOVERY, self._at(step.t) or fault)
        return Place(Where.RECOVERY if self.recovers else Where.BODY, fault)

    def interrupter(self, name: str, execution: Execution) -> FaultRecord | None:
        """Return the fault that interrupted an execution that never ended; None: no fault did."""
        hit = [
            fault
            for fault in self._effective
            if fault.struck.get(name) is execution
            or fault.misbehaved.get(name) is execution
            or (execution.pid in fault.pids and execution.begin <= fault.over_t)
        ]
        return min(hit, key=lambda fault: fault.effective_t or 0, default=None)

    def _unbegun(self, name: str, task: Task, trail: Trail | None) -> Place:
        submitted_t, ok_t = task.invoked_t or 0, task.ok_t or 0
        during = self._at(submitted_t, ok_t, everywhere=True)
        if trail is not None:
            step = last_change(trail)
            if step is None:
                return Place(Where.ENQUEUE, during)
            if step.who.startswith("worker"):
                return Place(Where.CLAIMED, self._ended(step.pid, step.t) or self._at(step.t))
            return Place(Where.WAITING, self._at(ok_t, everywhere=True))
        if during:
            return Place(Where.ENQUEUE, during)
        claimed = [fault for fault in self._effective if name in fault.claimed]
        if claimed:
            return Place(Where.CLAIMED, claimed[-1])
        fault = self._while_neighbours_began(ok_t)
        return Place(Where.CLAIMED if fault else Where.UNBEGUN, fault)

    def _while_neighbours_began(self, ok_t: int) -> FaultRecord | None:
        """Return a fault of workers or the server, active while the tasks promised just before and after began."""
        at = bisect_left(self._promised_t, ok_t)
        around = [min(one.begin for one in task.executions) for task in self._begun[max(0, at - 2) : at + 2]]
        if not around:
            return None
        from_t, to_t = min(around), max(around) + round(SOON_S * SECOND)
        found = [one for one in self._effective if one.hits_workers or one.everywhere]
        return next((one for one in found if one.from_t <= to_t and (one.effective_t or 0) >= from_t), None)

    def _at(self, t: int, until_t: int | None = None, *, everywhere: bool = False) -> FaultRecord | None:
        """Return the first fault that was active between `t` and a second after `until_t`, by default `t`."""
        until_t = (t if until_t is None else until_t) + round(SOON_S * SECOND)
        kinds = [
            fault
            for fault in self._effective
            if fault.everywhere or (not everywhere and fault.traits.aims_at in ("network", "worker", "client"))
        ]
        return next((fault for fault in kinds if fault.from_t <= until_t and fault.over_t >= t), None)

    def _ended(self, pid: int, since_t: int) -> FaultRecord | None:
        hit = [fault for fault in self._effective if pid in fault.pids and fault.over_t >= since_t]
        return min(hit, key=lambda fault: fault.effective_t or 0, default=None)

    def _recovers(self) -> bool:
        interrupted, again = interruptions(self._evidence, self._evidence.tasks.keys())
        return interrupted > 0 and again >= RECOVERED_SHARE * interrupted


def last_execution(task: Task) -> Execution | None:
    return max(task.executions, key=lambda one: one.begin, default=None)


def interruptions(evidence: Evidence, names: Collection[str]) -> tuple[int, int]:
    """Count the executions of these tasks that never ended, and those of them that another one followed."""
    interrupted = again = 0
    for name in names:
        executions = evidence.tasks[name].executions
        last_begin = max((one.begin for one in executions), default=0)
        for one in executions:
            if one.end is None:
                interrupted += 1
                again += one.begin < last_begin
    return interrupted, again
