"""A run of the harness in this process."""

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich.console import Console
from zeroloss.plan.plan import Plan, make_plan
from zeroloss.plan.requests import parse_faults
from zeroloss.run.progress import Progress
from zeroloss.run.run import Outcome, run
from zeroloss.target import load_target


def carry_out(
    directory: Path,
    target: str,
    faults: str,
    *,
    tasks: int = 60,
    arranged: Callable[[Plan], Plan] = lambda plan: plan,
    **changes: Any,
) -> Outcome:
    """Run the faults against the target. `arranged` may change the plan before the run."""
    found = load_target(target)
    asked = {"seed": 1, "server": "embedded", "appendfsync": "always", "workers": found.workers, **changes}
    plan = make_plan(target=target, stated=found, tasks=tasks, faults=parse_faults(faults, None), **asked)
    progress = Progress(Console(file=io.StringIO()))
    return run(arranged(plan), found, directory=directory / "run", command=["zeroloss", "run"], progress=progress)
