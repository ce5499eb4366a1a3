"""A history, sorted by what it speaks of: tasks, executions, faults, censuses. Facts only: `checker.py` judges."""

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
    """As the queue numbers it; None: it does not say."""

    @property
    def raised(self) -> bool:
        return self.end is not None and not self.completed

    def in_flight(self, t: int) -> bool:
        return self.begin <= t and (self.end is None or self.end > t)


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of one of several requests under one idempotency key."""

    digest: str
    """Of its payload's value."""
    raw_digest: str | None
    ok: bool
    conflict: bool
    promised: str | None
    """The id that the queue has promised."""


@dataclass(slots=True)
class Task:
    """Everything recorded about one task; `invoked_t` is None if it was never submitted. Times are ns."""

    invoked_t: int | None = None
    invoked: int = 0
    ok: int = 0
    ok_t: int | None = None
    """When it was promised first."""
    fail: int = 0
    error: str | None = None
    """What the first attempt to submit it raised that raised anything, a refusal included."""
    answered_wrongly: bool = False
    """Whether the queue gave an answer that can't be true."""
    answered_t: int | None = None
    """When an attempt to submit it ended first, whatever the answer was."""
    digests_submitted: tuple[str, ...] = ()
    digests_executed: tuple[str, ...] = ()
    digests_found: tuple[str, ...] = ()
    """Of its payload as it lay in the broker."""
    submitted_payload: str | None = None
    """Its JSON text, of the first tasks of a run."""
    executed_payload: str | None = None
    """Likewise, of the first executions of a process."""
    executions: list[Execution] = field(default_factory=list)
    priority: str | None = None
    delay_ms: int = 0
    """It was not to begin sooner than that long after it was submitted."""
    call: tuple[int, int] | None = None
    """The process and number of the call by which it was submitted with others."""
    answers: list[Answer] = field(default_factory=list)
    """Where several requests shared its idempotency key."""

    @property
    def submitted(self) -> bool:
        return self.invoked_t is not None

    @property
    def promised(self) -> bool:
        return self.ok > 0

    @property
    def refused(self) -> bool:
        """Every attempt was refused. One that was never answered leaves the outcome unknown."""
        return self.fail > 0 and self.ok == 0 and self.fail >= self.invoked

    @property
    def corrupt_digests(self) -> tuple[str, ...]:
        """Digests that were executed or found and not submitted; none if the submission was not recorded."""
        seen = self.digests_executed + self.digests_found
        if not self.digests_submitted or seen == self.digests_submitted:
            return ()
        return tuple(digest for digest in seen if digest not in self.digests_submitted)

    @property
    def completed(self) -> list[Execution]:
        return [execution for execution in self.executions if execution.completed]

    @property
    def completed_t(self) -> int | None:
        """When it was completed first."""
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
    """The tasks that the nemesis says it hit."""
    struck: dict[str, Execution] = field(default_factory=dict)
    """Task -> the execution that was in its body when the fault took effect, as the ledger shows."""
    misbehaved: dict[str, Execution] = field(default_factory=dict)
    """Of a handler's fault: task -> the execution that did it, its first. It is counted at the end of the run."""
    end_t: int | None = None
    """When it was healed."""
    lasted: Span | None = None
    """From when until when it surely lasted; None: not recorded."""
    met: tuple[int, ...] | None = None
    """Of a fault that met all workers: those that had completed a task since the one before; None: not recorded."""

    @property
    def from_t(self) -> int:
        """From when on it may have hit."""
        return (self.effective_t or 0) if self.begin_t is None else self.begin_t

    @property
    def over_t(self) -> int:
        """Until when it may have hit: it was seen to, and was healed."""
        return max(self.effective_t or 0, self.end_t or 0)

    def during(self, from_t: int, until_t: int) -> bool:
        """Whether it may have hit at some moment of this time."""
        return self.from_t <= until_t and self.over_t >= from_t

    @property
    def hits_workers(self) -> bool:
        return self.traits.aims_at == "worker"

    @property
    def everywhere(self) -> bool:
        return self.traits.everywhere


@dataclass(slots=True)
class CensusRecord:
    """One census: task -> its places, with the reason found there. Only if it is `done` does absence mean gone."""

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
    """Phase of the run -> when it was first reached."""
    tasks: dict[str, Task] = field(default_factory=dict)
    faults: dict[int, FaultRecord] = field(default_factory=dict)
    censuses: dict[str | None, CensusRecord] = field(default_factory=dict)
    started: dict[int, int] = field(default_factory=dict)
    """Session -> when it was started."""
    exits: list[Process] = field(default_factory=list)
    pokes: dict[str, int] = field(default_factory=dict)
    """Kind of poke -> when it was first made."""
    late: list[Harness] = field(default_factory=list)  # when the harness itself came late
    crowded: list[Harness] = field(default_factory=list)  # when many more threads would run than could
    resources: list[Resources] = field(default_factory=list)
    lines: dict[str, set[int]] = field(default_factory=dict)
    """File with one writer -> the numbers of its lines that are there."""
    load: list[Load] = field(default_factory=list)  # what Locust said, where it sent the tasks
    wrong_ledgers: list[str] = field(default_factory=list)
    """What is wrong with files of the workers' ledger, a sentence each."""
    void: str | None = None
    """Why nothing can be concluded about the queue; None: nothing of that kind."""
    doomed: frozenset[str] | None = None
    """The tasks that the workload wants given up; None: the plan does not say."""
    retries: StatedRetries = field(default_factory=StatedRetries)
    """How tasks are tried again, as the target states it."""

    def starved(self, from_t: int, until_t: int) -> bool:
        """Whether the harness itself came late at that time."""
        return any(late.since_t <= until_t and late.t >= from_t for late in self.late)

    @property
    def census(self) -> CensusRecord | None:
        """The last census that was completed."""
        return max((c for c in self.censuses.values() if c.done), key=lambda c: c.last_t, default=None)

    def first_tasks(self) -> dict[int, int]:
        """Process -> when it began its first task."""
        began: dict[int, int] = {}
        for task in self.tasks.values():
            for one in task.executions:
                began[one.pid] = min(one.begin, began.get(one.pid, one.begin))
        return began

    @property
    def undisturbed(self) -> bool:
        """A baseline: the plan says that no task misbehaves or is there for a fault, and none that does anything."""
        planned = self.begin.plan if self.begin else None
        behaved = isinstance(planned, Mapping) and planned.get("misbehaving") == 0
        return behaved and all(fault.traits.baseline and not fault.traits.arranges for fault in self.faults.values())

    @property
    def drained(self) -> bool:
        """The run waited for quiet, or up to its deadline; before that, what isn't completed may merely be late."""
        return "drained" in self.phases or "deadline" in self.phases


def gather(events: Iterable[Event]) -> Evidence:
    """Sort a history by subject. The order of `events` is irrelevant: `t` decides, and among equals the order given."""
    ordered = sorted(events, key=lambda event: event.t)
    evidence = Evidence()
    if ordered:
        evidence.first_t, evidence.last_t = ordered[0].t, ordered[-1].t
    executions: dict[tuple[str, str], Execution] = {}
    for event in ordered:
        if event.file is not None and event.seq is not None:
            evidence.lines.setdefault(event.file, set()).add(event.seq)
        # By hand rather than by a table: this runs a million times for a large history.
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
            (evidence.late if event.phase == "late" else evidence.crowded).append(event)
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
    """The poke's task may be under way before the poke is on record: what is submitted past the deadline is a poke."""
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
        # What the nemesis claims counts where the ledger agrees that it was in flight at some moment of the fault: a
        # worker that is asked to end may finish first. Only the newest execution is asked: one that an earlier fault
        # killed never ends, and would seem to be in flight forever.
        since_t = t if fault.begin_t is None else fault.begin_t
        if fault.traits.aims_at == "handler":
            claimed = {name: evidence.tasks[name] for name in fault.claimed & evidence.tasks.keys()}
            fault.misbehaved = {name: task.executions[0] for name, task in claimed.items() if task.executions}
        for name in sorted(fault.claimed & evidence.tasks.keys()):
            begun = [execution for execution in evidence.tasks[name].executions if execution.begin <= t]
            if begun and begun[-1].in_flight(max(since_t, begun[-1].begin)):
                fault.struck.setdefault(name, begun[-1])
