"""The gates: the conditions that a load must meet. A pure function of the measurements, independent of Locust."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Any

EXIT_BROKEN = 3
_DECIMALS = {"%": 2, " s": 1, "/s": 1}  # of a rounded figure, by its unit


@dataclass(frozen=True, kw_only=True)
class Figures:
    """The measurements of a load. None: there was no source for this one."""

    requests: int
    failures: int
    seconds: float
    p95_ms: float | None
    p99_ms: float | None
    refused: int
    """Requests answered with 429: the queue was full."""
    promised: int | None
    """Tasks accepted; None: neither a ledger nor /metrics was read."""
    effect_p95_ms: float | None
    lost: int | None
    """Tasks accepted and never executed; None: nothing can be concluded about them."""
    ledger_empty: bool = False
    """Whether no worker wrote to the ledger: then the tasks may still have been executed."""
    drain_s: float | None
    """From the end of the load to the last execution; None: it never drained."""
    early: int = 0
    """Scheduled tasks that were executed before they were due."""
    high_effect_p95_ms: float | None = None
    """`effect_p95_ms` of the tasks of high priority."""
    counted: "Counts | None" = None
    """The queue's own counts during the load, if there is no ledger to judge by."""
    uncounted: str = ""
    """Why these counts could not be read at the end."""
    silent: int = 0
    """Locust workers that went away without a last report of their accepted tasks."""


@dataclass(frozen=True, kw_only=True)
class Counts:
    """The queue's own counts: totals, or differences of two totals."""

    enqueued: int
    succeeded: int
    dead_lettered: int
    redelivered: int
    backlog: int
    """Tasks pending, processing or delayed."""

    def since(self, before: "Counts") -> "Counts":
        """Return the differences from earlier counts."""
        return Counts(**{field.name: getattr(self, field.name) - getattr(before, field.name) for field in fields(self)})

    @property
    def missing(self) -> int:
        """Number of enqueued tasks that neither succeeded nor were dead-lettered, and are not in the queue."""
        return max(0, self.enqueued - self.succeeded - self.dead_lettered - self.backlog)

    @property
    def unfinished(self) -> int:
        """Number of enqueued tasks that did not succeed."""
        return self.missing + max(0, self.dead_lettered) + max(0, self.backlog)


@dataclass(frozen=True, kw_only=True)
class Slo:
    """The thresholds; None: not set. The option for `p95_ms` is `--slo-p95-ms`."""

    failure_ratio: float | None = None
    p95_ms: float | None = None
    p99_ms: float | None = None
    min_rate: float | None = None
    effect_p95_ms: float | None = None
    high_effect_p95_ms: float | None = None
    lost: float | None = None
    redelivered: float | None = None
    drain_s: float | None = None
    min_refused: float | None = None

    @classmethod
    def read(cls, options: Any) -> "Slo":
        """Read parsed options; values from Locust's page are text. Raises ValueError: a value is not a number."""
        given = {field.name: getattr(options, f"slo_{field.name}", None) for field in fields(cls)}
        return cls(**{name: None if value in (None, "") else float(value) for name, value in given.items()})

    @property
    def needs_ledger(self) -> bool:
        """Whether a threshold is set that only a ledger can judge."""
        return any(
            value is not None for value in (self.effect_p95_ms, self.high_effect_p95_ms, self.lost, self.drain_s)
        )


@dataclass(frozen=True)
class Gate:
    """One condition, and the sentence with its result."""

    name: str
    passed: bool
    sentence: str


def check(figures: Figures, slo: Slo) -> list[Gate]:
    """Check every threshold that is set, and the failures that no load may have: no request, a task lost or unseen."""
    return [*_always(figures, slo), *_thresholds(figures, slo)]


def rounded_up(ms: float) -> int:
    """Round a time up for counting: to whole ms, and from 1 s on to three digits, which bounds the counters.

    Rounded up, exactly the times within a threshold of three digits keep it.
    """
    width: int = 10 ** max(0, len(str(math.ceil(ms))) - 3)
    return math.ceil(ms / width) * width


def empty_ledger(promised: int) -> str:
    """Return the sentence on a ledger that stayed empty while `promised` tasks were accepted."""
    return (
        f"--ledger stayed empty while {promised:,} tasks were accepted: set ZEROLOSS_LEDGER to that folder in the "
        "workers, and check that they have a handler of the type --task-type, which writes to it."
    )


def _always(figures: Figures, slo: Slo) -> Iterator[Gate]:
    made = figures.requests > 0
    yield Gate("requests", made, f"{figures.requests:,} requests were made." if made else "No request was made.")
    if figures.silent:
        sentence = f"{figures.silent} of Locust's workers went away, and nobody knows what they were promised."
        yield Gate("workers", False, sentence)
    if figures.ledger_empty and figures.promised:
        yield Gate("ledger", False, empty_ledger(figures.promised))
    if figures.early:
        yield Gate("early", False, f"{figures.early:,} tasks were executed before they were due.")
    if figures.uncounted:
        yield Gate("counted", False, figures.uncounted)
    elif figures.counted:
        yield from _counted(figures.counted, figures.promised or 0, slo)
    elif slo.redelivered is not None:
        yield _at_most("redelivered", "tasks redelivered, by /metrics", None, slo.redelivered, "")
    if figures.lost is not None or slo.lost is not None:
        yield _at_most("lost", "tasks accepted and never executed", figures.lost, slo.lost or 0, "")
    if figures.promised == 0:
        yield Gate("promised", False, "No task was accepted, so that none could be followed.")


def _counted(counts: Counts, promised: int, slo: Slo) -> Iterator[Gate]:
    told = (
        f"/metrics counted {counts.enqueued:,} tasks enqueued while {promised:,} were accepted here: "
        f"{counts.succeeded:,} succeeded, {counts.dead_lettered:,} dead-lettered, {counts.redelivered:,} redelivered; "
        f"the backlog grew by {counts.backlog:,}, and {counts.missing:,} are nowhere."
    )
    yield Gate("counted", counts.enqueued >= promised, told)
    if slo.redelivered is not None:
        yield _at_most("redelivered", "tasks redelivered, by /metrics", counts.redelivered, slo.redelivered, "")


def _thresholds(figures: Figures, slo: Slo) -> Iterator[Gate]:
    ratio = figures.failures / figures.requests if figures.requests else None
    rate = figures.requests / figures.seconds if figures.seconds else None
    at_most = (
        ("failure-ratio", "failed requests", ratio, slo.failure_ratio, "%"),
        ("p95-ms", "p95 of requests", figures.p95_ms, slo.p95_ms, " ms"),
        ("p99-ms", "p99 of requests", figures.p99_ms, slo.p99_ms, " ms"),
        *([] if figures.counted else _of_effects(figures, slo)),
        ("drain-s", "drain after the load", figures.drain_s, slo.drain_s, " s"),
    )
    at_least = (
        ("min-rate", "requests per second", rate, slo.min_rate, "/s"),
        ("min-refused", "requests refused with 429", figures.refused, slo.min_refused, ""),
    )
    for name, title, value, threshold, unit in at_most:
        if threshold is not None:
            yield _at_most(name, title, value, threshold, unit)
    for name, title, value, threshold, unit in at_least:
        if threshold is not None:
            passed = value is not None and value >= threshold
            told = _shown(value, threshold, unit)
            yield Gate(name, passed, f"{title}: {told}, at least {_exactly(threshold, unit)} wanted.")


def _of_effects(figures: Figures, slo: Slo) -> list[tuple[str, str, float | None, float | None, str]]:
    high = "p95 of enqueue -> effect of high priority"
    return [
        ("effect-p95-ms", "p95 of enqueue -> effect", figures.effect_p95_ms, slo.effect_p95_ms, " ms"),
        ("high-effect-p95-ms", high, figures.high_effect_p95_ms, slo.high_effect_p95_ms, " ms"),
    ]


def _at_most(name: str, title: str, value: float | None, threshold: float, unit: str) -> Gate:
    passed = value is not None and value <= threshold
    told = _shown(value, threshold, unit)
    return Gate(name, passed, f"{title}: {told}, at most {_exactly(threshold, unit)} allowed.")


def _exactly(value: float, unit: str) -> str:
    return f"{value * 100:,.10g}%" if unit == "%" else f"{value:,.10g}{unit}"


def _shown(value: float | None, threshold: float, unit: str) -> str:
    """Format a value, rounded, but never to the threshold itself: a broken threshold must look broken."""
    if value is None:
        return "not measured"
    scale = 100 if unit == "%" else 1
    decimals = _DECIMALS.get(unit, 0)
    while value != threshold and decimals < 9 and round(value * scale, decimals) == round(threshold * scale, decimals):
        decimals += 1
    return f"{value * scale:,.{decimals}f}{unit}"
