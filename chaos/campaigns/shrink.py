"""`zeroloss shrink`: find a smaller plan that fails in the same way.

Delta debugging (Zeller and Hildebrandt, "Simplifying and Isolating Failure-Inducing Input", 2002) over the fault
events, then over the tasks. A whole run tests a candidate. It may pass by chance, so a candidate is run more than once.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from typing import TypeVar

import msgspec

from ..checker.verdicts import Result, Verdict
from ..checker.wording import DEFECTS, plural
from ..plan.plan import PLAN_NAME, Plan
from .subharness import replay_plan

TRIES_NAME = "tries.jsonl"
Item = TypeVar("Item")


class Try(msgspec.Struct, frozen=True, kw_only=True):
    """One run of a candidate. `shows`: its worst outcome; `same`: whether it fails as the original run did."""

    number: int
    faults: list[int]
    tasks: int
    verdict: Verdict
    shows: str
    same: bool
    seconds: float

    def __str__(self) -> str:
        kept = "as before" if self.same else "not the same"
        shows = f" ({self.shows})" if self.shows else ""
        size = f"{plural(len(self.faults), 'fault')}, {plural(self.tasks, 'task')}"
        return f"try {self.number}: {size}: {self.verdict}{shows}, {kept}"


class BudgetSpent(Exception):
    """The limit on runs or time was reached."""


@dataclass(frozen=True, kw_only=True)
class Budget:
    """Limits: `runs` in total, `tries` of one candidate, and `seconds` in total."""

    runs: int
    tries: int
    seconds: float


def worst_of(result: Result) -> str:
    """Return the worst outcome in a result; empty: no outcome is a defect, as in a baseline with duplicates."""
    return next((fate.value for fate in DEFECTS if result.counts.get(fate.value)), "")


class Shrink:
    """`plan` is the smallest so far. It is kept in `directory`, with a line for each run in tries.jsonl."""

    def __init__(self, plan: Plan, result: Result, directory: Path, budget: Budget, say: Callable[[str], None]) -> None:
        self.plan = plan
        self.tries: list[Try] = []
        self._wanted = (result.verdict, worst_of(result))
        self._directory, self._budget, self._say = directory, budget, say
        self._give_up_s = time.monotonic() + budget.seconds
        self._keep(plan)

    def carry_out(self) -> None:
        """Shrink until nothing can be left out or the budget is spent. Raises CannotStart, and any interruption."""
        try:
            minimise(self.plan.faults, lambda faults: self._is_same(msgspec.structs.replace(self.plan, faults=faults)))
            minimise(
                self.plan.tasks,
                # A run without any task shows nothing.
                lambda tasks: bool(tasks) and self._is_same(msgspec.structs.replace(self.plan, tasks=tasks)),
            )
        except BudgetSpent as spent:
            self._say(str(spent))

    def _is_same(self, candidate: Plan) -> bool:
        for _ in range(self._budget.tries):
            if self._try(candidate).same:
                self._keep(candidate)
                return True
        return False

    def _try(self, candidate: Plan) -> Try:
        number, left_s = len(self.tries) + 1, self._give_up_s - time.monotonic()
        if number > self._budget.runs:
            raise BudgetSpent(f"The limit of {plural(self._budget.runs, 'run')} was reached; allow more with --runs.")
        if left_s <= 0:
            raise BudgetSpent("The time limit was reached; allow more with --minutes.")
        begun_s = time.monotonic()
        place = self._directory / f"try-{number:03d}"
        result, _ = replay_plan(candidate, place, stopping=Event(), deadline_s=left_s)
        verdict = result.verdict if result else Verdict.HARNESS_ERROR
        shows = worst_of(result) if result else ""
        tried = Try(
            number=number,
            faults=[fault.number for fault in candidate.faults],
            tasks=len(candidate.tasks),
            verdict=verdict,
            shows=shows,
            same=(verdict, shows) == self._wanted,
            seconds=round(time.monotonic() - begun_s, 1),
        )
        self.tries.append(tried)
        with (self._directory / TRIES_NAME).open("ab") as log:
            log.write(msgspec.json.encode(tried) + b"\n")
        self._say(str(tried))
        return tried

    def _keep(self, candidate: Plan) -> None:
        """Write the plan at once, so that the best so far survives any interruption."""
        self.plan = candidate
        candidate.write(self._directory / PLAN_NAME)


def minimise(items: Sequence[Item], is_same: Callable[[list[Item]], bool]) -> list[Item]:
    """Return a part of `items`, in order, from which no member can be left out without `is_same` becoming false.

    `is_same` must hold for all items together. It is called at most once for each part.
    """
    best, chunks = list(items), 1
    asked: set[tuple[int, ...]] = set()

    def holds(part: list[Item]) -> bool:
        key = tuple(map(id, part))
        if key in asked:
            return False
        asked.add(key)
        return is_same(part)

    if best and holds([]):
        return []
    while chunks < len(best):
        chunks = min(len(best), chunks * 2)
        parts = [best[len(best) * n // chunks : len(best) * (n + 1) // chunks] for n in range(chunks)]
        rests = [[item for other in parts if other is not part for item in other] for part in parts]
        for count, candidates in ((1, parts), (chunks - 1, rests)):
            smaller = next((candidate for candidate in candidates if holds(candidate)), None)
            if smaller is not None:
                # The remaining rest is cut into chunks of the same size next; a single part is cut in halves.
                best, chunks = smaller, max(1, count // 2)
                break
    return best
