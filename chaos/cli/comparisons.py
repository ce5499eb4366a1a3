"""Compare several queues: `compare`."""

from pathlib import Path
from typing import Literal

from .common import (
    EXIT_INTERRUPTED,
    Plugins,
    UsageError,
    app,
    choose_server,
    new_directory,
    plugin_words,
    say,
    say_error,
    say_failure,
)


@app.command
def compare(
    *,
    targets: str | None = None,
    faults: str | None = None,
    tasks: int = 1_000,
    kills: int = 10,
    seed: int = 1,
    redis: Literal["auto", "embedded", "sentinel", "container"] = "embedded",
    plugin: Plugins = (),
    write: Path | None = None,
    out: Path | None = None,
) -> int:
    """Run each target under each fault, and write a table of the outcomes, with the command of each cell.

    Exit status: that of the worst verdict. Cells that --out already has are not run again.

    Args:
        targets: Targets as for `zeroloss run --target`, separated by commas. Default: all shipped targets.
        faults: Names that `zeroloss faults` lists, separated by commas. Default: five faults that kill and stop.
        tasks: Tasks to submit in each run.
        kills: How often worker-sigkill and worker-sigterm hit in a run.
        seed: The seed of every run.
        redis: embedded, sentinel, container, or auto: container if a container engine answers, otherwise embedded.
        plugin: A Python file that registers faults or mutants with @fault or @mutant; any number of times.
        write: Write the Markdown to this file, too.
        out: The directory, which may hold an interrupted comparison. Default: a new one in zeroloss-runs.
    """
    from ..campaigns import comparison_report as report
    from ..campaigns.compare import COMPARISON_NAME, FAULTS, Request, compare, load_targets
    from ..plan.requests import PlanError, parse_faults
    from ..plugins import load_files
    from ..system.interruption import Interrupted, interruptible
    from ..target import SHIPPED

    for name, number in (("tasks", tasks), ("kills", kills)):
        if number < 1:
            raise UsageError(f"--{name} must be at least 1, not {number}.")
    wanted = _words(targets) or [name for name in SHIPPED if name != "reference-in-order"]
    load_files(plugin)
    named = _words(faults) or FAULTS.split(",")
    try:
        for fault in named:
            parse_faults(fault, None)
    except PlanError as error:
        raise UsageError(str(error)) from None
    request = Request(
        targets=load_targets(wanted),
        faults=named,
        tasks=tasks,
        kills=kills,
        seed=seed,
        server=choose_server(redis),
        plugins=plugin_words(plugin),
    )
    resumed = out is not None and (out / COMPARISON_NAME).is_file()
    directory = out if out is not None and resumed else new_directory(out, "compare")
    say(f"Directory: {directory}")
    try:
        with interruptible():
            done = compare(
                request, directory.resolve(), say=say, publish=lambda found: report.write(directory, found, write)
            )
    except Interrupted:
        say_error(f"Interrupted; the same command with --out {directory} continues it.")
        return EXIT_INTERRUPTED
    except Exception as error:  # noqa: BLE001 - reported in one sentence, its traceback in a file
        return say_failure(error, directory)
    for name in (report.MARKDOWN_NAME, report.HTML_NAME):
        say(f"  {directory / name}")
    return done.exit_code


def _words(text: str | None) -> list[str]:
    return list(dict.fromkeys(word.strip() for word in (text or "").split(",") if word.strip()))
