"""The results of an enumeration: a row for each case, as JSON lines while it runs, and as a table at its end."""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import msgspec
from rich.console import RenderableType
from rich.table import Table

from ..checker.verdicts import LIVENESS_DEFECTS, VIOLATIONS, Fate, Result, Verdict, merge

ROWS_NAME = "cases.jsonl"
REPORT_NAME = "enumeration.json"
UNREACHABLE_SHARE_MAX = 0.1
"""Maximum share of unreachable points among the planned ones. Beyond it, the enumeration is INCONCLUSIVE."""
_LOSSES = frozenset({Fate.LOST.value, Fate.FAILED.value})
VERDICT_COLOURS = {Verdict.PASS: "green", Verdict.INCONCLUSIVE: "yellow"}


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One case. `crashes`: point and phase of each kill, as `Crash` writes them; empty: a step without a kill."""

    crashes: list[str]
    step: str = ""
    reached: bool
    attempts: int
    verdict: Verdict
    because: str
    fates: dict[str, list[str]]
    """Bad outcome -> its tasks."""
    duplicates: int
    unexplained: int
    """Number of unexplained ones among the duplicates."""
    redelivery_ms: float | None
    recovery: dict[str, int]
    """Command of the recovering worker -> number of times it was sent."""
    directory: str
    """Directory of its history, below the run's directory."""
    unreached: str = ""
    """Why the worker was not killed, in a sentence, if it never reached the point."""


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """enumeration.json."""

    verdict: Verdict
    exit_code: int
    target: str
    server: str
    durability: str
    recover_within_s: float
    planned: int
    reached: int
    unreachable: int = 0
    """Number of planned points that depend on timing and did not occur; they are counted apart."""
    seconds: float
    versions: dict[str, str]
    scripts: dict[str, str]
    """First digits of a script's digest -> the target's name for the script."""
    notes: list[str]
    proxy: str = ""
    """The latency of the proxy between workers and server, in a sentence."""
    rows: list[Row]


def row_of(
    crashes: Iterable[str],
    result: Result,
    *,
    step: str = "",
    reached: bool,
    attempts: int,
    redelivery_ms: float | None,
    directory: str,
    recovery: Mapping[str, int],
    unreached: str = "",
) -> Row:
    """Return the row of a judged case."""
    fates: dict[str, list[str]] = {}
    for task, fate in result.fates.items():
        if fate in VIOLATIONS | LIVENESS_DEFECTS:
            fates.setdefault(fate.value, []).append(task)
    return Row(
        crashes=list(crashes),
        step=step,
        reached=reached,
        attempts=attempts,
        verdict=result.verdict,
        because=result.because,
        fates=fates,
        duplicates=len(result.duplicates),
        unexplained=sum(not duplicate.explained for duplicate in result.duplicates),
        redelivery_ms=redelivery_ms,
        recovery=dict(recovery),
        directory=directory,
        unreached=unreached,
    )


class RowFile:
    """The file of the rows so far, from which an interrupted enumeration can be resumed."""

    def __init__(self, directory: Path) -> None:
        self._path = directory / ROWS_NAME

    def read(self) -> list[Row]:
        """Return the rows, without an incomplete last line."""
        if not self._path.exists():
            return []
        whole = self._path.read_bytes().rpartition(b"\n")[0]
        return [msgspec.json.decode(line, type=Row) for line in whole.splitlines()]

    def add(self, row: Row) -> None:
        with self._path.open("ab") as file:
            file.write(msgspec.json.encode(row) + b"\n")


def verdict_of(rows: Sequence[Row]) -> Verdict:
    """Return the worst verdict. A point that was not reached makes it INCONCLUSIVE, except for `unreachable_of`."""
    apart = set(map(id, unreachable_of(rows)))
    return merge(row.verdict for row in rows if id(row) not in apart)


def unreachable_of(rows: Sequence[Row]) -> list[Row]:
    """Return the points that no attempt reached, of commands that were hit elsewhere: their count depends on timing.

    Empty if these are more than a tenth of all points: then the enumeration itself fails to reach the queue.
    """
    struck = {_command(row) for row in rows if row.crashes and row.reached}
    found = [
        row
        for row in rows
        if row.crashes
        and not row.reached
        and row.unreached
        and row.verdict is Verdict.INCONCLUSIVE
        and _command(row) in struck
    ]
    return found if len(found) <= UNREACHABLE_SHARE_MAX * sum(bool(row.crashes) for row in rows) else []


def _command(row: Row) -> str:
    """Return the role and name of the last crash, without its occurrence and phase."""
    return row.crashes[-1].partition("#")[0]


def headline(report: Report) -> str:
    """Return the findings in a sentence."""
    crashed = [row for row in report.rows if row.crashes]
    lost = sum(not _LOSSES.isdisjoint(row.fates) for row in crashed)
    other = Counter(
        ", ".join(sorted(row.fates)) or row.verdict.value
        for row in crashed
        if row.reached and row.verdict is not Verdict.PASS and _LOSSES.isdisjoint(row.fates)
    )
    parts = [f"{lost} of {report.reached} points lost a task"] if report.planned else []
    parts += [f"{count} showed {shown}" for shown, count in other.items()]
    parts += [f"{row.because.rstrip('.')} during {row.step}" for row in report.rows if row.step]
    if missed := report.planned - report.reached - report.unreachable:
        parts.append(f"{missed} of {report.planned} were not reached")
    return "; ".join(parts) + "."


def table_of(report: Report) -> RenderableType:
    """Return a table with a line for each case: the crash (in pairs, also the one before it) and the outcome."""
    pairs = any(len(row.crashes) > 1 for row in report.rows)
    columns = [*(["after a kill at"] if pairs else []), "point", "phase", "verdict", "duplicates", "redelivery"]
    table = Table(*columns, box=None, pad_edge=False)
    for row in report.rows:
        *before, last = [with_names(text, report.scripts) for text in row.crashes] or [f"({row.step}) "]
        point, _, phase = last.rpartition(" ")
        verdict = ", ".join(f"{len(tasks)} {fate}" for fate, tasks in row.fates.items()) or row.verdict.value
        colour = VERDICT_COLOURS.get(row.verdict, "red")
        cells = [
            point,
            phase,
            f"[{colour}]{verdict if row.reached or row.fates else 'not reached'}[/{colour}]",
            str(row.duplicates) if row.duplicates else "-",
            "-" if row.redelivery_ms is None else f"{row.redelivery_ms:,.0f} ms",
        ]
        table.add_row(*([" ".join(before) or "-"] if pairs else []), *cells)
    return table


def with_names(text: str, scripts: Mapping[str, str]) -> str:
    """Return the text with the names of scripts in place of their digests."""
    return re.sub(r"(?<=EVALSHA:)([0-9a-f]+)", lambda found: scripts.get(found[1], found[1]), text)


def summary_of(report: Report) -> list[str]:
    """Return a few lines for the end of the output."""
    rows = [row for row in report.rows if row.crashes]
    times_ms = sorted(row.redelivery_ms for row in rows if row.redelivery_ms is not None)
    verdicts = Counter(row.verdict.value for row in report.rows)
    lines = [
        f"{report.verdict}: {headline(report)}",
        "Cases: " + ", ".join(f"{count} {verdict}" for verdict, count in verdicts.items()) + ".",
        f"{report.reached} of {report.planned} planned crashes were reached, in {report.seconds:.0f} s.",
        f"{sum(row.duplicates for row in rows)} duplicates, {sum(row.unexplained for row in rows)} unexplained.",
    ]
    if times_ms:
        median_ms = times_ms[len(times_ms) // 2]
        lines.append(
            f"Time to redelivery: median {median_ms:,.0f} ms, most {times_ms[-1]:,.0f} ms; "
            f"promised within {report.recover_within_s:g} s."
        )
    if apart := unreachable_of(report.rows):
        lines.append(f"{len(apart)} of them depend on timing, did not come, and are counted apart:")
        lines += [f"  {' then '.join(row.crashes)}: {row.unreached}" for row in apart]
    return [*lines, *([report.proxy] if report.proxy else []), *report.notes]
