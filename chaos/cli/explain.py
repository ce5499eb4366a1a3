"""`explain`: why a run lost tasks, and the life of one task."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from .common import UsageError, app, refuse_links_out, say

STORIES_SHOWN = 3
REPLAY_DIRECTORY = "replay-traced"


@app.command
def explain(
    directory: Path,
    task: str | None = None,
    /,
    *,
    replay: Annotated[bool, Parameter(negative="")] = False,
    redis: str | None = None,
) -> int:
    """Explain where tasks got lost, by which fault, and what they have in common; or one task's history.

    Args:
        directory: The run's directory.
        task: The id of a task. Default: three tasks that went wrong, lost in different states where possible.
        replay: First repeat the run in a directory of its own, recording the Redis commands that carried each task,
            and explain the new run. This imports and runs the target and the plug-ins of the plan.
        redis: With --replay, the URL of the plan's server, if the plan has one. Default: REDIS_URL.
    """
    from ..history import HistoryError

    if not directory.is_dir():
        raise UsageError(f"There is no directory {directory}.")
    refuse_links_out(directory)
    if replay:
        directory = _replayed(directory, redis)
    elif redis is not None:
        raise UsageError("--redis needs --replay.")
    try:
        lines = _explanation(directory, task)
    except HistoryError as error:
        raise UsageError(str(error)) from None
    for line in lines:
        say(line)
    return 0


def _explanation(directory: Path, task: str | None) -> list[str]:
    from ..cause import explained, trails_of
    from ..cause.commands import life_of
    from ..cause.stories import story_of
    from ..cause.where import Finder
    from ..checker.evidence import gather
    from ..checker.judge import judge
    from ..history import load

    events = load(directory)
    result = explained(directory, judge(events), events)
    trails = trails_of(directory)
    if task is not None:
        if task not in result.fates:
            raise UsageError(f"No task {task!r} is in this run; its ids look like {next(iter(result.fates), 'none')}.")
        evidence = gather(events)
        story = story_of(Finder(evidence, trails), evidence, task, result.fates[task], trails.get(task))
        lines = [f"{task}: {story.fate}", *(f"  {sentence}" for sentence in story.sentences)]
        if trail := trails.get(task):
            lines += [
                "",
                "The commands that carried it:",
                *life_of(trail, evidence.first_t),
            ]
        return lines
    lines = [f"{result.verdict}: {result.because}", *result.cause]
    if not result.cause:
        lines.append("No promised task is missing, and no task ran that should not have: there is no loss to explain.")
        broken = [clause for promise in result.promises for clause in promise.broken]
        lines += [*broken, *([f"For the story of one task: zeroloss explain {directory} TASK"] if broken else [])]
    for story in result.stories[:STORIES_SHOWN]:
        lines += ["", f"{story.task}: {story.fate}", *(f"  {sentence}" for sentence in story.sentences)]
    if result.stories and not trails:
        lines += ["", f"For the Redis commands that carried each task: zeroloss explain {directory} --replay"]
    return lines


def _replayed(directory: Path, redis: str | None) -> Path:
    """Repeat the run with a trace, and return the new run's directory."""
    from ..plan.plan import PLAN_NAME, load_plan
    from ..plan.requests import PlanError
    from ..target import load_target
    from .common import EXIT_INTERRUPTED, EXIT_USAGE, new_directory, with_server
    from .runs import carry_out

    try:
        plan = with_server(load_plan(directory / PLAN_NAME), redis)
    except PlanError as error:
        raise UsageError(str(error)) from None
    target = load_target(plan.target)
    number, place = 1, directory / REPLAY_DIRECTORY
    while place.exists():
        number, place = number + 1, directory / f"{REPLAY_DIRECTORY}-{number + 1}"
    words = ["zeroloss", "explain", str(directory), "--replay"]
    status = carry_out(plan, target, words, new_directory(place, ""), trace=True)
    if status in (EXIT_USAGE, EXIT_INTERRUPTED):
        raise UsageError("The replay did not finish, so there is nothing to explain.")
    return place
