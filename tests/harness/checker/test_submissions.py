"""Failed submissions: the verdict's sentence counts them, and a run with too few promises is INCONCLUSIVE."""

from typing import Any

import pytest
from support.histories import Story
from zeroloss.checker.judge import judge
from zeroloss.checker.verdicts import Verdict

ERROR = "ConnectionError: refused."


def a_run(promised: int, failed: int, phase: str = "fail", plan: dict[str, Any] | None = None) -> Story:
    story = Story().begin(plan=plan or {})
    for number in range(failed):
        story.add("submit", "invoke", task=f"f{number}").add("submit", phase, task=f"f{number}", error=ERROR)
    for number in range(promised):
        story.submit(f"p{number}").ran(f"p{number}")
    return story.drained().end()


@pytest.mark.parametrize("phase", ["fail", "info"])
def test_a_run_with_fewer_than_half_of_its_tasks_promised_shows_nothing(phase: str) -> None:
    result = judge(a_run(20, 80, phase).events)
    assert result.verdict is Verdict.INCONCLUSIVE
    assert result.because == (
        "This run allows no conclusion. 80 of 100 submissions failed; the first raised ConnectionError: refused."
    )


def test_a_run_with_a_share_of_failed_submissions_passes_and_says_so_in_its_first_sentence() -> None:
    result = judge(a_run(30, 10).events)
    assert result.verdict is Verdict.PASS
    assert "lost; 10 of 40 submissions failed; the first raised ConnectionError: refused." in result.because


@pytest.mark.parametrize(("promised", "failed"), [(100, 9), (4, 4)])
def test_a_few_failed_submissions_are_not_reported(promised: int, failed: int) -> None:
    result = judge(a_run(promised, failed).events)
    assert result.verdict is Verdict.PASS
    assert "failed" not in result.because


def test_a_violation_stays_one_however_many_submissions_failed() -> None:
    story = a_run(1, 20)
    result = judge([event for event in story.events if event.kind != "effect"] + story.ran("f0").events[-2:])
    assert result.verdict is Verdict.VIOLATION
    assert "20 of 21 submissions failed" in result.because


def test_submissions_that_the_plan_has_its_clients_abandon_did_not_fail() -> None:
    plan = {"abandoned": [f"f{number}" for number in range(80)]}
    result = judge(a_run(20, 80, "info", plan).events)
    assert result.verdict is Verdict.PASS
    assert "failed" not in result.because


def test_refusals_under_a_load_are_what_it_measures() -> None:
    story = a_run(20, 80, "fail", {"load": "chaos"})
    result = judge(story.add("load", "end", seconds=1.0).events)
    assert result.verdict is Verdict.PASS
    assert "failed" not in result.because


def test_a_run_in_which_nothing_was_promised_says_it_once() -> None:
    result = judge(a_run(0, 30).events)
    assert result.verdict is Verdict.INCONCLUSIVE
    assert result.because.count("ConnectionError") == 1
