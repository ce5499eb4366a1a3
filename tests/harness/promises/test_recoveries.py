"""A target may state that the tasks that an ended worker held come back in their order."""

from collections.abc import Callable, Sequence
from typing import Any

import pytest
from support.histories import Story
from zeroloss.checker.judge import judge
from zeroloss.checker.verdicts import Result, Verdict

HELD = [f"t{number:02}" for number in range(30)]
BY_TEXT = [*HELD[10:], *HELD[:10]]
"""The order of their numbers as text: 100 before 90."""
VICTIM, SUCCESSOR = 100, 200


def accepted(
    *, stated: Any = True, tasks: Sequence[str] = HELD, delay_ms: int | None = None, times: int = 1, call: Any = 1
) -> Story:
    """Begin a run with tasks of one call; a worker begins the first task."""
    story = Story().begin(plan={"recovers_in_order": stated, "tasks": len(tasks)}, recover_within=5.0)
    for phase in ("invoke", "ok") * times:
        for task in tasks:
            story.add("submit", phase, task=task, call=call, delay_ms=delay_ms)
    return story.add("effect", "begin", pid=VICTIM, task=tasks[0], execution="first", attempt=1)


def killed(
    story: Story, *, number: int = 1, pid: int = VICTIM, tasks: tuple[str, ...] = ("t00",), **more: Any
) -> Story:
    return story.kill(number, pids=(pid,), tasks=tasks, name="worker-sigkill").add(
        "fault", "end", fault="worker-sigkill", number=number
    )


def come_back(story: Story, order: Sequence[str], *, attempt: int = 2, pids: Sequence[int] = (SUCCESSOR,)) -> Result:
    for place, task in enumerate(order):
        pid = pids[place * len(pids) // len(order)]
        story.add("effect", "begin", pid=pid, task=task, execution=f"again-{task}", attempt=attempt)
        story.add("effect", "end", pid=pid, task=task, execution=f"again-{task}")
    return judge(story.drained().end().events)


def broken(result: Result) -> list[str]:
    return [clause for one in result.promises if one.name == "recovers_in_order" for clause in one.broken]


def test_tasks_that_come_back_behind_later_ones_of_the_same_dead_worker_break_the_promise() -> None:
    result = come_back(killed(accepted()), BY_TEXT)
    assert result.verdict is Verdict.VIOLATION
    assert broken(result) == ["10 tasks were begun behind later ones that their ended worker had held: t00, t01, t02"]


def test_tasks_that_come_back_in_their_order_break_nothing() -> None:
    assert come_back(killed(accepted()), HELD).verdict is Verdict.PASS


def test_a_target_that_does_not_state_it_breaks_nothing() -> None:
    assert come_back(killed(accepted(stated=False)), BY_TEXT).verdict is Verdict.PASS


def test_a_few_that_were_passed_may_have_been_claimed_and_given_back() -> None:
    assert not broken(come_back(killed(accepted()), [*HELD[5:], *HELD[:5]]))


def test_a_task_that_was_passed_by_a_few_may_have_waited_for_a_thread() -> None:
    assert not broken(come_back(killed(accepted()), [*HELD[:10], *HELD[25:], *HELD[10:25]]))


def test_several_workers_may_be_at_different_places() -> None:
    assert not broken(come_back(killed(accepted()), BY_TEXT, pids=(200, 200, 300)))


def test_of_more_than_a_hundred_the_newest_may_come_first() -> None:
    many = [f"t{number:03}" for number in range(101)]
    story = killed(accepted(tasks=many), tasks=("t000",))
    assert not broken(come_back(story, [*many[30:], *many[:30]]))


@pytest.mark.parametrize(
    "otherwise",
    [{"call": None}, {"times": 2}, {"delay_ms": 1}],
    ids=["each alone", "submitted twice", "scheduled"],
)
def test_tasks_whose_order_of_acceptance_is_not_known_are_not_compared(otherwise: dict[str, Any]) -> None:
    assert not broken(come_back(killed(accepted(**otherwise)), BY_TEXT))


def test_tasks_that_were_claimed_for_the_first_time_or_again_are_not_compared() -> None:
    assert not broken(come_back(killed(accepted()), BY_TEXT, attempt=1))
    assert not broken(come_back(killed(accepted()), BY_TEXT, attempt=3))


def test_a_retry_after_a_failure_is_not_compared() -> None:
    story = accepted()
    for task in HELD[1:]:
        story.add("effect", "begin", pid=VICTIM, task=task, execution=f"failed-{task}", attempt=1)
        story.add("effect", "error", pid=VICTIM, task=task, execution=f"failed-{task}")
    assert not broken(come_back(killed(story), BY_TEXT))


def another_began(story: Story) -> Story:
    return killed(
        story.add("effect", "begin", pid=300, task="t01", execution="other", attempt=1).add(
            "effect", "end", pid=300, task="t01", execution="other"
        )
    )


def another_was_killed(story: Story) -> Story:
    return killed(killed(story), number=2, pid=300, tasks=())


def another_ended(story: Story) -> Story:
    return killed(story).add("process", "exit", role="worker", sid=300, status=1)


def another_went_silent(story: Story) -> Story:
    return killed(story.add("effect", "begin", pid=300, task="other", execution="silent", attempt=1))


def another_ran_something_of_the_same_worker(story: Story) -> Story:
    story.add("effect", "begin", pid=101, task="other", execution="beside", attempt=1)
    story.add("effect", "end", pid=101, task="other", execution="beside")
    story.kill(1, pids=(VICTIM, 101), tasks=("t00",), name="worker-sigkill")
    return story.add("fault", "end", fault="worker-sigkill", number=1)


def accepted_late(story: Story) -> Story:
    killed(story.add("submit", "invoke", task="late", call=1))
    return story.add("submit", "ok", task="late", call=1)


def one_ran_alone(story: Story) -> Story:
    return (
        killed(story)
        .add("effect", "begin", pid=SUCCESSOR, task="other", execution="alone", attempt=3)
        .add("effect", "end", pid=SUCCESSOR, task="other", execution="alone")
    )


def starved(story: Story) -> Story:
    return killed(story).late()


def clock_was_set(story: Story) -> Story:
    return killed(story).clock_set()


@pytest.mark.parametrize(
    "happens",
    [
        another_began,
        another_was_killed,
        another_ended,
        another_went_silent,
        another_ran_something_of_the_same_worker,
        accepted_late,
        one_ran_alone,
        starved,
        clock_was_set,
    ],
)
def test_a_task_that_may_have_come_from_two_hands_is_not_compared(happens: Callable[[Story], Story]) -> None:
    assert not broken(come_back(happens(accepted()), BY_TEXT))


def asked_to_end(story: Story) -> Story:
    story.add("effect", "end", pid=VICTIM, task="t00", execution="first")
    story.kill(1, pids=(VICTIM,), tasks=("t00",), name="worker-sigterm")
    return story.add("fault", "end", fault="worker-sigterm", number=1)


def test_tasks_that_a_worker_gave_back_behind_later_ones_break_the_promise() -> None:
    result = come_back(asked_to_end(accepted()), [*HELD[11:], *HELD[1:11]], attempt=1)
    assert result.verdict is Verdict.VIOLATION
    assert broken(result) == ["10 tasks were begun behind later ones that their ended worker had held: t01, t02, t03"]


@pytest.mark.parametrize("order", [HELD[1:], [*HELD[6:], *HELD[1:6]]], ids=["in order", "a few passed"])
def test_tasks_that_a_worker_gave_back_in_their_order_break_nothing(order: list[str]) -> None:
    assert not broken(come_back(asked_to_end(accepted()), order, attempt=1))


def test_tasks_of_a_worker_that_was_asked_to_end_are_compared_only_as_given_back() -> None:
    assert not broken(come_back(asked_to_end(accepted()), [*HELD[11:], *HELD[1:11]], attempt=2))
    two = killed(asked_to_end(accepted()), number=2, pid=300, tasks=())
    assert not broken(come_back(two, [*HELD[11:], *HELD[1:11]], attempt=1))


def test_only_tasks_that_waited_while_a_worker_ended_are_compared_as_given_back() -> None:
    many = [f"t{number:03}" for number in range(110)]
    story = Story().begin(plan={"recovers_in_order": True, "tasks": 111}, recover_within=5.0).submit("a").ran("a")
    story.kill(1, pids=(300,), name="worker-sigterm").add("fault", "end", fault="worker-sigterm", number=1)
    for phase in ("invoke", "ok"):
        for task in many:
            story.add("submit", phase, task=task, call=1)
    for task in many[:80]:
        story.add("effect", "begin", pid=VICTIM, task=task, execution=task, attempt=1).ended(task, task, VICTIM)
    story.kill(2, pids=(VICTIM,), tasks=(), name="worker-sigterm").add("fault", "end", fault="worker-sigterm", number=2)
    assert len(broken(come_back(story, [*many[90:], *many[80:90]], attempt=1))) == 1


def test_tasks_that_no_worker_had_claimed_when_a_worker_was_killed_are_not_compared_as_given_back() -> None:
    story = Story().begin(plan={"recovers_in_order": True, "tasks": 31}, recover_within=5.0).submit("a")
    story.ran("a").kill(1, pids=(300,), name="worker-sigterm").add("fault", "end", fault="worker-sigterm", number=1)
    for phase in ("invoke", "ok"):
        for task in HELD:
            story.add("submit", phase, task=task, call=1)
    story.add("effect", "begin", pid=VICTIM, task="t00", execution="first", attempt=1)
    assert not broken(come_back(killed(story, number=2), [*HELD[11:], *HELD[1:11]], attempt=1))


def test_a_process_that_ended_before_the_tasks_were_accepted_held_none_of_them() -> None:
    story = Story().begin(plan={"recovers_in_order": True, "tasks": 32}, recover_within=5.0)
    story.submit("a").submit("b")
    story.add("effect", "begin", pid=300, task="a", execution="a", attempt=1)
    story.add("effect", "begin", pid=400, task="b", execution="b", attempt=1)
    killed(story, number=1, pid=300, tasks=("a",))
    story.ran("a").ran("b")
    for phase in ("invoke", "ok"):
        for task in HELD:
            story.add("submit", phase, task=task, call=1)
    story.add("effect", "begin", pid=VICTIM, task="t00", execution="first", attempt=1)
    assert broken(come_back(killed(story, number=2), BY_TEXT))
