"""How many submissions failed: a queue that refuses most of its tasks has little left to lose.

A submission that its client abandons by plan does not count. Nor do failures under a load: refusals are what a load
measures.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from .evidence import Evidence, Task
from .stated import names, option
from .verdicts import Verdict
from .wording import plural

FAILED_MIN = 5
"""Number of failed submissions below which nothing is reported."""
REPORTED_SHARE = 0.1
"""Share of failed submissions from which on the verdict's sentence reports them."""
PROMISED_SHARE_MIN = 0.5
"""Share of promised tasks below which a run shows too little."""


@dataclass(frozen=True, slots=True)
class Failures:
    """The submitted tasks that were never promised; those abandoned by plan do not count."""

    failed: int
    submitted: int
    error: str | None
    """Error that the first of them raised."""

    @property
    def clause(self) -> str:
        first = f"; the first raised {self.error.removesuffix('.')}" if self.error else ""
        return f"{self.failed:,} of {plural(self.submitted, 'submission')} failed{first}"

    @property
    def too_many(self) -> bool:
        return self.submitted - self.failed < self.submitted * PROMISED_SHARE_MIN


def failures_of(evidence: Evidence) -> Failures | None:
    """Return the failures of a run; None: too few to report, or a load sent the tasks."""
    if option(evidence.begin, "load"):
        return None
    apart = names(evidence.begin, "abandoned")
    tasks = [task for name, task in evidence.tasks.items() if task.submitted and name not in apart]
    failed = [task for task in tasks if not task.promised]
    if len(failed) < FAILED_MIN or len(failed) < len(tasks) * REPORTED_SHARE:
        return None
    return Failures(len(failed), len(tasks), first_error_of(failed))


def first_error_of(tasks: Iterable[Task]) -> str | None:
    """Return the first error that submitting one of these tasks raised; None: no error."""
    return next((task.error for task in tasks if task.error), None)


def few_promises(failures: Failures | None) -> list[str]:
    """Return a doubt, in a sentence, if too few tasks were promised; empty if no task was promised at all."""
    if failures and failures.too_many and failures.failed < failures.submitted:
        return [f"{failures.clause}."]
    return []


def with_failures(sentence: str, verdict: Verdict, failures: Failures | None) -> str:
    """Append the number of failed submissions to the verdict's sentence, unless the doubts of the verdict state it."""
    if failures is None or (verdict is Verdict.INCONCLUSIVE and failures.too_many):
        return sentence
    return f"{sentence.removesuffix('.')}; {failures.clause}."
