"""Commands for repositories and pipelines: `init`, `vendor-ledger`, and `summary` of a run's results."""

from pathlib import Path
from typing import Literal

from .common import UsageError, app, refuse_links_out, say


@app.command
def summary(directory: Path, *, form: Literal["plain", "markdown", "annotation"] = "plain") -> int:
    """Summarise a run in a few lines: where tasks got lost, and the stories of the first ones.

    Args:
        directory: The run's directory.
        form: plain; markdown, for a CI job's summary; annotation, a GitHub workflow command if the run did not pass.
    """
    from msgspec import MsgspecError

    from ..report import summary as forms
    from ..report.result import read

    refuse_links_out(directory)
    try:
        result = read(directory)
    except (OSError, MsgspecError):
        raise UsageError(f"{directory} holds no judged run; `zeroloss check {directory}` judges it.") from None
    text = getattr(forms, form)(result, directory)
    if text:
        print(text)
    return 0


@app.command
def init(
    directory: Path = Path(),
    *,
    recover_within: float = 30.0,
    language: Literal["python", "node", "ruby", "go", "shell"] = "python",
) -> int:
    """Write a starter target, a test and a workflow into a repository; they run unchanged.

    Args:
        directory: The repository's folder.
        recover_within: Seconds within which the queue promises to run a dead worker's task again.
        language: The worker's language. Unless it is python, a stand-in and a ledger are written beside the target.
    """
    from ..starter.languages import LANGUAGES
    from ..starter.write import CLASS, TARGET, TEST, InitError, explore, write_starter

    if not directory.is_dir():
        raise UsageError(f"There is no directory {directory}.")
    if not recover_within > 0:
        raise UsageError(f"--recover-within must be more than 0, not {recover_within:g}.")
    findings = explore(directory)
    other = None if language == "python" else language
    try:
        written = write_starter(directory, findings, recover_within, other)
    except InitError as error:
        raise UsageError(str(error)) from None
    for path in written:
        say(f"  wrote    {path}")
    if other:
        say(f"  to do    put your worker and client in place of the stand-in; around the work: {LANGUAGES[other].call}")
    elif findings.worker and findings.enqueue:
        say(f"  found    worker python -m {findings.worker}, tasks by {'.'.join(findings.enqueue)}(payload)")
    else:
        if not findings.worker:
            say('  missing  one module with worker in its name that runs as a program: if __name__ == "__main__"')
        if not findings.enqueue:
            say("  missing  one function enqueue(payload), submit(payload) or send(payload)")
        say(f"  to do    put your worker and your client into {TARGET}, which tests a stand-in")
    if not findings.records and not other:
        say('  to do    around the work of a task: with zeroloss.ledger.effect(payload["id"], payload=payload): ...')
    if other or not (findings.worker and findings.enqueue):
        say("  note     until then the commands below end with VIOLATION: the stand-in loses tasks of killed workers")
    say(f"  run      pytest {TEST}")
    say(f"  or       zeroloss run --target {TARGET}:{CLASS} --faults worker-sigkill --kills 5 --tasks 200")
    return 0


@app.command
def vendor_ledger(language: Literal["node", "ruby", "go", "shell"], destination: Path) -> int:
    """Copy the ledger of a language into your source, so that task bodies can call it: one file, no dependencies.

    Args:
        language: The worker's language.
        destination: A folder, or the file itself.
    """
    from ..starter.languages import LANGUAGES, LedgerError
    from ..starter.languages import vendor_ledger as copy

    try:
        path = copy(language, destination)
    except LedgerError as error:
        raise UsageError(str(error)) from None
    say(f"  wrote    {path}")
    say(f"  to do    around the work of a task: {LANGUAGES[language].call}")
    return 0
