"""How many submissions failed: a queue that refuses most of its tasks has little left to lose.

A submission that the plan has its client abandon did not fail. Under a load refusals are what it measures.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from .evidence import Evidence, Task
from .stated import option
from .verdicts import Verdict
from .wording import plural

FAILED_MIN = 5
"""Fewer are not reported."""
REPORTED_SHARE = 0.1
"""From this share of the submissions on, the verdict's sentence says that they failed."""
PROMISED_SHARE_MIN = 0.5
"""With a smaller share of promised tasks a run shows too little."""


@dataclass(frozen=True, slots=True)
class Failures:
    """The submissions of a run that were never promised, of all that were not to be abandoned."""

    failed: int
    submitted: int
    error: str | None
    """What the first of them raised."""

    @property
    def clause(self) -> str:
        first = f"; the first raised {self.error.removesuffix('.')}" if self.error else ""
        return f"{self.failed:,} of {plural(self.submitted, 'submission')} failed{first}"

    @property
    def too_many(self) -> bool:
        return self.submitted - self.failed < self.submitted * PROMISED_SHARE_MIN


def failures_of(evidence: Evidence) -> Failures | None:
    """None: so few failed that nothing needs to be reported."""
    if option(evidence.begin, "load"):
        return None
    abandoned = option(evidence.begin, "abandoned")
    apart = frozenset(name for name in abandoned if isinstance(name, str)) if isinstance(abandoned, list) else ()
    tasks = [task for name, task in evidence.tasks.items() if task.submitted and name not in apart]
    failed = [task for task in tasks if not task.promised]
    if len(failed) < FAILED_MIN or len(failed) < len(tasks) * REPORTED_SHARE:
        return None
    return Failures(len(failed), len(tasks), first_error_of(failed))


def first_error_of(tasks: Iterable[Task]) -> str | None:
    """What the first of them raised that raised anything when it was submitted."""
    return next((task.error for task in tasks if task.error), None)


def few_promises(failures: Failures | None) -> list[str]:
    """The doubt that so few promises leave, in a sentence; empty where there was no promise at all."""
    if failures and failures.too_many and failures.failed < failures.submitted:
        return [f"{failures.clause}."]
    return []


def with_failures(sentence: str, verdict: Verdict, failures: Failures | None) -> str:
    """The verdict's sentence, which says how many submissions failed; the doubts of one that shows nothing say it."""
    if failures is None or (verdict is Verdict.INCONCLUSIVE and failures.too_many):
        return sentence
    return f"{sentence.removesuffix('.')}; {failures.clause}."
