"""The result of a run: an outcome for each task, a verdict for the run, and the evidence for both."""

import math
from collections.abc import Collection, Iterable
from enum import StrEnum

import msgspec


class Fate(StrEnum):
    """The outcome of one task: the first of these that applies, from top to bottom.

    Promised: the submission was acknowledged. Refused: a definite no. Unknown: no answer arrived, or the client died.
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
    DEAD = "DEAD"  # not completed, in the dead-letter list with a reason, and expected there where the plan says so
    ABSENT = "ABSENT"  # refused or unknown, not completed: nothing was promised, nothing is owed
    UNDECIDED = (
        "UNDECIDED"  # promised, not completed when the history stops, and no drain or census says what became of it
    )
    STUCK = "STUCK"  # promised, not completed, still waiting in the broker after the deadline and after the pokes
    FAILED = "FAILED"  # promised, not completed, recorded as failed, or a dead letter unexpectedly or without a reason
    EXCUSED = "EXCUSED"  # promised, gone, and the configured durability allows that
    LOST = "LOST"  # promised, not completed, and no longer in the broker


VIOLATIONS = frozenset({Fate.LOST, Fate.PHANTOM, Fate.GHOST, Fate.CORRUPT, Fate.FAILED})
LIVENESS_DEFECTS = frozenset({Fate.STUCK, Fate.NEEDS_TRAFFIC, Fate.NEEDS_RESTART})


class Verdict(StrEnum):
    """The verdict on a run, the worst first: across runs the worst is kept."""

    VIOLATION = "VIOLATION"
    HARNESS_ERROR = "HARNESS_ERROR"
    LIVENESS = "LIVENESS"
    DUPLICATES = "DUPLICATES"  # more tasks ran again without a reason than the target states
    LEAK = "LEAK"  # resources of a worker or the server grew with the number of disturbances
    SLO = "SLO"  # no defect in the tasks, and the load broke a threshold that its profile sets
    INCONCLUSIVE = "INCONCLUSIVE"
    EXCUSED = "EXCUSED"
    PASS = "PASS"

    @property
    def exit_code(self) -> int:
        return _EXIT_CODES[self]


AGAINST = frozenset({Verdict.VIOLATION, Verdict.LIVENESS, Verdict.DUPLICATES, Verdict.LEAK})
"""The verdicts that report a defect of the queue."""


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
    """Return the worst of several verdicts; without any, INCONCLUSIVE."""
    found = frozenset(verdicts)
    return next((verdict for verdict in Verdict if verdict in found), Verdict.INCONCLUSIVE)


class Summary(msgspec.Struct, frozen=True):
    """A distribution in figures. `median` of an even count is the mean of the middle two."""

    count: int
    median: float
    p90: float
    p99: float
    max: float


def summarise(values: Collection[float]) -> Summary | None:
    """Summarise the values; None if there are none. Percentiles are values that occurred (nearest rank)."""
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
    """A task that was completed `executions` times; explained if something explains each repetition."""

    task: str
    executions: int
    explained: bool
    faults: list[FaultRef]
    overlapping: bool
    """Whether two executions ran at the same time."""
    others: list[str] = []
    """Explanations other than faults, a few words each."""
    by_one: bool = False
    """Whether a process completed it and then completed it again."""

    @property
    def explanation(self) -> str:
        named = ", ".join([*map(str, self.faults), *self.others])
        if self.explained:
            return named
        return f"unexplained (only partly by {named})" if named else "unexplained"


class Kills(msgspec.Struct, frozen=True):
    """Counts of the faults that aim at workers: planned, effective, and effective while a task was in its body."""

    planned: int
    effective: int
    mid_task: int


class Redelivery(msgspec.Struct, frozen=True):
    """A task that a fault hit in its body. `ms`: time until its next execution began; None: never."""

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
    """Last output of the process."""


class Leftover(msgspec.Struct, frozen=True):
    """A completed task that the broker still held at the last census."""

    task: str
    place: str


class Excuse(msgspec.Struct, frozen=True):
    """A promised task that is gone, and the crash that may have lost it within the configured durability."""

    task: str
    fault: FaultRef
    reason: str


class Situation(msgspec.Struct, frozen=True):
    """A situation that a run should reach to prove anything, and how often it did."""

    name: str
    title: str
    count: int


class MatrixRow(msgspec.Struct, frozen=True):
    """States of the tasks at the injections of one fault: state -> number of (injection, task) pairs."""

    fault: str
    injections: int
    tasks: dict[str, int]


class Property(msgspec.Struct, frozen=True):
    """An invariant as judged from a history, with a sentence per violation."""

    number: str
    title: str
    law: str
    violations: list[str]
    tested: bool = True
    """Whether this run could have shown a violation."""


class Leak(msgspec.Struct, frozen=True):
    """A resource that grew from `before`, its maximum before the disturbances, to `after`, its minimum after them."""

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
    """Use of a resource: at the first sample, at most, and at the last sample."""

    resource: str
    first: int
    most: int
    last: int


class Promise(msgspec.Struct, frozen=True, kw_only=True):
    """A promise that a target may state beyond at-least-once, with a clause for each way in which it was broken."""

    name: str
    """Usually the name of the member of `Target` that states it."""
    stated: str | None
    """The promise as a sentence; None: not stated, and not judged."""
    verdict: Verdict
    """Verdict on a run that broke the promise."""
    broken: list[str] = []


class LoadResult(msgspec.Struct, frozen=True, kw_only=True):
    """Locust's traffic, and a sentence for each threshold that it kept or broke. Latency is that of requests, in ms."""

    requests: int
    failures: int
    seconds: float
    """Duration of the load; 0: Locust ended before it reported one."""
    p95_ms_median: float | None
    """Median of the 95th percentiles of single seconds; Locust's report has the percentiles of the whole load."""
    kept: list[str]
    broken: list[str]

    @property
    def rate(self) -> float:
        """Requests per second."""
        return self.requests / self.seconds if self.seconds else 0.0


class Story(msgspec.Struct, frozen=True):
    """The life of one task that went wrong, in sentences. Times in them count from the beginning of the run."""

    task: str
    fate: Fate
    sentences: list[str]


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that `judge` concludes about one run. Times are in ms, as the names say."""

    verdict: Verdict
    exit_code: int
    because: str
    """The verdict in one sentence."""
    doubts: list[str]
    """Why the run would be INCONCLUSIVE, a sentence each; given with every verdict."""
    notes: list[str]
    """Sentences for the reader that change no verdict."""
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
    """Outcome -> number of its tasks; outcomes without tasks are left out."""
    kills: Kills
    time_to_redelivery_ms: Summary | None
    redeliveries: list[Redelivery]
    late: list[Redelivery] = []
    """Redeliveries that were later than the target promises although a worker was idle (I4)."""
    end_to_end_ms: Summary | None
    """From the first attempt to submit a task to the first end of its execution."""
    properties: list[Property]
    promises: list[Promise] = []
    """Every promise that a target may state beyond at-least-once, whether this one states it or not."""
    faults: list[FaultResult]
    duplicates: list[Duplicate]
    leftovers: list[Leftover]
    overtaken: list[str]
    """Tasks that began long after later ones had been completed (I7)."""
    excuses: list[Excuse]
    """One for each task that is gone and that a crash may have lost: EXCUSED, or LOST if the run accepts no excuses."""
    situations: list[Situation]
    matrix: list[MatrixRow]
    exits: list[Exit]
    exits_in_short: list[str] = []
    """`exits` as a sentence for each role and status."""
    leaks: list[Leak] = []
    usage: list[Usage] = []
    load: LoadResult | None = None
    """None: the plan's tasks were submitted, without a load."""
    cause: list[str] = []
    """Where tasks got lost, what interrupted them, and what they have in common; empty: no task went wrong."""
    stories: list[Story] = []
    """Stories of the first tasks that went wrong, the worst first."""
    fates: dict[str, Fate]

    def tasks(self, *fates: Fate) -> list[str]:
        """Return the tasks with one of these outcomes."""
        return [task for task, fate in self.fates.items() if fate in fates]
