"""Sometimes-assertions: which situations a run reached, and in which states its faults found the tasks.

A run that never reaches a critical situation shows nothing. So situations are counted, from the history alone, and a
profile may demand them: `zeroloss run --demand killed-before-ack,worker-sigkill@running`. An unmet demand makes the run
INCONCLUSIVE.
"""

from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from .evidence import CensusRecord, Evidence, Execution, FaultRecord, Task
from .excuses import crashes_of
from .verdicts import MatrixRow, Situation

STATES = {
    "unsubmitted": "it was not submitted yet",
    "submitting": "it was being submitted, without an answer yet",
    "waiting": "it was in the queue, or its submission had failed, and no body ran",
    "running": "its body ran where the fault did not reach",
    "struck": "its body ran in a process that the fault hit",
    "unacked": "its body had ended in a process that the fault hit, and it ran again",
    "finished": "its body had ended",
}


@dataclass(frozen=True, slots=True)
class _Facts:
    """Facts from which several situations are counted."""

    evidence: Evidence
    census: CensusRecord | None
    last_seen: Mapping[int, int]
    """Process -> time of the last event in its ledger, ns."""
    ran_elsewhere: Mapping[int, frozenset[str]]
    """Process -> the tasks whose body ended in it and began in another process later."""

    def fell_silent(self, pid: int, t: int) -> bool:
        return self.last_seen.get(pid, 0) <= t

    def killed_inside(self, fault: FaultRecord) -> list[str]:
        """Return the tasks in whose body the fault killed the process, which fell silent. Network faults kill none."""
        t, killing = fault.effective_t or 0, fault.traits.aims_at != "network"
        return [
            name
            for name, one in fault.struck.items()
            if killing and one.pid in fault.pids and one.end is None and self.fell_silent(one.pid, t)
        ]

    def killed_before_ack(self, fault: FaultRecord) -> int:
        """Count the tasks whose body ended in a process that the fault killed and that ran again: the ack was lost."""
        t = fault.effective_t
        if t is None or not fault.hits_workers:
            return 0
        silent = [pid for pid in fault.pids & self.ran_elsewhere.keys() if self.fell_silent(pid, t)]
        return len(frozenset().union(*(self.ran_elsewhere[pid] for pid in silent)))


def _effective(facts: _Facts) -> list[FaultRecord]:
    return [fault for fault in facts.evidence.faults.values() if fault.effective_t is not None]


def _killed_holding(facts: _Facts) -> int:
    return sum(len(facts.killed_inside(fault)) for fault in _effective(facts))


def _killed_before_ack(facts: _Facts) -> int:
    return sum(facts.killed_before_ack(fault) for fault in _effective(facts))


def _reply_lost(facts: _Facts) -> int:
    return sum(fault.traits.loses_replies for fault in _effective(facts))


def _lease_expired_alive(facts: _Facts) -> int:
    return sum(any(_outlived(one, task.executions) for one in task.executions) for task in _tasks(facts))


def _outlived(one: Execution, executions: list[Execution]) -> bool:
    """Return whether it ended although another process had begun the task meanwhile: its owner was still alive."""
    return one.end is not None and any(
        other.pid != one.pid and one.begin < other.begin < one.end for other in executions
    )


def _unknown_applied(facts: _Facts) -> int:
    found = facts.census.found if facts.census else {}
    return sum(_unknown(task) and bool(task.executions or name in found) for name, task in _named(facts))


def _unknown_not_applied(facts: _Facts) -> int:
    if facts.census is None:
        return 0
    found = facts.census.found
    return sum(_unknown(task) and not task.executions and name not in found for name, task in _named(facts))


def _recovered_twice(facts: _Facts) -> int:
    return sum(sum(one.end is None for one in task.executions[:-1]) >= 2 for task in _tasks(facts))


def _dead_lettered_by_kills(facts: _Facts) -> int:
    found = facts.census.found if facts.census else {}
    return sum(
        "dead_letter" in found.get(name, {})
        and bool(task.executions)
        and all(one.end is None for one in task.executions)
        for name, task in _named(facts)
    )


def _tasks(facts: _Facts) -> list[Task]:
    return [task for task in facts.evidence.tasks.values() if len(task.executions) > 1]


def _named(facts: _Facts) -> list[tuple[str, Task]]:
    return list(facts.evidence.tasks.items())


def _unknown(task: Task) -> bool:
    return task.submitted and not task.promised and not task.refused


_COUNTED: dict[str, tuple[str, Callable[[_Facts], int]]] = {
    "killed-holding": ("a process died inside a task's body", _killed_holding),
    "killed-before-ack": (
        "a process died after a body's end and before its ack: the task ran again",
        _killed_before_ack,
    ),
    "reply-lost": ("the server executed a command and its reply was lost by a fault", _reply_lost),
    "lease-expired-alive": ("a task was taken over while its owner still ran it", _lease_expired_alive),
    "unknown-applied": ("a submission without an answer had been applied", _unknown_applied),
    "unknown-not-applied": ("a submission without an answer had not been applied", _unknown_not_applied),
    "recovered-twice": ("a task survived the deaths of two workers that ran it", _recovered_twice),
    "dead-lettered-by-kills": ("a task was given up because every worker that ran it died", _dead_lettered_by_kills),
}
SITUATIONS = {name: title for name, (title, _) in _COUNTED.items()}
"""Name -> title of each situation that `--demand` accepts, besides FAULT@STATE."""


def situations_of(evidence: Evidence, census: CensusRecord | None) -> list[Situation]:
    """Return each situation with how often the run reached it."""
    facts = _facts(evidence, census)
    return [Situation(name=name, title=title, count=count(facts)) for name, (title, count) in _COUNTED.items()]


def matrix_of(evidence: Evidence, census: CensusRecord | None) -> list[MatrixRow]:
    """Return, for each fault, how many tasks were in each state at its injections: pairs of an injection and a task."""
    facts = _facts(evidence, census)
    ends = {crash.fault.number: crash.t for crash in crashes_of(evidence)}
    # Use the exit of the server if it is recorded: the fault is recorded as effective only after the restart.
    moments = sorted((ends.get(fault.number, fault.effective_t or 0), fault.number) for fault in _effective(facts))
    struck_by = [evidence.faults[number] for _, number in moments]
    times = [t for t, _ in moments]
    # Per state and injection, the net number of tasks that enter the state; its running sum is the number in the state.
    entering: dict[str, list[int]] = {state: [0] * (len(times) + 1) for state in STATES}
    deaths = {id(one): fault.effective_t or 0 for fault in _effective(facts) for one in fault.struck.values()}
    for task in evidence.tasks.values():
        since = 0
        for state, until_t in _life(task, deaths):
            until = len(times) if until_t is None else max(since, bisect_left(times, until_t))
            entering[state][since] += 1
            entering[state][until] -= 1
            since = until
    rows: dict[str, Counter[str]] = {}
    inside = dict.fromkeys(STATES, 0)
    for position, fault in enumerate(struck_by):
        for state in STATES:
            inside[state] += entering[state][position]
        struck = min(len(fault.struck), inside["running"])
        unacked = facts.killed_before_ack(fault)
        row = rows.setdefault(fault.name, Counter())
        row.update(inside)
        row.update({"struck": struck, "running": -struck, "unacked": unacked, "finished": -unacked})
    injections = Counter(fault.name for fault in struck_by)
    return [
        MatrixRow(fault=name, injections=injections[name], tasks={state: row[state] for state in STATES})
        for name, row in sorted(rows.items())
    ]


def _life(task: Task, deaths: Mapping[int, int]) -> list[tuple[str, int | None]]:
    """Return the states of one task, each with the time at which it ends; None: never."""
    if task.invoked_t is None:
        return [("unsubmitted", min((one.begin for one in task.executions), default=None))]
    life: list[tuple[str, int | None]] = [("unsubmitted", task.invoked_t)]
    executions = sorted(task.executions, key=lambda one: one.begin)
    heard_of = [t for t in (task.answered_t, *(one.begin for one in executions[:1])) if t is not None]
    life.append(("submitting", min(heard_of, default=None)))
    for position, one in enumerate(executions):
        life.append(("waiting", one.begin))
        next_t = executions[position + 1].begin if position + 1 < len(executions) else None
        death_t = deaths.get(id(one))
        end_t = one.end if one.end is not None else (death_t + 1 if death_t is not None else next_t)
        if one.completed:
            return [*life, ("running", end_t), ("finished", None)]
        life.append(("running", end_t))
    return [*life, ("waiting", None)]


def unmet(demands: list[str], situations: list[Situation], matrix: list[MatrixRow]) -> list[str]:
    """Return the demands that were not met, as they were given."""
    met = {one.name for one in situations if one.count > 0}
    met |= {f"{row.fault}@{state}" for row in matrix for state, count in row.tasks.items() if count > 0}
    return [demand for demand in demands if demand not in met]


def _facts(evidence: Evidence, census: CensusRecord | None) -> _Facts:
    last_seen: dict[int, int] = {}
    for task in evidence.tasks.values():
        for one in task.executions:
            last_seen[one.pid] = max(last_seen.get(one.pid, 0), one.begin, one.end or 0)
    elsewhere: dict[int, set[str]] = {}
    for name, task in evidence.tasks.items():
        for one in task.executions if len(task.executions) > 1 else ():
            if one.completed and any(
                other.begin > (one.end or 0) and other.pid != one.pid for other in task.executions
            ):
                elsewhere.setdefault(one.pid, set()).add(name)
    return _Facts(evidence, census, last_seen, {pid: frozenset(names) for pid, names in elsewhere.items()})
