"""Tasks that begin before they are due or long after, and urgent tasks that do not come first."""

from collections.abc import Sequence
from itertools import cycle
from typing import Any

import pytest
from support.histories import Story
from zeroloss.checker.judge import judge
from zeroloss.checker.verdicts import Result, Verdict

STATED = {"delays": True, "starts_when_idle": True, "priorities": ["high", "default", "low"]}
MANY = 40


def scheduled(*, begin_ms: int, fault: str | None = None, set_by_ms: int = 0, **plan: Any) -> Result:
    """Judge a task submitted at 1 s and due at 3 s, with a worker available all the time."""
    story = Story().begin(plan={"tasks": 2, **STATED, **plan}, recover_within=2.0).submit("early").ran("early")
    story.add("submit", "invoke", task="t", delay_ms=2_000, at_ms=1_000).add("submit", "ok", task="t")
    if fault:
        story.kill(1, name=fault)
        story.add("fault", "end", fault=fault, number=1)
    if set_by_ms:
        story.clock_set(set_by_ms)
    story.add("effect", "begin", pid=100, task="t", execution="x", at_ms=begin_ms).ended("t", "x")
    return judge(story.drained().end().events)


def broken(result: Result) -> list[str]:
    return [one.name for one in result.promises if one.broken]


@pytest.mark.parametrize("begin_ms", [2_900, 3_000, 5_900])
def test_a_scheduled_task_that_begins_when_it_is_due_keeps_the_promise(begin_ms: int) -> None:
    assert scheduled(begin_ms=begin_ms).verdict is Verdict.PASS


def test_a_scheduled_task_that_begins_before_it_is_due_breaks_the_promise() -> None:
    result = scheduled(begin_ms=2_800)
    assert (result.verdict, broken(result)) == (Verdict.VIOLATION, ["delays"])
    assert scheduled(begin_ms=2_800, delays=False).verdict is Verdict.PASS


def test_a_jump_of_the_clock_excuses_a_scheduled_task_that_begins_too_soon() -> None:
    assert not broken(scheduled(begin_ms=2_000, fault="clock-jump"))
    assert broken(scheduled(begin_ms=2_000, fault="worker-sigkill"))


def test_a_machine_s_clock_that_was_set_excuses_a_scheduled_task_that_begins_sooner_or_later_by_that() -> None:
    result = scheduled(begin_ms=2_000, set_by_ms=3_200)
    assert (result.verdict, broken(result)) == (Verdict.PASS, [])
    assert any("clock was set 3.20 s ahead" in note for note in result.notes)
    assert not broken(scheduled(begin_ms=9_000, set_by_ms=-6_000))
    assert broken(scheduled(begin_ms=9_000, set_by_ms=1_000))


def test_a_scheduled_task_that_begins_long_after_it_was_due_beside_an_idle_worker_breaks_the_promise() -> None:
    result = scheduled(begin_ms=9_000)
    assert (result.verdict, broken(result)) == (Verdict.LIVENESS, ["starts_when_idle"])
    assert scheduled(begin_ms=9_000, starts_when_idle=False).verdict is Verdict.PASS


def test_a_task_that_begins_long_after_it_was_accepted_beside_an_idle_worker_breaks_the_promise() -> None:
    def begun(begin_ms: int, **plan: Any) -> Result:
        story = Story().begin(plan={"tasks": 2, **STATED, **plan}, recover_within=2.0).submit("early").ran("early")
        story.submit("t").add("effect", "begin", pid=100, task="t", execution="x", at_ms=begin_ms).ended("t", "x")
        return judge(story.drained().end().events)

    assert broken(begun(9_000)) == ["starts_when_idle"]
    assert not broken(begun(3_900))
    assert not broken(begun(9_000, starts_when_idle=False))


def test_a_submission_that_was_not_acknowledged_may_begin_at_any_time() -> None:
    story = Story().begin(plan={"tasks": 2, **STATED}, recover_within=2.0).submit("early").ran("early")
    story.submit("t", "info").add("effect", "begin", pid=100, task="t", execution="x", at_ms=9_000).ended("t", "x")
    assert not broken(judge(story.drained().end().events))


def batch(
    order: list[str],
    *,
    call: int | None = 1,
    fault: str | None = None,
    attempt: int | None = 1,
    pids: Sequence[int] = (100,),
    **plan: Any,
) -> Result:
    """Judge a batch with a task for each priority in `order`, begun in this order under `attempt`, after `fault`.

    `pids`: the processes that began the tasks, in turn.
    """
    story = Story().begin(plan={"tasks": len(order), **STATED, **plan})
    names = {f"{priority}-{number}": priority for number, priority in enumerate(order)}
    for name, priority in names.items():
        story.add("submit", "invoke", task=name, priority=priority, call=call)
    for name in names:
        story.add("submit", "ok", task=name)
    if fault:
        story.kill(1, name=fault, pids=(300,))
    for name, pid in zip(names, cycle(pids)):
        story.add("effect", "begin", pid=pid, task=name, execution=name, attempt=attempt).ended(name, name)
    return judge(story.drained().end().events)


HIGH, DEFAULT, LOW = (["high"] * MANY, ["default"] * MANY, ["low"] * MANY)


def test_a_batch_of_which_the_urgent_tasks_begin_first_keeps_the_promise() -> None:
    assert batch(HIGH + DEFAULT + LOW).verdict is Verdict.PASS
    # Some low tasks go first, so low priority does not starve.
    assert batch(["low"] * 3 + HIGH + ["low"] * 17 + DEFAULT + ["low"] * 20).verdict is Verdict.PASS


@pytest.mark.parametrize("order", [["high", "default"] * MANY, DEFAULT + HIGH, ["low", "high"] * MANY])
def test_a_batch_that_begins_in_any_order_breaks_the_promise(order: list[str]) -> None:
    result = batch(order)
    assert (result.verdict, broken(result)) == (Verdict.VIOLATION, ["priorities"])
    assert batch(order, priorities=[]).verdict is Verdict.PASS


def test_a_process_that_claimed_the_urgent_tasks_may_be_slower_than_the_one_that_claimed_the_others() -> None:
    slow, fast = 100, 101
    assert not broken(batch(DEFAULT + HIGH, pids=[fast] * MANY + [slow] * MANY))
    assert broken(batch(DEFAULT + HIGH, pids=[fast, slow])) == ["priorities"]


def test_processes_that_run_one_task_each_are_compared_as_one() -> None:
    assert broken(batch(DEFAULT + HIGH, pids=range(100, 100 + 2 * MANY))) == ["priorities"]


def paused(order: Sequence[str], *, early: int = 0, starved: bool = False, due_ms: int = 300, **plan: Any) -> Result:
    """Judge a pause in which a call of scheduled tasks comes, which begin in this order, `early` of them too early."""
    story = Story().begin(plan={"tasks": len(order), "pauses_within": 1.0, **STATED, **plan})
    story.add("fault", "begin", fault="client-pauses", number=1)
    names = {f"{priority}-{number}": priority for number, priority in enumerate(order)}
    for name, priority in names.items():
        story.add("submit", "invoke", task=name, priority=priority, call=1, delay_ms=due_ms)
    for name in names:
        story.add("submit", "ok", task=name)
    if starved:
        story.late()
    for place, name in enumerate(names):
        if place == early:
            lasted = [story.events[1].t, story.events[-1].t + 5_000_000_000]
            story.add("fault", "effective", fault="client-pauses", number=1, evidence="Paused.", lasted=lasted)
            story.add("fault", "end", fault="client-pauses", number=1, at_ms=lasted[1] // 1_000_000)
        story.add("effect", "begin", pid=100, task=name, execution=name, attempt=1).ended(name, name)
    return judge(story.drained().end().events)


def test_scheduled_tasks_that_become_due_during_a_pause_begin_by_their_priority_afterwards() -> None:
    assert paused(HIGH + DEFAULT + LOW).verdict is Verdict.PASS
    result = paused(["default", "high", "low"] * MANY)
    assert (result.verdict, broken(result)) == (Verdict.VIOLATION, ["priorities"])


def test_scheduled_tasks_that_become_due_after_a_pause_are_not_compared() -> None:
    assert not broken(paused(["default", "high", "low"] * MANY, due_ms=60_000, delays=False))


def test_a_task_that_begins_while_claiming_is_paused_breaks_the_promise() -> None:
    result = paused(HIGH, early=2, delays=False)
    assert (result.verdict, broken(result)) == (Verdict.VIOLATION, ["pauses_within"])
    assert "2 tasks were begun while claiming was paused: high-0, high-1" in result.because
    assert not broken(paused(HIGH, early=2, delays=False, pauses_within=None))


def test_a_machine_that_was_starved_may_not_have_told_all_workers_of_the_pause() -> None:
    assert not broken(paused(HIGH, early=2, delays=False, starved=True))


def waiting(
    higher: int, *, low: int = 40, attempt: int = 1, swapped: bool = False, delay_ms: int = 0, **plan: Any
) -> Result:
    """Judge a run in which `higher` high tasks begin, 10 ms apart, before the waiting low tasks, or the other way."""
    other = {"high": "low", "low": "high"}
    names = [f"high-{number}" for number in range(higher)] + [f"low-{number}" for number in range(low)]
    story = Story().begin(plan={"tasks": len(names), **STATED, "lower_within": 64, **plan}, recover_within=1.0)
    for name in names:
        kind = name.partition("-")[0]
        named = {"priority": other[kind] if swapped else kind, "delay_ms": delay_ms if kind == "low" else 0}
        story.add("submit", "invoke", task=name, **named)
    for name in names:
        story.add("submit", "ok", task=name)
    for number, name in enumerate(names):
        first = attempt if name.startswith("low") else 1
        begin_ms = 5_000 + 10 * number
        story.add("effect", "begin", pid=100, task=name, execution=name, attempt=first, at_ms=begin_ms)
        story.ended(name, name)
    return judge(story.drained().end().events)


def test_many_low_tasks_that_wait_while_urgent_ones_begin_on_and_on_break_the_promise() -> None:
    result = waiting(65)
    assert (result.verdict, broken(result)) == (Verdict.LIVENESS, ["lower_within"])
    assert "65 tasks of other priorities began one after the other" in result.because
    assert not broken(waiting(64))
    assert not broken(waiting(65, lower_within=None))


def test_many_high_tasks_that_wait_while_low_ones_begin_on_and_on_break_the_promise() -> None:
    result = waiting(65, swapped=True)
    assert (result.verdict, broken(result)) == (Verdict.LIVENESS, ["lower_within"])


def test_a_few_low_tasks_or_those_of_a_dead_worker_may_wait_for_longer() -> None:
    assert not broken(waiting(65, low=19))
    assert not broken(waiting(65, attempt=2))


def test_scheduled_tasks_wait_once_a_recovery_could_have_made_them_pending_since_they_were_due() -> None:
    assert broken(waiting(65, delay_ms=100)) == ["lower_within"]
    assert not broken(waiting(65, delay_ms=4_500))


@pytest.mark.parametrize("fault", ["server-sigkill", "worker-sigterm", "net-reset"])
def test_a_fault_by_which_workers_give_back_what_they_hold_excuses_any_order(fault: str) -> None:
    assert not broken(batch(DEFAULT + HIGH, fault=fault))


def test_a_killed_worker_excuses_only_the_order_of_the_tasks_that_it_held() -> None:
    assert broken(batch(DEFAULT + HIGH, fault="worker-sigkill")) == ["priorities"]
    assert not broken(batch(DEFAULT + HIGH, fault="worker-sigkill", attempt=2))


def test_tasks_without_a_number_of_their_attempt_are_compared_in_a_baseline_only() -> None:
    assert not broken(batch(DEFAULT + HIGH, attempt=None))
    assert broken(batch(DEFAULT + HIGH, attempt=None, misbehaving=0)) == ["priorities"]


def test_tasks_that_were_not_submitted_together_are_not_compared() -> None:
    assert batch(DEFAULT + HIGH, call=None).verdict is Verdict.PASS


def test_a_task_that_is_passed_by_later_ones_of_a_higher_priority_was_not_overtaken() -> None:
    def passed(priority: str) -> Result:
        story = Story().begin(plan={"tasks": 2, "fifo": True, "misbehaving": 0, **STATED}, recover_within=1.0)
        story.add("submit", "invoke", task="first", priority="low").add("submit", "ok", task="first")
        story.add("submit", "invoke", task="later", priority=priority).add("submit", "ok", task="later").ran("later")
        story.add("effect", "begin", pid=100, task="first", execution="x", at_ms=9_000).ended("first", "x")
        return judge(story.drained().end().events)

    assert passed("high").overtaken == []
    assert passed("low").overtaken == ["first"]
