"""What a history shows beside the fates: kills, duplicates and what explains them, times, faults, exits."""

import math
import statistics
from bisect import bisect_left
from collections.abc import Iterable
from itertools import pairwise

from .evidence import CensusRecord, Evidence, Execution, FaultRecord, Task
from .verdicts import Duplicate, Exit, Fate, FaultRef, FaultResult, Kills, Leftover, LoadResult, Redelivery

OVERTAKEN_S = 1.0
ACK_UNDER_WAY_S = 1.0
"""For so long after a body has ended may the news of it be on its way, and be lost to a fault."""
WAITS = {Fate.NEEDS_TRAFFIC: 1, Fate.NEEDS_RESTART: 2}
"""In how many of the waits tasks of a fate did not move: for the queue alone, after a new task, after a restart."""


def kills_of(evidence: Evidence) -> Kills:
    """Counts of the faults that aim at worker processes."""
    aimed = [fault for fault in evidence.faults.values() if fault.hits_workers]
    effective = [fault for fault in aimed if fault.effective_t is not None]
    return Kills(planned=len(aimed), effective=len(effective), mid_task=sum(1 for fault in effective if fault.struck))


def duplicates_of(evidence: Evidence) -> list[Duplicate]:
    """Every task that was completed more than once."""
    effective = sorted(
        (fault for fault in evidence.faults.values() if fault.effective_t is not None),
        key=lambda fault: fault.effective_t or 0,
    )
    return [_duplicate(name, task, effective) for name, task in evidence.tasks.items() if len(task.completed) > 1]


def _duplicate(name: str, task: Task, effective: list[FaultRecord]) -> Duplicate:
    completed = sorted(task.completed, key=lambda execution: execution.begin)
    faults: dict[int, FaultRef] = {}
    explained = True
    for earlier, later in pairwise(completed):
        fault = _explaining(name, earlier, later, effective)
        if fault is None:
            explained = False
        else:
            faults[fault.number] = FaultRef(fault.number, fault.name)
    return Duplicate(
        task=name,
        executions=len(completed),
        explained=explained,
        faults=list(faults.values()),
        overlapping=_overlapping(task.executions),
    )


def _explaining(name: str, earlier: Execution, later: Execution, effective: list[FaultRecord]) -> FaultRecord | None:
    """The last fault before the later begin that hit the task or the process of the earlier execution.

    A fault strikes at some moment between its begin and its `effective`, which is recorded only once it was seen, and
    a quick recovery may come in between. So it lies between the executions if any of its moments does. What had ended
    long before it was acknowledged long before it, whatever happened to its process.
    """
    for fault in reversed(effective):
        if fault.misbehaved:  # a handler's: at any time of the run, and counted at its end
            if _misbehaving(earlier, later, fault.misbehaved.get(name), fault.misbehaved.values()):
                return fault
            continue
        begin_t = fault.effective_t if fault.begin_t is None else fault.begin_t
        if begin_t is None or fault.effective_t is None or not begin_t <= later.begin:
            continue
        if (
            fault.effective_t >= earlier.begin
            and _may_be_unheard_of(earlier, begin_t)
            and (earlier.pid in fault.pids or name in fault.struck or name in fault.claimed)
        ):
            return fault
    return None


def _misbehaving(earlier: Execution, later: Execution, own: Execution | None, misbehaved: Iterable[Execution]) -> bool:
    """The earlier execution is the one that misbehaved, or one that did ended the process of the earlier."""
    return own is earlier or any(
        one.end is None
        and one.pid == earlier.pid
        and one.begin <= later.begin
        and _may_be_unheard_of(earlier, one.begin)
        for one in misbehaved
    )


def _may_be_unheard_of(execution: Execution, t: int) -> bool:
    """At `t` the queue may not have heard yet that it ended."""
    return execution.end is None or execution.end >= t - ACK_UNDER_WAY_S * 1e9


def _overlapping(executions: list[Execution]) -> bool:
    """One began while another surely ran; an execution without an end may have died at once, and says nothing."""
    latest_end = -1
    for execution in sorted(executions, key=lambda execution: execution.begin):
        if execution.begin < latest_end:
            return True
        latest_end = max(latest_end, execution.end or -1)
    return False


def redeliveries_of(evidence: Evidence) -> list[Redelivery]:
    """For each task in whose body a fault struck: ms from the effect being seen to the next execution's begin."""
    found = []
    for fault in sorted(evidence.faults.values(), key=lambda fault: fault.number):
        if fault.effective_t is None:
            continue
        for name, struck in fault.struck.items():
            begins = [other.begin for other in evidence.tasks[name].executions if other is not struck]
            # From the fault's begin on, as a quick recovery may precede the moment its effect was on record.
            since_t = max(struck.begin, fault.effective_t if fault.begin_t is None else fault.begin_t)
            next_t = min((begin for begin in begins if begin >= since_t), default=None)
            if next_t is not None:
                found.append(Redelivery(name, fault.number, max(0, next_t - fault.effective_t) / 1e6))
            elif not struck.completed:
                found.append(Redelivery(name, fault.number, None))
    return found


def overtaken_of(evidence: Evidence) -> list[str]:
    """In a baseline, the tasks that began long after one that was accepted later had been completed (I7).

    Long: a second more than the queue takes to recover. What is merely in the hands of a worker that is slow, or was
    given back because the machine was, comes within that.
    """
    if not evidence.undisturbed:
        return []
    within_s = (evidence.begin.recover_within if evidence.begin else None) or 0.0
    slack = int((within_s + OVERTAKEN_S) * 1e9)
    by_submission = sorted(
        ((task.invoked_t, name, task) for name, task in evidence.tasks.items() if task.invoked_t is not None),
        reverse=True,
    )
    overtaken = []
    # From the newest to the oldest, so that the first end of all newer ones is known.
    newer: list[tuple[int, float]] = []  # (submitted, first end among those submitted then or later), newest first
    for invoked_t, name, task in by_submission:
        begun_t = min((execution.begin for execution in task.executions), default=None)
        if begun_t is not None and task.ok_t is not None:
            place = bisect_left(newer, -task.ok_t, key=lambda one: -one[0])
            if place and newer[place - 1][1] < begun_t - slack:
                overtaken.append(name)
        ended_t = task.completed_t
        first_t = newer[-1][1] if newer else math.inf
        newer.append((invoked_t, min(first_t, math.inf if ended_t is None else ended_t)))
    return overtaken[::-1]


def end_to_end_ms(evidence: Evidence) -> list[float]:
    """Of each completed task: from the first attempt to submit it to the first end of its body."""
    return [
        (task.completed_t - task.invoked_t) / 1e6
        for task in evidence.tasks.values()
        if task.invoked_t is not None and task.completed_t is not None
    ]


def fault_results(evidence: Evidence, duplicates: list[Duplicate], redeliveries: list[Redelivery]) -> list[FaultResult]:
    """One row per planned or injected fault, by number."""
    caused: dict[int, int] = {}
    for duplicate in duplicates:
        for fault in duplicate.faults:
            caused[fault.number] = caused.get(fault.number, 0) + 1
    times_ms: dict[int, list[float]] = {}
    for redelivery in redeliveries:
        if redelivery.ms is not None:
            times_ms.setdefault(redelivery.fault, []).append(redelivery.ms)
    return [
        FaultResult(
            number=number,
            name=fault.name,
            state=_state(fault),
            at_ms=_at_ms(evidence, fault),
            evidence=fault.evidence,
            tasks_hit=list(fault.struck),
            redelivered=len(times_ms.get(number, ())),
            redelivery_ms_max=max(times_ms.get(number, ()), default=None),
            duplicates=caused.get(number, 0),
        )
        for number, fault in sorted(evidence.faults.items())
    ]


def _state(fault: FaultRecord) -> str:
    if fault.effective_t is not None:
        return "effective"
    if fault.missed:
        return "missed"
    return "not begun" if fault.begin_t is None else "unfinished"


def _at_ms(evidence: Evidence, fault: FaultRecord) -> float | None:
    t = fault.effective_t if fault.effective_t is not None else fault.begin_t
    return None if t is None else (t - evidence.first_t) / 1e6


def leftovers_of(evidence: Evidence, census: CensusRecord | None) -> list[Leftover]:
    """Tasks that were completed and lie in the broker nevertheless.

    Their work is done, so they are not LOST nor STUCK; but the queue hasn't noticed, and may do them again.
    """
    if census is None:
        return []
    return [
        Leftover(name, ", ".join(places))
        for name, places in census.found.items()
        if name in evidence.tasks and evidence.tasks[name].completed
    ]


def starved_ms(evidence: Evidence, fate: Fate) -> int:
    """By how much the harness came late in each of the waits in which tasks of this fate did not move.

    What does not move then, waits perhaps for the machine. 0: in one of the waits the harness was never late, so that
    the queue had all of its time. Whatever was late before the first has had the time of the drain since.
    """
    marks = (evidence.phases.get("healed", evidence.first_t), evidence.pokes.get("task"), evidence.pokes.get("restart"))
    waits = list(pairwise([*(t for t in marks if t is not None), evidence.last_t + 1]))
    return min(
        max(
            (one.late_ms for one in evidence.late if one.t > from_t and one.t - one.late_ms * 1_000_000 < to_t),
            default=0,
        )
        for from_t, to_t in waits[: WAITS.get(fate)]
    )


def exits_of(evidence: Evidence) -> list[Exit]:
    """The processes whose end was not the harness's doing."""
    return [
        Exit(event.role, event.sid or event.pid, event.status, (event.t - evidence.first_t) / 1e6)
        for event in evidence.exits
        if not event.wanted and event.role != "load"  # Locust ends when it is done
    ]


def load_of(evidence: Evidence) -> LoadResult | None:
    """What Locust's seconds add up to; None: it sent nothing in this run."""
    seconds = [one for one in evidence.load if one.phase == "second"]
    ends = [one for one in evidence.load if one.phase == "end"]
    if not seconds and not ends:
        return None
    p95s_ms = [one.p95_ms for one in seconds if one.p95_ms is not None]
    return LoadResult(
        requests=sum(one.requests for one in seconds),
        failures=sum(one.failures for one in seconds),
        seconds=max((one.seconds or 0.0 for one in ends), default=0.0),
        p95_ms_median=statistics.median(p95s_ms) if p95s_ms else None,
        kept=[sentence for one in ends for sentence in one.kept],
        broken=[sentence for one in ends for sentence in one.broken],
    )
