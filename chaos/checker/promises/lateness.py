"""Which tasks of dead workers ran again later than the target promises, though nothing kept its workers busy (I4).

A target promises a dead worker's task again within `recover_within`. By then the task can be claimed; it runs later if
all workers are busy. So a redelivery counts as late only if a worker was seen idle after that time and a margin.
Nothing counts against the queue while a fault is active, nor for a recovery's time after it: the next worker to be
killed may have claimed the task. The same holds while the machine is starved or crowded.
"""

from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

from ..evidence import Evidence, Execution
from ..spans import NEVER, Covered, Span, Spans
from ..stated import option
from ..verdicts import Redelivery
from .retries import Retry, due_of

SECOND = 1_000_000_000
MARGIN_S = 1.0
"""Seconds by which a redelivery may be late, including the delay of a busy machine."""
IDLE_S = 1.0
"""Seconds without a task after which a worker is idle, and not merely between two tasks."""

IDLE = round(IDLE_S * SECOND)


def late_of(evidence: Evidence) -> list[Redelivery]:
    """Return the tasks that ran again too late, with the ms from the death of their worker to their next execution."""
    within_s = evidence.begin.recover_within if evidence.begin else None
    if within_s is None:
        return []
    idleness = _Idleness.of(evidence)
    late = []
    for fault in evidence.faults.values():
        for name, struck in fault.struck.items():
            died_t = fault.effective_t or 0
            # Counted from the fault's begin: a quick recovery may precede the record of its effect.
            since_t = max(struck.begin + 1, fault.from_t)
            begins = [one.begin for one in evidence.tasks[name].executions if one.begin >= since_t]
            if not begins or not fault.hits_workers or not idleness.workers.died(struck, died_t):
                continue
            if idleness.was(died_t, min(begins), since_t=fault.from_t):
                late.append(Redelivery(name, fault.number, (min(begins) - died_t) / 1e6))
    return late


def late_retries_of(evidence: Evidence, retries: Iterable[Retry]) -> list[str]:
    """Return the tasks that were tried again long after the target states, though a worker was idle (I5)."""
    idleness = _Idleness.of(evidence)
    late: dict[str, None] = {}
    for retry in retries:
        if (stated_t := due_of(evidence, retry)) is None:
            continue
        due_t = stated_t + allowed(evidence)
        if idleness.was(due_t, max(due_t, retry.again.begin), since_t=retry.failed.begin):
            late[retry.task] = None
    return list(late)


def late_starts_of(evidence: Evidence) -> list[str]:
    """Return the tasks that began long after they were accepted or due, though a worker was idle."""
    if option(evidence.begin, "starts_when_idle") is not True:
        return []
    idleness = _Idleness.of(evidence)
    late = []
    for name, task in evidence.tasks.items():
        if task.ok_t is None:
            continue
        due_t = task.ok_t + task.delay_ms * 1_000_000 + allowed(evidence)
        begin_t = max(due_t, min((one.begin for one in task.executions), default=due_t))
        if idleness.was(due_t, begin_t, since_t=task.ok_t):
            late.append(name)
    return late


def idle_in(evidence: Evidence) -> Callable[[Span], bool]:
    """Return a predicate of a span: whether a live worker ran nothing for long in it, whatever faults were active."""
    workers = _Workers.of(evidence)
    return lambda span: workers.idle(span, since_t=span[0])


def allowed(evidence: Evidence) -> int:
    """Return the longest time, in ns, that a recovery may take."""
    within_s = (evidence.begin.recover_within if evidence.begin else None) or 0.0
    return round((within_s + MARGIN_S) * SECOND)


def sooner_of(evidence: Evidence) -> dict[str, float]:
    """Return fault -> seconds, for faults after which the target states an earlier recovery than after others."""
    stated = option(evidence.begin, "recover_sooner")
    listed = stated.items() if isinstance(stated, Mapping) else ()
    return {fault: within_s for fault, within_s in listed if isinstance(within_s, int | float)}


def _disturbances(evidence: Evidence, workers: "_Workers") -> Iterator[Span]:
    """Yield the spans in which a recovery may be delayed: by faults, effective or not, other deaths, or starvation."""
    after = allowed(evidence)
    sooner = {fault: round((within_s + MARGIN_S) * SECOND) for fault, within_s in sooner_of(evidence).items()}
    drains = option(evidence.begin, "drains_when_full") is True
    for fault in evidence.faults.values():
        if drains and fault.traits.fills_memory:
            continue  # full memory must not delay accepted tasks
        if fault.begin_t is not None and not fault.traits.baseline and not fault.misbehaved:
            yield fault.begin_t, (fault.over_t or evidence.last_t) + sooner.get(fault.name, after)
    for task in evidence.tasks.values():
        for one in task.executions:
            if one.end is None and one.pid not in workers.killed:
                later = [other.begin for other in task.executions if other.begin > one.begin]
                yield one.begin, min(later, default=evidence.last_t) + after
    for late in (*evidence.late, *evidence.crowded):
        yield late.since_t, late.t + after
    for setting in evidence.clock_set:  # what is due by a clock that was set back comes as much later
        yield setting.since_t, setting.t + max(0, -(setting.by_ms or 0)) * 1_000_000 + after


@dataclass(frozen=True, slots=True)
class _Workers:
    """The processes that run tasks, as the ledger shows them."""

    last_seen: dict[int, int]
    killed: dict[int, int]
    """Process -> time at which a fault was seen to have ended it."""
    busy: dict[int, Covered]
    """Process -> the time in which it ran tasks."""
    all_busy: Covered
    """The time in which any process ran tasks."""
    seen: Spans[int]
    """Processes, each with the span from its first to its last ledger event."""
    lives: Spans[int]
    """Processes, each with the span from its first ledger event until a fault killed it."""
    gone_t: list[int]
    """Times at which processes of any kind ended."""

    @classmethod
    def of(cls, evidence: Evidence) -> "_Workers":
        executions: dict[int, list[Execution]] = {}
        for task in evidence.tasks.values():
            for one in task.executions:
                executions.setdefault(one.pid, []).append(one)
        last_seen = {pid: max(max(one.begin, one.end or 0) for one in ran) for pid, ran in executions.items()}
        killed = {
            pid: fault.effective_t
            for fault in evidence.faults.values()
            if fault.hits_workers and fault.effective_t is not None
            for pid in fault.pids
            if last_seen.get(pid, 0) <= fault.effective_t
        }
        first_seen = {pid: min(one.begin for one in ran) for pid, ran in executions.items()}
        spans = {
            pid: [(one.begin, killed.get(pid, NEVER) if one.end is None else one.end) for one in ran]
            for pid, ran in executions.items()
        }
        return cls(
            last_seen=last_seen,
            killed=killed,
            busy={pid: Covered(ran) for pid, ran in spans.items()},
            all_busy=Covered(span for ran in spans.values() for span in ran),
            seen=Spans(((first_seen[pid], last_seen[pid]), pid) for pid in executions),
            lives=Spans(((first_seen[pid], killed.get(pid, NEVER)), pid) for pid in executions),
            gone_t=[gone.t for gone in evidence.exits],
        )

    def died(self, struck: Execution, t: int) -> bool:
        """Return whether the execution never ended and its process was silent after `t`."""
        return struck.end is None and self.last_seen[struck.pid] <= t

    def idle(self, span: Span, *, since_t: int) -> bool:
        """Return whether a live process was idle for long; or all were, and one from before `since_t` lived."""
        from_t, until_t = span
        # The reversed span finds processes seen at or before its begin and at or after its end.
        if any(_rests(self.busy[pid], span) for pid in self.seen.during((until_t, from_t))):
            return True
        return _rests(self.all_busy, span) and self._worker_lives(since_t, until_t)

    def _worker_lives(self, since_t: int, until_t: int) -> bool:
        """Return whether a worker that ran a task by `since_t` lived until `until_t`: a starting one is not idle."""
        return any(
            bisect_left(self.gone_t, self.last_seen[pid]) >= bisect_left(self.gone_t, until_t)
            for pid in self.lives.during((until_t, since_t))
        )


@dataclass(frozen=True, slots=True)
class _Idleness:
    """Times at which a worker was idle and nothing was active that may delay its work."""

    workers: _Workers
    blocked: Covered
    """The time in which lateness does not count against the queue."""

    @classmethod
    def of(cls, evidence: Evidence) -> "_Idleness":
        workers = _Workers.of(evidence)
        return cls(workers=workers, blocked=Covered(_disturbances(evidence, workers)))

    def was(self, from_t: int, until_t: int, *, since_t: int) -> bool:
        """Return whether a worker was idle for long within that time; `since_t` as in `_Workers.idle`."""
        return any(self.workers.idle(span, since_t=since_t) for span in self.blocked.gaps((from_t, until_t), IDLE))


def _rests(busy: Covered, span: Span) -> bool:
    """Return whether nothing was in flight for at least `IDLE` within the span."""
    return any(busy.gaps(span, IDLE))
