"""Explanations of duplicates: hand-written histories with faults that cause a duplicate, and faults that do not."""

from typing import Any

import msgspec
import pytest
from support.histories import Story
from zeroloss.checker.judge import judge
from zeroloss.checker.verdicts import Duplicate, Result, Verdict
from zeroloss.faults import FAULTS

EVERYSEC = {"appendonly": True, "appendfsync": "everysec", "save": ""}


def a_run(*faults: str, durability: Any = None, **plan: Any) -> Story:
    """Begin a run of a target that promises no unexplained duplicates; `faults` are the planned faults."""
    listed = [
        {"number": number, "fault": name, "traits": msgspec.to_builtins(FAULTS[name]().traits())}
        for number, name in enumerate(faults, start=1)
    ]
    plan = {"unexplained_duplicates": 0, "misbehaving": 1, "faults": listed, **plan}
    return Story().begin(plan=plan, recover_within=2.0, durability=durability).submit("done").ran("done", pid=900)


def fault(
    story: Story, name: str, begin_ms: int, over_ms: int, effective_ms: int | None = None, **members: Any
) -> Story:
    story.add("fault", "begin", fault=name, number=1, at_ms=begin_ms)
    effective_ms = over_ms if effective_ms is None else effective_ms
    story.add("fault", "effective", fault=name, number=1, at_ms=effective_ms, evidence="seen", **members)
    return story.add("fault", "end", fault=name, number=1, at_ms=over_ms)


def ran(story: Story, begin_ms: int, end_ms: int, pid: int = 100, task: str = "a", attempt: int | None = None) -> Story:
    execution = f"{task}-{pid}-{begin_ms}"
    story.add("effect", "begin", pid=pid, task=task, execution=execution, attempt=attempt, at_ms=begin_ms)
    return story.add("effect", "end", pid=pid, task=task, execution=execution, at_ms=end_ms)


def submitted(story: Story, at_ms: int, task: str = "a", answer_ms: int | None = None) -> Story:
    story.add("submit", "invoke", task=task, at_ms=at_ms)
    return story.add("submit", "ok", task=task, at_ms=at_ms if answer_ms is None else answer_ms)


def judged(story: Story) -> Result:
    return judge(story.add("run", "healed", at_ms=90_000).add("run", "drained").end().events)


def verdict_and_duplicate(story: Story) -> tuple[Verdict, Duplicate]:
    result = judged(story)
    (duplicate,) = result.duplicates
    return result.verdict, duplicate


def assert_explained(story: Story, by: str) -> None:
    verdict, duplicate = verdict_and_duplicate(story)
    assert verdict is not Verdict.DUPLICATES
    assert (duplicate.explained, duplicate.explanation) == (True, by)


def assert_unexplained(story: Story) -> None:
    verdict, duplicate = verdict_and_duplicate(story)
    assert (verdict, verdict.exit_code, duplicate.explained) == (Verdict.DUPLICATES, 3, False), duplicate.explanation


# The verdict -------------------------------------------------------------------------------------------------------


def test_a_duplicate_that_nothing_explains_is_DUPLICATES_where_the_target_states_that_it_has_none() -> None:
    result = judged(ran(ran(submitted(a_run(), 1_000), 1_100, 1_200), 1_300, 1_400, pid=200))
    assert (result.verdict, result.exit_code) == (Verdict.DUPLICATES, 3)
    assert result.because == (
        "1 task completed more than once without a fault that explains it, "
        "more than the target's unexplained_duplicates allows."
    )


@pytest.mark.parametrize(("stated", "verdict"), [(None, Verdict.PASS), (1, Verdict.PASS), (0, Verdict.DUPLICATES)])
def test_it_is_only_reported_where_the_target_does_not_state_so_few(stated: int | None, verdict: Verdict) -> None:
    story = submitted(a_run(unexplained_duplicates=stated), 1_000)
    result = judged(ran(ran(story, 1_100, 1_200), 1_300, 1_400, pid=200))
    assert result.verdict is verdict
    assert any("1 duplicate" in note for note in result.notes)


def test_a_lost_task_and_a_stuck_one_are_worse_than_a_duplicate() -> None:
    story = ran(ran(submitted(a_run(), 1_000), 1_100, 1_200), 1_300, 1_400, pid=200).submit("b")
    assert judge(story.deadline(b="pending").end(b="pending").events).verdict is Verdict.LIVENESS
    assert judge(story.submit("c").deadline(b="pending").end(b="pending").events).verdict is Verdict.VIOLATION


# Faults that affect all workers ------------------------------------------------------------------------------------

EVERYWHERE = sorted(name for name, fault in FAULTS.items() if fault.everywhere)


def test_the_faults_of_the_server_and_of_the_clocks_meet_everybody() -> None:
    ours = {"worker", "handler", "asleep", "slow", "none", "producer"}
    assert {name for name in FAULTS if name.partition("-")[0] not in {*ours, "net", "client"}} < set(EVERYWHERE)
    assert {"client-kill", "client-pause", "net-disconnect", "clock-jump", "script-flush"} < set(EVERYWHERE)
    assert not any(name.startswith(tuple(ours)) or "-gives-up" in name or "-retries" in name for name in EVERYWHERE)


@pytest.mark.parametrize("name", EVERYWHERE)
@pytest.mark.parametrize(
    ("first", "second"),
    [
        ((4_000, 6_000), (9_000, 9_100)),  # the ack was lost or late
        ((4_000, 4_500), (9_000, 9_100)),  # the ack was under way when the fault began
        ((5_500, 6_500), (6_000, 7_000)),  # run by two workers at once: one of them counted as dead
        ((8_500, 8_600), (8_400, 9_000)),  # claimed before, begun after: the other worker was faster
    ],
)
def test_a_duplicate_that_a_server_fault_may_have_caused_is_explained_for_each_worker(
    name: str, first: tuple[int, int], second: tuple[int, int]
) -> None:
    story = fault(submitted(a_run(name), 1_000), name, 5_000, 8_000)
    assert_explained(ran(ran(story, *first), *second, pid=200), f"fault 1 ({name})")


@pytest.mark.parametrize(
    ("submitted_ms", "first", "second", "attempts"),
    [
        (1_000, (1_100, 1_900), (6_000, 6_100), (1, 2)),  # done and acked long before the fault
        (1_000, (11_100, 11_200), (11_300, 11_400), (1, 2)),  # begun too long after the fault
        (1_000, (8_100, 8_200), (8_300, 8_400), (1, 1)),  # the same attempt twice: pushed twice, not redelivered
        (8_050, (8_100, 8_200), (8_300, 8_400), (1, 2)),  # submitted after the fault
        (1_000, (3_000, 3_100), (3_200, 3_300), (1, 2)),  # ended before the fault began
    ],
)
def test_a_duplicate_that_a_server_fault_did_not_cause_is_unexplained(
    submitted_ms: int, first: tuple[int, int], second: tuple[int, int], attempts: tuple[int, int]
) -> None:
    story = fault(submitted(a_run("server-sigstop"), submitted_ms), "server-sigstop", 5_000, 8_000)
    assert_unexplained(ran(ran(story, *first, attempt=attempts[0]), *second, pid=200, attempt=attempts[1]))


def test_a_fault_too_short_for_a_worker_to_be_taken_for_dead_explains_no_takeover() -> None:
    story = fault(submitted(a_run("server-sigstop"), 1_000), "server-sigstop", 5_000, 5_090)
    assert_unexplained(ran(ran(story, 5_200, 5_300), 5_400, 5_500, pid=200))


def test_a_task_that_a_producer_pushed_twice_during_a_stall_is_unexplained() -> None:
    story = fault(submitted(a_run("server-sigstop"), 5_500, answer_ms=8_010), "server-sigstop", 5_000, 8_000)
    assert_unexplained(ran(ran(story, 8_100, 8_200, attempt=1), 8_150, 8_250, pid=200, attempt=1))


@pytest.mark.parametrize("killed_ms", [5_000, 4_000])
def test_an_ack_that_a_killed_server_may_have_lost_is_explained(killed_ms: int) -> None:
    story = submitted(a_run("server-slow-fsync", durability=EVERYSEC), 1_000)
    ran(story, 2_000, 2_500).add("fault", "begin", fault="server-slow-fsync", number=1, at_ms=killed_ms - 1_500)
    story.add("process", "exit", role="server", sid=300, status=-9, wanted=True, at_ms=killed_ms)
    story.add("fault", "effective", fault="server-slow-fsync", number=1, evidence="gone", at_ms=killed_ms + 500)
    assert_explained(ran(story, 7_000, 7_100, pid=200), "fault 1 (server-slow-fsync)")


def test_without_an_append_only_file_a_killed_server_may_have_forgotten_any_ack() -> None:
    story = submitted(a_run("server-sigkill", durability={"appendonly": False, "save": "3600 1"}), 1_000)
    ran(story, 1_100, 1_200).add("fault", "begin", fault="server-sigkill", number=1, at_ms=30_000)
    story.add("process", "exit", role="server", sid=300, status=-9, wanted=True, at_ms=30_010)
    story.add("fault", "effective", fault="server-sigkill", number=1, evidence="gone", at_ms=30_500)
    assert_explained(ran(story, 31_000, 31_100, pid=200), "fault 1 (server-sigkill)")


def test_with_a_file_that_keeps_everything_a_killed_server_has_forgotten_no_ack() -> None:
    durability = {"appendonly": True, "appendfsync": "always", "save": ""}
    story = submitted(a_run("server-sigkill", durability=durability), 1_000)
    ran(story, 1_100, 1_200).add("fault", "begin", fault="server-sigkill", number=1, at_ms=30_000)
    story.add("process", "exit", role="server", sid=300, status=-9, wanted=True, at_ms=30_010)
    story.add("fault", "effective", fault="server-sigkill", number=1, evidence="gone", at_ms=30_500)
    assert_unexplained(ran(story, 31_000, 31_100, pid=200))


# Faults that affect one worker -------------------------------------------------------------------------------------


def paused(**plan: Any) -> Story:
    """Return a run in which worker 100 is paused from 5 to 8 s; the fault is recorded as effective at once."""
    return fault(
        submitted(a_run("worker-sigstop", **plan), 1_000),
        "worker-sigstop",
        5_000,
        8_000,
        5_010,
        pids=[100],
        tasks=["x"],
    )


@pytest.mark.parametrize("first_ms", [4_900, 8_100])
def test_a_worker_that_was_paused_and_the_one_that_took_its_task_over_may_both_run_it(first_ms: int) -> None:
    assert_explained(ran(ran(paused(), first_ms, 8_500), 7_500, 7_600, pid=200), "fault 1 (worker-sigstop)")


def test_a_worker_that_was_cut_off_may_begin_a_task_that_others_have_done_meanwhile() -> None:
    story = fault(submitted(a_run("net-partition"), 1_000), "net-partition", 5_000, 9_000, pids=[100])
    assert_explained(ran(ran(story, 7_500, 7_600, pid=200), 8_000, 8_100), "fault 1 (net-partition)")


@pytest.mark.parametrize("pids", [(200, 300), (200, 100)])
def test_a_retry_by_a_zombie_beside_its_successor_is_unexplained(pids: tuple[int, int]) -> None:
    story = paused().add("effect", "begin", pid=100, task="a", execution="zombie", at_ms=4_900)
    ran(story, 7_500, 7_600, pid=pids[0])
    story.add("effect", "error", pid=100, task="a", execution="zombie", at_ms=8_050)
    assert_unexplained(ran(story, 8_200, 8_300, pid=pids[1]))


def test_a_paused_worker_explains_nothing_that_two_others_did() -> None:
    assert_unexplained(ran(ran(paused(), 7_500, 7_600, pid=200), 8_100, 8_200, pid=300))


# Causes other than faults -------------------------------------------------------------------------------------------


def test_a_process_that_died_inside_another_task_explains_what_it_had_just_done() -> None:
    story = ran(submitted(submitted(a_run(), 1_000), 1_000, task="exits"), 1_100, 2_000)
    story.add("effect", "begin", pid=100, task="exits", execution="x1", at_ms=2_500)
    ran(story, 2_900, 2_950, pid=200, task="exits")
    assert_explained(ran(story, 3_000, 3_100, pid=200), "its process died")


def test_a_kill_two_seconds_after_a_task_was_done_does_not_explain_that_it_ran_again() -> None:
    story = ran(submitted(a_run("worker-sigkill"), 1_000), 1_100, 1_200)
    story = fault(story, "worker-sigkill", 3_200, 3_300, pids=[100])
    assert_unexplained(ran(story, 3_400, 3_500, pid=200))


def test_a_process_that_died_long_after_it_had_done_a_task_does_not_explain_that_it_ran_again() -> None:
    story = ran(submitted(submitted(a_run(), 1_000), 1_000, task="exits"), 1_100, 2_000)
    story.add("effect", "begin", pid=100, task="exits", execution="x1", at_ms=3_100)
    ran(story, 3_500, 3_600, pid=200, task="exits")
    assert_unexplained(ran(story, 4_000, 4_100, pid=200))


def test_a_process_whose_open_task_began_after_the_repetition_did_not_die_before_it() -> None:
    story = ran(submitted(submitted(a_run(), 1_000), 1_000, task="exits"), 1_100, 2_000)
    ran(story, 2_100, 2_200, pid=200).add("effect", "begin", pid=100, task="exits", execution="x1", at_ms=2_500)
    assert_unexplained(ran(story, 3_500, 3_600, pid=200, task="exits"))


@pytest.mark.parametrize(
    ("at_ms", "wanted", "explained"), [(2_100, False, True), (2_100, True, False), (9_000, False, False)]
)
def test_a_worker_that_ended_by_itself_explains_what_it_had_just_done(
    at_ms: int, wanted: bool, explained: bool
) -> None:
    story = ran(submitted(a_run(), 1_000), 1_100, 2_000)
    story.add("process", "exit", role="worker", sid=99, status=1, wanted=wanted, at_ms=at_ms)
    ran(story, 9_500, 9_600, pid=200)
    assert verdict_and_duplicate(story)[1].explained is explained


def test_a_kill_that_is_not_an_explanation_does_not_become_one_as_the_death_of_a_process() -> None:
    story = ran(submitted(submitted(a_run("worker-sigkill"), 1_000), 1_000, task="b"), 1_100, 2_000)
    story.add("effect", "begin", pid=100, task="b", execution="b1", at_ms=2_500)
    fault(story, "worker-sigkill", 30_000, 30_100, pids=[100], tasks=["b"])
    ran(story, 30_500, 30_600, pid=200, task="b")
    assert_unexplained(ran(story, 31_000, 31_100, pid=200))


@pytest.mark.parametrize(("late_at_ms", "explained"), [(5_000, True), (900, False), (20_000, False)])
def test_a_machine_that_was_starved_between_the_two_explains_a_duplicate(late_at_ms: int, explained: bool) -> None:
    story = ran(submitted(a_run(), 1_000), 1_100, 2_000)
    ran(story, 9_500, 9_600, pid=200).add("harness", "late", late_ms=1_500, at_ms=late_at_ms)
    verdict, duplicate = verdict_and_duplicate(story)
    assert (verdict, duplicate.explained) == (Verdict.PASS if explained else Verdict.DUPLICATES, explained)
    assert duplicate.explanation == ("the machine was overloaded" if explained else "unexplained")


@pytest.mark.parametrize(("set_at_ms", "explained"), [(5_000, True), (900, True), (20_000, False)])
def test_a_machine_s_clock_that_was_set_explains_a_duplicate(set_at_ms: int, explained: bool) -> None:
    """A lease of the wall clock ends early then; its worker may have begun the task since."""
    story = ran(submitted(a_run(), 500), 1_100, 2_000)
    ran(story, 9_500, 9_600, pid=200).add("harness", "clock_set", late_ms=100, by_ms=3_200, at_ms=set_at_ms)
    verdict, duplicate = verdict_and_duplicate(story)
    assert (verdict, duplicate.explained) == (Verdict.PASS if explained else Verdict.DUPLICATES, explained)
    assert duplicate.explanation == ("the machine's clock was set" if explained else "unexplained")


@pytest.mark.parametrize(("idempotent", "explained"), [(None, True), (False, True), (True, False)])
def test_a_task_that_its_client_sent_twice_may_run_twice_unless_the_target_states_that_it_is_one(
    idempotent: bool | None, explained: bool
) -> None:
    story = submitted(submitted(a_run(idempotent=idempotent), 1_000), 1_050)
    assert verdict_and_duplicate(ran(ran(story, 1_100, 2_000), 1_200, 2_100, pid=200))[1].explained is explained


def test_a_task_that_was_sent_twice_may_run_twice_and_no_more_and_not_for_what_was_refused() -> None:
    thrice = ran(ran(ran(submitted(submitted(a_run(), 1_000), 1_050), 1_100, 1_200), 1_300, 1_400), 1_500, 1_600)
    assert_unexplained(thrice)
    story = a_run().add("submit", "invoke", task="a", at_ms=1_000).add("submit", "fail", task="a", at_ms=1_010)
    assert_unexplained(ran(ran(submitted(story, 1_050), 1_100, 1_200), 1_300, 1_400))


def test_a_body_that_outlives_its_lease_each_time_explains_each_repetition() -> None:
    story = ran(ran(ran(submitted(a_run(), 1_000), 1_100, 4_000), 3_000, 6_000, pid=200), 5_000, 8_000, pid=300)
    name = "handler-outlives-lease"
    assert_explained(fault(story, name, 20_000, 20_000, tasks=["a"]), f"fault 1 ({name})")


# Order -------------------------------------------------------------------------------------------------------------


def an_overtaking(**plan: Any) -> Story:
    story = Story().begin(plan={"misbehaving": 0, **plan}, recover_within=2.0).submit("old").submit("new")
    return ran(ran(story, 100, 110, pid=200, task="new"), 3_200, 3_300, task="old")


def test_a_task_that_begins_long_after_later_ones_is_a_violation_where_the_target_states_its_order() -> None:
    result = judged(an_overtaking(fifo=True))
    assert (result.verdict, result.exit_code) == (Verdict.VIOLATION, 1)
    assert result.because == "1 task began long after later ones had been completed (I7)."
    assert [law.violations for law in result.properties if law.number == "I7"] == [
        ["Task old began long after later ones had been completed."]
    ]


@pytest.mark.parametrize(
    "story",
    [
        an_overtaking(),
        an_overtaking(fifo=False),
        an_overtaking(fifo=True).late(),
    ],
)
def test_it_is_only_noted_where_no_order_is_stated_or_the_machine_was_starved(story: Story) -> None:
    result = judged(story)
    assert result.verdict is Verdict.PASS
    assert result.overtaken == ["old"]
    assert "I7" not in [law.number for law in result.properties if law.tested]


def an_overtaking_under_faults(attempt: int | None = 1, twice: bool = False) -> Story:
    story = Story().begin(plan={"misbehaving": 1, "fifo": True}, recover_within=2.0).submit("old")
    story = (story.submit("old") if twice else story).submit("new")
    story = ran(story, 100, 110, pid=200, task="new")
    story.add("effect", "begin", pid=300, at_ms=3_200, task="old", execution="x", attempt=attempt)
    return story.add("effect", "end", pid=300, at_ms=3_300, task="old", execution="x")


def test_a_first_attempt_that_later_tasks_passed_is_a_violation_under_faults_too() -> None:
    result = judged(an_overtaking_under_faults())
    assert result.verdict is Verdict.VIOLATION
    assert result.because == "1 task began long after later ones had been completed (I7)."


@pytest.mark.parametrize(
    "story",
    [
        an_overtaking_under_faults(attempt=2),
        an_overtaking_under_faults(attempt=None),
        an_overtaking_under_faults(twice=True),
        fault(an_overtaking_under_faults(), "net-reset", 3_000, 3_100),
        fault(an_overtaking_under_faults(), "primary-sigkill", 3_000, 3_100),
        an_overtaking_under_faults().add("harness", "late", at_ms=3_150, late_ms=300),
        an_overtaking_under_faults().add("harness", "crowded", at_ms=3_150, late_ms=300),
    ],
    ids=[
        "recovered",
        "not numbered",
        "sent twice",
        "on a slow way",
        "on a replica",
        "on a starved machine",
        "on a crowded one",
    ],
)
def test_a_task_that_something_may_have_delayed_under_faults_may_be_passed_by_later_ones(story: Story) -> None:
    result = judged(story)
    assert (result.verdict, result.overtaken) == (Verdict.PASS, [])


def test_few_of_many_may_be_passed_under_faults_as_what_is_given_back_waits_behind_what_is_recovered() -> None:
    story = an_overtaking_under_faults()
    for number in range(2):
        story = ran(submitted(story, 4_000, f"more-{number}"), 4_100, 4_200, task=f"more-{number}", attempt=1)
    assert judged(story).verdict is Verdict.VIOLATION
    story = ran(submitted(story, 4_000, "last"), 4_100, 4_200, task="last", attempt=1)
    result = judged(story)
    assert (result.verdict, result.overtaken) == (Verdict.PASS, [])


@pytest.mark.parametrize("at_ms", [(10, 20), (3_300, 3_400)], ids=["before", "after"])
def test_a_fault_of_the_way_before_or_after_delays_nothing(at_ms: tuple[int, int]) -> None:
    story = fault(an_overtaking_under_faults(), "net-reset", *at_ms)
    assert judged(story).verdict is Verdict.VIOLATION
