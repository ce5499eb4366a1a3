"""What pipelines call: `summary`."""

from pathlib import Path
from typing import Literal

from .common import UsageError, app


@app.command
def summary(directory: Path, *, form: Literal["plain", "markdown", "annotation"] = "plain") -> int:
    """Say in a few lines what became of a run: which task, submitted when, killed by what, last seen where.

    Args:
        directory: The run's directory.
        form: plain, markdown for the page of a job, or annotation: a workflow command of GitHub, if it did not pass.
    """
    from msgspec import MsgspecError

    from chaos.history import HistoryError, load
    from chaos.report import summary as forms
    from chaos.report.result import read

    try:
        result, events = read(directory), load(directory)
    except (OSError, MsgspecError, HistoryError):
        raise UsageError(f"{directory} holds no judged run; `zeroloss check {directory}` judges it.") from None
    text = getattr(forms, form)(result, events, directory)
    if text:
        print(text)
    return 0
