"""One run: `run`, `replay`, `check`."""

import os
import random
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter
from rich.console import Console

from ..target import APPENDFSYNC
from .common import (
    EXIT_INTERRUPTED,
    EXIT_USAGE,
    Plugins,
    UsageError,
    app,
    choose_server,
    new_directory,
    plugin_words,
    refuse_links_out,
    say,
    say_error,
    say_failure,
    say_result,
    with_server,
)

TASKS = 2_000


@app.command
def run(
    *,
    target: str = "reference",
    seed: int | None = None,
    redis: str | None = None,
    faults: str = "mix",
    kills: int | None = None,
    tasks: int = TASKS,
    workers: int | None = None,
    work_ms: str | None = None,
    appendfsync: APPENDFSYNC | None = None,
    durability: str | None = None,
    require_durability: Annotated[bool, Parameter(negative="")] = False,
    demand: str | None = None,
    load: Path | None = None,
    run_time: str | None = None,
    plugin: Plugins = (),
    corpus: Path | None = None,
    trace: Annotated[bool, Parameter(negative="")] = False,
    out: Path | None = None,
) -> int:
    """Run a target under faults, and judge the outcome of every task.

    Args:
        target: A name that `zeroloss targets` lists, package.module:Class, or path/to/file.py:Class.
        seed: The plan's seed. Default: a new one, which is printed. The same seed and options repeat the plan.
        redis: embedded, container, sentinel (a primary with replicas), sentinel-url (clients ask Sentinel), cluster,
            cluster-container, or the URL of an empty database. Default: container if a container engine answers,
            otherwise embedded.
        faults: mix (kills of workers, five other faults, and cuts of all connections at the end), none (the baseline),
            or names that `zeroloss faults` lists, such as worker-sigkill:count=50,server-sigkill:down_s=2.
        kills: Count for worker-* faults that state none; in the mix, the count of worker-sigkill.
        tasks: Tasks to submit.
        workers: Worker sessions. Default: the target's `workers`.
        work_ms: Duration of a task's body, MIN:MAX in ms, such as 0:50. Default: 5 to 400, with bursts of 0 and some of
            seconds.
        appendfsync: The fsync policy of the server's append-only file; off: no file. It does not apply to a server
            given by its URL. Default: the target's, or always if the target states none.
        durability: How safe a task must be before it is promised: memory, fsync or replicas:N. Default: the variable
            ZEROLOSS_DURABILITY, else the target's. The plan stores it.
        require_durability: Count tasks that the server's durability allows a crash to lose as LOST, not as EXCUSED.
        demand: Situations, separated by commas, that the run must meet, or it is INCONCLUSIVE: see `zeroloss
            situations`.
        load: Let Locust send the tasks by this profile: a file, or the name of a shipped one, such as chaos.
        run_time: Duration of the load, such as 90s or 5m. Default: the profile's.
        plugin: A Python file that registers faults or mutants with @fault or @mutant; any number of times.
        corpus: A directory of failed plans: those of this target are replayed first, and if the new run goes wrong,
            its plan is added. The exit status is that of the worst run.
        trace: Record the Redis commands of each task for `zeroloss explain`; all connections pass through a proxy.
        out: The run's directory, which must be new or empty. Default: a new one in zeroloss-runs.
    """
    from ..plan.mix import draw_mix
    from ..plan.plan import make_plan
    from ..plan.requests import MIX, PlanError, parse_faults, parse_work_ms
    from ..plugins import load_files
    from ..run.load import plan_load
    from ..system.environment import DURABILITY_VARIABLE
    from ..target import load_target

    if seed is not None and seed < 0:
        raise UsageError(f"--seed must be at least 0, not {seed}.")
    load_files(plugin)
    found = load_target(target)
    seed = random.SystemRandom().randrange(2**32) if seed is None else seed
    server, fsync = choose_server(redis or found.server), appendfsync or found.appendfsync
    workers_wanted = found.workers if workers is None else workers
    try:
        if faults == MIX:
            requests = draw_mix(
                seed,
                kills=kills,
                server=server,
                appendfsync=fsync,
                workers=workers_wanted,
                target=found,
                load=load is not None,
            )
        else:
            requests = parse_faults(faults, kills)
        plan = make_plan(
            seed=seed,
            target=target,
            server=server,
            appendfsync=fsync,
            workers=workers_wanted,
            tasks=tasks,
            faults=requests,
            stated=found,
            work_ms=parse_work_ms(work_ms) if work_ms else None,
            recover_within_s=found.recover_within,
            require_durability=require_durability,
            durability=durability or os.environ.get(DURABILITY_VARIABLE) or found.durability,
            demand=[word.strip() for word in (demand or "").split(",") if word.strip()],
            load=plan_load(load, run_time) if load else None,
            plugins=[str(file) for file in plugin],
        )
    except PlanError as error:
        raise UsageError(str(error)) from None
    given = {"kills": kills, "workers": workers, "work-ms": work_ms, "durability": plan.durability, "demand": demand}
    given |= {"load": None if load is None else str(load), "run-time": run_time}
    command = ["zeroloss", "run", "--target", target, "--seed", str(plan.seed), "--redis", plan.server]
    command += ["--faults", faults, "--tasks", str(tasks), "--appendfsync", fsync]
    command += [word for name, value in given.items() if value is not None for word in (f"--{name}", str(value))]
    command += [*(["--require-durability"] if require_durability else []), *plugin_words(plugin)]
    if corpus is None:
        return carry_out(plan, found, [*command, *(["--trace"] if trace else [])], out, trace=trace)
    if trace:
        raise UsageError("--trace is for one run; leave out --corpus, or use `zeroloss explain DIR --replay` later.")
    return _with_corpus(corpus, plan, found, command, out)


@app.command
def replay(plan: Path, *, redis: str | None = None, out: Path | None = None) -> int:
    """Repeat the run of a plan.json. This imports and runs the target and the plug-ins that the plan names.

    Replay a plan from others only if you trust their code.

    Args:
        plan: The file.
        redis: The URL of the plan's server, if it had one; plans hold no password. Default: REDIS_URL.
        out: The run's directory, which must be new or empty. Default: a new one in zeroloss-runs.
    """
    from ..plan.plan import load_plan
    from ..plan.requests import PlanError
    from ..target import load_target

    try:
        loaded = with_server(load_plan(plan), redis)
    except PlanError as error:
        raise UsageError(str(error)) from None
    return carry_out(loaded, load_target(loaded.target), ["zeroloss", "replay", str(plan)], out)


@app.command
def check(directory: Path) -> int:
    """Judge a stored run again, and rewrite its reports.

    Args:
        directory: The run's directory.
    """
    from ..cause import explained
    from ..checker.judge import judge
    from ..history import EVENTS_DIRECTORY, MERGED_NAME, HistoryError, load, write_merged
    from ..plan.plan import PLAN_NAME
    from ..report import write_reports
    from ..system.room import naming_a_full_file_system

    if not directory.is_dir():
        raise UsageError(f"There is no directory {directory}.")
    refuse_links_out(directory)
    try:
        # A killed harness leaves only the events.
        if not (directory / MERGED_NAME).exists() and (directory / EVENTS_DIRECTORY).is_dir():
            write_merged(directory)
        events = load(directory)
    except HistoryError as error:
        raise UsageError(str(error)) from None
    result = explained(directory, judge(events, _unreadable(directory / PLAN_NAME)), events)
    with naming_a_full_file_system(directory):
        reports = write_reports(directory, result, events)
    say_result(Console(), result, reports)
    return result.exit_code


def _with_corpus(corpus: Path, plan: Any, target: Any, command: Sequence[str], out: Path | None) -> int:
    """Replay the corpus's plans of this target, then carry out the new plan, and keep it if its run goes wrong."""
    from ..campaigns.corpus import keep, kept_plans, worst
    from ..plan.plan import load_plan
    from ..plan.requests import PlanError
    from ..report.result import read

    if corpus.exists() and not corpus.is_dir():
        raise UsageError(f"--corpus {corpus} is not a directory.")
    statuses = []
    try:
        kept = [(path, with_server(load_plan(path), None)) for path in kept_plans(corpus, plan.target)]
    except PlanError as error:
        raise UsageError(f"--corpus: {error}") from None
    directory = new_directory(out, f"{Path(plan.target).stem}-seed{plan.seed}")
    for path, old in kept:
        say(f"Replaying {path}, the plan of an earlier run that went wrong.")
        place = directory.with_name(f"{directory.name}-{path.stem}")
        statuses.append(carry_out(old, target, ["zeroloss", "replay", str(path)], place))
        if statuses[-1] in (EXIT_USAGE, EXIT_INTERRUPTED):
            return statuses[-1]
    statuses.append(carry_out(plan, target, command, directory))
    if statuses[-1] in (EXIT_USAGE, EXIT_INTERRUPTED):
        return statuses[-1]
    if path_kept := keep(corpus, plan, read(directory)):
        say(f"Its plan is kept in {path_kept}.")
    return worst(statuses)


def _unreadable(plan: Path) -> list[str]:
    """Return why a stored run's plan file can't be read, in a sentence; empty: it can, or there is no such file."""
    import msgspec

    try:
        msgspec.json.decode(plan.read_bytes(), type=dict[str, Any])
    except FileNotFoundError:  # the history alone may have been kept, and is enough for the judge
        return []
    except OSError as error:
        return [f"The plan {plan.name} can't be read: {error.strerror}."]
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        return [f"The plan {plan.name} can't be read: {error}."]
    return []


def carry_out(plan: Any, target: Any, command: Sequence[str], out: Path | None, *, trace: bool = False) -> int:
    """Run a plan, print its result, and return the exit status."""
    from ..plan.mix import listed
    from ..plan.plan import repeat_command
    from ..run.progress import Progress
    from ..run.run import run
    from ..system.interruption import Interrupted
    from ..target import title

    console = Console()
    directory = new_directory(out, f"{title(target)}-seed{plan.seed}")
    progress = Progress(console)
    progress.say(f"Seed: {plan.seed}")
    progress.say(f"Faults: {listed(plan.faults)}")
    outcome = run(plan, target, directory=directory, command=command, progress=progress, trace=trace)
    failure = outcome.failure
    if isinstance(failure, Interrupted):
        say_result(console, outcome.result, outcome.reports)
        say_error(f"Interrupted; all processes were stopped, and the results so far are in {directory}.")
        return EXIT_INTERRUPTED
    if failure:
        status = say_failure(failure, directory)
        if status != EXIT_USAGE:
            say_error(f"To repeat this run: {shlex.join(repeat_command(directory))}")
        return status
    say_result(console, outcome.result, outcome.reports)
    return outcome.result.exit_code
