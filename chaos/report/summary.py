"""A run in a few lines: plain for a failing test, Markdown for a pipeline's page, an annotation for a pull request."""

from pathlib import Path

from ..checker.verdicts import Result, Story, Verdict
from ..checker.wording import duration
from .console import printable

PASSING = (Verdict.PASS, Verdict.EXCUSED)
PAGE = "report.html"


def plain(result: Result, directory: Path) -> str:
    """Return the verdict, its cause, the stories of failed tasks, the replay command and the report's path."""
    lines = [f"{result.verdict}: {result.because}", *result.cause]
    for story in result.stories:
        lines += ["", f"{story.task}: {story.fate}", *(f"  {sentence}" for sentence in story.sentences)]
    lines += ["", f"replay  {result.replay}", f"report  {directory / PAGE}"]
    return "\n".join(map(printable, lines))


def markdown(result: Result, directory: Path) -> str:
    """Return Markdown for the page of a job. Text from the queue under test never becomes markup."""
    kills, times = result.kills, result.time_to_redelivery_ms
    rows = [
        ("target", result.target),
        ("seed", str(result.seed)),
        ("server", result.server),
        ("durability", result.durability),
        ("kills", f"{kills.mid_task} of {kills.planned} hit a task in its body, {kills.effective} took effect"),
        ("tasks", ", ".join(f"{fate} {count:,}" for fate, count in result.counts.items())),
    ]
    if times:
        rows.append(("redelivery", f"median {duration(times.median)}, max {duration(times.max)}"))
    lines = [f"## zeroloss: {result.verdict}", "", _inert(result.because), ""]
    lines += [line for sentence in result.cause for line in (_inert(sentence), "")]
    lines += ["| | |", "| --- | --- |", *(f"| {name} | {_inert(text)} |" for name, text in rows)]
    if result.stories:
        lines += ["", "| task | outcome | what happened |", "| --- | --- | --- |"]
        lines += [f"| {_inert(one.task)} | {one.fate} | {_inert(' '.join(one.sentences))} |" for one in result.stories]
    lines += ["", f"Replay: {_inert(result.replay)}", "", f"Report: {_inert(str(directory / PAGE))}", ""]
    return "\n".join(lines)


def annotation(result: Result, directory: Path) -> str:
    """Return a workflow command of GitHub, one line; empty if there is nothing to report."""
    if result.verdict in PASSING:
        return ""
    lines = [result.because, *result.cause, *map(_in_one_line, result.stories), f"replay: {result.replay}"]
    text = "\n".join([*lines, f"report: {directory / PAGE}"])
    return f"::error title=zeroloss {result.verdict}::{_data(text)}"


def _in_one_line(story: Story) -> str:
    return f"{story.task} {story.fate}: {' '.join(story.sentences)}"


def _data(text: str) -> str:
    """Escape text for a workflow command: a line break in a task id must not begin another command."""
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _inert(text: str) -> str:
    """Return a code span that nothing in the text can end, in one line and one cell."""
    line = " ".join("".join(one if one.isprintable() else " " for one in text).split()).replace("`", "'")
    return f"`{line.replace('|', '/')}`" if line else ""
