"""A corpus: the plans of runs that went wrong, kept in a directory and replayed before each new run."""

from pathlib import Path

from ..checker.verdicts import AGAINST, Result, Verdict
from ..plan.plan import Plan, load_plan


def kept_plans(directory: Path, target: str) -> list[Path]:
    """Return the kept plans of this target, sorted by name; empty if there is no such directory.

    Raises PlanError: a file in it is not a plan.
    """
    return [path for path in sorted(directory.glob("*.json")) if load_plan(path).target == target]


def keep(directory: Path, plan: Plan, result: Result) -> Path | None:
    """Keep the plan of a failed run and return its path; None: it did not fail, or its plan is kept already."""
    path = directory / f"{result.target}-seed{plan.seed}-{len(plan.tasks)}-{len(plan.faults)}.json"
    if result.verdict not in AGAINST or path.exists():
        return None
    directory.mkdir(parents=True, exist_ok=True)
    plan.write(path)
    return path


def worst(statuses: list[int]) -> int:
    """Return the exit status of several runs: that of the worst verdict."""
    order = [verdict.exit_code for verdict in Verdict]
    return min(statuses, key=order.index)
