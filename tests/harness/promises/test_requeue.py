"""A requeued dead letter runs again, with all its attempts."""

from collections.abc import Sequence

import pytest
from support.histories import Story
from zeroloss.checker.judge import judge
from zeroloss.checker.verdicts import Result, Verdict

STATED = {"max_attempts": 2, "attempts_grow": True, "requeues": True}
DIED = (1, 2)


def a_run(*, tasks: Sequence[str] = ("a",)) -> Story:
    story = Story().begin(plan={"tasks": len(tasks), "doomed": list(tasks), **STATED})
    for name in tasks:
        story.submit(name)
        raised(story, name, *DIED)
    return story


def raised(story: Story, name: str, *attempts: int) -> Story:
    for attempt in attempts:
        members = {"pid": 100, "task": name, "execution": f"{name}-{attempt}"}
        story.add("effect", "begin", attempt=attempt, **members).add("effect", "error", error="as planned", **members)
    return story


def requeued(story: Story, *names: str) -> Story:
    members = {"fault": "client-requeues", "number": 1}
    story.add("fault", "begin", **members)
    story.add("fault", "effective", tasks=list(names), evidence="Requeued 2 tasks from the dead letters.", **members)
    return story.add("fault", "end", **members)


def given_up(story: Story, *names: str) -> Result:
    return judge(story.drained().end(**dict.fromkeys(names or ("a",), ("dead_letter", "as planned"))).events)


def broken(result: Result) -> list[str]:
    return [one.name for one in result.promises if one.broken]


def test_a_requeued_task_that_is_given_up_after_all_its_attempts_again_is_innocent() -> None:
    result = given_up(raised(requeued(a_run(), "a"), "a", 3, 4))
    assert (result.verdict, broken(result)) == (Verdict.PASS, [])


def test_a_requeued_task_that_has_fewer_attempts_than_at_first_breaks_the_promise() -> None:
    result = given_up(raised(requeued(a_run(), "a"), "a", 3))
    assert (result.verdict, broken(result)) == (Verdict.VIOLATION, ["max_attempts"])


def test_a_requeued_task_that_has_more_attempts_than_at_first_breaks_the_promise() -> None:
    result = given_up(raised(requeued(a_run(), "a"), "a", 3, 4, 5))
    assert (result.verdict, broken(result)) == (Verdict.VIOLATION, ["max_attempts"])


@pytest.mark.parametrize("attempts", [(2, 3), (1, 3)])
def test_a_requeued_task_under_an_attempt_that_it_had_before_breaks_the_promise(attempts: tuple[int, int]) -> None:
    story = requeued(a_run(), "a")
    for number, attempt in enumerate(attempts):
        members = {"pid": 100, "task": "a", "execution": f"again-{number}"}
        story.add("effect", "begin", attempt=attempt, **members).add("effect", "error", error="as planned", **members)
    assert broken(given_up(story)) == ["attempts_grow"]


def test_a_requeued_task_that_still_lies_among_the_dead_letters_breaks_the_promise() -> None:
    result = given_up(raised(requeued(a_run(tasks="ab"), "a", "b"), "a", 3, 4), "a", "b")
    assert (result.verdict, broken(result)) == (Verdict.VIOLATION, ["requeue"])
    assert "1 task was requeued and not run again: b" in result.because


@pytest.mark.parametrize(("places", "fate"), [({}, "LOST"), ({"a": "pending"}, "STUCK")])
def test_a_requeued_task_that_did_not_come_back_is_judged_as_any_other(places: dict[str, str], fate: str) -> None:
    result = judge(requeued(a_run(), "a").drained().end(**places).events)
    assert result.fates["a"].value == fate


def test_a_crash_that_may_have_taken_the_requeuing_excuses_it() -> None:
    durability = {"appendonly": True, "appendfsync": "everysec", "save": "", "maxmemory_policy": "noeviction"}
    story = Story().begin(plan={"tasks": 1, "doomed": ["a"], **STATED}, durability=durability)
    requeued(raised(story.submit("a"), "a", *DIED), "a")
    story.add("fault", "begin", fault="server-sigkill", number=2)
    story.add("fault", "effective", fault="server-sigkill", number=2, evidence="exit status -9")
    assert broken(given_up(story)) == []


def test_the_attempts_of_a_task_that_was_not_requeued_are_not_counted_again() -> None:
    story = requeued(a_run(tasks="ab"), "a")
    assert broken(given_up(raised(raised(story, "a", 3, 4), "b", 3), "a", "b")) == ["max_attempts"]
