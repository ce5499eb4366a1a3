"""A run in a few lines: plain for a failing test, Markdown for a pipeline's page, an annotation for a pull request."""

from collections.abc import Iterable
from pathlib import Path

from ..checker.verdicts import Result, Verdict
from ..history import Event
from .account import Account, accounts
from .console import printable, seconds

PASSING = (Verdict.PASS, Verdict.EXCUSED)
PAGE = "report.html"


def plain(result: Result, events: Iterable[Event], directory: Path) -> str:
    """The verdict, an account of each task that went wrong, what repeats the run, where its report is."""
    lines = [f"{result.verdict}: {result.because}"]
    for account in accounts(result, events):
        lines += ["", *account.lines()]
    lines += ["", f"replay  {result.replay}", f"report  {directory / PAGE}"]
    return "\n".join(map(printable, lines))


def markdown(result: Result, events: Iterable[Event], directory: Path) -> str:
    """For the page of a job. What comes from the queue under test is text there, never markup."""
    kills, times = result.kills, result.time_to_redelivery_ms
    rows = [
        ("target", result.target),
        ("seed", str(result.seed)),
        ("server", result.server),
        ("durability", result.durability),
        ("kills", f"{kills.mid_task} of {kills.planned} landed mid-task, {kills.effective} took effect"),
        ("tasks", ", ".join(f"{fate} {count:,}" for fate, count in result.counts.items())),
    ]
    if times:
        rows.append(("redelivery", f"median {seconds(times.median)}, max {seconds(times.max)}"))
    lines = [f"## zeroloss: {result.verdict}", "", _inert(result.because), "", "| | |", "| --- | --- |"]
    lines += [f"| {name} | {_inert(text)} |" for name, text in rows]
    found = accounts(result, events)
    if found:
        lines += ["", "| task | fate | submitted | killed by | last seen |", "| --- | --- | --- | --- | --- |"]
        lines += [
            f"| {_inert(one.task)} | {one.fate} | {_inert(one.submitted)} | {_inert(one.killed_by)} "
            f"| {_inert(one.last_seen)} |"
            for one in found
        ]
    lines += ["", f"Replay: {_inert(result.replay)}", "", f"Report: {_inert(str(directory / PAGE))}", ""]
    return "\n".join(lines)


def annotation(result: Result, events: Iterable[Event], directory: Path) -> str:
    """A workflow command of GitHub, one line; empty where there is nothing to be said."""
    if result.verdict in PASSING:
        return ""
    found = accounts(result, events)
    lines = [result.because, *(_in_one_line(one) for one in found), f"replay: {result.replay}"]
    text = "\n".join(lines)
    return f"::error title=zeroloss {result.verdict}::{_data(text)}"


def _in_one_line(account: Account) -> str:
    sentences = f"submitted {account.submitted}; killed by {account.killed_by}; last seen {account.last_seen}"
    return f"{account.task} {account.fate}: {sentences}"


def _data(text: str) -> str:
    """As workflow commands are escaped; a line break in a task id must not begin a command of its own."""
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _inert(text: str) -> str:
    """A code span that nothing in the text can end, in one line and one cell."""
    line = " ".join("".join(one if one.isprintable() else " " for one in text).split()).replace("`", "'")
    return f"`{line.replace('|', '/')}`" if line else ""
