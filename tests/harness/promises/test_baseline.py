"""The baseline: without faults no task may run twice or, if the target promises order, out of order."""

import io
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from support.histories import Story
from zeroloss.checker.judge import judge
from zeroloss.checker.verdicts import Result, Verdict
from zeroloss.plan.plan import make_plan
from zeroloss.plan.requests import parse_faults
from zeroloss.run.progress import Progress
from zeroloss.run.run import run
from zeroloss.target import load_target


def baseline(in_order: bool = True, misbehaving: int = 0, faults: tuple[dict[str, Any], ...] = ()) -> Story:
    return Story().begin(plan={"in_order": in_order, "misbehaving": misbehaving, "faults": list(faults)})


def order_of(result: Result) -> list[str]:
    return next(one.violations for one in result.properties if one.number == "I7")


def test_tasks_that_run_in_the_order_they_were_accepted_pass() -> None:
    story = baseline().submit("a").submit("b").ran("a").ran("b").drained().end()
    result = judge(story.events)
    assert result.verdict is Verdict.PASS
    assert order_of(result) == []


def test_a_task_that_runs_before_one_that_was_accepted_earlier_is_a_violation() -> None:
    story = baseline().submit("a").submit("b").ran("b").ran("a").drained().end()
    result = judge(story.events)
    assert result.verdict is Verdict.VIOLATION
    assert result.because == "1 task ran out of order though one worker ran one at a time (I7)."
    assert order_of(result) == ["Task a was executed after task b, which was accepted later."]


def test_tasks_whose_submissions_overlap_may_run_in_either_order() -> None:
    story = baseline().add("submit", "invoke", task="a").add("submit", "invoke", task="b")
    story.add("submit", "ok", task="a").add("submit", "ok", task="b")
    assert judge(story.ran("b").ran("a").drained().end().events).verdict is Verdict.PASS


def test_a_task_that_overlaps_two_does_not_hide_that_these_are_out_of_order() -> None:
    story = baseline().add("submit", "invoke", task="long").submit("a").submit("b").add("submit", "ok", task="long")
    result = judge(story.ran("b").ran("long").ran("a").drained().end().events)
    assert result.verdict is Verdict.VIOLATION


@pytest.mark.parametrize(
    "story",
    [
        baseline(in_order=False),
        baseline(misbehaving=1),
        baseline(faults=({"number": 1, "fault": "slow"},)).kill(1, name="slow"),
    ],
)
def test_order_is_judged_only_where_it_is_promised_and_nothing_was_disturbed(story: Story) -> None:
    result = judge(story.submit("a").submit("b").ran("b").ran("a").drained().end().events)
    assert result.verdict is Verdict.PASS
    assert "I7" not in [one.number for one in result.properties if one.tested]


def test_a_duplicate_in_a_baseline_is_a_violation() -> None:
    story = baseline(in_order=False).submit("a").ran("a").ran("a").drained().end()
    result = judge(story.events)
    assert result.verdict is Verdict.VIOLATION
    assert result.because == "1 task completed more than once though nothing was disturbed."


def test_a_duplicate_under_a_fault_does_not_count() -> None:
    story = baseline(faults=({"number": 1, "fault": "worker-sigkill"},)).submit("a").started("a", "x")
    story.kill(1, pids=(100,), tasks=("a",), name="worker-sigkill").ended("a", "x").ran("a").drained().end()
    assert judge(story.events).verdict is Verdict.PASS


@given(
    st.lists(st.tuples(st.integers(0, 60), st.integers(1, 20)), min_size=1, max_size=12, unique_by=lambda one: one[0]),
    st.randoms(use_true_random=False),
)
def test_an_order_is_a_violation_exactly_if_one_had_returned_before_another_that_ran_first_was_called(
    calls: list[tuple[int, int]], draw: Any
) -> None:
    names = [f"t{number}" for number in range(len(calls))]
    story = baseline()
    for name, (call_ms, took_ms) in zip(names, calls, strict=True):
        story.add("submit", "invoke", task=name, at_ms=1000 + call_ms)
        story.add("submit", "ok", task=name, at_ms=1000 + call_ms + took_ms)
    executed = draw.sample(names, len(names))
    story.add("run", "healed", at_ms=2000)
    for name in executed:
        story.ran(name)
    call = {name: calls[number][0] for number, name in enumerate(names)}
    back = {name: sum(calls[number]) for number, name in enumerate(names)}
    wrong = any(
        back[later] < call[earlier] for place, earlier in enumerate(executed) for later in executed[place + 1 :]
    )
    result = judge(story.add("run", "drained").end().events)
    assert (result.verdict is Verdict.VIOLATION) == wrong


def test_the_reference_with_one_worker_of_one_thread_keeps_the_order(tmp_path: Path) -> None:
    target = load_target("reference-in-order")
    plan = make_plan(
        seed=1, target="reference-in-order", server="embedded", appendfsync="off", workers=1, tasks=30,
        faults=parse_faults("none", None),
    )  # fmt: skip
    progress = Progress(Console(file=io.StringIO()))
    outcome = run(plan, target, directory=tmp_path / "run", command=["zeroloss", "run"], progress=progress)
    assert outcome.failure is None
    assert outcome.result.verdict is Verdict.PASS, outcome.result.because
    assert order_of(outcome.result) == []
