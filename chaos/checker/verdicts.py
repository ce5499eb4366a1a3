"""What a run is given: an outcome for each task, a verdict for the run, and the evidence for both."""

import math
from collections.abc import Collection, Iterable
from enum import StrEnum

import msgspec


class Fate(StrEnum):
    """What became of one task. The first that applies, from top to bottom, is its outcome.

    Promised: the submission was acknowledged. Refused: a definite no. Unknown: neither was heard, or the client died.
    Ran: an execution began. Completed: an execution ended without an error. In the broker: the last census found it.
    """

    PHANTOM = "PHANTOM"  # ran, and was never submitted
    GHOST = "GHOST"  # refused, and yet ran
    CORRUPT = "CORRUPT"  # ran with another payload than was submitted
    NEEDS_RESTART = "NEEDS_RESTART"  # promised, completed only after the deadline, once a worker had been restarted
    NEEDS_TRAFFIC = "NEEDS_TRAFFIC"  # promised, completed only after the deadline, once a new task had been submitted
    DUPLICATE = "DUPLICATE"  # promised, completed more than once; at-least-once allows it
    DONE = "DONE"  # promised, completed once
    RECOVERED = "RECOVERED"  # unknown, completed
    DEAD = "DEAD"  # not completed, in the dead-letter list with a reason, as the workload wished where it says so
    ABSENT = "ABSENT"  # refused or unknown, not completed: nothing was promised, nothing is owed
    UNDECIDED = (
        "UNDECIDED"  # promised, not completed when the history stops, and no drain or census says what became of it
    )
    STUCK = "STUCK"  # promised, not completed, still waiting in the broker after the deadline and after the pokes
    FAILED = "FAILED"  # promised, not completed, given up on record: unwished for, without a reason, or as failed
    EXCUSED = "EXCUSED"  # promised, gone, and the configured durability allows that
    LOST = "LOST"  # promised, not completed, and no longer in the broker


VIOLATIONS = frozenset({Fate.LOST, Fate.PHANTOM, Fate.GHOST, Fate.CORRUPT, Fate.FAILED})
LIVENESS_DEFECTS = frozenset({Fate.STUCK, Fate.NEEDS_TRAFFIC, Fate.NEEDS_RESTART})


class Verdict(StrEnum):
    """The verdict on a run, the worst first: across runs the worst is kept."""

    VIOLATION = "VIOLATION"
    HARNESS_ERROR = "HARNESS_ERROR"
    LIVENESS = "LIVENESS"
    DUPLICATES = "DUPLICATES"  # tasks ran again for no reason, more than the target states
    LEAK = "LEAK"  # what a worker or the server holds grew with the number of disturbances
    SLO = "SLO"  # nothing is wrong with the tasks, and the load broke a threshold that its profile sets
    INCONCLUSIVE = "INCONCLUSIVE"
    EXCUSED = "EXCUSED"
    PASS = "PASS"

    @property
    def exit_code(self) -> int:
        return _EXIT_CODES[self]


AGAINST = frozenset({Verdict.VIOLATION, Verdict.LIVENESS, Verdict.DUPLICATES, Verdict.LEAK})
"""The verdicts against a queue: what a user learns from an exit status that is not 0."""


_EXIT_CODES = {
    Verdict.VIOLATION: 1,
    Verdict.HARNESS_ERROR: 70,
    Verdict.LIVENESS: 3,
    Verdict.DUPLICATES: 3,
    Verdict.LEAK: 3,
    Verdict.SLO: 3,
    Verdict.INCONCLUSIVE: 4,
    Verdict.EXCUSED: 0,
    Verdict.PASS: 0,
}


def merge(verdicts: Iterable[Verdict]) -> Verdict:
    """The worst of several runs; of no run at all nothing is known, which is INCONCLUSIVE."""
    found = frozenset(verdicts)
    return next((verdict for verdict in Verdict if verdict in found), Verdict.INCONCLUSIVE)


class Summary(msgspec.Struct, frozen=True):
    """A distribution in figures. `median` of an even count is the mean of the two in the middle."""

    count: int
    median: float
    p90: float
    p99: float
    max: float


def summarise(values: Collection[float]) -> Summary | None:
    """None when there is nothing to summarise. Percentiles are values that occurred (nearest rank)."""
    if not values:
        return None
    ranked = sorted(values)
    count = len(ranked)
    median = (ranked[(count - 1) // 2] + ranked[count // 2]) / 2

    def rank(share: float) -> float:
        return ranked[math.ceil(share * count) - 1]

    return Summary(count=count, median=median, p90=rank(0.90), p99=rank(0.99), max=ranked[-1])


class FaultRef(msgspec.Struct, frozen=True, order=True):
    number: int
    name: str

    def __str__(self) -> str:
        return f"fault {self.number} ({self.name})"


class Duplicate(msgspec.Struct, frozen=True):
    """A task that was completed `executions` times; explained if a fault, or something else, accounts for each."""

    task: str
    executions: int
    explained: bool
    faults: list[FaultRef]
    overlapping: bool
    """Two executions ran at the same time."""
    others: list[str] = []
    """What accounts for it beside faults, a few words each."""

    @property
    def explanation(self) -> str:
        named = ", ".join([*map(str, self.faults), *self.others])
        if self.explained:
            return named
        return f"unexplained (only partly by {named})" if named else "unexplained"


class Kills(msgspec.Struct, frozen=True):
    """The faults that hit worker processes: asked for, seen to take effect, and seen to hit a task in its body."""

    planned: int
    effective: int
    mid_task: int


class Redelivery(msgspec.Struct, frozen=True):
    """A task in whose body a fault hit, and after how long its next execution began (None: never)."""

    task: str
    fault: int
    ms: float | None


class FaultResult(msgspec.Struct, frozen=True):
    """One planned fault. `state`: effective, missed, unfinished (neither was recorded) or not begun."""

    number: int
    name: str
    state: str
    at_ms: float | None
    """Since the run began."""
    evidence: str
    tasks_hit: list[str]
    redelivered: int
    redelivery_ms_max: float | None
    duplicates: int
    aims_at: str | None = None


class Exit(msgspec.Struct, frozen=True):
    """A process that ended by itself. `sid` names the process; a negative status is a signal."""

    role: str
    sid: int
    status: int | None
    at_ms: float
    last_words: str = ""
    """What it wrote last."""


class Leftover(msgspec.Struct, frozen=True):
    """A completed task that the broker, at the last census, still held: its work is done, its record isn't."""

    task: str
    place: str


class Excuse(msgspec.Struct, frozen=True):
    """A promised task that is gone, and the crash that the configured durability allows to have taken it."""

    task: str
    fault: FaultRef
    reason: str


class Situation(msgspec.Struct, frozen=True):
    """One thing that a run must have come to in order to mean something, and how often it did."""

    name: str
    title: str
    count: int


class MatrixRow(msgspec.Struct, frozen=True):
    """In which states the injections of one fault found the tasks: state -> pairs of an injection and a task."""

    fault: str
    injections: int
    tasks: dict[str, int]


class Property(msgspec.Struct, frozen=True):
    """An invariant, as far as a history can show it, with a sentence per violation."""

    number: str
    title: str
    law: str
    violations: list[str]
    tested: bool = True
    """Whether this run could have shown it broken."""


class Leak(msgspec.Struct, frozen=True):
    """What grew: from `before`, the most before the first disturbances, to `after`, the least after the last one."""

    holder: str
    resource: str
    before: int
    after: int
    disturbances: int

    def __str__(self) -> str:
        return (
            f"the {self.resource} of {self.holder} grew from {self.before:,} to {self.after:,} over "
            f"{self.disturbances} disturbances"
        )


class Usage(msgspec.Struct, frozen=True):
    """What was held at the first sample, at most, and at the last."""

    resource: str
    first: int
    most: int
    last: int


class Promise(msgspec.Struct, frozen=True, kw_only=True):
    """What a target may state beside at-least-once: whether it does, and a clause for each way it was broken."""

    name: str
    """As the member of a target."""
    stated: str | None
    """A sentence; None: the target does not state it, and it is not judged."""
    verdict: Verdict
    """What a run is given in which it was broken."""
    broken: list[str] = []


class LoadResult(msgspec.Struct, frozen=True, kw_only=True):
    """What Locust sent, and which of its thresholds it kept to, a sentence each. Latency is of requests, in ms."""

    requests: int
    failures: int
    seconds: float
    """For how long it sent; 0: it did not come to say so."""
    p95_ms_median: float | None
    """The median of the 95th percentiles of its seconds; the percentiles of the whole load are in Locust's report."""
    kept: list[str]
    broken: list[str]

    @property
    def rate(self) -> float:
        """Requests per second."""
        return self.requests / self.seconds if self.seconds else 0.0


class Story(msgspec.Struct, frozen=True):
    """The life of one task that went wrong, in sentences; times in them are since the run began."""

    task: str
    fate: Fate
    sentences: list[str]


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """All that `judge` says about one run. Times are in ms, as the names say."""

    verdict: Verdict
    exit_code: int
    because: str
    """The verdict in one sentence."""
    doubts: list[str]
    """Why the run would be INCONCLUSIVE, a sentence each; given with every verdict."""
    notes: list[str]
    """What a reader should know and what changes no verdict, a sentence each."""
    seed: int | None
    target: str
    server: str
    durability: str
    recover_within_s: float | None
    versions: dict[str, str]
    circumstances: str = ""
    """When and where it ran, and the commit of the target's file."""
    replay: str
    """The command that repeats this run."""
    duration_ms: float
    counts: dict[str, int]
    """How many tasks met each outcome; outcomes that none met are left out."""
    kills: Kills
    time_to_redelivery_ms: Summary | None
    redeliveries: list[Redelivery]
    late: list[Redelivery] = []
    """Of these, the ones later than the target promises, though a worker was idle (I4)."""
    end_to_end_ms: Summary | None
    """From the first attempt to submit a task to the first end of its execution."""
    properties: list[Property]
    promises: list[Promise] = []
    """What the target states beside at-least-once, and what it could and does not."""
    faults: list[FaultResult]
    duplicates: list[Duplicate]
    leftovers: list[Leftover]
    overtaken: list[str]
    """In a baseline: tasks that began long after later ones had been completed (I7)."""
    excuses: list[Excuse]
    """One for each task that may have been taken by a crash and is gone: EXCUSED, or LOST where none may be."""
    situations: list[Situation]
    matrix: list[MatrixRow]
    exits: list[Exit]
    exits_in_short: list[str] = []
    """The same in a sentence for each role and status."""
    leaks: list[Leak] = []
    usage: list[Usage] = []
    load: LoadResult | None = None
    """None: the tasks were the plan's."""
    cause: list[str] = []
    """Where tasks got lost, what interrupted them, and what they have in common: a sentence each; empty: none was."""
    stories: list[Story] = []
    """Of the first tasks that went wrong, the worst first."""
    fates: dict[str, Fate]

    def tasks(self, *fates: Fate) -> list[str]:
        """The tasks that met one of these outcomes."""
        return [task for task, fate in self.fates.items() if fate in fates]
