"""`zeroloss`: the harness's command line."""

import dataclasses
import os
import random
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import App, CycloptsError, Parameter
from rich.console import Console
from rich.table import Table

RUNS_DIRECTORY = Path("zeroloss-runs")
TASKS = 2_000

EXIT_USAGE = 2
EXIT_HARNESS_ERROR = 70
EXIT_INTERRUPTED = 130
EXIT_BROKEN_PIPE = 141

app = App(
    name="zeroloss",
    help="Kill a task queue's workers in the middle of their tasks, and say honestly what was lost.\n\n"
    "Exit status: 0 PASS or EXCUSED, 1 VIOLATION, 2 bad usage, 3 LIVENESS, 4 INCONCLUSIVE, 70 harness error, "
    "130 interrupted.",
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
    require_durability: Annotated[bool, Parameter(negative="")] = False,
    demand: str | None = None,
    out: Path | None = None,
) -> int:
    """Run a target under faults, and judge what became of every task.

    Args:
        target: A name that `zeroloss targets` lists, package.module:Class, or path/to/file.py:Class.
        seed: Of the plan; drawn and printed if not given. The same seed and options repeat the run.
        redis: embedded, container, or an empty database's URL; else a container where an engine answers, else embedded.
        faults: What `zeroloss faults` lists, as worker-sigkill:count=50,server-sigkill:down_s=2; none for the baseline.
        kills: How many of a worker fault that states no count of its own.
        tasks: How many to submit.
        workers: How many worker sessions; else as many as the target says.
        appendfsync: Of the server's append-only file; off for none. A server named by its URL keeps its own.
        require_durability: Take no excuse: what the server's durability allows a crash to take is LOST, not EXCUSED.
        demand: What the run has to meet, else it is INCONCLUSIVE: `zeroloss situations` lists it; separated by commas.
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
            recover_within_s=found.recover_within,
            require_durability=require_durability,
            demand=[word.strip() for word in (demand or "").split(",") if word.strip()],
        )
    except PlanError as error:
        raise UsageError(str(error)) from None
    given = {"kills": kills, "workers": workers, "demand": demand}
    command = ["zeroloss", "run", "--target", target, "--seed", str(plan.seed), "--redis", plan.server]
    command += ["--faults", faults, "--tasks", str(tasks), "--appendfsync", appendfsync]
    command += [word for name, value in given.items() if value is not None for word in (f"--{name}", str(value))]
    command += ["--require-durability"] if require_durability else []
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
    """List the faults: how often each is planned unless told, its options, and the invariants that it threatens."""
    from chaos.faults import FAULTS

    for name, fault in FAULTS.items():
        options = "".join(f":{field.name}={field.default}" for field in dataclasses.fields(fault))
        print(f"{name}:count={fault.count}{options}")
        print(f"    {fault.summary()}")
        print(f"    Threatens {', '.join(fault.threatens) or 'nothing'}.")
    return 0


@app.command
def situations() -> int:
    """List the situations that a run can be asked to meet, and the states of the fault x state matrix."""
    from chaos.situations import SITUATIONS, STATES

    table = Table("--demand", "is met when", box=None)
    for name, title in SITUATIONS.items():
        table.add_row(name, f"{title}.")
    for state, title in STATES.items():
        table.add_row(f"FAULT@{state}", f"The fault struck, and of some task it is true that {title}.")
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


@app.command
def mutants(
    *,
    only: str | None = None,
    runs: int = 1,
    jobs: int = 2,
    seed: int = 1,
    redis: Literal["embedded", "container"] = "embedded",
    out: Path | None = None,
) -> int:
    """Run queues that are broken in one named way each, and see that every one of them is caught.

    Exit status: 0 all caught, 1 one survived, 4 the reference itself did not pass under the same faults.

    Args:
        only: Their names, separated by commas; else all.
        runs: How often each; the seeds are counted up.
        jobs: How many at a time.
        seed: Of the first run of each.
        redis: embedded or container.
        out: The directory, which must not exist or be empty; else a new one in zeroloss-runs.
    """
    from chaos.mutation import MUTANTS_NAME, MutationError, choose, mutate
    from chaos.report.mutation import mutation_table, trial_line

    try:
        chosen = choose(only)
        directory = _new_directory(out, "mutants")
        directory.mkdir(parents=True, exist_ok=True)
        _say(f"Directory: {directory}")
        mutation = mutate(
            chosen,
            runs=runs,
            jobs=jobs,
            seed=seed,
            server=redis,
            directory=directory.resolve(),
            say=lambda trial: _say(trial_line(trial)),
        )
    except MutationError as error:
        raise UsageError(str(error)) from None
    Console().print(mutation_table(mutation))
    _say(f"  {directory / MUTANTS_NAME}")
    return mutation.exit_code


@app.command(name="enumerate")
def enumerate_(
    *,
    target: str = "reference",
    points: str | None = None,
    jobs: int = 6,
    pairs: bool = False,
    redis: str | None = None,
    resume: Path | None = None,
    out: Path | None = None,
) -> int:
    """Kill a worker at every command that it sends: before it is executed, before its reply is seen, and after.

    Args:
        target: A name that `zeroloss targets` lists, package.module:Class, or path/to/file.py:Class.
        points: Only the crashes whose text matches, as in '*/BLMOVE#1 before'; with * and ?.
        jobs: How many cases at a time, each in a database of its own; one for a server named by its URL.
        pairs: Then kill the worker that recovers, too, at each of its own points.
        redis: embedded, container, or the URL of an empty database, which is flushed again and again.
        resume: The directory of an enumeration that was broken off; what it has done is not done again.
        out: The run's directory, which must not exist or be empty; else a new one in zeroloss-runs.
    """
    from chaos.enumerate_command import enumerate_target
    from chaos.run import Interrupted
    from chaos.servers import engine_answers

    if jobs < 1:
        raise UsageError(f"--jobs has to be at least 1, not {jobs}.")
    if resume is not None and not (resume / "cases.jsonl").is_file():
        raise UsageError(f"There is nothing to be resumed in {resume}: it holds no cases.jsonl.")
    directory = resume or _new_directory(out, f"enumerate-{Path(target).stem}")
    try:
        report = enumerate_target(
            target,
            points=points,
            jobs=jobs,
            pairs=pairs,
            server=_server(redis, engine_answers),
            directory=directory,
            console=Console(),
        )
    except Interrupted:
        _say_error(f"Interrupted; `zeroloss enumerate --resume {directory}` goes on with it.")
        return EXIT_INTERRUPTED
    except Exception as error:  # noqa: BLE001 - said in one sentence, its traceback in a file
        return _say_failure(error, directory)
    return report.exit_code


@app.command
def prove(
    *,
    target: str = "reference",
    quick: bool = False,
    thorough: bool = False,
    redis: Literal["embedded", "container"] = "embedded",
    seed: int = 1,
    out: Path | None = None,
) -> int:
    """Enumerate, run, try the mutants, and write a certificate, if the evidence carries one.

    Exit status: 0 a certificate was issued, 4 none was.

    Args:
        target: A name that `zeroloss targets` lists, package.module:Class, or path/to/file.py:Class.
        quick: Two short runs, a few mutants.
        thorough: Pairs of crashes, twenty runs, each mutant three times.
        redis: embedded or container.
        seed: Of the first run.
        out: The directory, which must not exist or be empty; else a new one in zeroloss-runs.
    """
    from chaos.prove import EFFORTS, PartFailed, prove
    from chaos.run import Interrupted
    from chaos.target import load_target
    from chaos.verdicts import Verdict

    if quick and thorough:
        raise UsageError("--quick and --thorough exclude each other.")
    load_target(target)
    directory = _new_directory(out, f"prove-{Path(target).stem}")
    directory.mkdir(parents=True, exist_ok=True)
    effort = EFFORTS["quick" if quick else "thorough" if thorough else "default"]
    try:
        certificate = prove(effort, target=target, server=redis, seed=seed, directory=directory, say=_say)
    except Interrupted:
        _say_error(f"Interrupted; what there was so far is in {directory}.")
        return EXIT_INTERRUPTED
    except PartFailed as error:
        return _say_failure(error, directory)
    for line in certificate.statements or certificate.refused:
        _say(f"  {line}")
    _say(f"{'CERTIFICATE' if certificate.issued else 'NO CERTIFICATE'}: {directory / 'certificate.html'}")
    return 0 if certificate.issued else Verdict.INCONCLUSIVE.exit_code


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


def _say(line: str) -> None:
    Console().print(line, highlight=False, markup=False, soft_wrap=True)


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


def execute(arguments: Sequence[str] | None = None) -> int:
    """Run one command; its exit status. What is wrong with it is said in one sentence on standard error."""
    from chaos.target import TargetError

    try:
        status = app(arguments, exit_on_error=False, print_error=False, result_action="return_value")
        return status if isinstance(status, int) else 0
    except CycloptsError as error:
        _say_error(" ".join(str(error).split()))
    except (UsageError, TargetError) as error:
        _say_error(str(error))
    return EXIT_USAGE


def main() -> None:
    """The console script. Whatever was started is ended before it exits."""
    from chaos.warden import warden

    try:
        status = execute()
    except KeyboardInterrupt:
        status = EXIT_INTERRUPTED
    except BrokenPipeError:
        # Its reader, such as `head`, has seen enough; nor must the interpreter trip over that when it exits.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = EXIT_BROKEN_PIPE
    finally:
        warden().close()
    sys.exit(status)
