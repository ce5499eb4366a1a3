"""Sometimes-assertions: the situations that a run has reached, counted in hand-written histories."""

from typing import Any

import pytest
from support.histories import Story
from zeroloss.checker.judge import judge
from zeroloss.checker.situations import SITUATIONS, STATES
from zeroloss.checker.verdicts import Result, Verdict


def a_good_run(**plan: Any) -> Story:
    return Story().begin(plan=plan).submit("good").ran("good", pid=900)


def judged(story: Story) -> Result:
    return judge(story.drained().end().events)


def met(result: Result) -> dict[str, int]:
    return {one.name: one.count for one in result.situations if one.count}


# Situations -------------------------------------------------------------------------------------------------------


def test_a_quiet_run_met_none_of_them_and_lists_them_all() -> None:
    result = judged(a_good_run())
    assert [one.name for one in result.situations] == list(SITUATIONS)
    assert met(result) == {}
    assert all(one.title for one in result.situations)


def killed_inside(**plan: Any) -> Story:
    return a_good_run(**plan).submit("a").started("a", "a1", pid=100).kill(1, pids=(100,)).ran("a", pid=200)


def test_killed_holding_is_a_process_that_died_inside_a_body() -> None:
    assert met(judged(killed_inside())) == {"killed-holding": 1}


@pytest.mark.parametrize(("name", "pids"), [("net-partition", (100,)), ("server-sigkill", ())])
def test_a_process_that_was_cut_off_or_whose_server_died_was_not_killed(name: str, pids: tuple[int, ...]) -> None:
    story = a_good_run().submit("a").started("a", "a1", pid=100).kill(1, pids=pids, tasks=("a",), name=name)
    assert met(judged(story.ran("a", pid=200))) == {}


def test_a_process_that_was_stopped_and_went_on_was_not_killed() -> None:
    story = a_good_run().submit("a").started("a", "a1", pid=100).kill(1, pids=(100,), name="worker-sigstop")
    assert met(judged(story.ended("a", "a1", pid=100))) == {}


def test_killed_before_ack_is_a_body_that_had_ended_and_ran_again_elsewhere() -> None:
    story = a_good_run().submit("a").ran("a", pid=100).kill(1, pids=(100,)).ran("a", pid=200)
    assert met(judged(story)) == {"killed-before-ack": 1}


def test_a_body_that_ran_again_in_a_process_that_lives_on_was_not_killed_before_its_ack() -> None:
    story = a_good_run().submit("a").submit("b").ran("a", pid=100).kill(1, pids=(300,)).ran("a", pid=200)
    assert met(judged(story.ran("b", pid=100))) == {}


def test_a_process_that_a_fault_hit_and_that_says_more_afterwards_was_not_killed() -> None:
    story = a_good_run().submit("a").submit("b").submit("c").ran("a", pid=100).started("c", "c1", pid=100)
    story.kill(1, pids=(100,)).ran("a", pid=200)
    assert met(judged(story.ran("b", pid=100))) == {}


def test_a_process_that_no_fault_hit_was_not_killed() -> None:
    story = a_good_run().submit("a").ran("a", pid=100).kill(1, pids=(300,))
    assert met(judged(story.ran("a", pid=200))) == {}


def test_a_fault_that_does_not_aim_at_workers_kills_none_of_them() -> None:
    story = a_good_run().submit("a").ran("a", pid=100).kill(1, pids=(100,), name="server-sigkill").ran("a", pid=200)
    assert met(judged(story)) == {}


def test_two_bodies_of_a_task_in_one_process_are_not_a_takeover() -> None:
    story = a_good_run().submit("a").started("a", "a1").started("a", "a2")
    assert met(judged(story.ended("a", "a2").ended("a", "a1"))) == {}


def test_a_lease_that_expired_alive_is_a_takeover_while_the_first_body_went_on() -> None:
    story = a_good_run().submit("a").started("a", "a1", pid=100).started("a", "a2", pid=200)
    assert met(judged(story.ended("a", "a2", pid=200).ended("a", "a1", pid=100))) == {"lease-expired-alive": 1}


def test_an_unknown_submission_was_applied_or_was_not() -> None:
    story = a_good_run().submit("ran", "info").ran("ran").submit("waits", None).submit("gone", "info")
    result = judge(story.deadline(waits="pending").end(waits="pending").events)
    assert met(result) == {"unknown-applied": 2, "unknown-not-applied": 1}


def test_without_a_census_nobody_knows_that_a_submission_was_not_applied() -> None:
    story = a_good_run().submit("gone", "info").drained().add("run", "end")
    assert met(judge(story.events)) == {}


def test_a_promised_or_refused_task_is_not_unknown() -> None:
    assert met(judged(a_good_run().submit("no", "fail").submit("yes").ran("yes"))) == {}


def test_recovered_twice_is_two_deaths_and_another_try() -> None:
    story = killed_inside()
    story.submit("b").started("b", "b1", pid=101).kill(2, pids=(101,)).started("b", "b2", pid=102)
    assert "recovered-twice" not in met(judge(story.events))
    story.kill(3, pids=(102,)).ran("b", pid=103)
    assert met(judged(story)) == {"killed-holding": 3, "recovered-twice": 1}


def test_dead_lettered_by_kills_is_a_task_all_of_whose_bodies_died() -> None:
    story = a_good_run().submit("a").started("a", "a1", pid=100).kill(1, pids=(100,))
    result = judge(story.drained().end(a=("dead_letter", "too often")).events)
    assert met(result) == {"killed-holding": 1, "dead-lettered-by-kills": 1}


def test_a_task_that_was_dead_lettered_for_what_it_raised_was_not_killed() -> None:
    story = a_good_run().submit("a").started("a", "a1")
    story.add("effect", "error", pid=100, task="a", execution="a1", error="ValueError: no")
    assert met(judge(story.drained().end(a=("dead_letter", "no")).events)) == {}


def test_a_lost_reply_is_what_a_fault_says_that_it_lost() -> None:
    assert met(judged(a_good_run().kill(1, name="net-reply-reset"))) == {"reply-lost": 1}


# Fault x state ----------------------------------------------------------------------------------------------------


def test_the_matrix_counts_the_tasks_of_each_state_at_each_injection() -> None:
    story = a_good_run().submit("running").started("running", "r1", pid=300).submit("waiting")
    story.submit("struck").started("struck", "s1", pid=100).submit("unacked").ran("unacked", pid=100)
    story.add("submit", "invoke", task="submitting").kill(1, pids=(100,)).add("submit", "ok", task="submitting")
    story.submit("unsubmitted").ended("running", "r1", pid=300)
    for task in ("waiting", "struck", "unacked", "submitting", "unsubmitted"):
        story.ran(task, pid=200)
    (row,) = judged(story).matrix
    assert (row.fault, row.injections) == ("worker-kill", 1)
    assert row.tasks == {**dict.fromkeys(STATES, 1), "finished": 1}


def test_injections_of_one_fault_are_added_up_and_others_have_rows_of_their_own() -> None:
    story = a_good_run().kill(1, name="b").kill(2, name="a").submit("late").kill(3, name="b").missed(4, "c")
    rows = {row.fault: row for row in judged(story.ran("late")).matrix}
    assert {name: row.injections for name, row in rows.items()} == {"a": 1, "b": 2}
    assert (rows["a"].tasks["finished"], rows["a"].tasks["unsubmitted"], rows["a"].tasks["waiting"]) == (1, 1, 0)
    assert (rows["b"].tasks["finished"], rows["b"].tasks["unsubmitted"], rows["b"].tasks["waiting"]) == (2, 1, 1)


def test_between_a_death_and_the_next_try_a_task_waits() -> None:
    story = killed_inside()
    story.events.pop(), story.events.pop()
    (_, row) = judged(story.kill(2, name="z").ran("a", pid=200)).matrix
    assert (row.fault, row.tasks["waiting"], row.tasks["running"]) == ("z", 1, 0)


def test_a_killed_server_found_the_tasks_as_they_were_at_its_end_and_not_at_its_return() -> None:
    story = a_good_run().submit("a").add("fault", "begin", fault="server-sigkill", number=1)
    story.add("process", "exit", role="server", sid=300, status=-9, wanted=True).ran("a")
    story.add("fault", "effective", fault="server-sigkill", number=1)
    (row,) = judged(story).matrix
    assert (row.tasks["waiting"], row.tasks["finished"]) == (1, 1)


def test_a_task_that_nobody_submitted_is_in_no_state_once_it_has_run() -> None:
    (row,) = judged(a_good_run().kill(1).ran("phantom").kill(2)).matrix
    assert {state: count for state, count in row.tasks.items() if count} == {"unsubmitted": 1, "finished": 2}


def test_every_task_is_in_one_state_at_every_injection() -> None:
    story = killed_inside().submit("b", "fail").submit("c", None).kill(2, name="x").submit("d", "info").ran("d")
    result = judge(story.deadline().end().events)
    assert {sum(row.tasks.values()) for row in result.matrix} == {len(result.fates)}


# Demands ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("demand", ["killed-holding", "worker-kill@struck", "worker-kill@finished"])
def test_a_demand_that_was_met_changes_nothing(demand: str) -> None:
    assert judged(killed_inside(demand=[demand])).verdict is Verdict.PASS


@pytest.mark.parametrize("demand", ["recovered-twice", "worker-kill@unacked", "server-sigkill@waiting"])
def test_a_demand_that_was_not_met_makes_the_run_inconclusive(demand: str) -> None:
    result = judged(killed_inside(demand=["killed-holding", demand]))
    assert (result.verdict, result.exit_code) == (Verdict.INCONCLUSIVE, 4)
    assert result.doubts == [f"The run did not meet the demanded situation '{demand}'."]


# Outages: shown in the report, without a verdict --------------------------------------------------------------------


def crash(story: Story, number: int, met: list[int] | None) -> Story:
    story.add("fault", "begin", fault="server-sigkill", number=number)
    story.add("fault", "effective", fault="server-sigkill", number=number, evidence="gone", met=met)
    return story.add("fault", "end", fault="server-sigkill", number=number)


def outages(story: Story) -> list[str]:
    return [note for note in judge(story.drained().end().events).notes if "outage" in note]


def test_each_worker_s_own_outages_are_counted() -> None:
    story = Story().begin(plan={"workers": 2}).submit("a").ran("a")
    assert outages(crash(crash(crash(story, 1, [1, 2]), 2, [1]), 3, [1, 2])) == [
        "Of 3 faults that hit the server or all workers, each worker met 2 to 3 as separate outages: it had "
        "completed a task since the fault before."
    ]


def test_where_nobody_says_what_workers_saw_nothing_is_counted() -> None:
    assert outages(crash(Story().begin(plan={"workers": 2}).submit("a").ran("a"), 1, None)) == []
