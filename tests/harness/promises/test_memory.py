"""A target may state that it accepts no task while the server's memory is full, and still drains."""

from typing import Any

from support.histories import Story
from zeroloss.checker.judge import judge
from zeroloss.checker.verdicts import Result, Verdict

FULL_MS = (2_000, 10_000)


def a_run(*, stated: bool | None = True, **plan: Any) -> Story:
    plan = {"tasks": 1, "drains_when_full": stated, "starts_when_idle": True, "backoff": [[0.5, 1.0]], **plan}
    return Story().begin(plan=plan, recover_within=2.0).submit("a").ran("a").ran("b", pid=200)


def full(story: Story, *, name: str = "server-maxmemory", lasted_ms: tuple[int, int] | None = FULL_MS) -> Story:
    """Add a fault that fills the memory; its effect is recorded when memory is available again."""
    story.add("fault", "begin", fault=name, number=1, at_ms=1_900)
    lasted = None if lasted_ms is None else [t * 1_000_000 for t in lasted_ms]
    named = {"fault": name, "number": 1, "evidence": "full", "lasted": lasted}
    return story.add("fault", "effective", at_ms=10_100, **named).add("fault", "end", fault=name, number=1)


def asked(story: Story, *, at_ms: int, answered_ms: int) -> Story:
    story.add("submit", "invoke", task="n", at_ms=at_ms).add("submit", "ok", task="n", at_ms=answered_ms)
    return story.add("effect", "begin", pid=100, task="n", execution="n", at_ms=answered_ms + 10).ended("n", "n")


def done(story: Story) -> Result:
    story.submit("b", None).add("submit", "ok", task="b", at_ms=20_000)
    return judge(story.drained().end().events)


def broken(result: Result) -> list[str]:
    return [one.name for one in result.promises if one.broken]


def test_a_task_that_is_accepted_while_memory_is_full_breaks_the_promise() -> None:
    result = done(full(asked(a_run(), at_ms=3_000, answered_ms=3_100)))
    assert (result.verdict, broken(result)) == (Verdict.VIOLATION, ["drains_when_full"])
    assert "accepted though the server's memory was full: n" in result.because


def test_a_task_that_was_asked_for_before_or_answered_after_it_may_have_found_room() -> None:
    for at_ms, answered_ms in ((1_990, 2_100), (9_900, 10_010)):
        assert not broken(done(full(asked(a_run(), at_ms=at_ms, answered_ms=answered_ms))))


def test_a_target_that_states_nothing_of_full_memory_may_accept_what_it_can() -> None:
    for stated in (False, None):
        assert not broken(done(full(asked(a_run(stated=stated), at_ms=3_000, answered_ms=3_100))))


def test_a_fault_of_another_kind_or_of_an_unknown_time_does_not_say_that_memory_was_full() -> None:
    for odd in ({"name": "server-sigstop"}, {"lasted_ms": None}):
        assert not broken(done(full(asked(a_run(), at_ms=3_000, answered_ms=3_100), **odd)))


def failing(story: Story) -> Story:
    """Add a task that raises at the beginning of the full period and is retried after its end."""
    story.add("submit", "invoke", task="f", at_ms=1_000).add("submit", "ok", task="f")
    story.add("effect", "begin", pid=100, task="f", execution="x", at_ms=2_100)
    story.add("effect", "error", pid=100, task="f", execution="x", error="as planned", at_ms=2_500)
    story.add("effect", "begin", pid=100, task="f", execution="y", at_ms=11_500)
    return full(story.add("effect", "end", pid=100, task="f", execution="y", at_ms=11_600))


def crowded(story: Story) -> Story:
    """Add a crowded machine for the whole time, which excuses all lateness."""
    for at_ms in (4_000, 7_000, 10_000):
        story.add("harness", "crowded", late_ms=1_000, at_ms=at_ms)
    return story


def test_a_queue_that_stands_still_while_memory_is_full_is_judged_on_a_crowded_machine_too() -> None:
    result = done(failing(crowded(a_run())))
    assert (result.verdict, broken(result)) == (Verdict.LIVENESS, ["drains_when_full (late)"])
    assert "left waiting in a full memory, while nothing went on and a worker was idle: f" in result.because
    assert not broken(done(failing(crowded(a_run(stated=None)))))


def test_a_first_attempt_that_waits_while_memory_is_full_is_judged_as_a_retry_is() -> None:
    def waits(stated: bool) -> Result:
        story = a_run(stated=stated).add("submit", "invoke", task="n", at_ms=1_000).add("submit", "ok", task="n")
        story = crowded(story).add("effect", "begin", pid=100, task="n", execution="n", at_ms=11_000)
        return done(full(story.ended("n", "n")))

    assert broken(waits(True)) == ["drains_when_full (late)"]
    assert not broken(waits(False))
    assert not broken(done(full(crowded(a_run()))))


def test_a_task_that_is_given_up_without_a_body_has_not_waited() -> None:
    misfit = a_run(doomed=["n"]).add("submit", "invoke", task="n", at_ms=1_000).add("submit", "ok", task="n")
    story = full(crowded(misfit)).drained().end(n=("dead_letter", "not what its handler takes"))
    assert not broken(judge(story.events))


def test_a_queue_in_which_anything_begins_does_not_stand_still() -> None:
    at_work = a_run()
    for at_ms in range(2_200, 9_800, 1_000):
        at_work.add("submit", "invoke", task=f"w{at_ms}", at_ms=1_500).add("submit", "ok", task=f"w{at_ms}")
    for at_ms in range(2_200, 9_800, 1_000):
        at_work.add("effect", "begin", pid=200, task=f"w{at_ms}", execution="w", at_ms=at_ms)
        at_work.ended(f"w{at_ms}", "w", pid=200)
    assert not broken(done(failing(crowded(at_work))))


def test_a_starved_machine_and_a_wait_that_is_not_stated_excuse_a_queue_that_stands_still() -> None:
    late = a_run().add("harness", "late", late_ms=1_500, at_ms=5_000)
    assert not broken(done(failing(crowded(late))))
    assert not broken(done(failing(crowded(a_run(backoff=None)))))


def test_a_retry_that_waits_until_memory_is_wide_again_is_late_though_a_fault_was_under_way() -> None:
    assert broken(done(failing(a_run()))) == ["backoff (late)", "drains_when_full (late)"]
    assert not broken(done(failing(a_run(stated=False))))
