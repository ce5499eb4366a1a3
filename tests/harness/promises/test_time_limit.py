"""A target may state a time limit: a task whose body hangs is failed at the limit."""

from typing import Any

import pytest
from support.histories import Story
from zeroloss.checker.judge import judge
from zeroloss.checker.verdicts import Result, Verdict

STATED = {"tasks": 1, "time_limit": 6.0, "hanging": ["h"], "workers_stay": True, "ends_its_process": ["h"]}


def hung(*, for_ms: int = 26_000, ended: bool = True, **plan: Any) -> Story:
    """Return a run with a task whose body hangs for `for_ms`."""
    story = Story().begin(plan={**STATED, **plan}).submit("h")
    story.add("effect", "begin", pid=100, task="h", execution="x", at_ms=1_000)
    return story.add("effect", "end", pid=100, task="h", execution="x", at_ms=1_000 + for_ms) if ended else story


def done(story: Story) -> Result:
    return judge(story.drained().end().events)


def broken(result: Result) -> list[str]:
    return [clause for one in result.promises if one.name == "time_limit" for clause in one.broken]


def test_a_body_that_hung_to_its_end_and_was_waited_for_breaks_the_promise() -> None:
    result = done(hung())
    assert result.verdict is Verdict.LIVENESS
    assert broken(result) == ["1 task was waited for long after its time limit: h"]


def test_a_body_that_hung_and_was_tried_again_does_not_break_it() -> None:
    for story in (hung(), hung(ended=False)):
        assert done(story.ran("h", pid=200)).verdict is Verdict.PASS


@pytest.mark.parametrize(
    "plan",
    [{"time_limit": None}, {"time_limit": "long"}, {"hanging": []}, {"hanging": "h"}, {"hanging": [["h"], "other"]}],
    ids=["not stated", "not a number", "another task", "not a list", "not a name"],
)
def test_a_body_that_took_long_without_a_time_limit_does_not_break_it(plan: dict[str, Any]) -> None:
    assert not broken(done(hung(**plan)))


def test_a_body_that_ended_by_itself_just_after_its_limit_does_not_break_it() -> None:
    assert not broken(done(hung(for_ms=10_900)))


def test_a_body_that_never_ended_was_not_waited_for() -> None:
    assert not broken(done(hung(ended=False)))


def beside(*, kind: str = "", pid: int = 100, needs_ms: int = 5_000, **plan: Any) -> list[str]:
    """Judge a process that ended at the limit of a task while it ran another one, which ran again elsewhere."""
    story = Story().begin(plan={**STATED, "tasks": 2, "grace": 25.0, **plan}).submit("h").submit("o")
    story.add("effect", "begin", pid=100, task="h", execution="x", at_ms=1_000)
    story.add("effect", "begin", pid=pid, task="o", execution="y", at_ms=4_000)
    if kind:
        story.kill(1, name=kind, pids=(100,))
    story.ran("h", pid=200)
    story.add("effect", "begin", pid=200, task="o", execution="z", at_ms=40_000)
    story.add("effect", "end", pid=200, task="o", execution="z", at_ms=40_000 + needs_ms)
    return [clause for one in done(story).promises if one.name == "grace" for clause in one.broken]


def test_a_task_that_is_interrupted_at_the_limit_of_another_one_breaks_the_grace() -> None:
    assert beside() == ["1 task was interrupted by a process that ended at another task's time limit: o"]
    assert not beside(grace=None)
    assert not beside(time_limit=None)
    assert not beside(pid=101)
    assert not beside(needs_ms=28_000)


def test_a_fault_or_a_task_that_ends_the_process_explains_what_was_interrupted_beside_a_hanging_body() -> None:
    assert not beside(kind="worker-sigkill")
    assert not beside(ends_its_process=["h", "o"])


def test_a_body_on_a_starved_machine_may_have_been_unheard_of() -> None:
    story = hung(ended=False).late()
    story.add("effect", "end", pid=100, task="h", execution="x", at_ms=27_000)
    assert not broken(done(story))
