"""The events of a run: what each process says it did. Each is one line of JSON."""

from typing import Any, ClassVar, Literal

import msgspec

from .traits import Traits

FORMAT = 2
"""The version of the history's format, which its `run` `begin` names; without a name it is 1. 2: lines are numbered."""

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
    """Of a file with one writer, its name: `seq` is the number of the line in it, from 1. None: not numbered."""
    seq: int | None = None


class Run(_Event, tag="run", kw_only=True, frozen=True):
    """The run itself. Everything but the phase is given at `begin` only."""

    kind: ClassVar[str] = "run"
    phase: Literal["begin", "healed", "drained", "deadline", "void", "end"]
    format: int = 1
    """The version of the history's format."""
    seed: int | None = None
    target: str | None = None
    command: Any = None
    """What was run: a list of arguments, or a line for a shell."""
    repeat: list[str] = []
    """What repeats it: a list of arguments; empty: `command` does."""
    recover_within: float | None = None
    """Seconds after which the target promises a dead worker's task again."""
    plan: Any = None
    """If it is a mapping, its `faults` lists one mapping per planned fault, with `number`, `fault` and `traits`."""
    versions: Any = None
    server: Any = None
    network: Any = None
    """Where workers reached the server through the proxy: what that costs, with a `sentence`."""
    durability: Any = None
    date: str | None = None
    """UTC."""
    machine: str | None = None
    commit: str | None = None
    """Of the target's file, with `-dirty` where it has changes."""
    reason: str | None = None
    """Why nothing can be concluded about the queue, at `void`: what its clients saw of the server was not planned."""


class Submit(_Event, tag="submit", kw_only=True, frozen=True):
    """One submission. ok: promised; fail: a definite no; info: unknown."""

    kind: ClassVar[str] = "submit"
    phase: Literal["invoke", "ok", "fail", "info"]
    task: str
    digest: str | None = None
    raw_digest: str | None = None
    """Of the payload's very bytes, where the target was handed JSON text."""
    payload: str | None = None
    """At `invoke` of the first tasks: the payload's JSON text."""
    priority: str | None = None
    """At invoke: of a target that has priorities."""
    delay_ms: int | None = None
    """At invoke: the task is not to begin sooner than that long after it was submitted."""
    call: int | None = None
    """At invoke: the number of the call by which its process submits several tasks."""
    error: str | None = None
    promised: str | None = None
    """At ok: the id that the queue has promised."""
    wrong: bool = False
    """At info: the answer can't be true, whatever happened."""
    conflict: bool = False
    """At fail: the idempotency key belongs to another request. An answer to one of several requests under one key has
    the `digest` and the `raw_digest` of its request."""


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
    """What is wrong with a file of the workers' ledger, whose wrong lines are not part of the history."""

    kind: ClassVar[str] = "ledger"
    phase: Literal["wrong"]
    reason: str


class Process(_Event, tag="process", kw_only=True, frozen=True):
    """A process that the harness started or saw end. `sid` names it: it leads a session of its own."""

    kind: ClassVar[str] = "process"
    phase: Literal["start", "exit"]
    role: str
    sid: int | None = None
    status: int | None = None
    """Exit status; negative: the signal that ended it."""
    wanted: bool | None = None
    """True when the harness did it."""
    last_words: str | None = None
    """At exit, if the harness did not do it: what the process wrote last."""


class Fault(_Event, tag="fault", kw_only=True, frozen=True):
    """One planned fault. It counts only once it was seen to take effect."""

    kind: ClassVar[str] = "fault"
    phase: Literal["begin", "effective", "missed", "end"]
    fault: str
    number: int
    evidence: str | None = None
    pids: list[int] = []
    tasks: list[str] = []
    """Ids that were in flight when it hit."""
    reason: str | None = None
    traits: Traits | None = None
    """At `begin`: what the fault is. Histories of zeroloss 0.1 do not say."""
    lasted: list[int] | None = None
    """At `effective`, where a promise speaks of that time: from when until when it surely lasted, as `t`."""
    met: list[int] | None = None
    """Of a fault that met all workers: the numbers of those that had completed a task since the one before."""


class Poke(_Event, tag="poke", kw_only=True, frozen=True):
    """What the harness did at the deadline before it says STUCK: one new task, or a restarted worker."""

    kind: ClassVar[str] = "poke"
    phase: Literal["task", "restart"]
    task: str | None = None


class Census(_Event, tag="census", kw_only=True, frozen=True):
    """What lies in the broker: one `found` per task, then one `done`."""

    kind: ClassVar[str] = "census"
    phase: Literal["found", "done"]
    task: str | None = None
    place: Place | None = None
    reason: str | None = None
    digest: str | None = None
    """Of the payload as it lies there, by its text or by its value."""
    after: CensusAfter | None = None
    source: Literal["target", "scan"] | None = None
    count: int | None = None


class Harness(_Event, tag="harness", kw_only=True, frozen=True):
    """From `late_ms` before `t` the machine was starved, so that the harness came late by itself, or it was crowded."""

    kind: ClassVar[str] = "harness"
    phase: Literal["late", "crowded"]
    late_ms: int

    @property
    def since_t(self) -> int:
        """When that began."""
        return self.t - self.late_ms * 1_000_000


class Resources(_Event, tag="resources", kw_only=True, frozen=True):
    """What the server, or one worker's whole session, holds at `t`. Members that could not be read are None."""

    kind: ClassVar[str] = "resources"
    phase: Literal["server", "worker"]
    clients: int | None = None
    keys: int | None = None
    keys_expiring: int | None = None
    """Of the keys, those with a time to live."""
    sid: int | None = None
    pids: list[int] = []
    """The processes of the session."""
    memory_bytes: int | None = None
    descriptors: int | None = None
    threads: int | None = None


class Load(_Event, tag="load", kw_only=True, frozen=True):
    """What Locust says of its traffic: one second of it, or, at its end, which of its thresholds it kept to."""

    kind: ClassVar[str] = "load"
    phase: Literal["second", "end"]
    requests: int = 0
    """Within the second that ended at `t`, whatever they carried and whatever came of them."""
    failures: int = 0
    p95_ms: float | None = None
    seconds: float | None = None
    """At the end: how long it sent."""
    kept: list[str] = []
    broken: list[str] = []
    """A sentence for each threshold."""


Event = Run | Submit | Effect | Ledger | Process | Fault | Poke | Census | Harness | Resources | Load
