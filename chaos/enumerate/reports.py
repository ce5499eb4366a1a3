"""Write the results of an enumeration: enumeration.json, junit.xml and a self-contained report.html, as for a run."""

from pathlib import Path

import msgspec
from junitparser import TestCase

from ..checker.verdicts import Verdict
from ..report.html import NAME as HTML_NAME
from ..report.html import render_template
from ..report.junit import make_case, write_suite
from .table import REPORT_NAME, Report, Row, headline, summary_of, unreachable_of, with_names

_TEMPLATE = Path(__file__).parent / "enumeration.html.j2"


def write_reports(directory: Path, report: Report) -> None:
    """Write all three into the run's directory."""
    (directory / REPORT_NAME).write_bytes(msgspec.json.format(msgspec.json.encode(report), indent=2) + b"\n")
    (directory / HTML_NAME).write_text(render(report), encoding="utf-8")
    properties = {"server": report.server, "durability": report.durability}
    write_suite(directory, f"zeroloss enumerate {report.target}", properties, _cases(report))


def render(report: Report) -> str:
    """Return the page."""
    apart = {row.directory for row in unreachable_of(report.rows)}
    return render_template(
        _TEMPLATE,
        report=report,
        headline=headline(report),
        notes=summary_of(report)[1:],
        worst_first=sorted(report.rows, key=lambda row: list(Verdict).index(row.verdict)),
        title=lambda row: _title(row, report),
        shown=lambda row: "unreachable" if row.directory in apart else _shown(row),
    )


def _cases(report: Report) -> list[TestCase]:
    """Return JUnit's cases. At least one fails if and only if the exit status is not 0."""
    failed = report.verdict.value if report.exit_code else ""
    cases = [make_case("verdict", "zeroloss.enumerate", failed=failed, sentences=[headline(report)])]
    apart = {row.directory for row in unreachable_of(report.rows)}
    for row in report.rows:
        title = _title(row, report)
        if row.directory in apart:
            cases.append(make_case(title, "zeroloss.points", skipped="unreachable", sentences=[row.unreached]))
        else:
            kind = row.verdict.value if row.verdict is not Verdict.PASS else ""
            sentences = [row.because, *([row.unreached] if row.unreached else []), f"Its history: {row.directory}"]
            cases.append(make_case(title, "zeroloss.points", failed=kind, sentences=sentences))
    return cases


def _title(row: Row, report: Report) -> str:
    return " then ".join(with_names(crash, report.scripts) for crash in row.crashes) or f"({row.step})"


def _shown(row: Row) -> str:
    return ", ".join(f"{len(tasks)} {fate}" for fate, tasks in row.fates.items()) or (
        row.verdict.value if row.reached else "not reached"
    )
