"""A target may state that a worker keeps its running tasks through a short loss of its connections."""

from collections.abc import Sequence
from typing import Any

import pytest
from support.histories import Story
from zeroloss.checker.judge import judge
from zeroloss.checker.verdicts import Result, Verdict


def cut_while_it_runs(
    *, for_ms: int = 300, cuts: bool = True, stated: Any = 0.5, again_ms: int = 1_600, lasted: Sequence[int] = ()
) -> Story:
    """Return a run with a cut from 1,000 ms on: a second worker begins the task while the first still runs it."""
    story = cut(for_ms=for_ms, cuts=cuts, stated=stated, lasted=lasted)
    return story.add("effect", "begin", pid=200, task="a", execution="y", at_ms=again_ms)


def cut(*, for_ms: int = 300, cuts: bool = True, stated: Any = 0.5, lasted: Sequence[int] = ()) -> Story:
    """Return a run with a cut from 1,000 ms on, while a worker runs a task."""
    story = Story().begin(plan={"tasks": 1, "keeps_through": stated, "unexplained_duplicates": 0}, recover_within=2.0)
    story.submit("a").add("effect", "begin", pid=100, task="a", execution="x", at_ms=900)
    traits = {"aims_at": "server", "everywhere": True, "cuts": cuts}
    story.add("fault", "begin", fault="a-fault", number=1, traits=traits, at_ms=1_000)
    effect = {"pids": [], "tasks": ["a"], "evidence": "cut", "lasted": [at_ms * 1_000_000 for at_ms in lasted] or None}
    story.add("fault", "effective", fault="a-fault", number=1, at_ms=1_000 + for_ms, **effect)
    return story.add("fault", "end", fault="a-fault", number=1)


def ended(story: Story) -> Result:
    story.add("effect", "end", pid=100, task="a", execution="x", at_ms=2_500)
    return judge(story.add("effect", "end", pid=200, task="a", execution="y").drained().end().events)


def broken(result: Result) -> list[str]:
    return [one.name for one in result.promises if one.broken]


def test_a_task_that_was_taken_from_a_living_worker_after_a_short_cut_breaks_the_promise() -> None:
    result = ended(cut_while_it_runs())
    assert (result.verdict, broken(result)) == (Verdict.DUPLICATES, ["keeps_through"])


def test_a_short_cut_that_a_fault_waited_to_make_counts_from_its_own_beginning() -> None:
    assert broken(ended(cut_while_it_runs(for_ms=600, lasted=(1_300, 1_600)))) == ["keeps_through"]


@pytest.mark.parametrize(
    "story",
    [
        cut_while_it_runs(for_ms=600),
        cut_while_it_runs(cuts=False),
        cut_while_it_runs(stated=None),
        cut_while_it_runs(stated="long"),
    ],
    ids=["a longer cut", "another fault", "not stated", "not a number"],
)
def test_a_task_that_ran_twice_for_another_reason_does_not_break_the_promise(story: Story) -> None:
    assert ended(story).verdict is Verdict.PASS


def finished_and_begun_again(*, pid: int) -> Result:
    story = cut(for_ms=200).add("effect", "end", pid=100, task="a", execution="x", at_ms=1_300)
    story.add("effect", "begin", pid=pid, task="a", execution="y", at_ms=1_500)
    return judge(story.add("effect", "end", pid=pid, task="a", execution="y").drained().end().events)


def test_a_worker_that_finished_a_task_around_a_short_cut_and_runs_it_again_breaks_the_promise() -> None:
    result = finished_and_begun_again(pid=100)
    assert (result.verdict, broken(result)) == (Verdict.DUPLICATES, ["keeps_through"])


def test_a_task_that_was_finished_before_a_short_cut_may_run_again_in_another_process() -> None:
    assert broken(finished_and_begun_again(pid=200)) == []


def test_a_machine_that_was_starved_may_have_kept_a_worker_from_its_return() -> None:
    story = cut_while_it_runs().late()
    assert "keeps_through" not in broken(ended(story))


def test_a_clock_set_ahead_around_a_short_cut_may_have_ended_the_worker_s_lease() -> None:
    assert "keeps_through" in broken(ended(cut_while_it_runs()))
    assert "keeps_through" not in broken(ended(cut_while_it_runs().clock_set()))
