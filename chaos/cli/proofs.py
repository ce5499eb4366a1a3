"""Commands of many runs: `mutants`, `enumerate`, `prove`, `shrink`."""

import shlex
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter
from rich.console import Console

from .common import (
    EXIT_HARNESS_ERROR,
    EXIT_INTERRUPTED,
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
    with_server,
)


@app.command
def mutants(
    *,
    only: str | None = None,
    listed: Annotated[bool, Parameter("--list", negative="")] = False,
    runs: int = 1,
    jobs: int = 2,
    seed: int = 1,
    redis: Literal["embedded", "container"] = "embedded",
    plugin: Plugins = (),
    recall: str | None = None,
    resume: Path | None = None,
    out: Path | None = None,
) -> int:
    """Run queues with one planted defect each, and check that each defect is caught.

    Exit status: 0 all caught, 1 a mutant survived, 4 the reference itself did not pass under the same faults.

    Args:
        only: Names, separated by commas. Default: all but the blind spots.
        listed: List the mutants and their defects, and run nothing.
        runs: Runs of each mutant, with successive seeds.
        jobs: Runs at a time.
        seed: The seed of each mutant's first run.
        redis: embedded or container.
        plugin: A Python file that registers faults or mutants with @fault or @mutant; any number of times.
        recall: One or more of the commands run, prove --quick and prove, separated by commas: run the mutants as these
            commands would, and count how many each catches. The exit status is 0 whatever the count.
        resume: The directory of an interrupted campaign, which is continued. Give the same
            --only, --runs and --seed.
        out: The directory, which must be new or empty. Default: a new one in zeroloss-runs.
    """
    from ..campaigns.mutation import MUTANTS_NAME, TRIALS_NAME, MutationError, choose, mutate
    from ..campaigns.mutation_report import mutants_table, mutation_table, recall_table, step_line, trial_line
    from ..campaigns.recall import PAGE_NAME, RECALL_NAME, recall_page, shipped_sentences
    from ..campaigns.recall_runs import STEPS_NAME, chosen_commands, measure
    from ..plugins import load_files
    from ..system.interruption import Interrupted, interruptible

    load_files(plugin)
    lines = TRIALS_NAME if recall is None else STEPS_NAME
    if resume is not None and not (resume / lines).is_file():
        raise UsageError(f"There is nothing to resume in {resume}: it holds no {lines}.")
    try:
        chosen = choose(only, blind_spots=listed or recall is not None)
        if listed:
            Console().print(mutants_table(chosen))
            return 0
        asked = None if recall is None else chosen_commands(recall)
        directory = resume or new_directory(out, "mutants")
        say(f"Directory: {directory}")
        with interruptible():
            if asked is not None:
                measured = measure(
                    chosen,
                    asked=asked,
                    jobs=jobs,
                    seed=seed,
                    server=redis,
                    directory=directory.resolve(),
                    say=lambda step: say(step_line(step)),
                )
                (directory / PAGE_NAME).write_text(recall_page(measured))
                Console().print(recall_table(measured))
                say(f"  {directory / RECALL_NAME}")
                return 0
            mutation = mutate(
                chosen,
                runs=runs,
                jobs=jobs,
                seed=seed,
                server=redis,
                directory=directory.resolve(),
                say=lambda trial: say(trial_line(trial)),
            )
    except MutationError as error:
        raise UsageError(str(error)) from None
    except Interrupted:
        say_error(f"Interrupted; `zeroloss mutants --resume {directory}` with the same options continues it.")
        return EXIT_INTERRUPTED
    Console().print(mutation_table(mutation))
    for sentence in shipped_sentences():
        say(sentence)
    say(f"  {directory / MUTANTS_NAME}")
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
        points: Only the crashes whose text matches this pattern, such as '*/BLPOP#1 before'.
        jobs: Cases to run at a time, each in a database of its own. With a server's URL, cases run one at a time.
        pairs: Also kill the recovering worker at each of its own points.
        redis: embedded, container, or the URL of an empty database, which is flushed for each case.
        resume: The directory of an interrupted enumeration, which is continued.
        out: The run's directory, which must be new or empty. Default: a new one in zeroloss-runs.
    """
    from ..enumerate.command import enumerate_target
    from ..system.interruption import Interrupted
    from ..target import load_target

    if jobs < 1:
        raise UsageError(f"--jobs must be at least 1, not {jobs}.")
    if resume is not None and not (resume / "cases.jsonl").is_file():
        raise UsageError(f"There is nothing to resume in {resume}: it holds no cases.jsonl.")
    load_target(target)
    directory = resume or new_directory(out, f"enumerate-{Path(target).stem}")
    try:
        report = enumerate_target(
            target,
            points=points,
            jobs=jobs,
            pairs=pairs,
            server=choose_server(redis),
            directory=directory,
            console=Console(),
        )
    except Interrupted:
        say_error(f"Interrupted; `zeroloss enumerate --resume {directory}` continues it.")
        return EXIT_INTERRUPTED
    except Exception as error:  # noqa: BLE001 - reported in one sentence, its traceback in a file
        return say_failure(error, directory)
    return report.exit_code


@app.command
def prove(
    *,
    target: str = "reference",
    quick: bool = False,
    thorough: bool = False,
    runs: int | None = None,
    hours: float | None = None,
    redis: Literal["embedded", "container"] = "embedded",
    seed: int = 1,
    plugin: Plugins = (),
    resume: Path | None = None,
    out: Path | None = None,
) -> int:
    """Enumerate crash points, run, try the mutants, and write a certificate if the evidence is enough.

    Exit status: 0 a certificate was issued; else that of the worst verdict against the queue, or 4.

    Args:
        target: A name that `zeroloss targets` lists, package.module:Class, or path/to/file.py:Class.
        quick: Two runs, five mutants: about four minutes.
        thorough: Pairs of crashes, twenty runs, every mutant three times.
        runs: Seeded runs. A bound of 1 % on the probability that a run loses a task needs 299, one of 5 % needs 59.
        hours: Hours after which no new run begins. Without --runs: as many runs as fit into this time.
        redis: embedded or container.
        seed: The seed of the first run.
        plugin: A Python file that registers faults or mutants with @fault or @mutant; any number of times.
        resume: The directory of an interrupted proof, which is continued. Give the same options; --runs may be more.
        out: The directory, which must be new or empty. Default: a new one in zeroloss-runs.
    """
    from dataclasses import replace

    from ..campaigns.prove import ABOUT_NAME, EFFORTS, UNLIMITED, PartFailed, prove
    from ..plugins import load_files
    from ..system.interruption import Interrupted
    from ..target import load_target

    if quick and thorough:
        raise UsageError("--quick and --thorough exclude each other.")
    load_files(plugin)
    if runs is not None and runs < 1:
        raise UsageError(f"--runs must be at least 1, not {runs}.")
    if hours is not None and not hours > 0:
        raise UsageError(f"--hours must be more than 0, not {hours:g}.")
    if resume is not None and not (resume / ABOUT_NAME).is_file():
        raise UsageError(f"There is nothing to resume in {resume}: it holds no {ABOUT_NAME}.")
    load_target(target)
    directory = resume or new_directory(out, f"prove-{Path(target).stem}")
    effort = EFFORTS["quick" if quick else "thorough" if thorough else "default"]
    effort = replace(effort, runs=runs or (UNLIMITED if hours else effort.runs), hours=hours)
    try:
        certificate = prove(
            effort,
            target=target,
            server=redis,
            seed=seed,
            plugins=plugin_words(plugin),
            directory=directory,
            say=say,
        )
    except Interrupted:
        say_error(f"Interrupted; `zeroloss prove --resume {directory}` with the same options continues it.")
        return EXIT_INTERRUPTED
    except PartFailed as error:
        say_error(f"{' '.join(str(error).split())} The results so far are in {directory}.")
        return EXIT_HARNESS_ERROR
    for line in certificate.statements or certificate.refused:
        say(f"  {line}")
    for line in certificate.missed if certificate.issued else []:
        say(f"  {line}")
    kind = "QUICK CHECK" if quick else "CERTIFICATE"
    say(f"{kind if certificate.issued else f'NO {kind}'}: {directory / 'certificate.html'}")
    return certificate.exit_code


@app.command
def shrink(directory: Path, *, runs: int = 30, minutes: float = 10.0, tries: int = 2, out: Path | None = None) -> int:
    """Reduce the faults and tasks of a failed run while it still fails in the same way.

    Exit status: 0, even if no smaller plan failed; 2 if the directory holds no run, or one that did not fail.

    Args:
        directory: The run's directory.
        runs: Limit on the number of runs of smaller plans.
        minutes: Limit on the total time, in minutes.
        tries: Runs of a smaller plan before it is rejected, since a failure can depend on chance.
        out: The directory of the smaller plan, which must be new or empty. Default: DIRECTORY-shrunk.
    """
    from msgspec import MsgspecError

    from ..campaigns.shrink import Budget, Shrink
    from ..checker.verdicts import Verdict
    from ..checker.wording import plural
    from ..plan.plan import PLAN_NAME, load_plan, repeat_command
    from ..plan.requests import PlanError
    from ..report.result import read
    from ..system.interruption import Interrupted, interruptible

    for name, number in (("runs", runs), ("minutes", minutes), ("tries", tries)):
        if not number > 0:
            raise UsageError(f"--{name} must be more than 0, not {number:g}.")
    refuse_links_out(directory)
    try:
        plan, result = with_server(load_plan(directory / PLAN_NAME), None), read(directory)
    except PlanError as error:
        raise UsageError(str(error)) from None
    except (OSError, MsgspecError):
        raise UsageError(f"{directory} holds no result.json; `zeroloss check {directory}` writes one.") from None
    if result.verdict not in (Verdict.VIOLATION, Verdict.LIVENESS):
        raise UsageError(f"The run in {directory} is {result.verdict}: only a VIOLATION or LIVENESS can be shrunk.")
    smaller = new_directory(out or directory.with_name(f"{directory.resolve().name}-shrunk"), "")
    budget = Budget(runs=runs, tries=tries, seconds=60 * minutes)
    shrinking = Shrink(plan, result, smaller, budget, say)
    status = 0
    try:
        with interruptible():
            shrinking.carry_out()
    except Interrupted:
        say_error("Interrupted; the plan below is the smallest so far.")
        status = EXIT_INTERRUPTED
    before, after = (
        f"{plural(len(one.faults), 'fault')} and {plural(len(one.tasks), 'task')}" for one in (plan, shrinking.plan)
    )
    count = plural(len(shrinking.tries), "run")
    if any(one.same for one in shrinking.tries):
        say(f"From {before} to {after}, in {count}; still {result.verdict}.")
    else:
        say(f"No smaller plan failed as before, in {count}. The plan itself, of {before}, was not repeated.")
    say(f"  repeat   {shlex.join(repeat_command(smaller))}")
    return status
