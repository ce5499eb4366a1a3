"""Promises that a target states are checked under every fault; promises that it does not state are not judged."""

from typing import Any

import pytest
from support.histories import Story
from zeroloss.checker.judge import judge
from zeroloss.checker.verdicts import Promise, Result, Verdict

STATED = {"max_attempts": 3, "backoff": [[0.5, 1.0], [1.0, 2.0]], "attempts_grow": True, "idempotent": True}


def a_run(*, stated: Any = STATED, submissions: int = 1) -> Story:
    """Begin a run with one task that must fail in every attempt, submitted one or more times."""
    story = Story().begin(plan={"tasks": 1, "doomed": ["a"], **stated})
    for _ in range(submissions):
        story.submit("a")
    return story


def raised(story: Story, attempt: int, *, at_ms: int, pid: int = 100) -> Story:
    name = f"x{at_ms}"
    story.add("effect", "begin", pid=pid, task="a", execution=name, attempt=attempt, at_ms=at_ms)
    return story.add("effect", "error", pid=pid, task="a", execution=name, error="as planned")


def completed(story: Story, attempt: int, *, at_ms: int, pid: int = 100) -> Story:
    name = f"x{at_ms}"
    story.add("effect", "begin", pid=pid, task="a", execution=name, attempt=attempt, at_ms=at_ms)
    return story.ended("a", name, pid)


def done(story: Story, **places: Any) -> Result:
    return judge(story.drained().end(**places).events)


def given_up(story: Story) -> Result:
    return done(story, a=("dead_letter", "as planned"))


def promise(result: Result, name: str) -> Promise:
    return next(one for one in result.promises if one.name == name)


def assert_broken(result: Result, name: str, verdict: Verdict = Verdict.VIOLATION) -> None:
    assert result.verdict is verdict, result.because
    assert promise(result, name).broken
    assert [one.name for one in result.promises if one.broken and one.name != name] in ([], ["unexplained_duplicates"])


def test_a_task_that_is_given_up_after_the_stated_attempts_and_waits_is_innocent() -> None:
    story = raised(raised(raised(a_run(), 1, at_ms=1_000), 2, at_ms=1_700), 3, at_ms=3_000)
    assert given_up(story).verdict is Verdict.PASS


def test_a_task_that_is_tried_again_after_its_last_attempt_breaks_the_promise() -> None:
    story = a_run()
    for attempt, at_ms in enumerate((1_000, 1_700, 3_000, 4_600), start=1):
        raised(story, attempt, at_ms=at_ms)
    assert_broken(given_up(story), "max_attempts")


def test_a_task_that_is_given_up_too_early_breaks_the_promise() -> None:
    assert_broken(given_up(raised(raised(a_run(), 1, at_ms=1_000), 2, at_ms=1_700)), "max_attempts")


def test_a_task_that_a_dying_worker_took_with_it_may_be_given_up_earlier() -> None:
    story = raised(a_run(), 1, at_ms=1_000)
    story.add("effect", "begin", pid=100, task="a", execution="cut", attempt=2, at_ms=1_700)
    assert given_up(story).verdict is Verdict.PASS


def cut_and_raised(attempt: int) -> Result:
    """Judge a task whose worker died, and whose body raised in this later attempt."""
    story = a_run().add("effect", "begin", pid=100, task="a", execution="cut", attempt=1, at_ms=1_000)
    return given_up(raised(story.kill(1, tasks=("a",)), attempt, at_ms=4_000, pid=101))


def test_the_death_of_a_worker_does_not_count_as_a_failure_of_the_task() -> None:
    assert_broken(cut_and_raised(2), "max_attempts")


def test_a_task_whose_workers_died_again_and_again_may_be_given_up_earlier() -> None:
    assert cut_and_raised(6).verdict is Verdict.PASS


def test_a_task_that_never_began_may_be_given_up_at_once() -> None:
    assert given_up(a_run()).verdict is Verdict.PASS


@pytest.mark.parametrize("fault", [None, "handler-raise-once"])
def test_a_retry_before_its_backoff_breaks_the_promise(fault: str | None) -> None:
    story = raised(a_run(), 1, at_ms=1_000)
    if fault:
        story.kill(1, name=fault, tasks=("a",), pids=(100,))
    assert_broken(done(completed(story, 2, at_ms=1_100)), "backoff")


def test_a_machine_s_clock_that_was_set_excuses_an_early_retry() -> None:
    story = raised(a_run(), 1, at_ms=1_000).clock_set()
    assert not promise(done(completed(story, 2, at_ms=1_100)), "backoff").broken


def test_a_retry_after_its_backoff_is_innocent() -> None:
    assert done(completed(raised(a_run(), 1, at_ms=1_000), 2, at_ms=1_500)).verdict is Verdict.PASS


def test_an_early_second_retry_is_held_to_the_second_wait() -> None:
    story = raised(raised(a_run(), 1, at_ms=1_000), 2, at_ms=1_700)
    assert_broken(done(completed(story, 3, at_ms=2_400)), "backoff")


def test_a_duplicate_of_a_completed_task_is_not_an_early_retry() -> None:
    story = completed(raised(a_run(), 1, at_ms=1_000), 2, at_ms=1_700)
    assert not promise(done(completed(story, 3, at_ms=1_750)), "backoff").broken


def test_a_recovery_after_a_failure_that_the_queue_never_heard_of_needs_no_backoff() -> None:
    story = raised(a_run(), 1, at_ms=1_000).kill(1, pids=(100,))
    assert done(completed(story, 2, at_ms=1_100, pid=200)).verdict is not Verdict.VIOLATION


def test_a_failure_that_the_queue_never_heard_of_does_not_count_as_an_attempt() -> None:
    story = raised(a_run(), 1, at_ms=1_000).kill(1, pids=(100,))
    for attempt, at_ms in enumerate((1_100, 1_800, 3_000), start=2):
        raised(story, attempt, at_ms=at_ms, pid=200)
    assert not promise(given_up(story), "max_attempts").broken


def test_a_clock_that_was_set_while_a_task_waited_explains_an_early_retry() -> None:
    plan = {**STATED, "backoff": [[5, 9]]}
    plan["faults"] = [{"number": 1, "fault": "server-clock-jump", "everywhere": True}]
    story = raised(a_run(stated=plan), 1, at_ms=1_000)
    story.add("fault", "begin", fault="server-clock-jump", number=1, at_ms=5_000)
    story.add("fault", "effective", fault="server-clock-jump", number=1, evidence="set", at_ms=5_010)
    assert not promise(done(completed(story, 2, at_ms=5_100)), "backoff").broken


def test_a_task_run_while_its_failed_execution_was_on_is_not_a_retry() -> None:
    story = a_run()
    story.add("effect", "begin", pid=100, task="a", execution="long", attempt=1, at_ms=1_000)
    story.add("effect", "begin", pid=200, task="a", execution="other", attempt=2, at_ms=2_000)
    story.add("effect", "error", pid=100, task="a", execution="long", error="late", at_ms=2_010)
    assert done(story.ended("a", "other", 200)).verdict is Verdict.PASS


def test_a_retry_long_after_its_backoff_while_a_worker_is_idle_is_a_liveness_defect() -> None:
    story = raised(a_run(), 1, at_ms=1_000)
    assert_broken(done(completed(story, 2, at_ms=20_000)), "backoff (late)", Verdict.LIVENESS)


def test_a_retry_within_its_backoff_and_the_time_of_a_recovery_is_in_time() -> None:
    assert done(completed(raised(a_run(), 1, at_ms=1_000), 2, at_ms=8_500)).verdict is Verdict.PASS


@pytest.mark.parametrize("second", [1, 0])
def test_an_attempt_that_does_not_grow_breaks_the_promise(second: int) -> None:
    story = raised(a_run(), 1, at_ms=1_000, pid=100)
    assert_broken(done(completed(story, second, at_ms=1_700, pid=200)), "attempts_grow")


def test_a_worker_that_was_held_up_may_begin_a_lower_attempt_late() -> None:
    story = Story().begin(plan={"tasks": 2, **STATED}).submit("a").submit("b").ran("b", pid=200)
    raised(story, 2, at_ms=1_000, pid=100)
    assert not promise(done(completed(story, 1, at_ms=1_700, pid=200)), "attempts_grow").broken


def test_a_lower_attempt_by_a_newcomer_is_innocent_if_a_fault_explains_it() -> None:
    story = raised(a_run(), 2, at_ms=1_000, pid=100).kill(1, pids=(100,))
    assert not promise(done(completed(story, 1, at_ms=1_700, pid=200)), "attempts_grow").broken


def test_an_attempt_that_a_server_forgot_in_a_crash_is_not_a_breach() -> None:
    plan = {**STATED, "faults": [{"number": 1, "fault": "server-sigkill", "everywhere": True}]}

    def crashed(durability: Any) -> Promise:
        story = Story().begin(plan={"tasks": 1, "doomed": ["a"], **plan}, durability=durability).submit("a")
        story = raised(story, 1, at_ms=1_000).kill(1, name="server-sigkill")
        return promise(done(completed(story, 1, at_ms=1_700)), "attempts_grow")

    assert not crashed({"appendonly": False}).broken
    everysec = {"appendonly": True, "appendfsync": "everysec"}
    # A queue confirms the durability of promises, not of the numbers of attempts.
    assert not crashed({**everysec, "asked": "fsync"}).broken
    assert crashed({"appendonly": True, "appendfsync": "always"}).broken


def test_a_loss_of_connections_does_not_excuse_an_attempt_that_does_not_grow() -> None:
    story = raised(a_run(), 1, at_ms=1_000).kill(1, name="client-kill")
    assert promise(done(completed(story, 1, at_ms=1_700)), "attempts_grow").broken


def test_an_attempt_that_the_queue_does_not_tell_is_not_judged() -> None:
    story = a_run().ran("a").ran("a")
    assert not promise(done(story), "attempts_grow").broken


def test_two_executions_of_a_task_submitted_twice_under_one_key_break_the_promise() -> None:
    story = completed(completed(a_run(submissions=2), 1, at_ms=1_000), 2, at_ms=3_000)
    assert_broken(done(story), "idempotent")


def test_a_duplicate_of_a_task_submitted_once_says_nothing_of_its_key() -> None:
    story = completed(completed(a_run(), 1, at_ms=1_000), 2, at_ms=3_000)
    assert not promise(done(story), "idempotent").broken


def test_two_submissions_to_a_queue_without_keys_may_be_two_tasks() -> None:
    stated = {**STATED, "idempotent": False}
    story = completed(raised(a_run(stated=stated, submissions=2), 1, at_ms=1_000), 1, at_ms=1_100)
    assert not any(one.broken for one in done(story).promises)


def test_a_promise_that_is_not_stated_is_not_judged_and_is_named() -> None:
    story = a_run(stated={})
    for at_ms in (1_000, 1_010, 1_100, 1_200, 20_000):
        raised(story, 1, at_ms=at_ms)
    result = given_up(story)
    assert result.verdict is Verdict.PASS, result.because
    assert "not stated, and not judged: order" in " ".join(result.notes)


@pytest.mark.parametrize("wrong", [{"backoff": "soon"}, {"backoff": [1, ["a", 2]]}, {"max_attempts": "x"}])
def test_a_statement_of_the_wrong_type_is_not_judged(wrong: Any) -> None:
    assert given_up(raised(a_run(stated=wrong), 1, at_ms=1_000)).verdict is Verdict.PASS


OTHERS = [
    {"max_attempts": 1, "backoff": [], "tasks": ["a"]},
    {"max_attempts": 0, "backoff": [], "tasks": ["b"]},
]


def test_a_task_that_its_body_gives_up_for_good_is_not_tried_again() -> None:
    stated = {**STATED, "retries": OTHERS}
    assert given_up(raised(a_run(stated=stated), 1, at_ms=1_000)).verdict is Verdict.PASS
    again = raised(raised(a_run(stated=stated), 1, at_ms=1_000), 2, at_ms=1_700)
    assert_broken(given_up(again), "max_attempts")


def test_a_task_whose_payload_does_not_fit_is_not_begun() -> None:
    stated = {**STATED, "retries": [{**OTHERS[1], "tasks": ["a"]}]}
    assert given_up(a_run(stated=stated)).verdict is Verdict.PASS
    assert_broken(given_up(raised(a_run(stated=stated), 1, at_ms=1_000)), "max_attempts")


def test_a_type_with_limits_of_its_own_is_held_to_them() -> None:
    stated = {**STATED, "retries": [{"max_attempts": 2, "backoff": [[2.0, 4.0]], "tasks": ["a"]}]}
    story = raised(raised(a_run(stated=stated), 1, at_ms=1_000), 2, at_ms=3_700)
    assert given_up(story).verdict is Verdict.PASS
    assert_broken(given_up(raised(a_run(stated=stated), 1, at_ms=1_000)), "max_attempts")
    soon = raised(raised(a_run(stated=stated), 1, at_ms=1_000), 2, at_ms=1_700)
    assert_broken(given_up(soon), "backoff")


@pytest.mark.parametrize("wrong", ["x", [1], [{"tasks": "a"}], [{"tasks": [1], "max_attempts": "x"}]])
def test_limits_that_cannot_be_read_are_not_held(wrong: Any) -> None:
    story = raised(
        raised(raised(a_run(stated={**STATED, "retries": wrong}), 1, at_ms=1_000), 2, at_ms=1_700), 3, at_ms=3_000
    )
    assert given_up(story).verdict is Verdict.PASS
