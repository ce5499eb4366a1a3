"""The reports of `zeroloss enumerate`: headline, unreachable points, HTML page and JUnit."""

import json
from pathlib import Path
from typing import Any

import pytest
from junitparser import JUnitXml
from support.places import TARGETS
from zeroloss.checker.verdicts import Verdict
from zeroloss.cli import execute
from zeroloss.enumerate.reports import render, write_reports
from zeroloss.enumerate.table import Report, Row, headline, summary_of, unreachable_of, verdict_of

WHY = "In 6 attempts the worker sent */BRPOP at most 4 times before it was idle."


def row(crash: str, verdict: Verdict = Verdict.PASS, **members: Any) -> Row:
    given = {"fates": {}, "duplicates": 0, "unexplained": 0, "redelivery_ms": None, "reached": True, "recovery": {}}
    given |= {"because": "Said.", "attempts": 1, "directory": f"cases/{crash}"}
    return Row(crashes=[crash], verdict=verdict, **given | members)


def unreached(crash: str, why: str = WHY) -> Row:
    return row(crash, Verdict.INCONCLUSIVE, reached=False, unreached=why)


def reached(count: int) -> list[Row]:
    return [row(f"*/BRPOP#{number} before") for number in range(1, count + 1)]


def report(rows: list[Row], **members: Any) -> Report:
    verdict = verdict_of(rows)
    given = {
        "planned": len(rows),
        "reached": sum(one.reached for one in rows),
        "unreachable": len(unreachable_of(rows)),
        "verdict": verdict,
        "exit_code": verdict.exit_code,
    }
    fixed: dict[str, Any] = {"target": "x", "server": "s", "durability": "d", "versions": {}, "scripts": {}}
    return Report(**fixed, recover_within_s=1.0, seconds=2.0, notes=[], rows=rows, **given | members)


def test_a_blocking_read_that_timing_withholds_keeps_no_sound_queue_from_a_pass() -> None:
    rows = [*reached(10), unreached("*/BRPOP#11 before")]
    assert unreachable_of(rows) == rows[-1:]
    assert verdict_of(rows) is Verdict.PASS
    assert f"  */BRPOP#11 before: {WHY}" in summary_of(report(rows))
    assert headline(report(rows)) == "0 of 10 points lost a task."


@pytest.mark.parametrize(
    "rows",
    [
        [*reached(10), unreached("*/LREM#1 before")],  # a command that no case hit
        [*reached(10), unreached("*/BRPOP#11 before", "")],  # the command was sent, but no kill followed
        [*reached(5), unreached("*/BRPOP#6 before")],  # more than a tenth
        [unreached("*/BRPOP#1 before")],
    ],
)
def test_a_point_that_was_missed_for_another_reason_keeps_the_result_inconclusive(rows: list[Row]) -> None:
    assert verdict_of(rows) is Verdict.INCONCLUSIVE
    assert f"1 of {len(rows)} were not reached" in headline(report(rows))


def test_a_loss_at_a_point_that_was_not_reached_still_counts() -> None:
    lost = row("*/BRPOP#11 before", Verdict.VIOLATION, reached=False, unreached=WHY, fates={"LOST": ["t"]})
    assert verdict_of([*reached(10), lost]) is Verdict.VIOLATION


def test_the_headline_counts_the_points_that_lost_a_task_and_names_the_other_defects() -> None:
    lost = [row(f"*/A#{n} after", Verdict.VIOLATION, fates={"LOST": ["t"]}) for n in (1, 2)]
    stuck = row("*/A#3 after", Verdict.LIVENESS, fates={"STUCK": ["t"]})
    assert headline(report([*reached(5), *lost, stuck])) == "2 of 8 points lost a task; 1 showed STUCK."


def test_a_page_and_junit_show_each_point_and_some_case_fails_with_the_status(tmp_path: Path) -> None:
    lost = row("*/EVALSHA:<b>#1 after", Verdict.VIOLATION, fates={"LOST": ["t"]}, because="Task t is LOST.")
    rows = [*reached(20), unreached("*/BRPOP#21 before"), lost]
    write_reports(tmp_path, report(rows))
    page = (tmp_path / "report.html").read_text()
    assert "1 of 21 points lost a task." in page
    assert "&lt;b&gt;" in page
    assert "<b>#1" not in page
    assert page.index("1 LOST") < page.index("BRPOP#1 ")  # the worst first
    (suite,) = JUnitXml.fromfile(str(tmp_path / "junit.xml"))
    assert (suite.tests, suite.failures, suite.skipped) == (23, 2, 1)
    write_reports(tmp_path, report(rows[:-1]))
    (suite,) = JUnitXml.fromfile(str(tmp_path / "junit.xml"))
    assert (suite.failures, suite.skipped) == (0, 1)


def test_a_page_loads_nothing_from_elsewhere() -> None:
    page = render(report(reached(1)))
    assert "default-src 'none'" in page
    assert "http://" not in page
    assert "https://" not in page


@pytest.mark.timeout(120)
def test_a_queue_that_loses_tasks_without_a_kill_ends_in_a_violation_with_its_table(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    words = ["enumerate", "--target", f"{TARGETS}:Forgets", "--redis", "embedded", "--jobs", "1", "--out", str(out)]
    assert execute(words) == 1
    found = json.loads((out / "enumeration.json").read_text())
    assert [one["step"] for one in found["rows"]] == ["the workload with nothing killed"]
    assert list(found["rows"][0]["fates"]) == ["LOST"]
    said = " ".join(capsys.readouterr().out.split())
    assert "during the workload with nothing killed" in said
    assert (out / "report.html").is_file()
    assert (out / "junit.xml").is_file()
