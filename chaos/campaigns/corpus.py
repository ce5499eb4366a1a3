"""A corpus: the plans of runs that went wrong, kept in a directory and replayed before each new run."""

from pathlib import Path

from ..checker.verdicts import AGAINST, Result, Verdict
from ..plan.plan import Plan, load_plan


def kept_plans(directory: Path, target: str) -> list[Path]:
    """The plans that were kept of this target, in the order of their names; none where there is no such directory.

    Raises PlanError: a file in it is not a plan.
    """
    return [path for path in sorted(directory.glob("*.json")) if load_plan(path).target == target]


def keep(directory: Path, plan: Plan, result: Result) -> Path | None:
    """Keep the plan of a run that went wrong; None: it did not, or the corpus has this plan already."""
    path = directory / f"{result.target}-seed{plan.seed}-{len(plan.tasks)}-{len(plan.faults)}.json"
    if result.verdict not in AGAINST or path.exists():
        return None
    directory.mkdir(parents=True, exist_ok=True)
    plan.write(path)
    return path


def worst(statuses: list[int]) -> int:
    """The exit status of several runs: the one of the worst verdict."""
    order = [verdict.exit_code for verdict in Verdict]
    return min(statuses, key=order.index)
