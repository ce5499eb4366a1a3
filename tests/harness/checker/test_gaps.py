"""Missing evidence neither passes nor fails a queue: the run is INCONCLUSIVE, and names the missing evidence."""

from typing import Any

import msgspec
import pytest
from support.histories import Story
from zeroloss.checker.judge import judge
from zeroloss.checker.verdicts import Result, Verdict
from zeroloss.history import Event

ONE_KILL = {"tasks": 3, "faults": [{"number": 1, "fault": "worker-kill"}]}


def a_run(plan: Any = ONE_KILL) -> Story:
    """Return a complete history of three tasks; one of them runs again after the kill of its worker."""
    story = Story().begin(plan=plan).submit("a").submit("b").submit("c").started("a", "a1", pid=100)
    story.kill(1, pids=(100,), tasks=("a",)).ran("a", pid=200).ran("b", pid=200).ran("c", pid=200)
    return story.drained().end()


def without(story: Story, *, kind: str = "", task: str = "") -> list[Event]:
    """Return the events without those of a kind, or without those of a task."""
    return [
        event
        for event in story.events
        if not (kind and event.kind == kind) and not (task and getattr(event, "task", None) == task)
    ]


def assert_inconclusive(result: Result, missing: str) -> None:
    assert (result.verdict, result.exit_code) == (Verdict.INCONCLUSIVE, 4), result.because
    assert missing[1:] in result.because
    assert any(missing in doubt for doubt in result.doubts)


def test_a_complete_history_passes() -> None:
    assert judge(a_run().events).verdict is Verdict.PASS


@pytest.mark.parametrize("faults_too", [False, True])
def test_a_history_without_its_beginning_shows_nothing(faults_too: bool) -> None:
    events = [event for event in a_run().events if not (event.kind == "run" and event.phase == "begin")]
    if faults_too:
        events = [event for event in events if event.kind != "fault"]
    assert_inconclusive(judge(events), "no `run` `begin` event")


@pytest.mark.parametrize("plan", ["x", [1, 2], 3, None])
def test_a_history_whose_plan_is_not_an_object_shows_nothing(plan: Any) -> None:
    story = Story().add("run", "begin", seed=1, plan=plan).submit("a").ran("a").drained().end()
    assert_inconclusive(judge(story.events), "can't be read")


@pytest.mark.parametrize(
    ("plan", "missing"),
    [({"tasks": 1}, "`faults`"), ({"faults": []}, "`tasks`"), ({"faults": {}, "tasks": 1}, "`faults`")],
)
def test_a_history_whose_plan_lacks_what_is_judged_by_shows_nothing(plan: Any, missing: str) -> None:
    story = Story().add("run", "begin", seed=1, plan=plan).submit("a").ran("a").drained().end()
    assert_inconclusive(judge(story.events), missing)


def test_fewer_submissions_than_the_plan_show_nothing() -> None:
    missing = "Only 2 of the 3 planned tasks were submitted"
    assert_inconclusive(judge(without(a_run(), task="c")), missing)


def test_a_task_whose_submission_alone_is_missing_does_not_accuse_the_queue() -> None:
    events = [event for event in a_run().events if not (event.kind == "submit" and event.task == "c")]
    assert_inconclusive(judge(events), "Only 2 of the 3 planned tasks were submitted")


def test_the_task_that_poked_the_queue_does_not_stand_in_for_a_planned_one() -> None:
    story = Story().begin(plan={"tasks": 2}).submit("a").ran("a").deadline(b="pending").submit("poke")
    story.add("poke", "task", task="poke").ran("poke").census("poke").end()
    assert_inconclusive(judge(story.events), "Only 1 of the 2 planned tasks were submitted")


def test_a_run_that_was_stopped_before_all_was_submitted_is_judged_by_what_it_has() -> None:
    story = Story().begin(plan={"tasks": 9}).submit("a", "fail").ran("a")
    assert judge(story.events).verdict is Verdict.VIOLATION


def test_a_run_that_is_void_stays_so_whatever_is_missing() -> None:
    story = Story().submit("a").add("run", "void", reason="Sentinel failed over by itself.")
    assert judge(story.events).verdict is Verdict.HARNESS_ERROR


@pytest.mark.parametrize("places", [{}, {"a": "failed"}, {"a": "pending"}])
def test_a_run_without_any_task_body_does_not_accuse_the_queue_of_what_left_it(places: dict[str, str]) -> None:
    story = Story().begin(plan={"tasks": 2}).submit("a").submit("b").deadline(**places).end(**places)
    assert_inconclusive(judge(story.events), "does your task call `effect`, and is ZEROLOSS_LEDGER set")


def test_a_run_without_any_task_body_says_why_the_broker_gave_tasks_up() -> None:
    given_up = {"a": ("failed", ""), "b": ("dead_letter", "It cannot be decoded.")}
    story = Story().begin(plan={"tasks": 2}).submit("a").submit("b").deadline(**given_up).end(**given_up)
    assert_inconclusive(judge(story.events), "first reason for giving one up: It cannot be decoded.")


def test_a_queue_that_holds_everything_and_runs_nothing_is_LIVENESS() -> None:
    story = Story().begin().submit("a").deadline(a="pending").end(a="pending")
    assert judge(story.events).verdict is Verdict.LIVENESS


def test_tasks_that_must_be_given_up_need_no_body() -> None:
    story = Story().begin(plan={"doomed": ["a"]}).submit("a").drained().end(a=("dead_letter", "as planned"))
    assert judge(story.events).verdict is Verdict.PASS


def test_a_wrong_ledger_is_named_in_place_of_the_bodies_that_it_hides() -> None:
    story = Story().begin().submit("a").drained().add("ledger", "wrong", reason="worker-7.jsonl, line 1: no.").end()
    result = judge(story.events)
    assert_inconclusive(result, "worker-7.jsonl, line 1: no.")
    assert result.doubts[1:] == []


def test_a_wrong_ledger_is_named_beside_what_other_processes_have_recorded_rightly() -> None:
    story = a_run().add("ledger", "wrong", reason="worker-7.jsonl, line 1: no.")
    assert_inconclusive(judge(story.events), "worker-7.jsonl, line 1: no.")


def numbered(format: int = 2) -> list[Event]:
    """Return a run in which the harness's events have a file and numbers; workers' events have none."""
    events = []
    for event in a_run().events:
        if event.kind == "effect":
            events.append(event)
            continue
        number = 1 + sum(one.file is not None for one in events)
        begins = {"format": format} if event.kind == "run" and event.phase == "begin" else {}
        events.append(msgspec.structs.replace(event, file="harness-1", seq=number, **begins))
    return events


def test_a_history_in_which_every_number_occurs_is_complete() -> None:
    assert judge(numbered()).verdict is Verdict.PASS


def test_a_line_that_was_removed_is_missed_by_its_number() -> None:
    events = [event for event in numbered() if event.seq not in (3, 5)]
    assert_inconclusive(judge(events), "2 lines of harness-1.jsonl are missing, the first of them number 3.")


def test_a_number_of_any_size_is_counted_at_once() -> None:
    events = numbered()
    events[-1] = msgspec.structs.replace(events[-1], seq=2**62)
    assert judge(events).verdict is Verdict.INCONCLUSIVE


def test_numbers_that_were_removed_from_a_numbered_history_are_missed() -> None:
    events = [msgspec.structs.replace(event, file=None, seq=None) for event in numbered()]
    assert_inconclusive(judge(events), "states a format with numbered lines")
