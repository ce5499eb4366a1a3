"""What the terminal shows at the end of a run: enough to know what happened and where to look."""

from pathlib import Path

from rich.console import Group, RenderableType
from rich.text import Text

from ..checker.verdicts import LIVENESS_DEFECTS, VIOLATIONS, Duplicate, LoadResult, Result, Verdict
from ..checker.wording import duration, plural

DUPLICATES_MAX = 10
TASKS_MAX = 10
STORIES_MAX = 3
_STYLES = {
    Verdict.PASS: "bold white on green",
    Verdict.VIOLATION: "bold white on red",
    Verdict.HARNESS_ERROR: "bold white on red",
    Verdict.LIVENESS: "bold black on yellow",
    Verdict.DUPLICATES: "bold black on yellow",
    Verdict.LEAK: "bold black on yellow",
    Verdict.SLO: "bold black on yellow",
    Verdict.INCONCLUSIVE: "bold white on magenta",
    Verdict.EXCUSED: "bold black on cyan",
}


def console_summary(result: Result, report: Path | None = None) -> RenderableType:
    """Return the verdict and the evidence for it. `Text` throughout: task ids are data and never markup."""
    lines = [Text.assemble((f" {result.verdict} ", _STYLES[result.verdict]), " ", result.because)]
    if result.verdict is not Verdict.INCONCLUSIVE:
        lines += [Text(f"  ! {doubt}", style="magenta") for doubt in result.doubts]
    lines += [Text(f"  {printable(sentence)}") for sentence in result.cause]
    lines += _stories(result) + _offenders(result) + _excuses(result)
    kills = result.kills
    if kills.planned:
        lines.append(
            _row("kills", f"{kills.mid_task} of {kills.planned} hit a task in its body, {kills.effective} took effect")
        )
    lines += _duplicates(result.duplicates)
    times = result.time_to_redelivery_ms
    if times:
        found = f"median {duration(times.median)}, max {duration(times.max)}"
        lines.append(_row("redelivery", f"{found} ({plural(times.count, 'interrupted task')})"))
    times = result.end_to_end_ms
    if times:
        found = f"median {duration(times.median)}, p99 {duration(times.p99)}, max {duration(times.max)}"
        lines.append(_row("end to end", found))
    if result.load:
        lines += _load(result.load)
    met = [f"{one.name} {one.count:,}" for one in result.situations if one.count]
    lines.append(_row("met", ", ".join(met) or "none of the situations that `zeroloss situations` lists"))
    lines += [_row("note", note) for note in result.notes]
    lines += [_row("exits", sentence) for sentence in result.exits_in_short]
    lines += [_row("server", result.server), _row("durability", result.durability)]
    if result.verdict is not Verdict.PASS and result.replay:
        lines.append(_row("repeat", result.replay))
    if report is not None:
        lines.append(_row("report", str(report)))
    return Group(*lines)


def _stories(result: Result) -> list[Text]:
    """Return rows on the first tasks that went wrong: what happened to each."""
    rows = []
    for story in result.stories[:STORIES_MAX]:
        rows.append(Text.assemble((f"  {printable(story.task)}", "bold"), f" {story.fate}"))
        rows += [Text(f"    {printable(sentence)}") for sentence in story.sentences]
    return rows


def _offenders(result: Result) -> list[Text]:
    rows = []
    for fate in sorted(VIOLATIONS | LIVENESS_DEFECTS):
        tasks = result.tasks(fate)
        if tasks:
            more = f" and {len(tasks) - TASKS_MAX:,} more" if len(tasks) > TASKS_MAX else ""
            rows.append(_row(fate.value, ", ".join(tasks[:TASKS_MAX]) + more))
    return rows


def _excuses(result: Result) -> list[Text]:
    """Return a row for each loss that the durability explains, with the crash that explains it."""
    rows = [_row(one.task, f"{one.fault}: {one.reason}") for one in result.excuses[:TASKS_MAX]]
    if len(result.excuses) > TASKS_MAX:
        rows.append(_row("", f"and {len(result.excuses) - TASKS_MAX:,} more in the report"))
    if not rows:
        return []
    return [_row("excuses", f"{len(result.excuses):,}, lost as the configured durability allows"), *rows]


def _duplicates(duplicates: list[Duplicate]) -> list[Text]:
    if not duplicates:
        return [_row("duplicates", "none")]
    unexplained = sum(not duplicate.explained for duplicate in duplicates)
    rows = [_row("duplicates", f"{len(duplicates):,}, {unexplained:,} of them unexplained")]
    # The unexplained first: they are what a person must look into.
    shown = sorted(duplicates, key=lambda duplicate: duplicate.explained)[:DUPLICATES_MAX]
    rows += [_row("", f"{one.task} completed {one.executions} times: {one.explanation}") for one in shown]
    if len(duplicates) > DUPLICATES_MAX:
        rows.append(_row("", f"and {len(duplicates) - DUPLICATES_MAX:,} more in the report"))
    return rows


def _load(load: LoadResult) -> list[Text]:
    sent = (
        f"{plural(load.requests, 'request')}, {load.rate:,.0f}/s over {load.seconds:,.0f} s, {load.failures:,} failed"
    )
    return [
        _row("load", sent),
        *(_row("SLO broken", sentence) for sentence in load.broken),
        *(_row("SLO kept", sentence) for sentence in load.kept),
    ]


def _row(title: str, text: str) -> Text:
    return Text.assemble((f"  {title:<13} ", "bold"), printable(text))


def printable(line: str) -> str:
    """Escape control characters: one in a task id must not steer the terminal."""
    return "".join(character if character.isprintable() else repr(character)[1:-1] for character in line)
