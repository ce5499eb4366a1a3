"""The events of a run: what each process reports that it did. Each is one line of JSON."""

from typing import Any, ClassVar, Literal

import msgspec

from .traits import Traits

FORMAT = 2
"""Version of the history's format, stated by `run` `begin`; without it, 1. From 2 on, lines are numbered."""

CensusAfter = Literal["deadline", "poke", "restart", "end"]
Place = Literal["pending", "delayed", "processing", "dead_letter", "failed", "record", "unknown"]


class HistoryError(Exception):
    """A history that can't be read or an event that breaks the contract; the text is one sentence for the user."""


class _Event(
    msgspec.Struct, tag_field="kind", omit_defaults=True, forbid_unknown_fields=True, kw_only=True, frozen=True
):
    """Common to all events: `t` is CLOCK_MONOTONIC in ns, `pid` the process that wrote it."""

    t: int
    pid: int
    file: str | None = None
    """Name of the file, if it has one writer: `seq` is the number of the line in it, from 1. None: not numbered."""
    seq: int | None = None


class Run(_Event, tag="run", kw_only=True, frozen=True):
    """The run itself. Everything but the phase is given at `begin` only."""

    kind: ClassVar[str] = "run"
    phase: Literal["begin", "healed", "drained", "deadline", "void", "end"]
    format: int = 1
    """Version of the history's format."""
    seed: int | None = None
    target: str | None = None
    command: Any = None
    """The command of the run: a list of arguments, or a line for a shell."""
    repeat: list[str] = []
    """Arguments of the command that repeats the run; empty: `command` does."""
    recover_within: float | None = None
    """Seconds after which the target promises a dead worker's task again."""
    plan: Any = None
    """If it is a mapping, its `faults` lists one mapping per planned fault, with `number`, `fault` and `traits`."""
    versions: Any = None
    server: Any = None
    network: Any = None
    """If workers connected to the server through the proxy: the cost of that, with a `sentence`."""
    durability: Any = None
    date: str | None = None
    """Date of the run, UTC."""
    machine: str | None = None
    commit: str | None = None
    """Commit of the target's file, with `-dirty` if the file has changes."""
    reason: str | None = None
    """At `void`: why the run allows no conclusion about the queue, as the server had trouble that was not planned."""


class Submit(_Event, tag="submit", kw_only=True, frozen=True):
    """One submission. ok: promised; fail: a definite no; info: unknown."""

    kind: ClassVar[str] = "submit"
    phase: Literal["invoke", "ok", "fail", "info"]
    task: str
    digest: str | None = None
    raw_digest: str | None = None
    """Digest of the payload's exact bytes, if the target was given JSON text."""
    payload: str | None = None
    """At `invoke` of the first tasks: the payload's JSON text."""
    priority: str | None = None
    """At `invoke`: priority of the task, if the target has priorities."""
    delay_ms: int | None = None
    """At `invoke`: shortest time from the submission of the task to its begin."""
    call: int | None = None
    """At `invoke`: number, within its process, of the batch call that submits the task; None: submitted alone."""
    error: str | None = None
    promised: str | None = None
    """At `ok`: the id that the queue returned with its promise."""
    wrong: bool = False
    """At `info`: whether the answer is impossible, whatever happened to it."""
    conflict: bool = False
    """At `fail`: whether the idempotency key belongs to another request. An answer to one of several requests under one
    key has the `digest` and the `raw_digest` of its request."""


class Effect(_Event, tag="effect", kw_only=True, frozen=True):
    """One execution of a task's body, as `zeroloss.ledger.effect` saw it; `execution` is unique per call."""

    kind: ClassVar[str] = "effect"
    phase: Literal["begin", "end", "error"]
    task: str
    execution: str
    attempt: int | None = None
    digest: str | None = None
    payload: str | None = None
    """At `begin` of some executions: the payload as JSON text, so that a difference can be named."""
    error: str | None = None


class Ledger(_Event, tag="ledger", kw_only=True, frozen=True):
    """An invalid file of the workers' ledger. Its invalid lines are not part of the history."""

    kind: ClassVar[str] = "ledger"
    phase: Literal["wrong"]
    reason: str


class Process(_Event, tag="process", kw_only=True, frozen=True):
    """A process that the harness started or saw end. `sid` identifies it: it leads a session of its own."""

    kind: ClassVar[str] = "process"
    phase: Literal["start", "exit"]
    role: str
    sid: int | None = None
    status: int | None = None
    """Exit status; negative: the number of the signal that ended the process."""
    wanted: bool | None = None
    """Whether the harness ended it."""
    last_words: str | None = None
    """At `exit`, unless the harness ended it: last output of the process."""


class Fault(_Event, tag="fault", kw_only=True, frozen=True):
    """One planned fault. It counts only once it was seen to take effect."""

    kind: ClassVar[str] = "fault"
    phase: Literal["begin", "effective", "missed", "end"]
    fault: str
    number: int
    evidence: str | None = None
    pids: list[int] = []
    tasks: list[str] = []
    """Ids of the tasks that were in flight when the fault hit."""
    reason: str | None = None
    traits: Traits | None = None
    """At `begin`: the traits of the fault. Histories of zeroloss 0.1 do not have them."""
    lasted: list[int] | None = None
    """At `effective`, if a promise depends on it: (from, to) of the time in which the fault surely lasted, as `t`."""
    met: list[int] | None = None
    """For a fault that hit all workers: numbers of those that had completed a task since the previous such fault."""


class Poke(_Event, tag="poke", kw_only=True, frozen=True):
    """A step of the harness after the deadline, before it reports STUCK: one new task, or a restarted worker."""

    kind: ClassVar[str] = "poke"
    phase: Literal["task", "restart"]
    task: str | None = None


class Census(_Event, tag="census", kw_only=True, frozen=True):
    """Contents of the broker: one `found` per task, then one `done`."""

    kind: ClassVar[str] = "census"
    phase: Literal["found", "done"]
    task: str | None = None
    place: Place | None = None
    reason: str | None = None
    digest: str | None = None
    """Digest of the payload in the broker, of its text or of its value."""
    after: CensusAfter | None = None
    source: Literal["target", "scan"] | None = None
    count: int | None = None


class Harness(_Event, tag="harness", kw_only=True, frozen=True):
    """A span of `late_ms` up to `t`: the harness itself ran late, the machine was crowded, or its clock was set."""

    kind: ClassVar[str] = "harness"
    phase: Literal["late", "crowded", "clock_set"]
    late_ms: int
    by_ms: int | None = None
    """At `clock_set`: how far the wall clock was set ahead, in ms; negative: it was set back."""

    @property
    def since_t(self) -> int:
        """Begin of the span."""
        return self.t - self.late_ms * 1_000_000


class Resources(_Event, tag="resources", kw_only=True, frozen=True):
    """Resources that the server, or one worker's whole session, holds at `t`. Members that can't be read are None."""

    kind: ClassVar[str] = "resources"
    phase: Literal["server", "worker"]
    clients: int | None = None
    keys: int | None = None
    keys_expiring: int | None = None
    """Number of keys with a time to live, of `keys`."""
    sid: int | None = None
    pids: list[int] = []
    """The processes of the session."""
    memory_bytes: int | None = None
    descriptors: int | None = None
    threads: int | None = None


class Load(_Event, tag="load", kw_only=True, frozen=True):
    """A report of Locust on its traffic: on one second of it or, at its end, on its thresholds."""

    kind: ClassVar[str] = "load"
    phase: Literal["second", "end"]
    requests: int = 0
    """Number of requests in the second that ended at `t`, of any kind and with any result."""
    failures: int = 0
    p95_ms: float | None = None
    seconds: float | None = None
    """At the end: duration of the load."""
    kept: list[str] = []
    broken: list[str] = []
    """A sentence for each threshold that was kept, or broken."""


Event = Run | Submit | Effect | Ledger | Process | Fault | Poke | Census | Harness | Resources | Load
