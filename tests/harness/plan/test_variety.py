"""The variety of a plan's tasks: they reach a queue's internal limits from both sides, if the target allows it."""

import json
import math
from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from zeroloss.faults.client.pauses import TASKS as PAUSED_TASKS
from zeroloss.faults.client.producer_sigkill_batch import ProducerSigkillBatch
from zeroloss.faults.planned import SMALL_BYTES_MAX, PlannedTask
from zeroloss.faults.worker.sigkill_full import TASKS
from zeroloss.plan.mix import draw_mix
from zeroloss.plan.plan import Plan, encode, load_plan, make_plan
from zeroloss.plan.requests import FaultRequest, PlanError, parse_work_ms
from zeroloss.plan.variety import (
    BACKLOG_SHARE,
    BURST_SIZES,
    EDGE_BYTES,
    GIVEN_UP_MS,
    LARGE_BYTES_TOTAL,
    LONG_MS_MIN,
    LONG_TOGETHER,
    LONG_TOGETHER_MS,
    SCHEDULED_TOGETHER,
    TOGETHER_MS,
)
from zeroloss.run.workload import together
from zeroloss.target import Target
from zeroloss.targets.reference import Reference

WHOLE = 2**53 + 1


class Doubles(Target):
    numbers = "double"


class Small(Target):
    payload_bytes_max = 300


def plan(stated: type[Target] = Reference, **changes: Any) -> Plan:
    asked: dict[str, Any] = {
        "seed": 1,
        "target": "reference",
        "server": "embedded",
        "appendfsync": "always",
        "workers": 3,
        "tasks": 2_000,
        "faults": [FaultRequest("worker-sigkill", 10, {})],
    }
    return make_plan(stated=stated, **{**asked, **changes})


@given(
    size=st.integers(0, 5_000),
    raw=st.booleans(),
    numbers=st.sampled_from(("doubles", "whole", "text")),
    spaced=st.booleans(),
    behaviour=st.sampled_from(("", "raise-once")),
)
def test_the_text_of_a_payload_has_the_planned_size_to_the_byte(
    size: int, raw: bool, numbers: Any, spaced: bool, behaviour: str
) -> None:
    def text(size: int) -> bytes:
        return PlannedTask("zl-1", 0.0, 5, size, behaviour, raw=raw, numbers=numbers, spaced=spaced).text().encode()

    assert len(text(size)) == max(size, len(text(0)))
    assert json.loads(text(size))["id"] == "zl-1"
    assert text(size).isascii() == (not raw)


def test_a_payload_as_text_holds_what_decoding_and_encoding_again_changes() -> None:
    text = PlannedTask("zl-1", 0.0, 5, numbers="text").text()
    assert all(part in text for part in (str(WHOLE), "1.10", "1e400", '"b":1,"a":2'))
    assert json.dumps(json.loads(text)) != text


def test_a_target_whose_numbers_are_doubles_gets_no_whole_number_beyond_them() -> None:
    assert all(str(WHOLE) not in task.text() for task in plan(Doubles, tasks=50).tasks)
    assert all(str(WHOLE) in task.text() and "1e400" not in task.text() for task in plan(Target, tasks=50).tasks)


@pytest.mark.parametrize("seed", range(6))
def test_payloads_lie_on_both_sides_of_64_kib_and_at_the_limit_and_are_bounded_in_total(seed: int) -> None:
    sizes = [task.size_bytes for task in plan(seed=seed).tasks]
    assert max(sizes) == Reference.payload_bytes_max
    near = [size for size in sizes if abs(size - EDGE_BYTES) <= 300]
    assert min(near) < EDGE_BYTES < max(near)
    assert sum(size for size in sizes if size > SMALL_BYTES_MAX) <= LARGE_BYTES_TOTAL


def test_no_payload_is_larger_than_the_target_takes() -> None:
    assert max(len(task.text()) for task in plan(Small).tasks if task.size_bytes > 200) <= 300


def test_half_of_the_payloads_are_raw_utf_8() -> None:
    raw = sum(task.raw for task in plan().tasks)
    assert 800 < raw < 1_200


def test_each_type_of_a_target_is_met_and_a_target_without_types_is_given_none() -> None:
    assert {task.type for task in plan().tasks} == set(Reference.types)
    assert {task.type for task in plan(Target).tasks} == {""}


@pytest.mark.parametrize("seed", range(5))
def test_a_task_that_hangs_has_the_first_type_as_its_target_may_give_it_one_with_a_time_limit(seed: int) -> None:
    types = {task.type for task in plan(seed=seed).tasks if task.behaviour == "hang-once"}
    assert types == {Reference.types[0]}


def test_the_largest_batch_has_a_thousand_tasks_or_one_more_and_the_rest_is_single_or_in_small_groups() -> None:
    largest = set()
    for seed in range(20):
        mix = draw_mix(seed, kills=9, server="embedded", appendfsync="always", workers=3, target=Reference)
        sizes = sorted(len(batch) for batch in together(plan(seed=seed, faults=mix).tasks))
        largest.add(sizes[-1])
        assert sizes[0] == 1
        assert sizes[-2] == round(SCHEDULED_TOGETHER * math.ceil(BACKLOG_SHARE * 2_000))
        assert 95 <= sizes[-3] <= TASKS  # the call of the full hand
        assert 60 <= sizes[-4] <= PAUSED_TASKS
        assert 2 <= sizes[-5] <= 20
    assert largest == {1_000, 1_001}


def test_a_batch_is_due_at_one_moment() -> None:
    assert all(len({task.at_s for task in batch}) == 1 for batch in together(plan().tasks))


def test_a_target_without_batches_gets_its_burst_one_by_one_at_the_same_moment() -> None:
    made = plan(Target).tasks
    assert {task.batch for task in made} == {0}
    assert 999 <= Counter(task.at_s for task in made if task.at_s).most_common(1)[0][1] <= 1_002


def test_bodies_of_no_time_come_in_a_burst_and_some_bodies_take_seconds() -> None:
    made = plan(Target).tasks
    assert 500 <= sum(task.work_ms == 0 for task in made) + LONG_TOGETHER <= 501
    assert sum(task.work_ms >= 4_000 for task in made) == 12


def test_a_burst_begins_with_a_few_long_bodies_whose_leases_must_last_beside_all_the_others() -> None:
    burst = [task.work_ms for task in max(together(plan().tasks), key=len)]
    assert burst[:LONG_TOGETHER] == [LONG_TOGETHER_MS] * LONG_TOGETHER
    assert burst[LONG_TOGETHER] == 0


def coming(made: Plan) -> list[PlannedTask]:
    """Return the tasks that are submitted when the plan's only fault begins."""
    (fault,) = made.faults
    found = [task for task in made.tasks if task.fault]
    assert all((task.fault, task.at_s) == (fault.number, fault.at_s) for task in found)
    return found


@pytest.mark.parametrize(("recover_within_s", "least_ms"), [(2.5, 4_000), (11.0, 6_500)])
def test_tasks_with_long_bodies_come_with_a_fault_that_needs_them(recover_within_s: float, least_ms: int) -> None:
    asked = [FaultRequest("worker-sigterm", 1, {})]
    made = plan(Target, faults=asked, recover_within_s=recover_within_s)
    assert [task.work_ms >= least_ms for task in coming(made)] == [True] * 2
    assert sum(task.work_ms >= 4_000 for task in made.tasks) == 14
    brief = plan(Target, faults=asked, work_ms=(0, 50))
    assert max(task.work_ms for task in brief.tasks) <= 50
    assert all(task.work_ms <= 400 for task in plan(Target, faults=asked, tasks=50).tasks)


class InPairs(Reference):
    batch_max = 2


@pytest.mark.parametrize(("stated", "size"), [(Reference, 50), (InPairs, 2)])
def test_one_call_of_many_tasks_comes_with_a_fault_that_needs_it(stated: type[Target], size: int) -> None:
    made = plan(stated, faults=[FaultRequest("producer-sigkill-batch", 1, {})])
    calls = [len(call) for call in together(made.tasks) if call[0].fault]
    assert calls == [len(coming(made))] == [size]
    assert [task.at_s for task in made.tasks] == sorted(task.at_s for task in made.tasks)


def test_a_call_keeps_its_size_behind_many_other_faults_that_need_tasks() -> None:
    faults = [FaultRequest("worker-sigkill", 50, {}), FaultRequest("server-sigterm", 100, {})]
    drawn = plan(faults=[*faults, FaultRequest("producer-sigkill-batch", 1, {})])
    (number,) = [one.number for one in drawn.faults if one.fault == "producer-sigkill-batch"]
    assert sum(task.fault == number for task in drawn.tasks) == ProducerSigkillBatch.brings["call"]


def test_tasks_with_bodies_of_more_than_a_second_come_with_an_outage() -> None:
    asked = [FaultRequest("server-sigkill", 1, {})]
    assert all(1_100 <= task.work_ms <= 1_800 for task in coming(plan(faults=asked)))
    assert len(coming(plan(faults=asked))) == 8
    assert coming(plan(faults=asked, work_ms=(0, 5))) == []


def test_a_task_comes_with_each_kill() -> None:
    made = plan(faults=[FaultRequest("worker-sigkill", 50, {})])
    brought = [task for task in made.tasks if task.fault]
    assert sorted(task.fault for task in brought) == list(range(1, 51))
    assert all(1_100 <= task.work_ms <= 1_800 for task in brought)


def test_tasks_that_will_fail_come_with_a_full_memory() -> None:
    made = plan(faults=[FaultRequest("server-maxmemory", 1, {})])
    failing = [task for task in coming(made) if task.behaviour == "raise-once"]
    assert len(failing) == 8
    assert all(1_100 <= task.work_ms <= 1_800 for task in failing)
    assert not any(task.behaviour for task in coming(plan(Target, faults=[FaultRequest("server-maxmemory", 1, {})])))


def test_bodies_that_hang_and_long_ones_beside_them_come_with_a_full_memory() -> None:
    came = coming(plan(faults=[FaultRequest("server-maxmemory", 1, {})]))
    limit_ms = 1_000 * (Reference.time_limit or 0)
    hanging = [task for task in came if task.behaviour == "hang-once"]
    assert [task.type for task in hanging] == [Reference.types[0]] * 2
    assert all(task.work_ms > limit_ms + 10_000 for task in hanging)
    assert sum(not task.behaviour and task.work_ms > 4_000 for task in came) == 4


def test_single_tasks_come_with_a_fault_of_those_who_submit_them() -> None:
    made = plan(faults=[FaultRequest("client-reply-loss", 1, {})])
    assert [(task.batch, task.behaviour) for task in coming(made)] == [(0, "")] * 16
    assert max(task.work_ms for task in coming(made)) <= 400


def test_no_long_body_comes_late_in_the_trickle_as_the_end_of_the_run_would_wait_for_it() -> None:
    for seed in range(5):
        well_behaved = [task for task in plan(seed=seed).tasks if not task.behaviour and not task.batch]
        assert not any(task.work_ms >= LONG_MS_MIN for task in well_behaved[-50:])


@pytest.mark.parametrize("way", ["reject", "raise-always", ""])
def test_tasks_that_are_given_up_come_with_a_fault_that_needs_them(way: str) -> None:
    class Told(Target):
        behaviours = frozenset({way} - {""})

    made = plan(Told, faults=[FaultRequest("server-denies", 1, {})])
    without = plan(Told, faults=[FaultRequest("script-flush", 1, {})])
    given_up = [sum(task.behaviour == way for task in one.tasks) for one in (made, without)]
    if way:
        assert given_up[0] == given_up[1] + 4
        assert [task.behaviour for task in coming(made)] == [way] * 4
    else:
        assert not made.misbehaving


class WithoutSchedules(Reference):
    delays = False


def test_more_than_500_tasks_are_due_and_more_than_100_given_up_at_the_same_moment() -> None:
    assert Counter(task.delay_ms for task in plan().tasks)[TOGETHER_MS] > 500
    batch = max(together(plan().tasks), key=len)
    assert Counter(task.behaviour for task in batch)["raise-once"] > 250
    for stated in (Reference, WithoutSchedules):
        behaviours = Counter(task.behaviour for task in max(together(plan(stated).tasks), key=len))
        assert 100 < behaviours["raise-always"] < 200
    assert behaviours["raise-once"] > 500


def test_some_bursts_have_one_priority_and_others_all_and_nothing_in_them_is_scheduled() -> None:
    batches = [max(together(plan(seed=seed).tasks), key=len) for seed in range(10)]
    assert {(len(batch), len({task.priority for task in batch})) for batch in batches} == {(1_001, 1), (1_000, 3)}
    assert not any(task.delay_ms for batch in batches for task in batch)


def test_some_tasks_raise_always_after_a_body_that_a_fault_can_hit() -> None:
    struck = [task for task in plan().tasks if task.behaviour == "raise-always" and task.work_ms == GIVEN_UP_MS]
    assert len(struck) == 20


def test_the_text_of_half_of_the_payloads_has_spaces() -> None:
    assert 0.4 < sum(task.spaced for task in plan().tasks) / 2_000 < 0.6
    spaced, tight = (PlannedTask("zl-1", 0.0, 5, 300, spaced=spaced).text() for spaced in (True, False))
    assert len(spaced) == len(tight) == 300
    assert '"work_ms": 5, ' in spaced


def test_some_single_tasks_are_scheduled_if_the_target_can_and_none_if_it_can_not() -> None:
    assert 25 < sum(0 < task.delay_ms != TOGETHER_MS for task in plan().tasks) < 60
    assert not any(task.delay_ms for task in plan(Target).tasks)


def test_a_tenth_of_the_tasks_has_the_first_priority_and_a_tenth_the_last() -> None:
    made = plan().tasks
    burst = max(together(made), key=len)
    counts = Counter(task.priority for task in made) - Counter(task.priority for task in burst)
    assert counts.keys() == set(Reference.priorities)
    assert all(70 < counts[priority] < 130 for priority in ("high", "low"))
    assert {task.priority for task in plan(Target).tasks} == {""}


def test_tasks_misbehave_in_each_way_that_the_target_states_and_in_no_other() -> None:
    assert plan().behaving.keys() == set(Reference.behaviours)
    assert plan(Target).misbehaving == 0


def test_no_task_misbehaves_in_a_baseline() -> None:
    assert plan(faults=[FaultRequest("none", 1, {})]).misbehaving == 0


@pytest.mark.parametrize("fault", ["client-gives-up", "client-retries", "client-reuses-key"])
def test_a_batch_keeps_its_size_where_clients_misbehave(fault: str) -> None:
    made = plan(faults=[FaultRequest(fault, 1, {})]).tasks
    assert any(task.behaviour.startswith("client-") for task in made)
    assert all(not task.batch for task in made if task.behaviour.startswith("client-"))
    assert max(len(batch) for batch in together(made)) in BURST_SIZES


@given(least=st.integers(0, 50), more=st.integers(0, 100))
def test_all_bodies_last_as_long_as_asked(least: int, more: int) -> None:
    made = plan(Target, tasks=300, work_ms=(least, least + more)).tasks
    assert all(least <= task.work_ms <= least + more for task in made)


@pytest.mark.parametrize("text", ["5", "5:", ":5", "7:5", "-1:5", "a:b", "1:2:3", "0.5:2"])
def test_a_length_of_bodies_that_is_invalid_is_refused_in_one_sentence(text: str) -> None:
    with pytest.raises(PlanError, match=r"--work-ms must be MIN:MAX"):
        parse_work_ms(text)


def test_a_plan_with_variety_is_read_back_the_same(tmp_path: Any) -> None:
    written = plan()
    written.write(tmp_path / "plan.json")
    assert load_plan(tmp_path / "plan.json") == written
    assert encode(written) == encode(plan())
