"""Findings of a history other than the outcomes of tasks: kills, times, faults, exits."""

import math
import statistics
from bisect import bisect_left
from collections import Counter
from collections.abc import Mapping
from itertools import pairwise

from .evidence import CensusRecord, Evidence, Execution, FaultRecord, Task
from .verdicts import Duplicate, Exit, Fate, FaultResult, Kills, Leftover, LoadResult, Redelivery

OVERTAKEN_S = 1.0
DURING_S = 2
"""Seconds after a fault in which an exit still counts as during it: the process's clients gave up first."""
OVERTAKEN_SHARE = 0.25
"""Share of the tasks that must be overtaken in a run with faults before it counts against the queue."""
WAITS = {Fate.NEEDS_TRAFFIC: 1, Fate.NEEDS_RESTART: 2}
"""Outcome -> in how many waits its tasks did not move, of three: alone, after a new task, after a restart."""


def kills_of(evidence: Evidence) -> Kills:
    """Count the faults that aim at worker processes."""
    aimed = [fault for fault in evidence.faults.values() if fault.hits_workers]
    effective = [fault for fault in aimed if fault.effective_t is not None]
    return Kills(planned=len(aimed), effective=len(effective), mid_task=sum(1 for fault in effective if fault.struck))


def redeliveries_of(evidence: Evidence) -> list[Redelivery]:
    """Return, for each task hit in its body, the ms from the recorded effect of the fault to the task's next begin."""
    found = []
    for fault in sorted(evidence.faults.values(), key=lambda fault: fault.number):
        if fault.effective_t is None:
            continue
        for name, struck in fault.struck.items():
            begins = [other.begin for other in evidence.tasks[name].executions if other is not struck]
            # Counted from the fault's begin: a quick recovery may precede the record of its effect.
            since_t = max(struck.begin, fault.effective_t if fault.begin_t is None else fault.begin_t)
            next_t = min((begin for begin in begins if begin >= since_t), default=None)
            if next_t is not None:
                found.append(Redelivery(name, fault.number, max(0, next_t - fault.effective_t) / 1e6))
            elif not struck.completed:
                found.append(Redelivery(name, fault.number, None))
    return found


def overtaken_of(evidence: Evidence) -> list[str]:
    """Return the tasks that began much later than a task accepted after them was completed (I7).

    Much later means by more than `recover_within` and a second: a task that a slow worker held or released begins
    within that time. In a run with faults `_may_be_late` excludes tasks that a fault delayed. A few others are late in
    any queue: a task that is released while its server fails waits behind the recovered ones. So a number below
    `OVERTAKEN_SHARE` of all tasks is ignored.
    """
    within_s = (evidence.begin.recover_within if evidence.begin else None) or 0.0
    slack = int((within_s + OVERTAKEN_S) * 1e9)
    in_turn = {name: task for name, task in evidence.tasks.items() if task.invoked_t is not None and not task.delay_ms}
    overtaken: list[str] = []
    for priority in {task.priority for task in in_turn.values()}:
        tasks = {name: task for name, task in in_turn.items() if task.priority == priority}
        overtaken += _overtaken(evidence, tasks, slack)
    few = not evidence.undisturbed and len(overtaken) < OVERTAKEN_SHARE * len(in_turn)
    return [] if few else sorted(overtaken, key=lambda name: in_turn[name].invoked_t or 0)


def _overtaken(evidence: Evidence, tasks: Mapping[str, Task], slack: int) -> list[str]:
    """Return the tasks, all of one priority, that began more than `slack` ns after a later one was completed."""
    by_submission = sorted(((task.invoked_t or 0, name, task) for name, task in tasks.items()), reverse=True)
    overtaken = []
    # From the newest to the oldest, so that the first end of all newer tasks is known.
    newer: list[tuple[int, float]] = []  # (submitted, first end among those submitted then or later), newest first
    for invoked_t, name, task in by_submission:
        first = min(task.executions, key=lambda execution: execution.begin, default=None)
        if first is not None and task.ok_t is not None:
            place = bisect_left(newer, -task.ok_t, key=lambda one: -one[0])
            passed_t = newer[place - 1][1] if place else math.inf
            if passed_t < first.begin - slack and (evidence.undisturbed or not _may_be_late(evidence, task, first)):
                overtaken.append(name)
        ended_t = task.completed_t
        first_t = newer[-1][1] if newer else math.inf
        newer.append((invoked_t, min(first_t, math.inf if ended_t is None else ended_t)))
    return overtaken


def _may_be_late(evidence: Evidence, task: Task, first: Execution) -> bool:
    """Return whether something disturbed this task before it began, so that others may have passed it.

    A task at attempt 1 was never held by a process that died. But its connection may have been cut or slow, it may have
    been submitted twice, or the machine may have been overloaded.
    """
    if first.attempt != 1 or task.invoked > 1:
        return True
    since_t = task.ok_t or 0
    ways = (fault for fault in evidence.faults.values() if fault.traits.aims_at == "network" or fault.traits.fails_over)
    return any(fault.from_t < first.begin and fault.over_t > since_t for fault in ways) or any(
        since_t < one.t and one.since_t < first.begin for one in (*evidence.late, *evidence.crowded)
    )


def end_to_end_ms(evidence: Evidence) -> list[float]:
    """Return the ms of each completed task from its first submission, or its due time, to its first completion."""
    return [
        (task.completed_t - task.invoked_t) / 1e6 - task.delay_ms
        for task in evidence.tasks.values()
        if task.invoked_t is not None and task.completed_t is not None
    ]


def body_ms(evidence: Evidence) -> float | None:
    """Return the median duration of a completed body; None: no body was completed."""
    lasted = [(one.end or 0) - one.begin for task in evidence.tasks.values() for one in task.completed]
    return statistics.median(lasted) / 1e6 if lasted else None


def fault_results(evidence: Evidence, duplicates: list[Duplicate], redeliveries: list[Redelivery]) -> list[FaultResult]:
    """Return one row per planned or injected fault, by number."""
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
            aims_at=fault.traits.aims_at,
        )
        for number, fault in sorted(evidence.faults.items())
    ]


def _state(fault: FaultRecord) -> str:
    if fault.missed:
        return "missed"
    if fault.effective_t is not None:
        return "effective"
    return "not begun" if fault.begin_t is None else "unfinished"


def _at_ms(evidence: Evidence, fault: FaultRecord) -> float | None:
    t = fault.effective_t if fault.effective_t is not None else fault.begin_t
    return None if t is None else (t - evidence.first_t) / 1e6


def leftovers_of(evidence: Evidence, census: CensusRecord | None) -> list[Leftover]:
    """Return the tasks that were completed and are still in the broker.

    Their work is done, so they are neither LOST nor STUCK; but the queue hasn't noticed, and may run them again.
    """
    if census is None:
        return []
    return [
        Leftover(name, ", ".join(places))
        for name, places in census.found.items()
        if name in evidence.tasks and evidence.tasks[name].completed
    ]


def starved_ms(evidence: Evidence, fate: Fate) -> int:
    """Return the least lateness of the harness, in ms, in the waits in which tasks of this outcome did not move.

    A task that does not move may be waiting for the machine. 0: the harness was on time in at least one of the waits,
    so the queue had all of that time. Lateness before the first wait does not count: the drain has passed since then.
    """
    marks = (evidence.phases.get("healed", evidence.first_t), evidence.pokes.get("task"), evidence.pokes.get("restart"))
    waits = list(pairwise([*(t for t in marks if t is not None), evidence.last_t + 1]))
    return min(
        max(
            (one.late_ms for one in evidence.late if one.t > from_t and one.since_t < to_t),
            default=0,
        )
        for from_t, to_t in waits[: WAITS.get(fate)]
    )


def exits_of(evidence: Evidence) -> list[Exit]:
    """Return the processes that ended without the harness ending them."""
    return [
        Exit(
            event.role, event.sid or event.pid, event.status, (event.t - evidence.first_t) / 1e6, event.last_words or ""
        )
        for event in evidence.exits
        if not event.wanted and event.role != "load"  # Locust ends when it is done
    ]


def exits_in_short(evidence: Evidence, exits: list[Exit]) -> list[str]:
    """Return a sentence for each role and status: how many exits, the most frequent fault then, and the last output."""
    groups: dict[tuple[str, int | None], list[Exit]] = {}
    for gone in exits:
        groups.setdefault((gone.role, gone.status), []).append(gone)
    return [_in_short(evidence, role, status, group) for (role, status), group in groups.items()]


def _in_short(evidence: Evidence, role: str, status: int | None, group: list[Exit]) -> str:
    during: Counter[str] = Counter()
    for gone in group:
        t = evidence.first_t + round(gone.at_ms * 1e6)
        under_way = [fault for fault in evidence.faults.values() if fault.effective_t or fault.begin_t]
        met = {fault.name for fault in under_way if fault.from_t <= t <= fault.over_t + DURING_S * 1_000_000_000}
        during.update(met)
    many = len(group) > 1
    ended = f"ended by signal {-status}" if status is not None and status < 0 else f"exited with status {status}"
    sentence = f"{len(group):,} {role}{'s' if many else ''} {ended}" if many else f"A {role} ({group[0].sid}) {ended}"
    most = during.most_common(1)
    sentence += "".join(f", {count:,} of them during {name}" if many else f" during {name}" for name, count in most)
    words = next((gone.last_words for gone in reversed(group) if gone.last_words), "")
    return f"{sentence}{f'; last output: {words}' if words else ''}"


def load_of(evidence: Evidence) -> LoadResult | None:
    """Return the totals of Locust's reports; None: it sent nothing in this run."""
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
