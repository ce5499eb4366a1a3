"""The judge, on hand-written histories, one for each verdict and reason."""

import random

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.histories import MS, Story
from zeroloss.checker.judge import judge
from zeroloss.checker.verdicts import VIOLATIONS, Fate, Result, Verdict, merge, summarise
from zeroloss.history import Event


def a_good_run() -> Story:
    return Story().begin().submit("good").ran("good")


def judged(story: Story) -> Result:
    return judge(story.events)


# Fates ------------------------------------------------------------------------------------------------------------


def test_a_promised_task_that_ran_once_is_DONE_and_the_run_passes() -> None:
    result = judged(a_good_run().drained().end())
    assert result.fates == {"good": Fate.DONE}
    assert (result.verdict, result.exit_code, result.doubts) == (Verdict.PASS, 0, [])
    assert result.because == "1 promised task completed and none was lost."
    assert result.counts == {"DONE": 1}


def test_a_run_whose_server_did_what_nobody_planned_says_nothing_of_the_queue() -> None:
    story = a_good_run().submit("a").deadline().add("run", "void", reason="Sentinel failed over by itself.")
    result = judged(story)
    assert (result.verdict, result.exit_code) == (Verdict.HARNESS_ERROR, 70)
    assert result.because == "Sentinel failed over by itself."


def test_a_promised_task_that_is_nowhere_is_LOST() -> None:
    result = judged(a_good_run().submit("a").deadline().end())
    assert result.fates["a"] is Fate.LOST
    assert (result.verdict, result.exit_code) == (Verdict.VIOLATION, 1)
    assert result.because == "1 task was promised and lost (LOST)."


def test_an_execution_that_began_and_never_ended_does_not_complete_a_task() -> None:
    result = judged(a_good_run().submit("a").started("a", "x").deadline().end())
    assert result.fates["a"] is Fate.LOST


def test_an_execution_that_raised_does_not_complete_a_task() -> None:
    story = a_good_run().submit("a").started("a", "x")
    story.add("effect", "error", pid=100, task="a", execution="x", error="ValueError: no")
    assert judged(story.deadline().end()).fates["a"] is Fate.LOST


@pytest.mark.parametrize("place", ["pending", "delayed", "processing", "unknown"])
def test_a_promised_task_that_still_waits_after_the_pokes_is_STUCK(place: str) -> None:
    story = a_good_run().submit("a").deadline(a=place).add("poke", "task").census("poke", a=place)
    result = judged(story.add("poke", "restart").census("restart", a=place).end(a=place))
    assert result.fates["a"] is Fate.STUCK
    assert (result.verdict, result.exit_code) == (Verdict.LIVENESS, 3)


def test_a_task_that_moves_only_when_a_new_task_comes_is_NEEDS_TRAFFIC() -> None:
    story = a_good_run().submit("a").deadline(a="processing").add("poke", "task").submit("poke")
    result = judged(story.ran("poke").ran("a").census("poke").end())
    assert result.fates == {"good": Fate.DONE, "a": Fate.NEEDS_TRAFFIC, "poke": Fate.DONE}
    assert result.verdict is Verdict.LIVENESS


def test_a_poke_that_is_on_record_only_after_its_task_was_submitted_counts_from_the_submission() -> None:
    story = a_good_run().submit("a").deadline(a="processing").submit("poke").ran("a").add("poke", "task").ran("poke")
    assert judged(story.end()).fates == {"good": Fate.DONE, "a": Fate.NEEDS_TRAFFIC, "poke": Fate.DONE}


def test_a_task_that_moves_only_when_a_worker_is_restarted_is_NEEDS_RESTART() -> None:
    story = a_good_run().submit("a").deadline(a="processing").add("poke", "task").census("poke", a="processing")
    result = judged(story.add("poke", "restart").ran("a").end())
    assert result.fates["a"] is Fate.NEEDS_RESTART
    assert result.verdict is Verdict.LIVENESS


def test_a_task_that_completes_late_and_by_itself_is_DONE() -> None:
    result = judged(a_good_run().submit("a").deadline(a="processing").ran("a").add("poke", "task").end())
    assert result.fates["a"] is Fate.DONE


def test_a_task_that_completed_twice_is_a_DUPLICATE_and_no_violation() -> None:
    result = judged(a_good_run().submit("a").ran("a").ran("a", pid=200).drained().end())
    assert result.fates["a"] is Fate.DUPLICATE
    assert result.verdict is Verdict.PASS
    (duplicate,) = result.duplicates
    assert (duplicate.task, duplicate.executions, duplicate.explanation) == ("a", 2, "unexplained")
    assert "1 duplicate without any fault: this was a baseline run." in result.notes


def test_an_execution_that_did_not_end_makes_no_duplicate() -> None:
    result = judged(a_good_run().submit("a").started("a", "x").ran("a", pid=200).drained().end())
    assert result.fates["a"] is Fate.DONE
    assert result.duplicates == []


@pytest.mark.parametrize("outcome", ["info", None])
def test_a_task_with_an_unknown_outcome_that_ran_is_RECOVERED(outcome: str | None) -> None:
    result = judged(a_good_run().submit("a", outcome).ran("a").drained().end())
    assert result.fates["a"] is Fate.RECOVERED
    assert result.verdict is Verdict.PASS


@pytest.mark.parametrize("outcome", ["info", None, "fail"])
def test_a_task_that_was_not_promised_and_did_not_run_is_ABSENT(outcome: str | None) -> None:
    result = judged(a_good_run().submit("a", outcome).drained().end())
    assert result.fates["a"] is Fate.ABSENT
    assert result.verdict is Verdict.PASS


def test_a_task_that_the_workload_makes_fail_must_be_dead_lettered_and_no_other_may_be() -> None:
    story = Story().begin(plan={"doomed": ["a"]}).submit("good").ran("good").submit("a").submit("b")
    result = judged(story.drained().end(a=("dead_letter", "as planned"), b=("dead_letter", "too early")))
    assert (result.fates["a"], result.fates["b"]) == (Fate.DEAD, Fate.FAILED)
    assert result.verdict is Verdict.VIOLATION


def given_up_after(deaths: int, *, attempt: int, stated: object = 3) -> Result:
    """Judge a dead-lettered task last begun under `attempt`, whose workers died `deaths` times afterwards."""
    story = Story().begin(plan={"doomed": [], "max_recoveries": stated}).submit("good").ran("good").submit("a")
    story.add("effect", "begin", pid=100, task="a", execution="x", attempt=attempt)
    for number in range(1, deaths + 1):
        story.kill(number, pids=(100,), tasks=("a",))
    return judged(story.drained().end(a=("dead_letter", "Its worker vanished.")))


def test_a_task_whose_workers_died_more_often_than_the_target_states_may_be_given_up() -> None:
    assert given_up_after(1, attempt=3).fates["a"] is Fate.DEAD
    assert given_up_after(3, attempt=1).fates["a"] is Fate.DEAD
    assert given_up_after(2, attempt=1).fates["a"] is Fate.FAILED
    assert given_up_after(9, attempt=9, stated=None).fates["a"] is Fate.FAILED


def test_a_task_that_was_never_begun_may_not_be_given_up_for_the_deaths_of_workers() -> None:
    story = (
        Story().begin(plan={"doomed": [], "max_recoveries": 0}).submit("a").kill(1, pids=(100,)).kill(2, pids=(100,))
    )
    assert judged(story.drained().end(a=("dead_letter", "Its worker vanished."))).fates["a"] is Fate.FAILED


def test_a_task_with_an_unknown_outcome_that_only_began_is_ABSENT_and_noted() -> None:
    result = judged(a_good_run().submit("a", "info").started("a", "x").drained().end())
    assert result.fates["a"] is Fate.ABSENT
    assert "1 task with an unknown outcome began and did not complete." in result.notes


def test_a_task_that_was_refused_and_ran_is_a_GHOST() -> None:
    result = judged(a_good_run().submit("a", "fail").started("a", "x").drained().end())
    assert result.fates["a"] is Fate.GHOST
    assert result.verdict is Verdict.VIOLATION


def test_a_task_that_ran_and_was_never_submitted_is_a_PHANTOM() -> None:
    result = judged(a_good_run().ran("a").drained().end())
    assert result.fates["a"] is Fate.PHANTOM
    assert result.verdict is Verdict.VIOLATION


def test_a_task_that_ran_with_another_payload_is_CORRUPT() -> None:
    story = Story().begin().submit("good", digest="1").ran("good", digest="1").submit("a", digest="1")
    result = judged(story.ran("a", digest="2").drained().end())
    assert result.fates == {"good": Fate.DONE, "a": Fate.CORRUPT}
    assert result.verdict is Verdict.VIOLATION


@pytest.mark.parametrize(("executed", "fate"), [("canonical", Fate.DONE), ("raw", Fate.DONE), ("other", Fate.CORRUPT)])
def test_a_payload_may_be_compared_by_its_value_or_byte_for_byte(executed: str, fate: Fate) -> None:
    story = a_good_run().add("submit", "invoke", task="a", digest="canonical", raw_digest="raw")
    result = judged(story.add("submit", "ok", task="a").ran("a", digest=executed).drained().end())
    assert result.fates["a"] is fate


def test_where_nobody_recorded_what_was_submitted_no_payload_is_CORRUPT() -> None:
    assert judged(a_good_run().submit("a").ran("a", digest="2").drained().end()).fates["a"] is Fate.DONE


@pytest.mark.parametrize(
    ("lies", "fate"), [("canonical", Fate.DEAD), ("raw", Fate.DEAD), (None, Fate.DEAD), ("other", Fate.CORRUPT)]
)
def test_a_dead_letter_with_another_payload_than_was_submitted_is_CORRUPT(lies: str | None, fate: Fate) -> None:
    story = a_good_run().add("submit", "invoke", task="a", digest="canonical", raw_digest="raw")
    story.add("submit", "ok", task="a").drained()
    told = {"place": "dead_letter", "reason": "ValueError: no", "after": "end", "digest": lies}
    assert judged(story.add("census", "found", task="a", **told).end()).fates["a"] is fate


def test_a_task_in_the_broker_that_was_never_submitted_is_not_of_the_run() -> None:
    story = a_good_run().drained()
    found = {"place": "pending", "after": "end", "digest": "other"}
    assert judged(story.add("census", "found", task="a_stranger", **found).end()).fates == {"good": Fate.DONE}


def test_a_task_dead_lettered_with_a_reason_is_DEAD_and_no_violation() -> None:
    result = judged(a_good_run().submit("a").drained().end(a=("dead_letter", "ValueError: no")))
    assert result.fates["a"] is Fate.DEAD
    assert result.verdict is Verdict.PASS
    assert "1 task ended in the dead-letter list with a reason" in result.because


@pytest.mark.parametrize("where", [("dead_letter", None), ("dead_letter", ""), ("failed", "stalled"), "failed"])
def test_a_task_given_up_without_a_reason_or_in_a_failed_registry_is_FAILED(where: object) -> None:
    result = judged(a_good_run().submit("a").drained().end(a=where))
    assert result.fates["a"] is Fate.FAILED
    assert result.verdict is Verdict.VIOLATION


def test_a_task_that_waits_beside_its_own_dead_letter_is_STUCK_and_noted() -> None:
    result = judged(a_good_run().submit("a").deadline().end(a=[("dead_letter", "x"), "pending"]))
    assert result.fates["a"] is Fate.STUCK
    assert "The census saw 1 task in more than one place." in result.notes


def test_a_completed_task_that_still_lies_in_the_broker_is_DONE_and_reported_as_a_leftover() -> None:
    result = judged(a_good_run().drained().end(good=("dead_letter", "killed its worker")))
    assert result.fates["good"] is Fate.DONE
    assert [(leftover.task, leftover.place) for leftover in result.leftovers] == [("good", "dead_letter")]
    assert any("1 completed task was still in the broker" in note for note in result.notes)


def test_the_last_completed_census_decides() -> None:
    story = a_good_run().submit("a").deadline(a="pending").add("poke", "task").census("poke")
    story.add("census", "found", task="a", place="pending", after="restart")  # never completed
    assert judged(story.add("run", "end")).fates["a"] is Fate.LOST


def test_a_client_that_tries_again_until_it_is_answered_has_a_promise() -> None:
    result = judged(a_good_run().submit("a", "info").submit("a", "ok").deadline().end())
    assert result.fates["a"] is Fate.LOST


def test_one_unanswered_attempt_keeps_a_refused_task_unknown() -> None:
    result = judged(a_good_run().submit("a", None).submit("a", "fail").ran("a").drained().end())
    assert result.fates["a"] is Fate.RECOVERED


def test_a_task_in_the_census_that_nobody_submitted_is_not_an_outcome() -> None:
    assert judged(a_good_run().drained().end(stranger="pending")).fates == {"good": Fate.DONE}


# Verdicts ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("story", "doubt"),
    [
        (a_good_run().missed(3).drained().end(), "1 of 1 faults took no effect: 3 (worker-kill)."),
        (
            Story().begin(plan={"faults": [{"number": 9, "fault": "net-cut"}]}).submit("a").ran("a").drained().end(),
            "1 of 1 faults took no effect: 9 (net-cut).",
        ),
        (a_good_run().kill(1, pids=(100,)).drained().end(), "None of the 1 planned worker faults hit a task"),
        (Story().begin().submit("a", "info").drained().end(), "No submission was acknowledged."),
        (a_good_run().end(), "neither drained nor reached its deadline"),
        (a_good_run().drained().census(), "The run did not end"),
        (a_good_run().submit("a").drained().add("run", "end"), "the outcome of 1 unfinished"),
        (Story(), "No submission was acknowledged."),
    ],
)
def test_a_run_that_shows_nothing_is_INCONCLUSIVE_and_says_why(story: Story, doubt: str) -> None:
    result = judged(story)
    assert (result.verdict, result.exit_code) == (Verdict.INCONCLUSIVE, 4)
    assert any(doubt in given for given in result.doubts), result.doubts
    assert doubt[1:] in result.because


def test_a_missed_fault_explains_what_ran_again_by_what_it_did_all_the_same() -> None:
    story = Story().begin(plan={"unexplained_duplicates": 0}).submit("a").started("a", "one")
    story.kill(3, pids=(100,), tasks=("a",)).missed(3).ran("a", pid=101).drained().end()
    result = judged(story)
    assert result.verdict is Verdict.INCONCLUSIVE
    assert result.doubts == ["1 of 1 faults took no effect: 3 (worker-kill)."]
    assert [(fault.state, fault.evidence) for fault in result.faults] == [
        ("missed", "exit status -9 no task was in flight")
    ]


def test_a_fault_that_was_missed_at_first_and_took_effect_at_last_leaves_no_doubt() -> None:
    story = a_good_run().submit("a").started("a", "one").missed(3).kill(3, pids=(100,), tasks=("a",))
    result = judged(story.ran("a", pid=101).drained().end())
    assert result.doubts == []
    assert [(fault.state, fault.evidence) for fault in result.faults] == [("effective", "exit status -9")]


@pytest.mark.parametrize("outcome", ["info", "fail"])
def test_where_nothing_was_acknowledged_the_first_error_of_a_client_is_named(outcome: str) -> None:
    story = Story().begin().add("submit", "invoke", task="a").add("submit", outcome, task="a", error="LookupError: no")
    story.add("submit", "invoke", task="b").add("submit", "info", task="b", error="another").drained().end()
    assert judged(story).doubts == [
        "No submission was acknowledged; the first failed submission raised LookupError: no."
    ]


def test_without_a_drain_an_unfinished_task_is_UNDECIDED_even_after_a_census() -> None:
    result = judged(a_good_run().submit("a").end(a="pending"))
    assert result.fates["a"] is Fate.UNDECIDED
    assert result.verdict is Verdict.INCONCLUSIVE


def test_a_violation_wins_over_liveness_and_over_doubts() -> None:
    result = judged(a_good_run().submit("a").submit("b").missed(1).deadline(b="pending").end(b="pending"))
    assert result.verdict is Verdict.VIOLATION
    assert result.doubts


def test_liveness_wins_over_doubts() -> None:
    assert judged(a_good_run().submit("a").missed(1).deadline().end(a="pending")).verdict is Verdict.LIVENESS


def test_the_worst_verdict_of_several_runs_is_kept() -> None:
    worst_first = [
        Verdict.VIOLATION,
        Verdict.HARNESS_ERROR,
        Verdict.LIVENESS,
        Verdict.INCONCLUSIVE,
        Verdict.PASS,
    ]
    for number, verdict in enumerate(worst_first):
        assert merge(reversed(worst_first[number:])) is verdict
    assert [verdict.exit_code for verdict in worst_first] == [1, 70, 3, 4, 0]
    assert merge([]) is Verdict.INCONCLUSIVE


def an_overtaking(begun_ms: int, **plan: object) -> Story:
    """Return a run in which `old` begins at `begun_ms`; `new` was accepted later and completed after 60 ms."""
    story = Story().begin(recover_within=2.0, plan=plan).submit("old").submit("new").ran("new", pid=200)
    story.add("effect", "begin", pid=100, task="old", execution="x", at_ms=begun_ms).ended("old", "x")
    return story.drained().end()


def test_in_a_baseline_a_task_that_comes_long_after_later_ones_is_noted_as_out_of_order() -> None:
    result = judged(an_overtaking(3_100, misbehaving=0))
    assert result.overtaken == ["old"]
    assert "1 task ran out of order: tasks accepted later completed long before." in result.notes


@pytest.mark.parametrize(
    "story",
    [
        an_overtaking(3_060, misbehaving=0),
        an_overtaking(3_100, misbehaving=1),
        an_overtaking(3_100),
        an_overtaking(3_100, misbehaving=0).kill(1, pids=(200,)),
        Story().begin(recover_within=0.0, plan={"misbehaving": 0}).submit("a").submit("b", "info").ran("b").drained(),
    ],
)
def test_a_task_that_was_perhaps_recovered_or_never_promised_is_not_out_of_order(story: Story) -> None:
    assert judged(story).overtaken == []


def test_a_task_that_was_submitted_before_another_was_accepted_may_come_before_it() -> None:
    story = Story().begin(recover_within=0.0, plan={"misbehaving": 0}).add("submit", "invoke", task="a")
    story.submit("b").ran("b").add("submit", "ok", task="a").add(
        "effect", "begin", task="a", execution="x", at_ms=9_000
    )
    assert judged(story.ended("a", "x").drained().end()).overtaken == []


# Faults and what they explain ---------------------------------------------------------------------------------------


def killed_after_the_effect_and_before_the_ack() -> Story:
    story = Story().begin().submit("a").submit("b").started("b", "b1", pid=100).ran("a", pid=100)
    return story.kill(4, pids=(100,), tasks=("b",)).ran("a", pid=200).ran("b", pid=200)


def test_a_duplicate_is_explained_by_the_kill_of_the_process_that_had_run_it() -> None:
    result = judged(killed_after_the_effect_and_before_the_ack().drained().end())
    (duplicate,) = result.duplicates
    assert (duplicate.task, duplicate.explained, duplicate.explanation) == ("a", True, "fault 4 (worker-kill)")
    assert not duplicate.overlapping
    assert result.faults[0].duplicates == 1


def test_a_duplicate_is_not_explained_by_the_kill_of_another_process() -> None:
    story = a_good_run().submit("a").ran("a", pid=100).started("x", "x1", pid=300)
    result = judged(story.kill(1, pids=(300,), tasks=("x",)).ran("a", pid=200).drained().end())
    assert [duplicate.explanation for duplicate in result.duplicates] == ["unexplained"]


@pytest.mark.parametrize("kill_first", [True, False])
def test_a_duplicate_is_not_explained_by_a_fault_outside_its_executions(kill_first: bool) -> None:
    story = a_good_run().submit("a")
    if kill_first:
        story.kill(1, pids=(100,), tasks=("a",))
    story.ran("a", pid=100).ran("a", pid=200)
    if not kill_first:
        story.kill(1, pids=(100,), tasks=("a",))
    assert [duplicate.explained for duplicate in judged(story.drained().end()).duplicates] == [False]


def test_a_fault_that_was_missed_explains_nothing() -> None:
    story = a_good_run().submit("a").ran("a", pid=100).missed(1).ran("a", pid=200)
    assert [duplicate.explained for duplicate in judged(story.drained().end()).duplicates] == [False]


def test_each_repetition_needs_a_fault_of_its_own() -> None:
    story = a_good_run().submit("a").ran("a", pid=100).kill(1, pids=(100,)).ran("a", pid=200).ran("a", pid=300)
    (duplicate,) = judged(story.drained().end()).duplicates
    assert (duplicate.executions, duplicate.explained) == (3, False)
    assert duplicate.explanation == "unexplained (only partly by fault 1 (worker-kill))"


def test_a_recovery_that_is_quicker_than_the_record_of_the_kill_is_still_explained() -> None:
    story = a_good_run().submit("a").ran("a", pid=100)
    story.add("fault", "begin", fault="worker-kill", number=1).started("a", "a2", pid=200)
    story.add("fault", "effective", fault="worker-kill", number=1, pids=[100], evidence="exit status -9")
    assert judged(story.ended("a", "a2", pid=200).drained().end()).duplicates[0].explained


def test_executions_that_overlap_in_time_are_noted() -> None:
    story = a_good_run().submit("a").started("a", "a1", pid=100).started("a", "a2", pid=200)
    result = judged(story.ended("a", "a1", pid=100).ended("a", "a2", pid=200).drained().end())
    assert result.duplicates[0].overlapping
    assert "1 task ran twice at the same time." in result.notes


def test_a_kill_counts_as_mid_task_when_the_ledger_shows_a_body_in_its_process() -> None:
    result = judged(killed_after_the_effect_and_before_the_ack().drained().end())
    assert (result.kills.planned, result.kills.effective, result.kills.mid_task) == (1, 1, 1)
    assert result.faults[0].tasks_hit == ["b"]
    assert "1 of 1 worker fault interrupted a task in its body" in result.because


def test_a_claim_of_the_nemesis_that_the_ledger_contradicts_is_not_mid_task() -> None:
    result = judged(a_good_run().kill(1, pids=(100,), tasks=("good", "unheard of")).drained().end())
    assert result.kills.mid_task == 0
    assert result.verdict is Verdict.INCONCLUSIVE


def test_a_claim_of_the_nemesis_that_the_ledger_confirms_is_mid_task() -> None:
    story = a_good_run().submit("a").started("a", "a1").kill(1, tasks=("a",)).ran("a", pid=200)
    assert judged(story.drained().end()).faults[0].tasks_hit == ["a"]


def test_a_body_that_a_worker_finished_before_it_obeyed_the_fault_was_hit_by_it() -> None:
    story = a_good_run().submit("a").started("a", "a1").add("fault", "begin", fault="worker-end", number=1)
    story.ended("a", "a1").add("fault", "effective", fault="worker-end", number=1, tasks=["a"], evidence="status 0")
    result = judged(story.drained().end())
    assert (result.kills.mid_task, result.redeliveries) == (1, [])


def test_a_fault_is_effective_missed_unfinished_or_not_begun_and_says_why() -> None:
    planned = [{"number": number, "fault": "worker-kill"} for number in (1, 2, 3, 4)]
    story = Story().begin(plan={"faults": planned}).submit("a").started("a", "a1").kill(1, tasks=("a",)).missed(2)
    story.add("fault", "begin", fault="worker-kill", number=3).ran("a", pid=200)
    faults = judged(story.drained().end()).faults
    assert [fault.state for fault in faults] == ["effective", "missed", "unfinished", "not begun"]
    assert [fault.evidence for fault in faults] == ["exit status -9", "no task was in flight", "", ""]


def test_a_body_killed_earlier_is_not_in_flight_forever() -> None:
    story = a_good_run().submit("a").started("a", "a1", pid=100).kill(1, pids=(100,), tasks=("a",))
    result = judged(story.ran("a", pid=200).kill(2, pids=(200,), tasks=("a",)).drained().end())
    assert [fault.tasks_hit for fault in result.faults] == [["a"], []]


def test_time_to_redelivery_runs_from_the_effect_of_the_fault_to_the_next_begin() -> None:
    story = a_good_run().submit("a").submit("b").started("a", "a1").started("b", "b1")
    story.kill(1, pids=(100,), tasks=("a", "b")).started("a", "a2", pid=200).ended("a", "a2", pid=200)
    story.add("effect", "begin", pid=200, task="b", execution="b2", at_ms=400).ended("b", "b2", pid=200)
    result = judged(story.drained().end())
    assert [(one.task, one.fault, one.ms) for one in result.redeliveries] == [("a", 1, 10.0), ("b", 1, 270.0)]
    times = result.time_to_redelivery_ms
    assert times is not None
    assert (times.count, times.median, times.max) == (2, 140.0, 270.0)
    assert (result.faults[0].at_ms, result.duration_ms) == (120.0, 440.0)
    assert (result.faults[0].redelivered, result.faults[0].redelivery_ms_max) == (2, 270.0)


def test_a_task_that_never_ran_again_is_listed_without_a_time() -> None:
    story = a_good_run().submit("a").started("a", "a1").kill(1, pids=(100,), tasks=("a",))
    result = judged(story.deadline().end())
    assert [(one.task, one.ms) for one in result.redeliveries] == [("a", None)]
    assert result.time_to_redelivery_ms is None


def test_a_process_that_a_fault_paused_and_that_then_completed_was_not_redelivered() -> None:
    story = a_good_run().submit("a").started("a", "a1").kill(1, pids=(100,), name="worker-pause").ended("a", "a1")
    result = judged(story.drained().end())
    assert (result.kills.mid_task, result.redeliveries) == (1, [])


def test_end_to_end_runs_from_the_first_attempt_to_the_first_end() -> None:
    result = judged(Story().begin().submit("a", "info").submit("a").ran("a").ran("a").drained().end())
    assert result.end_to_end_ms is not None
    assert (result.end_to_end_ms.count, result.end_to_end_ms.max) == (1, 50.0)


def test_processes_that_ended_by_themselves_are_reported_and_wanted_ends_are_not() -> None:
    story = a_good_run().add("process", "exit", role="worker", sid=100, status=-9, wanted=True)
    story.add("process", "exit", role="producer", sid=300, status=1, wanted=False)
    assert [(gone.role, gone.sid, gone.status) for gone in judged(story.drained().end()).exits] == [
        ("producer", 300, 1)
    ]


def test_a_result_names_the_server_the_durability_and_how_to_repeat_the_run() -> None:
    story = Story().begin(
        command=["zeroloss", "run", "--target", "my queue.py"],
        server={"kind": "embedded", "version": "9.1"},
        durability={"sentence": "AOF, fsync always"},
        versions={"python": "3.11"},
    )
    result = judged(story.submit("a").ran("a").drained().end())
    assert result.replay == "zeroloss run --target 'my queue.py' --seed 7"
    assert (result.server, result.durability) == ("kind embedded, version 9.1", "AOF, fsync always")
    assert result.versions == {"python": "3.11"}


def test_a_run_whose_plan_is_on_record_is_repeated_from_it() -> None:
    story = Story().begin(command=["zeroloss", "run"], repeat=["zeroloss", "replay", "my runs/1/plan.json"])
    assert judged(story.submit("a").ran("a").drained().end()).replay == "zeroloss replay 'my runs/1/plan.json'"


def test_the_percentiles_of_a_summary_are_values_that_occurred() -> None:
    summary = summarise([4.0, 1.0, 3.0, 2.0])
    assert summary is not None
    assert msgspec.structs.astuple(summary) == (4, 2.5, 4.0, 4.0, 4.0)
    assert summarise([]) is None


# Properties of the judge ---------------------------------------------------------------------------------------------

NAMES = st.sampled_from(["a", "b", "c"])
PIDS = st.sampled_from([100, 200])


def _members(kind: str, **members: st.SearchStrategy[object]) -> st.SearchStrategy[dict[str, object]]:
    return st.fixed_dictionaries(
        {"kind": st.just(kind), "t": st.integers(0, 50).map(lambda ms: ms * MS), "pid": PIDS, **members}
    )


EVENTS = st.one_of(
    _members("run", phase=st.sampled_from(["begin", "healed", "drained", "deadline", "end"])),
    _members("submit", phase=st.sampled_from(["invoke", "ok", "fail", "info"]), task=NAMES),
    _members(
        "effect",
        phase=st.sampled_from(["begin", "end", "error"]),
        task=NAMES,
        execution=st.sampled_from("uvwxyz"),
        digest=st.sampled_from([None, "1", "2"]),
    ),
    _members(
        "process", phase=st.sampled_from(["start", "exit"]), role=st.just("worker"), status=st.sampled_from([None, -9])
    ),
    _members(
        "fault",
        phase=st.sampled_from(["begin", "effective", "missed", "end"]),
        fault=st.sampled_from(["worker-kill", "server-kill"]),
        number=st.integers(1, 3),
        pids=st.lists(PIDS),
        tasks=st.lists(NAMES),
    ),
    _members("poke", phase=st.sampled_from(["task", "restart"])),
    _members(
        "census",
        phase=st.sampled_from(["found", "done"]),
        task=st.none() | NAMES,
        place=st.sampled_from([None, "pending", "dead_letter", "failed", "unknown"]),
        reason=st.sampled_from([None, "x"]),
        after=st.sampled_from(["deadline", "poke", "restart", "end"]),
    ),
).map(lambda members: msgspec.convert(members, Event))


BEGIN = [*Story().begin().submit("ran").ran("ran").events]
HISTORIES = st.lists(EVENTS, max_size=40).map(
    lambda events: [*BEGIN, *(event for event in events if (event.kind, event.phase) != ("run", "begin"))]
)
"""Histories with a readable plan and a task body, so no evidence is missing."""


@given(st.lists(EVENTS, max_size=40) | HISTORIES)
@settings(max_examples=100)
def test_the_judge_never_raises_and_its_verdict_follows_from_its_outcomes(events: list[Event]) -> None:
    result = judge(events)
    met = set(result.fates.values())
    assert result.verdict is not Verdict.VIOLATION or met & VIOLATIONS
    assert result.verdict is not Verdict.PASS or not result.doubts
    assert sum(result.counts.values()) == len(result.fates)
    assert result.because.endswith((".", "?"))
    assert msgspec.json.decode(msgspec.json.encode(result), type=Result) == result


@given(HISTORIES)
@settings(max_examples=100)
def test_a_history_in_which_nothing_is_missing_is_a_violation_exactly_by_its_outcomes(events: list[Event]) -> None:
    result = judge(events)
    assert (result.verdict is Verdict.VIOLATION) == bool(set(result.fates.values()) & VIOLATIONS)


@given(HISTORIES)
@settings(max_examples=100)
def test_the_laws_and_the_outcomes_agree(events: list[Event]) -> None:
    result = judge(events)
    broken = {law.number: bool(law.violations) for law in result.properties}
    promised = {event.task for event in events if event.kind == "submit" and event.phase == "ok"}
    gone = {task for task in result.tasks(Fate.LOST, Fate.FAILED) if task in promised}
    invented = result.tasks(Fate.PHANTOM, Fate.GHOST, Fate.CORRUPT)
    assert broken["I6"] == bool(invented)
    assert broken["I4"] == bool(result.tasks(Fate.STUCK, Fate.NEEDS_TRAFFIC, Fate.NEEDS_RESTART))
    if gone:
        assert broken["I2"]
    if broken["I2"] or broken["I1"]:
        assert result.verdict is Verdict.VIOLATION


@given(st.lists(EVENTS, max_size=40, unique_by=lambda event: event.t), st.randoms(use_true_random=False))
@settings(max_examples=100)
def test_the_order_in_which_events_are_handed_over_is_irrelevant(events: list[Event], shuffle: random.Random) -> None:
    shuffled = list(events)
    shuffle.shuffle(shuffled)
    assert judge(shuffled) == judge(events)


@given(
    st.lists(st.tuples(NAMES, PIDS), min_size=1, max_size=8),
    st.dictionaries(NAMES, st.sampled_from(["pending", "processing"])),
    st.integers(0, 7),
)
def test_taking_away_the_only_end_of_a_promised_task_makes_it_LOST_or_STUCK(
    runs: list[tuple[str, int]], found: dict[str, str], which: int
) -> None:
    story = Story().begin()
    for task in "abc":
        story.submit(task)
    for task, pid in runs:
        story.ran(task, pid)
    events = story.deadline(**found).end(**found).events
    victim = runs[which % len(runs)][0]
    without = [
        event for event in events if not (event.kind == "effect" and event.phase == "end" and event.task == victim)
    ]
    assert judge(events).fates[victim] in (Fate.DONE, Fate.DUPLICATE)
    assert judge(without).fates[victim] is (Fate.STUCK if victim in found else Fate.LOST)


@given(st.lists(EVENTS, max_size=30, unique_by=lambda event: event.t), st.data())
def test_delaying_an_unrelated_process_changes_no_other_outcome(events: list[Event], data: st.DataObject) -> None:
    """Events of another process with its own task, at any time, do not affect other tasks."""
    moment = data.draw(st.integers(0, 50)) * MS
    stranger = [
        msgspec.convert(
            {"t": moment, "pid": 900, "kind": "effect", "phase": phase, "task": "z", "execution": "z1"}, Event
        )
        for phase in ("begin", "end")
    ]
    fates = judge([*events, *stranger]).fates
    assert fates.pop("z") is Fate.PHANTOM
    assert fates == judge(events).fates


def test_a_misbehaving_handler_explains_the_duplicate_though_it_is_counted_at_the_end() -> None:
    story = Story().begin().submit("a").started("a", "a1").ran("a", pid=200).ended("a", "a1").submit("b")
    story.ran("b").ran("b").kill(1, tasks=("a",), name="handler-hangs")
    first, second = judged(story.drained().end()).duplicates
    assert (first.task, first.explained, [str(fault) for fault in first.faults]) == (
        "a", True, ["fault 1 (handler-hangs)"],
    )  # fmt: skip
    assert (second.task, second.explained) == ("b", False)


def test_a_handler_that_misbehaved_explains_no_repetition_of_what_ran_after_it() -> None:
    story = Story().begin().submit("a").started("a", "a1").add("effect", "error", pid=100, task="a", execution="a1")
    result = judged(story.ran("a").ran("a").kill(1, tasks=("a",), name="handler-raises").drained().end())
    assert [(one.task, one.explanation) for one in result.duplicates] == [("a", "unexplained")]


def test_a_handler_that_ended_its_process_explains_what_that_had_just_done_and_nothing_of_long_before() -> None:
    story = Story().begin().submit("old").ran("old").submit("new").submit("exits")
    story.add("effect", "begin", pid=100, at_ms=5_000, task="new", execution="n1").ended("new", "n1")
    story.started("exits", "x1").ran("old", pid=200).ran("new", pid=200).ran("exits", pid=200)
    result = judged(story.kill(1, tasks=("exits",), name="handler-exits").drained().end())
    assert {one.task: one.explanation for one in result.duplicates} == {
        "old": "unexplained", "new": "fault 1 (handler-exits)",
    }  # fmt: skip


def test_a_fault_explains_no_repetition_of_what_was_done_long_before_it() -> None:
    story = a_good_run().submit("a").ran("a", pid=100).add("fault", "begin", fault="net", number=1, at_ms=9_000)
    story.add("fault", "effective", fault="net", number=1, pids=[100], evidence="cut off")
    assert [one.explained for one in judged(story.ran("a", pid=200).drained().end()).duplicates] == [False]


# Load -------------------------------------------------------------------------------------------------------------


def a_run_under_load() -> Story:
    return Story().begin(plan={"load": "steady.conf"}).submit("a").ran("a").add("load", "second", requests=5)


def test_a_load_that_broke_a_threshold_is_a_verdict_of_its_own_where_nothing_is_wrong_with_the_tasks() -> None:
    kept = judged(a_run_under_load().add("load", "end", seconds=1.0, kept=["quick enough"]).drained().end())
    assert (kept.verdict, kept.exit_code) == (Verdict.PASS, 0)
    broken = judged(a_run_under_load().add("load", "end", seconds=1.0, broken=["too slow"]).drained().end())
    assert (broken.verdict, broken.exit_code) == (Verdict.SLO, 3)


def test_a_load_whose_end_nobody_told_is_INCONCLUSIVE() -> None:
    result = judged(a_run_under_load().drained().end())
    assert (result.verdict, result.exit_code) == (Verdict.INCONCLUSIVE, 4)
    assert result.doubts == ["The load did not end, so it is unknown whether it met its thresholds."]


def test_a_run_without_a_load_says_nothing_of_one() -> None:
    assert judged(a_good_run().drained().end()).load is None


# A starved machine ------------------------------------------------------------------------------------------------


def test_a_task_stuck_on_a_starved_machine_shows_nothing_either_way() -> None:
    story = Story().begin().submit("done").ran("done").submit("a").add("run", "healed").late().late(1_200)
    result = judged(story.add("run", "deadline").census("deadline", a="pending").end(a="pending"))
    assert (result.verdict, result.fates["a"]) == (Verdict.INCONCLUSIVE, Fate.STUCK)
    assert result.doubts == [
        "1 task was late or unfinished while the machine was overloaded: the harness itself ran up to 2.5 s late "
        "while it waited for the queue."
    ]
    assert any("the harness itself ran late 2 times, by up to 2.5 s" in note for note in result.notes)


def test_a_task_that_needs_a_poke_on_a_starved_machine_shows_nothing_either_way() -> None:
    story = Story().begin().submit("a").deadline(a="pending").late().add("poke", "task", task="p").submit("p")
    assert judged(story.ran("p").ran("a").end()).verdict is Verdict.INCONCLUSIVE


def test_a_machine_that_was_starved_long_before_the_queue_was_waited_for_excuses_nothing() -> None:
    result = judged(
        Story().begin().submit("done").ran("done").late().submit("a").deadline(a="pending").end(a="pending")
    )
    assert (result.verdict, result.doubts) == (Verdict.LIVENESS, [])
    assert any("The machine was overloaded" in note for note in result.notes)


def test_a_starved_machine_loses_no_task_so_that_what_is_gone_is_LOST() -> None:
    story = a_good_run().submit("stuck").submit("gone").add("run", "healed").late().add("run", "deadline")
    result = judged(story.census("deadline", stuck="pending").end(stuck="pending"))
    assert (result.verdict, result.fates["gone"]) == (Verdict.VIOLATION, Fate.LOST)


def test_a_run_that_passed_on_a_starved_machine_passed_and_says_so() -> None:
    story = Story().begin().submit("a").ran("a").add("run", "healed").late().add("run", "drained").end()
    result = judged(story)
    assert (result.verdict, result.doubts) == (Verdict.PASS, [])
    assert any("The machine was overloaded" in note for note in result.notes)


def test_a_run_without_lateness_says_nothing_of_a_starved_machine() -> None:
    assert not any("overloaded" in note for note in judged(Story().begin().submit("a").ran("a").drained().end()).notes)


def test_a_task_stuck_after_the_machine_was_starved_is_stuck() -> None:
    story = Story().begin().submit("done").ran("done").submit("a").add("run", "healed").late().add("run", "deadline")
    story.census("deadline", a="pending").add("poke", "task", task="p").submit("p").ran("p").add("poke", "restart")
    result = judged(story.census("restart", a="pending").end(a="pending"))
    assert (result.verdict, result.doubts, result.fates["a"]) == (Verdict.LIVENESS, [], Fate.STUCK)


def test_a_task_that_needed_a_poke_before_the_machine_was_starved_needed_it() -> None:
    story = Story().begin().submit("a").deadline(a="pending").add("poke", "task", task="p").submit("p")
    story.ran("p").ran("a").add("harness", "late", late_ms=2_500, at_ms=60_000)
    assert judged(story.end()).verdict is Verdict.LIVENESS


def test_kills_that_hit_no_body_of_a_millisecond_ask_for_longer_bodies() -> None:
    story = Story().begin().add("submit", "invoke", task="a").add("submit", "ok", task="a")
    story.add("effect", "begin", pid=100, task="a", execution="e", at_ms=50)
    story.add("effect", "end", pid=100, task="a", execution="e", at_ms=51)
    story.missed(1, name="worker-sigkill").drained().end()
    assert "half of the bodies lasted less than 1.0 ms. Make each body last as long as work_ms in its payload says" in (
        judge(story.events).because
    )


def test_a_task_of_which_only_a_record_is_left_is_undecided_and_census_is_asked_for() -> None:
    story = Story().begin().submit("a").submit("b").ran("b").deadline(a=("record", "in the string job:a"))
    result = judge(story.end(a=("record", "in the string job:a")).events)
    assert (result.verdict, result.fates["a"]) == ("INCONCLUSIVE", Fate.UNDECIDED)
    assert "nly a record of 1 unfinished task is left in Redis, as in the string job:a" in result.because


def test_a_task_given_up_with_a_reason_is_reported_with_it() -> None:
    story = Story().begin(plan={"doomed": []}).submit("a").drained().end(a=("failed", "swept"))
    (law,) = [law for law in judge(story.events).properties if law.number == "I2"]
    assert law.violations == ["Task a was given up although it can be done; the queue's reason: swept"]


def test_a_law_that_a_run_did_not_come_to_test_is_not_called_kept() -> None:
    story = Story().begin().submit("a").ran("a").drained().end()
    tested = {law.number: law.tested for law in judge(story.events).properties}
    assert tested == {f"I{number}": number in (1, 2, 6) for number in range(1, 9)}
    stated = Story().begin(plan={"idempotent": True, "max_attempts": 3}).submit("a").ran("a").drained().end()
    assert {law.number for law in judge(stated.events).properties if law.tested} == {"I1", "I2", "I5", "I6", "I8"}


def test_processes_that_end_by_themselves_are_one_sentence_with_the_fault_and_their_last_words() -> None:
    story = Story().begin().submit("a").ran("a")
    for pid in (300, 301, 302):
        if pid == 301:
            story.kill(1, name="server-sigkill")
        story.add(
            "process", "exit", pid=pid, role="worker", sid=pid, status=1, wanted=False, last_words="ConnectionError"
        )
    result = judge(story.drained().end().events)
    assert result.exits_in_short == [
        "3 workers exited with status 1, 2 of them during server-sigkill; last output: ConnectionError"
    ]
