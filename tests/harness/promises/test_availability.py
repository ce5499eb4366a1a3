"""A target may state that it refuses and interrupts no task without a reason, and that no worker ends by itself."""

from typing import Any

import pytest
from support.histories import Story
from zeroloss.checker.judge import judge
from zeroloss.checker.verdicts import Promise, Result, Verdict

STATED = {"accepts": True, "grace": 25.0, "workers_stay": True, "keys_at_rest": 10}


def a_run(**plan: Any) -> Story:
    return Story().begin(plan={"tasks": 1, **STATED, **plan}).submit("t").ran("t")


def done(story: Story) -> Result:
    return judge(story.drained().end().events)


def broken(result: Result, name: str) -> list[str]:
    stated: Promise = next(one for one in result.promises if one.name == name)
    return stated.broken


def test_a_promise_that_is_not_stated_is_not_judged() -> None:
    silent = dict.fromkeys(STATED)
    asked = asked_to_end(a_run(**silent)).ran("cut", pid=300)
    assert done(sampled(sampled(refused(asked), 99, 100), 99, 101)).verdict is Verdict.PASS


def refused(story: Story, *, at_ms: int | None = None) -> Story:
    story.add("submit", "invoke", task="no", at_ms=at_ms)
    return story.add("submit", "fail", task="no", error="413: too large")


def test_a_refusal_while_nothing_was_disturbed_breaks_the_promise() -> None:
    result = done(refused(a_run()))
    assert result.verdict is Verdict.LIVENESS
    assert "not accepted though nothing was disturbed: no" in broken(result, "accepts")[0]


def test_a_refusal_by_a_target_that_states_nothing_is_not_a_breach() -> None:
    assert done(refused(a_run(accepts=False))).verdict is Verdict.PASS


def test_a_refusal_of_what_a_load_sends_is_not_judged() -> None:
    assert not broken(done(refused(a_run(load="smoke.conf"))), "accepts")


def test_a_worker_that_is_killed_is_not_a_reason_to_refuse_a_task() -> None:
    assert broken(done(refused(a_run().kill(1, name="worker-sigkill"))), "accepts")


@pytest.mark.parametrize("fault", ["server-sigkill", "client-kill", "producer-sigkill"])
def test_a_fault_of_the_server_or_the_producer_is_a_reason_for_a_second_after_it(fault: str) -> None:
    story = a_run().kill(1, name=fault)
    over_ms = story.events[-1].t // 1_000_000
    story.add("fault", "end", fault=fault, number=1)
    assert not broken(done(refused(story)), "accepts")
    late = a_run().kill(1, name=fault).add("fault", "end", fault=fault, number=1)
    assert broken(done(refused(late, at_ms=over_ms + 1_100)), "accepts")


def test_a_starved_machine_is_a_reason_not_to_accept_a_task() -> None:
    assert not broken(done(refused(a_run().late(50))), "accepts")


def test_a_crowded_machine_is_a_reason_for_no_answer_and_none_for_a_refusal() -> None:
    def crowded(phase: str) -> Result:
        story = a_run().add("harness", "crowded", late_ms=1_000).add("submit", "invoke", task="no")
        return done(story.add("submit", phase, task="no", error="it was too large, or nobody answered"))

    assert broken(crowded("fail"), "accepts")
    assert not broken(crowded("info"), "accepts")


def test_a_connection_to_a_killed_producer_may_be_found_broken_at_any_time_after_it() -> None:
    def later(phase: str) -> Result:
        story = a_run().kill(1, name="producer-sigkill").add("fault", "end", fault="producer-sigkill", number=1)
        story.add("submit", "invoke", task="no", at_ms=9_000)
        return done(story.add("submit", phase, task="no", error="Broken pipe, or it was too large"))

    assert not broken(later("info"), "accepts")
    assert broken(later("fail"), "accepts")


def test_a_part_of_a_batch_that_is_refused_breaks_the_promise() -> None:
    story = a_run().add("submit", "invoke", task="no", call=1).add("submit", "fail", task="no")
    assert broken(done(story), "accepts")


def test_a_client_that_hangs_up_by_the_plan_was_not_refused() -> None:
    assert not broken(done(refused(a_run(abandoned=["no"]))), "accepts")


def asked_to_end(story: Story, *, name: str = "worker-sigterm", number: int = 1) -> Story:
    story.submit("cut").started("cut", "x", pid=200)
    return story.kill(number, name=name, pids=(200,), tasks=("cut",))


def test_a_task_that_is_cut_by_a_worker_that_was_asked_to_end_breaks_the_promise_of_grace() -> None:
    result = done(asked_to_end(a_run()).ran("cut", pid=300))
    assert (result.verdict, result.exit_code) == (Verdict.DUPLICATES, 3)
    assert broken(result, "grace")
    assert "interrupted, or lost to another one, by a worker that had been asked to end" in result.because


def test_a_task_that_ends_before_its_worker_does_was_not_cut() -> None:
    story = asked_to_end(a_run())
    assert not broken(done(story.ended("cut", "x", pid=200)), "grace")


def test_a_worker_that_is_killed_while_it_ends_is_not_held_against_its_grace() -> None:
    story = asked_to_end(a_run()).kill(2, name="worker-sigkill", pids=(200,), tasks=("cut",)).ran("cut", pid=300)
    assert not broken(done(story), "grace")
    assert not broken(done(asked_to_end(a_run(), name="worker-sigkill").ran("cut", pid=300)), "grace")


def test_a_task_that_is_run_elsewhere_while_its_worker_lets_it_finish_breaks_the_promise_of_grace() -> None:
    story = asked_to_end(a_run()).started("cut", "y", pid=300).ended("cut", "x", pid=200).ended("cut", "y", pid=300)
    assert broken(done(story), "grace")
    story = asked_to_end(a_run()).ended("cut", "x", pid=200).started("cut", "y", pid=300).ended("cut", "y", pid=300)
    assert not broken(done(story), "grace")


def test_a_task_that_another_worker_runs_on_after_the_one_that_was_asked_to_end_breaks_the_promise() -> None:
    story = a_run().submit("cut").add("fault", "begin", fault="worker-sigterm", number=1)
    story.started("cut", "x", pid=200).started("cut", "y", pid=300).ended("cut", "x", pid=200)
    story.add("fault", "effective", fault="worker-sigterm", number=1, pids=[200], tasks=["cut"], evidence="status 0")
    assert broken(done(story.ended("cut", "y", pid=300)), "grace")


def finished(story: Story, *, phase: str = "end") -> Story:
    """Add a worker that is asked to stop, finishes its task, and exits."""
    story.submit("cut").add("fault", "begin", fault="worker-sigterm", number=1).started("cut", "x", pid=200)
    story.add("effect", phase, pid=200, task="cut", execution="x", **({"error": "no"} if phase == "error" else {}))
    named = {"fault": "worker-sigterm", "number": 1, "pids": [200], "tasks": ["cut"], "evidence": "exit status 0"}
    return story.add("fault", "effective", **named)


def test_a_task_that_is_run_once_more_after_its_worker_has_finished_it_breaks_the_promise_of_grace() -> None:
    assert broken(done(finished(a_run()).ran("cut", pid=300)), "grace")
    assert not broken(done(finished(a_run())), "grace")
    assert not broken(done(finished(a_run(), phase="error").ran("cut", pid=300)), "grace")
    assert not broken(done(finished(a_run().submit("cut")).ran("cut", pid=300)), "grace")
    crashed = finished(a_run()).kill(2, name="server-sigkill").ran("cut", pid=300)
    assert not broken(done(crashed), "grace")


def test_a_task_that_began_while_its_worker_was_cut_off_may_belong_to_another_by_then() -> None:
    story = a_run().kill(1, name="net-silence", pids=(200,)).add("fault", "end", fault="net-silence", number=1)
    assert not broken(done(asked_to_end(story, number=2).ran("cut", pid=300)), "grace")


def test_a_task_that_raised_before_while_the_fault_still_waited_was_not_run_elsewhere() -> None:
    story = a_run().submit("cut").add("fault", "begin", fault="worker-sigterm", number=1)
    story.started("cut", "w", pid=200).add("effect", "error", pid=200, task="cut", execution="w", error="as planned")
    story.started("cut", "x", pid=200)
    named = {"fault": "worker-sigterm", "number": 1, "pids": [200], "tasks": ["cut"], "evidence": "exit status 0"}
    assert not broken(done(story.add("fault", "effective", **named).ended("cut", "x", pid=200)), "grace")


def test_a_task_whose_lease_an_outage_may_have_ended_is_nobody_s_to_wait_for() -> None:
    def cut(outage: str) -> Result:
        story = a_run().submit("cut").started("cut", "x", pid=200).kill(1, name=outage)
        story.add("fault", "end", fault=outage, number=1).kill(2, name="worker-sigterm", pids=(200,), tasks=("cut",))
        return done(story.ran("cut", pid=300))

    assert not broken(cut("client-pause"), "grace")
    assert broken(cut("worker-sigkill"), "grace")


def test_an_outage_that_was_over_when_a_worker_was_started_does_not_excuse_what_it_loses() -> None:
    def cut(started_ms: int) -> Result:
        story = a_run().kill(1, name="client-pause").add("fault", "end", fault="client-pause", number=1, at_ms=2_000)
        story.add("process", "start", role="worker", sid=199, pid=199, at_ms=started_ms).submit("cut")
        story.started("cut", "x", pid=200).kill(2, name="worker-sigterm", pids=(199, 200), tasks=("cut",))
        return done(story.ran("cut", pid=300))

    assert broken(cut(2_100), "grace")
    assert not broken(cut(1_500), "grace")


def test_a_task_that_ends_its_process_excuses_the_others_that_it_cuts() -> None:
    story = asked_to_end(a_run(ends_its_process=["e"]).submit("e").started("e", "y", pid=200)).ran("cut", pid=300)
    assert not broken(done(story), "grace")


def sampled(story: Story, *pids: int) -> Story:
    """Add a sample of worker 100 with these processes."""
    now_ms = story.events[-1].t // 1_000_000
    return story.add("resources", "worker", sid=100, pids=list(pids), threads=1, at_ms=now_ms + 2_000)


def test_a_process_that_is_replaced_in_a_worker_that_goes_on_breaks_the_promise_to_stay() -> None:
    result = done(sampled(sampled(sampled(a_run(), 99, 100), 99, 100), 99, 101))
    assert result.verdict is Verdict.LIVENESS
    assert broken(result, "workers_stay") == ["1 process ended for no reason: process 100 of worker 100"]


def test_a_process_that_a_fault_or_a_task_ended_was_replaced_for_a_reason() -> None:
    killed = sampled(a_run(), 99, 100).kill(1, name="worker-sigkill-child", pids=(100,))
    assert not broken(done(sampled(killed, 99, 101)), "workers_stay")
    exits = sampled(a_run(ends_its_process=["e"]).submit("e").started("e", "x"), 99, 100)
    assert not broken(done(sampled(exits, 99, 101)), "workers_stay")


def test_a_process_that_never_ran_a_task_may_come_and_go() -> None:
    assert not broken(done(sampled(sampled(a_run(), 99, 100, 7), 99, 100)), "workers_stay")


def test_the_processes_of_a_worker_that_is_about_to_exit_end_with_it() -> None:
    story = sampled(sampled(a_run(), 99, 100), 99)
    assert broken(done(story), "workers_stay")
    leaving = sampled(sampled(a_run(), 99, 100), 99).add(
        "process", "exit", role="worker", sid=100, status=0, wanted=True
    )
    assert not broken(done(leaving), "workers_stay")


def test_a_worker_that_exits_unasked_breaks_the_promise_to_stay() -> None:
    story = sampled(a_run(), 99, 100).add("process", "exit", role="worker", sid=100, status=1, wanted=False)
    assert broken(done(story), "workers_stay") == ["1 process ended for no reason: worker 100 with status 1"]
    asked = sampled(a_run(), 99, 100).add("process", "exit", role="worker", sid=100, status=0, wanted=True)
    assert not broken(done(asked), "workers_stay")


@pytest.mark.parametrize(("keys", "expiring", "verdict"), [(11, 0, Verdict.LEAK), (11, 1, Verdict.PASS)])
def test_keys_without_an_expiry_beyond_what_is_stated_are_a_leak_when_all_is_done(
    keys: int, expiring: int, verdict: Verdict
) -> None:
    story = a_run().add("resources", "server", keys=5, keys_expiring=0).drained()
    story.add("resources", "server", keys=keys, keys_expiring=expiring)
    result = judge(story.end().events)
    assert result.verdict is verdict
    assert ("keys without an expiry of server grew from 5 to 11" in result.because) == (verdict is Verdict.LEAK)


def test_keys_that_are_there_while_tasks_wait_are_not_a_leak() -> None:
    story = a_run().add("resources", "server", keys=50, keys_expiring=0).drained()
    assert judge(story.add("resources", "server", keys=5, keys_expiring=0).end().events).verdict is Verdict.PASS
