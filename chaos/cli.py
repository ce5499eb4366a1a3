"""`zeroloss`: the harness's command line."""

import dataclasses
import random
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from cyclopts import App, CycloptsError
from rich.console import Console
from rich.table import Table

RUNS_DIRECTORY = Path("zeroloss-runs")
TASKS = 2_000

EXIT_USAGE = 2
EXIT_HARNESS_ERROR = 70
EXIT_INTERRUPTED = 130

app = App(
    name="zeroloss",
    help="Kill a task queue's workers in the middle of their tasks, and say honestly what was lost.\n\n"
    "Exit status: 0 PASS, 1 VIOLATION, 2 bad usage, 3 LIVENESS, 4 INCONCLUSIVE, 70 harness error, 130 interrupted.",
    help_format="plaintext",
    version_flags=["--version"],
)


class UsageError(Exception):
    """One sentence for the user; exit status 2."""


@app.command
def run(
    *,
    target: str = "reference",
    seed: int | None = None,
    redis: str | None = None,
    faults: str = "worker-sigkill",
    kills: int | None = None,
    tasks: int = TASKS,
    workers: int | None = None,
    appendfsync: Literal["always", "everysec", "no", "off"] = "always",
    out: Path | None = None,
) -> int:
    """Run a target under faults, and judge what became of every task.

    Args:
        target: A name that `zeroloss targets` lists, package.module:Class, or path/to/file.py:Class.
        seed: Of the plan; drawn and printed if not given. The same seed and options repeat the run.
        redis: embedded, container, or the URL of an empty database. Else a container where an engine answers, else embedded.
        faults: What `zeroloss faults` lists, as worker-sigkill:count=50,server-sigkill:down_s=2; none for the baseline.
        kills: How many of a worker fault that states no count of its own.
        tasks: How many to submit.
        workers: How many worker sessions; else as many as the target says.
        appendfsync: Of the server's append-only file; off for none. A server named by its URL keeps its own.
        out: The run's directory, which must not exist or be empty; else a new one in zeroloss-runs.
    """
    from chaos.plan import PlanError, make_plan, parse_faults
    from chaos.servers import engine_answers
    from chaos.target import load_target

    if seed is not None and seed < 0:
        raise UsageError(f"--seed has to be at least 0, not {seed}.")
    found = load_target(target)
    try:
        plan = make_plan(
            seed=random.SystemRandom().randrange(2**32) if seed is None else seed,
            target=target,
            server=_server(redis, engine_answers),
            appendfsync=appendfsync,
            workers=found.workers if workers is None else workers,
            tasks=tasks,
            faults=parse_faults(faults, kills),
        )
    except PlanError as error:
        raise UsageError(str(error)) from None
    given = {"kills": kills, "workers": workers}
    command = ["zeroloss", "run", "--target", target, "--seed", str(plan.seed), "--redis", plan.server]
    command += ["--faults", faults, "--tasks", str(tasks), "--appendfsync", appendfsync]
    command += [word for name, value in given.items() if value is not None for word in (f"--{name}", str(value))]
    return _carry_out(plan, found, command, out)


@app.command
def replay(plan: Path, *, out: Path | None = None) -> int:
    """Repeat the run of a plan.json.

    Args:
        plan: The file.
        out: The run's directory, which must not exist or be empty; else a new one in zeroloss-runs.
    """
    from chaos.plan import PlanError, load_plan
    from chaos.target import load_target

    try:
        loaded = load_plan(plan)
    except PlanError as error:
        raise UsageError(str(error)) from None
    return _carry_out(loaded, load_target(loaded.target), ["zeroloss", "replay", str(plan)], out)


@app.command
def check(directory: Path) -> int:
    """Judge a stored run again, and write its reports anew.

    Args:
        directory: The run's directory.
    """
    from chaos.checker import judge
    from chaos.history import EVENTS_DIRECTORY, MERGED_NAME, HistoryError, load, write_merged
    from chaos.report import write_reports

    if not directory.is_dir():
        raise UsageError(f"There is no directory {directory}.")
    try:
        # A harness that was killed has left the events, and no more.
        if not (directory / MERGED_NAME).exists() and (directory / EVENTS_DIRECTORY).is_dir():
            write_merged(directory)
        events = load(directory)
    except HistoryError as error:
        raise UsageError(str(error)) from None
    result = judge(events)
    _say_result(Console(), result, write_reports(directory, result, events))
    return result.exit_code


@app.command
def faults() -> int:
    """List the faults, with the invariants that they threaten."""
    from chaos.faults import FAULTS

    table = Table("fault", "threatens", "default count", "options", "what it does", box=None)
    for name, fault in FAULTS.items():
        options = ", ".join(f"{field.name}={field.default}" for field in dataclasses.fields(fault))
        summary = fault.summary().partition(" (I")[0].rstrip(".") + "."
        table.add_row(name, " ".join(fault.threatens) or "nothing", str(fault.count), options or "-", summary)
    Console().print(table)
    return 0


@app.command
def targets() -> int:
    """List the targets that are shipped."""
    from chaos.target import SHIPPED, load_target

    table = Table("target", "workers", "recovers within", "what it is", box=None)
    for name in SHIPPED:
        target = load_target(name)
        summary = (target.__doc__ or "").strip().partition("\n")[0]
        table.add_row(name, str(target.workers), f"{target.recover_within:g} s", summary)
    Console().print(table)
    return 0


def _server(redis: str | None, engine_answers: Any) -> str:
    """The plan names the server that is used, so that a replay uses the same."""
    if redis is None or redis == "auto":
        return "container" if engine_answers() else "embedded"
    return redis


def _carry_out(plan: Any, target: Any, command: Sequence[str], out: Path | None) -> int:
    from chaos.progress import Progress
    from chaos.run import Interrupted, run
    from chaos.target import title

    console = Console()
    directory = _new_directory(out, f"{title(target)}-seed{plan.seed}")
    progress = Progress(console)
    progress.say(f"Seed: {plan.seed}")
    outcome = run(plan, target, directory=directory, command=command, progress=progress)
    failure = outcome.failure
    if isinstance(failure, Interrupted):
        _say_result(console, outcome.result, outcome.reports)
        _say_error(f"Interrupted; everything was stopped, and what there was so far is in {directory}.")
        return EXIT_INTERRUPTED
    if failure:
        return _say_failure(failure, directory)
    _say_result(console, outcome.result, outcome.reports)
    return outcome.result.exit_code


def _new_directory(out: Path | None, name: str) -> Path:
    if out is not None:
        if out.exists() and not (out.is_dir() and not any(out.iterdir())):
            raise UsageError(f"--out {out} exists and is not an empty directory.")
        return out
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    directory = RUNS_DIRECTORY / f"{stamp}-{name}"
    number = 1
    while directory.exists():
        number += 1
        directory = RUNS_DIRECTORY / f"{stamp}-{name}-{number}"
    return directory


def _say_result(console: Console, result: Any, reports: Mapping[str, Path]) -> None:
    from chaos.report import console_summary

    console.print(console_summary(result, reports.get("report.html")), soft_wrap=True)


def _say_failure(failure: BaseException, directory: Path) -> int:
    """Why a run did not come to its end; what nobody foresaw goes, with its traceback, into a file."""
    import traceback

    from chaos.processes import CannotStart
    from chaos.run import AgentDied, HarnessError
    from chaos.servers import ServerUnavailable
    from chaos.target import TargetError

    if isinstance(failure, TargetError | CannotStart | ServerUnavailable):
        _say_error(str(failure))
        return EXIT_USAGE
    if not isinstance(failure, HarnessError | AgentDied):
        (directory / "error.txt").write_text("".join(traceback.format_exception(failure)))
        _say_error(f"The harness failed: {type(failure).__name__}: {failure}; the traceback is in error.txt.")
    else:
        _say_error(str(failure))
    print(f"What there was so far is in {directory}.", file=sys.stderr)
    return EXIT_HARNESS_ERROR


def _say_error(sentence: str) -> None:
    print(f"zeroloss: {sentence}", file=sys.stderr)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command, and exit with its status. Whatever was started is ended before."""
    try:
        status = _main(arguments)
    except KeyboardInterrupt:
        status = EXIT_INTERRUPTED
    sys.exit(status)


def _main(arguments: Sequence[str] | None) -> int:
    from chaos.target import TargetError
    from chaos.warden import warden

    try:
        status = app(
            arguments,
            exit_on_error=False,
            print_error=False,
            result_action="return_value",
        )
        return status if isinstance(status, int) else 0
    except CycloptsError as error:
        _say_error(" ".join(str(error).split()))
    except (UsageError, TargetError) as error:
        _say_error(str(error))
    finally:
        warden().close()
    return EXIT_USAGE
