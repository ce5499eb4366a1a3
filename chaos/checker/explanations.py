"""What explains that a task was completed more than once: at-least-once allows it, but only for a reason.

A queue runs a task again because it could not know that the task was done, or because it took the task's worker for
dead. Both need a fault that hit the worker, or the server that all workers talk to. So one of these explains a
repetition:

- the ack of the earlier execution was lost: a fault hit its worker, or the server, while it ran or shortly after;
- the server lost the ack afterwards, as its durability allows;
- the task was claimed before the end of such a fault and recovered meanwhile: the delayed worker runs it too;
- its handler misbehaved as planned, or its process died;
- a client submitted it several times, and the queue does not state that these are one task;
- the machine was starved between the two executions, or its clock was set.

Whatever may have an innocent cause counts as explained. If a target states that it has no unexplained duplicates, the
remaining ones are its own defect.
"""

from bisect import bisect_left
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from itertools import pairwise

from .evidence import Evidence, Execution, FaultRecord, Task
from .excuses import SLOW_FSYNC_S, Window, windows_of
from .spans import NEVER, Span, Spans
from .stated import option
from .verdicts import Duplicate, FaultRef

SECOND = 1_000_000_000
ACK_UNDER_WAY_S = 1.0
"""Seconds after the end of a body during which its ack may still be under way, and be lost to a fault."""
HELD_UP_S = 0.1
"""Seconds by which a worker must be delayed before any queue takes it for dead."""


def duplicates_of(evidence: Evidence) -> list[Duplicate]:
    """Return a `Duplicate` for each task that was completed more than once."""
    causes = _Causes.of(evidence)
    return [causes.duplicate(name, task) for name, task in evidence.tasks.items() if len(task.completed) > 1]


def too_many_of(evidence: Evidence, duplicates: Iterable[Duplicate]) -> list[str]:
    """Return the tasks with unexplained duplicates if there are more of them than the target states; else nothing."""
    stated = option(evidence.begin, "unexplained_duplicates")
    unexplained = [duplicate.task for duplicate in duplicates if not duplicate.explained]
    return unexplained if isinstance(stated, int) and len(unexplained) > stated else []


def explains(evidence: Evidence) -> Callable[[str, Task, Execution, Execution], bool]:
    """Return a predicate of (name, task, earlier, later): whether the later run has a cause besides a failed body."""
    causes = _Causes.of(evidence)
    causes = replace(causes, misbehaved=[], faults=causes.without_full_memory())
    return lambda name, task, earlier, later: bool(
        causes._fault(name, task, earlier, later) or causes._other(earlier, later)
    )


@dataclass(frozen=True, slots=True)
class _Causes:
    """Everything in one run that may explain a repetition. Times are ns."""

    evidence: Evidence
    faults: Spans[FaultRecord]
    """Effective faults, each with the span in which it may have hit; handler faults are in `misbehaved`."""
    misbehaved: list[FaultRecord]
    """Effective handler faults: they hit at any time of the run, and are counted at its end."""
    first_window: Callable[[int, int], Window | None]
    ended_by_t: dict[int, int]
    """Process -> end of the last fault that aimed at it."""
    gone_t: list[int]
    """Times at which workers ended by themselves."""
    last_seen: dict[int, int]
    """Process -> time of the last event in its ledger."""
    cut_off: dict[int, list[Execution]]
    """Process -> its executions that never ended."""
    taken_over_within: int
    """Time after a fault within which a delayed worker may begin an earlier claim: later, others hold it."""

    @classmethod
    def of(cls, evidence: Evidence) -> "_Causes":
        last_seen: dict[int, int] = {}
        cut_off: dict[int, list[Execution]] = {}
        for task in evidence.tasks.values():
            for one in task.executions:
                last_seen[one.pid] = max(last_seen.get(one.pid, 0), one.begin, one.end or 0)
                if one.end is None:
                    cut_off.setdefault(one.pid, []).append(one)
        within_s = (evidence.begin.recover_within if evidence.begin else None) or 0.0
        effective = [fault for fault in evidence.faults.values() if fault.effective_t is not None]
        ended_by_t: dict[int, int] = {}
        for fault in effective:
            for pid in fault.pids if fault.hits_workers else ():
                ended_by_t[pid] = max(fault.over_t, ended_by_t.get(pid, 0))
        return cls(
            evidence=evidence,
            faults=Spans(((fault.from_t, fault.over_t), fault) for fault in effective if not fault.misbehaved),
            misbehaved=[fault for fault in effective if fault.misbehaved],
            first_window=windows_of(evidence, promises=False),
            ended_by_t=ended_by_t,
            gone_t=[gone.t for gone in evidence.exits if gone.role == "worker" and not gone.wanted],
            last_seen=last_seen,
            cut_off=cut_off,
            taken_over_within=round((within_s + ACK_UNDER_WAY_S) * SECOND),
        )

    def without_full_memory(self) -> Spans[FaultRecord]:
        """Return the faults, without full memory if the target drains under it: that loses no report of a failure."""
        drains = option(self.evidence.begin, "drains_when_full") is True
        return Spans(
            ((fault.from_t, fault.over_t), fault)
            for fault in self.faults.during((0, NEVER))
            if not (drains and fault.traits.fills_memory)
        )

    def duplicate(self, name: str, task: Task) -> Duplicate:
        completed = sorted(task.completed, key=lambda execution: execution.begin)
        faults: dict[int, FaultRef] = {}
        others: dict[str, None] = {}
        resubmitted = self._submissions_beyond_one(task)
        explained = True
        for earlier, later in pairwise(completed):
            if fault := self._fault(name, task, earlier, later):
                faults[fault.number] = FaultRef(fault.number, fault.name)
            elif other := self._other(earlier, later):
                others[other] = None
            elif resubmitted:
                resubmitted -= 1
                others["submitted more than once"] = None
            else:
                explained = False
        return Duplicate(
            task=name,
            executions=len(completed),
            explained=explained,
            faults=list(faults.values()),
            others=list(others),
            overlapping=_overlapping(task.executions),
            by_one=any(earlier.pid == later.pid for earlier, later in pairwise(completed)),
        )

    def _submissions_beyond_one(self, task: Task) -> int:
        """Return how many extra tasks the submissions may have created; 0 if the target is idempotent."""
        if option(self.evidence.begin, "idempotent") is True:
            return 0
        return max(0, task.invoked - task.fail - 1)

    def _fault(self, name: str, task: Task, earlier: Execution, later: Execution) -> FaultRecord | None:
        """Return the last fault that explains the later execution; None: no fault does."""
        explaining = [fault for fault in self.misbehaved if _misbehaving(name, earlier, later, fault)]
        explaining += [
            fault
            for fault in self.faults.during(self._in_question(earlier, later))
            if _met(fault, name, earlier) or self._taken_over(fault, task, earlier, later)
        ]
        if explaining:
            return max(explaining, key=lambda fault: fault.effective_t or 0)
        ended_t = earlier.end or 0
        window = self.first_window(ended_t, ended_t + round(ACK_UNDER_WAY_S * SECOND))
        return window.fault if window and window.until_t <= later.begin else None

    def _in_question(self, earlier: Execution, later: Execution) -> Span:
        """Return the span in which any explaining fault must have hit: soon after the earlier execution at most."""
        heard_t = NEVER if earlier.end is None else earlier.end + round((ACK_UNDER_WAY_S + SLOW_FSYNC_S) * SECOND)
        return earlier.begin - self.taken_over_within, min(later.begin, heard_t)

    def _taken_over(self, fault: FaultRecord, task: Task, earlier: Execution, later: Execution) -> bool:
        """Return whether one execution is by a worker delayed by the fault, of a task claimed before the fault's end.

        The other execution is by the process that recovered the task. Executions with the same attempt are not a
        recovery.
        """
        if fault.over_t - fault.from_t < HELD_UP_S * SECOND or (task.invoked_t or 0) > fault.over_t:
            return False
        if earlier.attempt is not None and earlier.attempt == later.attempt:
            return False
        return earlier.begin >= fault.from_t and any(
            (fault.everywhere or one.pid in fault.pids)
            and one.begin <= fault.over_t + self.taken_over_within
            # A process that has begun the task before has used up its earlier claim.
            and not any(other.pid == one.pid and other.begin < one.begin for other in task.executions)
            for one in (earlier, later)
        )

    def _other(self, earlier: Execution, later: Execution) -> str:
        """Return what explains it other than a fault, in a few words; empty: nothing does."""
        if self._died(earlier, later):
            return "its process died"
        if self.evidence.starved(earlier.begin, later.begin):
            return "the machine was overloaded"
        # Keys with a time to live, such as a lease, end early if the clock is set ahead.
        if self.evidence.clock_was_set(earlier.begin - self.taken_over_within, later.begin):
            return "the machine's clock was set"
        return ""

    def _died(self, earlier: Execution, later: Execution) -> bool:
        """Return whether the process ended by itself, in another task or idle, while the ack could still be lost."""
        pid, silent_t = earlier.pid, self.last_seen[earlier.pid]
        if silent_t <= self.ended_by_t.get(pid, -1):
            return False  # a fault ended it: `_fault` has decided already
        if any(one.begin <= later.begin for one in self.cut_off.get(pid, ())):
            return _may_be_unheard_of(earlier, silent_t)
        return any(_may_be_unheard_of(earlier, t) for t in self.gone_t[bisect_left(self.gone_t, silent_t) :][:1])


def _met(fault: FaultRecord, name: str, earlier: Execution) -> bool:
    """Return whether the fault hit the earlier execution, its process or all processes while its ack could be lost.

    A fault hits at some time between its begin and its `effective`, which is recorded only once the effect was seen; a
    quick recovery may come in between. So the fault may lie between the executions if any time of its span does. An
    execution that ended long before the fault was acked long before it, whatever happened to its process.
    """
    if fault.everywhere:
        # With an fsync every second the server may also lose an older ack.
        return earlier.begin <= fault.over_t and _may_be_unheard_of(
            earlier, fault.from_t, ACK_UNDER_WAY_S + SLOW_FSYNC_S
        )
    if not _may_be_unheard_of(earlier, fault.from_t):
        return False
    if earlier.pid in fault.pids:
        return earlier.begin <= fault.over_t
    named = name in fault.struck or name in fault.claimed
    return named and earlier.begin <= (fault.effective_t or 0)


def _misbehaving(name: str, earlier: Execution, later: Execution, fault: FaultRecord) -> bool:
    """Return whether the earlier execution misbehaved, or its process was ended by an execution that did."""
    own = fault.misbehaved.get(name)
    if own is earlier or (own and earlier.in_flight(later.begin)):
        return True
    return any(
        one.end is None
        and one.pid == earlier.pid
        and one.begin <= later.begin
        and _may_be_unheard_of(earlier, one.begin)
        for one in fault.misbehaved.values()
    )


def _may_be_unheard_of(execution: Execution, t: int, under_way_s: float = ACK_UNDER_WAY_S) -> bool:
    """Return whether at `t` the queue may not know yet that the execution ended."""
    return execution.end is None or execution.end >= t - under_way_s * SECOND


def _overlapping(executions: list[Execution]) -> bool:
    """Return whether one began while another surely ran. One without an end is ignored: it may have died at once."""
    latest_end = -1
    for execution in sorted(executions, key=lambda execution: execution.begin):
        if execution.begin < latest_end:
            return True
        latest_end = max(latest_end, execution.end or -1)
    return False
