"""`Evidence`: a history sorted by subject: tasks, executions, faults, censuses. Facts only: `judge.py` judges."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from ..history import Census, Effect, Event, Fault, Harness, Ledger, Load, Poke, Process, Resources, Run, Submit, Traits
from .earlier import traits_of
from .spans import NEVER, Span, Spans
from .stated import StatedRetries, doomed_tasks, planned_faults


@dataclass(slots=True)
class Execution:
    """One call of a task's body. `end` is None while neither its end nor its error was recorded."""

    pid: int
    begin: int
    end: int | None = None
    completed: bool = False
    attempt: int | None = None
    """Attempt number that the body passed to `effect`; None: not recorded."""

    @property
    def raised(self) -> bool:
        return self.end is not None and not self.completed

    def in_flight(self, t: int) -> bool:
        return self.begin <= t and (self.end is None or self.end > t)


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer to one of several requests under one idempotency key."""

    digest: str
    """Digest of the request's payload, by value."""
    raw_digest: str | None
    ok: bool
    conflict: bool
    promised: str | None
    """The id that the queue returned with its promise."""


@dataclass(slots=True)
class Task:
    """Everything recorded about one task; `invoked_t` is None if it was never submitted. Times are ns."""

    invoked_t: int | None = None
    invoked: int = 0
    ok: int = 0
    ok_t: int | None = None
    """Time of the first promise."""
    fail: int = 0
    error: str | None = None
    """First error that an attempt to submit the task raised. Refusals count, key conflicts do not."""
    answered_wrongly: bool = False
    """Whether the queue returned an impossible answer, such as the id of another task."""
    answered_t: int | None = None
    """Time at which an attempt to submit the task first ended, whatever its outcome."""
    digests_submitted: tuple[str, ...] = ()
    digests_executed: tuple[str, ...] = ()
    digests_found: tuple[str, ...] = ()
    """Digests of its payload as the census found it in the broker."""
    submitted_payload: str | None = None
    """The payload as JSON text; recorded only for the first tasks of a run."""
    executed_payload: str | None = None
    """The payload that a body received; recorded only for the first executions of a process."""
    executions: list[Execution] = field(default_factory=list)
    priority: str | None = None
    delay_ms: int = 0
    """Shortest time from submission to begin; 0: the task is not scheduled."""
    call: tuple[int, int] | None = None
    """(process, call number) of the batch call that submitted the task; None: submitted alone."""
    answers: list[Answer] = field(default_factory=list)
    """Answers to its requests, if several shared its idempotency key."""

    @property
    def submitted(self) -> bool:
        return self.invoked_t is not None

    @property
    def promised(self) -> bool:
        return self.ok > 0

    @property
    def refused(self) -> bool:
        """Whether every attempt to submit was refused. An attempt without an answer leaves the outcome unknown."""
        return self.fail > 0 and self.ok == 0 and self.fail >= self.invoked

    @property
    def corrupt_digests(self) -> tuple[str, ...]:
        """Digests of executed or found payloads that were never submitted; empty if no submission was recorded."""
        seen = self.digests_executed + self.digests_found
        if not self.digests_submitted or seen == self.digests_submitted:
            return ()
        return tuple(digest for digest in seen if digest not in self.digests_submitted)

    @property
    def completed(self) -> list[Execution]:
        return [execution for execution in self.executions if execution.completed]

    @property
    def completed_t(self) -> int | None:
        """Earliest end of a completed execution."""
        return min((execution.end or 0 for execution in self.executions if execution.completed), default=None)


@dataclass(slots=True)
class FaultRecord:
    """One fault, planned or injected. It counts only if `effective_t` is known."""

    number: int
    name: str
    traits: Traits
    begin_t: int | None = None
    effective_t: int | None = None
    missed: bool = False
    evidence: str = ""
    pids: frozenset[int] = frozenset()
    claimed: frozenset[str] = frozenset()
    """Tasks that the nemesis reported as hit."""
    struck: dict[str, Execution] = field(default_factory=dict)
    """Task -> the execution whose body was running when the fault took effect, according to the ledger."""
    misbehaved: dict[str, Execution] = field(default_factory=dict)
    """For handler faults: task -> its first execution, which misbehaved. Recorded at the end of the run."""
    end_t: int | None = None
    """Time at which the fault was healed."""
    lasted: Span | None = None
    """Span during which the fault certainly lasted; None: not recorded."""
    met: tuple[int, ...] | None = None
    """Numbers of the workers that completed a task since the previous fault on all workers; None: not recorded."""

    @property
    def from_t(self) -> int:
        """Earliest time at which the fault may have hit."""
        return (self.effective_t or 0) if self.begin_t is None else self.begin_t

    @property
    def over_t(self) -> int:
        """Latest time at which the fault may have hit: the later of its recorded effect and its healing."""
        return max(self.effective_t or 0, self.end_t or 0)

    def during(self, from_t: int, until_t: int) -> bool:
        """Return whether the fault may have hit at any time in this span."""
        return self.from_t <= until_t and self.over_t >= from_t

    @property
    def hits_workers(self) -> bool:
        return self.traits.aims_at == "worker"

    @property
    def everywhere(self) -> bool:
        return self.traits.everywhere


@dataclass(slots=True)
class CensusRecord:
    """One census. `found`: task -> place -> reason given there. A task that is not found is gone only if `done`."""

    after: str | None
    last_t: int
    done: bool = False
    found: dict[str, dict[str, str | None]] = field(default_factory=dict)


@dataclass(slots=True)
class Evidence:
    begin: Run | None = None
    first_t: int = 0
    last_t: int = 0
    phases: dict[str, int] = field(default_factory=dict)
    """Phase of the run -> time at which it was first reached."""
    tasks: dict[str, Task] = field(default_factory=dict)
    faults: dict[int, FaultRecord] = field(default_factory=dict)
    censuses: dict[str | None, CensusRecord] = field(default_factory=dict)
    started: dict[int, int] = field(default_factory=dict)
    """Session -> time of its start."""
    exits: list[Process] = field(default_factory=list)
    pokes: dict[str, int] = field(default_factory=dict)
    """Kind of poke -> time of the first one."""
    late: list[Harness] = field(default_factory=list)  # times at which the harness itself ran late
    crowded: list[Harness] = field(default_factory=list)  # far more runnable threads than processors
    clock_set: list[Harness] = field(default_factory=list)  # the wall clock was set within this span
    resources: list[Resources] = field(default_factory=list)
    lines: dict[str, set[int]] = field(default_factory=dict)
    """File with a single writer -> numbers of the lines that are present."""
    load: list[Load] = field(default_factory=list)  # Locust's reports, if it sent the tasks
    wrong_ledgers: list[str] = field(default_factory=list)
    """One sentence for each invalid file of the workers' ledger."""
    void: str | None = None
    """Reason why the run allows no conclusion about the queue; None: it may allow one."""
    doomed: frozenset[str] | None = None
    """Tasks that no queue can complete, so that they must be given up; None: the plan does not list them."""
    retries: StatedRetries = field(default_factory=StatedRetries)
    """Retry limits that the target states."""

    def starved(self, from_t: int, until_t: int) -> bool:
        """Return whether the harness itself ran late at any time in this span."""
        return _any_during(self.late, from_t, until_t)

    def clock_was_set(self, from_t: int, until_t: int) -> bool:
        """Return whether the machine's wall clock, by which the server waits, was set at any time in this span."""
        return _any_during(self.clock_set, from_t, until_t)

    @property
    def census(self) -> CensusRecord | None:
        """The last completed census."""
        return max((c for c in self.censuses.values() if c.done), key=lambda c: c.last_t, default=None)

    def first_tasks(self) -> dict[int, int]:
        """Return a map: process -> begin of its first task, ns."""
        began: dict[int, int] = {}
        for task in self.tasks.values():
            for one in task.executions:
                began[one.pid] = min(one.begin, began.get(one.pid, one.begin))
        return began

    @property
    def undisturbed(self) -> bool:
        """Whether this is a baseline: no planned task misbehaves, and no fault acts or changes the planned tasks."""
        planned = self.begin.plan if self.begin else None
        behaved = isinstance(planned, Mapping) and planned.get("misbehaving") == 0
        return behaved and all(fault.traits.baseline and not fault.traits.arranges for fault in self.faults.values())

    @property
    def drained(self) -> bool:
        """Whether the run drained or reached its deadline. Before that, an incomplete task may merely be late."""
        return "drained" in self.phases or "deadline" in self.phases


def _any_during(spans: Iterable[Harness], from_t: int, until_t: int) -> bool:
    return any(one.since_t <= until_t and one.t >= from_t for one in spans)


def gather(events: Iterable[Event]) -> Evidence:
    """Sort a history by subject. Events are ordered by `t`; those with equal `t` keep the given order."""
    ordered = sorted(events, key=lambda event: event.t)
    evidence = Evidence()
    if ordered:
        evidence.first_t, evidence.last_t = ordered[0].t, ordered[-1].t
    executions: dict[tuple[str, str], Execution] = {}
    for event in ordered:
        if event.file is not None and event.seq is not None:
            evidence.lines.setdefault(event.file, set()).add(event.seq)
        # An if-chain, not a dispatch table: this runs a million times for a large history.
        if isinstance(event, Effect):
            _effect(evidence, executions, event)
        elif isinstance(event, Submit):
            _submit(evidence, event)
        elif isinstance(event, Census):
            _census(evidence, event)
        elif isinstance(event, Fault):
            _fault(evidence, event)
        elif isinstance(event, Process):
            if event.phase == "exit":
                evidence.exits.append(event)
            elif event.sid is not None:
                evidence.started[event.sid] = event.t
        elif isinstance(event, Poke):
            evidence.pokes.setdefault(event.phase, event.t)
        elif isinstance(event, Harness):
            by_phase = {"late": evidence.late, "crowded": evidence.crowded, "clock_set": evidence.clock_set}
            by_phase[event.phase].append(event)
        elif isinstance(event, Resources):
            evidence.resources.append(event)
        elif isinstance(event, Load):
            evidence.load.append(event)
        elif isinstance(event, Ledger):
            evidence.wrong_ledgers.append(event.reason)
        else:
            _run(evidence, event)
    _note_when_the_poke_was_submitted(evidence)
    _find_what_was_struck(evidence)
    return evidence


def _run(evidence: Evidence, event: Run) -> None:
    evidence.phases.setdefault(event.phase, event.t)
    evidence.void = evidence.void or event.reason
    if event.phase == "begin" and evidence.begin is None:
        evidence.begin = event
        evidence.doomed = doomed_tasks(event)
        evidence.retries = StatedRetries(event)
        for number, name, traits in planned_faults(event):
            evidence.faults.setdefault(number, FaultRecord(number, name, traits))


def _submit(evidence: Evidence, event: Submit) -> None:
    task = _task(evidence, event.task)
    if task.invoked_t is None:
        task.invoked_t = event.t
    task.answered_t = task.answered_t or (None if event.phase == "invoke" else event.t)
    if event.phase == "invoke":
        task.invoked += 1
        task.submitted_payload = task.submitted_payload or event.payload
        task.priority, task.delay_ms = event.priority, event.delay_ms or 0
        task.call = None if event.call is None else (event.pid, event.call)
        for digest in (event.digest, event.raw_digest):
            if digest is not None and digest not in task.digests_submitted:
                task.digests_submitted += (digest,)
    elif event.digest is not None:
        ok = event.phase == "ok"
        task.answers.append(Answer(event.digest, event.raw_digest, ok, event.conflict, event.promised))
    task.error = task.error or (None if event.conflict else event.error)
    task.answered_wrongly = task.answered_wrongly or event.wrong
    if event.phase == "ok":
        task.ok += 1
        task.ok_t = event.t if task.ok_t is None else task.ok_t
    elif event.phase == "fail":
        task.fail += 1


def _effect(evidence: Evidence, executions: dict[tuple[str, str], Execution], event: Effect) -> None:
    task = _task(evidence, event.task)
    key = (event.task, event.execution)
    execution = executions.get(key)
    if execution is None:
        execution = executions[key] = Execution(event.pid, event.t, attempt=event.attempt)
        task.executions.append(execution)
    if event.phase != "begin":
        execution.end = event.t
        execution.completed = event.phase == "end"
    task.executed_payload = task.executed_payload or event.payload
    if event.digest is not None and event.digest not in task.digests_executed:
        task.digests_executed += (event.digest,)


def _fault(evidence: Evidence, event: Fault) -> None:
    fault = evidence.faults.get(event.number)
    if fault is None:
        traits = traits_of(event.fault, everywhere=False)
        fault = evidence.faults[event.number] = FaultRecord(event.number, event.fault, traits)
    if event.phase == "begin":
        fault.begin_t = event.t
        fault.traits = event.traits or fault.traits
    elif event.phase == "effective":
        fault.effective_t = event.t
        fault.missed = False  # it took effect at last
        fault.evidence = event.evidence or ""
        fault.pids = frozenset(event.pids)
        fault.claimed = frozenset(event.tasks)
        fault.lasted = (event.lasted[0], event.lasted[1]) if event.lasted and len(event.lasted) == 2 else None
        fault.met = None if event.met is None else tuple(event.met)
    elif event.phase == "missed":
        fault.missed = True
        fault.evidence = " ".join(filter(None, (fault.evidence, event.reason or event.evidence)))
    else:
        fault.end_t = event.t


def _census(evidence: Evidence, event: Census) -> None:
    census = evidence.censuses.setdefault(event.after, CensusRecord(event.after, event.t))
    census.last_t = event.t
    if event.phase == "done":
        census.done = True
    elif event.task is not None:
        census.found.setdefault(event.task, {})[event.place or "unknown"] = event.reason
        task = evidence.tasks.get(event.task)
        if task is not None and event.digest is not None:
            task.digests_found += (event.digest,)


def _task(evidence: Evidence, name: str) -> Task:
    task = evidence.tasks.get(name)
    if task is None:
        task = evidence.tasks[name] = Task()
    return task


def _note_when_the_poke_was_submitted(evidence: Evidence) -> None:
    """Date the poke by its task: any submission after the deadline is a poke and may precede the poke's record."""
    deadline_t = evidence.phases.get("deadline")
    if deadline_t is None:
        return
    late = [task.invoked_t for task in evidence.tasks.values() if task.invoked_t and task.invoked_t > deadline_t]
    if late:
        evidence.pokes["task"] = min(evidence.pokes.get("task", late[0]), *late)


def _find_what_was_struck(evidence: Evidence) -> None:
    ran: dict[int, list[tuple[Span, tuple[str, Execution]]]] = {}
    for name, task in evidence.tasks.items():
        for execution in task.executions:
            until_t = NEVER if execution.end is None else execution.end - 1
            ran.setdefault(execution.pid, []).append(((execution.begin, until_t), (name, execution)))
    by_pid = {pid: Spans(spans) for pid, spans in ran.items()}
    for fault in evidence.faults.values():
        t = fault.effective_t
        if t is None:
            continue
        for pid in sorted(fault.pids & by_pid.keys()):
            fault.struck.update(reversed([*by_pid[pid].during((t, t))]))
        # A task that the nemesis reported as hit counts if the ledger agrees that it was in flight at some time during
        # the fault: a worker that is asked to stop may finish first. Only the newest execution in a process that it hit
        # is checked: one that an earlier fault killed never ends, and would seem to be in flight forever.
        since_t = t if fault.begin_t is None else fault.begin_t
        if fault.traits.aims_at == "handler":
            claimed = {name: evidence.tasks[name] for name in fault.claimed & evidence.tasks.keys()}
            fault.misbehaved = {name: task.executions[0] for name, task in claimed.items() if task.executions}
        for name in sorted(fault.claimed & evidence.tasks.keys()):
            executions = evidence.tasks[name].executions
            own = [execution for execution in executions if execution.pid in fault.pids] or executions
            begun = [execution for execution in own if execution.begin <= t]
            if begun and begun[-1].in_flight(max(since_t, begun[-1].begin)):
                fault.struck.setdefault(name, begun[-1])
