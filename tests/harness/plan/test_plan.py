"""The plan: all actions of a run, drawn from its seed before it starts."""

import math
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from zeroloss.faults import FAULTS
from zeroloss.faults.client.kill import ClientKill
from zeroloss.plan.mix import draw_mix
from zeroloss.plan.plan import KILLS_BEFORE, Plan, encode, load_plan, make_plan
from zeroloss.plan.requests import FaultRequest, PlanError, parse_faults
from zeroloss.plan.variety import BACKLOG_SHARE, TASK_MS_MAX, TASK_MS_MIN
from zeroloss.target import Target
from zeroloss.targets.reference import Reference
from zeroloss.targets.reference_shards import ReferenceShards


def plan(**changes: Any) -> Plan:
    asked: dict[str, Any] = {
        "seed": 1,
        "target": "reference",
        "server": "embedded",
        "appendfsync": "always",
        "workers": 3,
        "tasks": 200,
        "faults": [FaultRequest("worker-sigkill", 10, {})],
    }
    return make_plan(**{**asked, **changes})


def test_the_same_seed_gives_the_same_plan_byte_for_byte() -> None:
    assert encode(plan(seed=7)) == encode(plan(seed=7))


def test_another_seed_gives_another_plan() -> None:
    assert plan(seed=7).faults != plan(seed=8).faults
    assert [task.work_ms for task in plan(seed=7).tasks] != [task.work_ms for task in plan(seed=8).tasks]


def test_a_plan_that_was_written_is_read_back_the_same(tmp_path: Path) -> None:
    written = plan(faults=[FaultRequest("server-sigkill", 2, {"down_s": 0.5})])
    written.write(tmp_path / "plan.json")
    assert load_plan(tmp_path / "plan.json") == written


def test_the_plan_is_json_with_a_line_for_each_task() -> None:
    text = encode(plan(tasks=50)).decode()
    assert len(msgspec.json.decode(text)["tasks"]) == 50
    assert sum("zl-1-" in line for line in text.splitlines()) == 50


def test_a_quarter_is_there_at_the_start_and_the_rest_trickles_in() -> None:
    times_s = [task.at_s for task in plan(tasks=200).tasks]
    assert times_s.count(0.0) == math.ceil(200 * BACKLOG_SHARE)
    assert times_s == sorted(times_s)


def test_faults_are_spread_over_the_run_and_the_last_leaves_tasks_behind_it() -> None:
    made = plan(tasks=2000, faults=[FaultRequest("worker-sigkill", 50, {})])
    times_s = [fault.at_s for fault in made.faults]
    assert times_s == sorted(times_s)
    assert [fault.number for fault in made.faults] == list(range(1, 51))
    assert max(right - left for left, right in pairwise(times_s)) < 3
    assert sum(task.at_s > times_s[-1] for task in made.tasks) > 50


def test_the_call_of_a_full_hand_comes_after_all_others_and_begins_with_bodies_of_no_time() -> None:
    made = plan(tasks=2000, faults=[FaultRequest("worker-sigkill-full", 1, {})], stated=Reference)
    call = [task for task in made.tasks if task.at_s == made.tasks[-1].at_s]
    assert made.tasks[-len(call) :] == call
    assert len(made.tasks) == 2000
    assert 100 < len(call) <= 120
    assert len({(task.batch, task.priority) for task in call}) == 1
    brief = [task.work_ms for task in call].index(60)
    assert 50 < brief < 64
    assert [task.work_ms for task in call] == [0] * brief + [60] * (len(call) - brief)
    assert call[0].at_s > made.faults[-1].at_s == made.tasks[-len(call) - 1].at_s


def test_each_fault_that_holds_tasks_back_comes_before_its_own_call_and_after_the_others() -> None:
    requests = draw_mix(1, kills=None, server="embedded", appendfsync="always", workers=3, target=Reference)
    made = plan(tasks=2000, faults=requests, stated=Reference)
    held = [fault.at_s for fault in made.faults if FAULTS[fault.fault].holds_traffic]
    calls = sorted({task.at_s for task in made.tasks if task.at_s > held[0]})
    assert len(held) == len(calls) == 2
    assert all(fault_s < call_s for fault_s, call_s in zip(held, calls, strict=True))
    assert held[1:] == calls[:-1]


def test_the_call_of_a_pause_has_as_many_tasks_of_each_priority_all_due_within_moments() -> None:
    made = plan(tasks=2000, faults=[FaultRequest("client-pauses", 1, {})], stated=Reference)
    call = [task for task in made.tasks if task.at_s == made.tasks[-1].at_s]
    assert Counter(task.priority for task in call) == {"high": 22, "default": 22, "low": 22}
    assert {300, 307} < {task.delay_ms for task in call} <= set(range(300, 308))
    assert len({task.batch for task in call}) == 1


def test_a_fault_that_holds_tasks_back_comes_before_those_that_wait_for_the_last_task() -> None:
    for seed in range(10):
        requests = draw_mix(seed, kills=None, server="embedded", appendfsync="always", workers=3, target=Reference)
        names = [one.fault for one in plan(seed=seed, tasks=100, faults=requests, stated=Reference).faults]
        full = ("worker-sigkill-full", "worker-sigterm-full")[seed % 2]
        assert names[-3:] == [full, "client-pauses", "client-reuses-key"]


def test_only_a_target_that_states_the_order_has_a_full_hand_in_its_mix() -> None:
    for target in (Target, ReferenceShards, type("Small", (Reference,), {"batch_max": 119})):
        requests = draw_mix(1, kills=None, server="embedded", appendfsync="always", workers=3, target=target)
        assert "worker-sigkill-full" not in [one.fault for one in requests]


@given(seed=st.integers(0, 2**64), tasks=st.integers(1, 60))
def test_every_task_has_an_id_of_its_own_that_is_not_part_of_another_and_bounded_work(seed: int, tasks: int) -> None:
    made = plan(seed=seed, tasks=tasks).tasks
    ids = [task.id for task in made]
    assert len(set(ids)) == tasks
    assert len({len(one) for one in ids}) == 1
    assert all(TASK_MS_MIN <= task.work_ms <= TASK_MS_MAX for task in made)


def test_an_option_goes_with_its_fault_and_kills_counts_the_worker_faults_that_state_no_count() -> None:
    assert parse_faults("worker-sigkill,server-sigkill:down_s=2:count=4", kills=9) == [
        FaultRequest("worker-sigkill", 9, {}),
        FaultRequest("server-sigkill", 4, {"down_s": 2.0}),
    ]
    assert parse_faults("worker-sigkill:count=5", kills=9)[0].count == 5
    assert parse_faults("worker-sigkill-quiet", kills=9)[0].count == 1
    assert parse_faults("worker-sigkill:stays_dead=true", None)[0].options == {"stays_dead": True}


def test_a_comma_may_stand_between_the_options_of_one_fault_too() -> None:
    assert parse_faults("server-sigkill:down_s=2,count=4,worker-sigkill:count=1", kills=None) == [
        FaultRequest("server-sigkill", 4, {"down_s": 2.0}),
        FaultRequest("worker-sigkill", 1, {}),
    ]


@pytest.mark.parametrize(
    ("text", "kills", "says"),
    [
        ("", None, "for a run without faults use --faults none"),
        ("worker-sigkil", None, "There is no fault 'worker-sigkil'"),
        ("worker-sigkill:count=0", None, "count must be a whole number of at least 1, not '0'"),
        ("worker-sigkill:count", None, "'count' is not an option"),
        ("worker-sigkill:colour=red", None, "it has no option 'colour', but count, stays_dead, patience_s"),
        ("server-sigkill:down_s=long", None, "down_s can't be 'long'"),
        ("net-partition:workers=two", None, "workers can't be 'two', it must be one or all"),
        ("net-latency:delay_ms=-50", None, "delay_ms must be a number of at least 0, not -50"),
        ("net-latency:for_s=inf", None, "for_s must be a number of at least 0, not inf"),
        ("handler-hangs:for_s=nan", None, "for_s must be a number of at least 0, not nan"),
        ("handler-raises:tasks=0", None, "tasks must be a number of at least 1, not 0"),
        ("client-retries:one_in=0", None, "one_in must be a number of at least 1, not 0"),
        ("none,worker-sigkill", None, "--faults none cannot be combined"),
        ("worker-sigkill", 0, "--kills must be at least 1, not 0"),
    ],
)
def test_a_fault_that_is_invalid_is_refused_in_one_sentence(text: str, kills: int | None, says: str) -> None:
    with pytest.raises(PlanError, match=says) as caught:
        parse_faults(text, kills)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"tasks": 0}, "--tasks must be at least 1"),
        ({"workers": 0}, "--workers must be at least 1"),
        (
            {"server": "redis://127.0.0.1:1/0", "faults": [FaultRequest("server-sigkill", 1, {})]},
            "does not kill a server that it did not start",
        ),
        (
            {"faults": [FaultRequest("client-reuses-key", 1, {})]},
            "client-reuses-key needs a target that states that it is `idempotent`",
        ),
        (
            {"faults": [FaultRequest("client-requeues", 1, {})]},
            "client-requeues needs a target with `requeue`, whose `behaviours` name raise-always",
        ),
    ],
)
def test_a_run_that_is_invalid_is_refused_in_one_sentence(changes: dict[str, Any], says: str) -> None:
    with pytest.raises(PlanError, match=says):
        plan(**changes)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "is not a plan"),
        ("[]", "is not a plan"),
        (encode(plan()).decode().replace("worker-sigkill", "earthquake"), "There is no fault 'earthquake'"),
        (encode(plan()).decode().replace('"version": 2', '"version": 99'), "of version 99"),
    ],
)
def test_a_file_that_is_not_a_plan_is_refused_in_one_sentence(tmp_path: Path, text: str, says: str) -> None:
    (tmp_path / "plan.json").write_text(text)
    with pytest.raises(PlanError, match=says):
        load_plan(tmp_path / "plan.json")


def test_a_plan_that_is_not_there_is_refused_in_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(PlanError, match="can't be read: No such file"):
        load_plan(tmp_path / "plan.json")


@given(seed=st.integers(0, 2**64))
def test_the_mix_is_drawn_from_the_seed_and_kills_in_mid_task_are_most_of_it(seed: int) -> None:
    mix = draw_mix(seed, kills=None, server="embedded", appendfsync="always", workers=3)
    assert mix == draw_mix(seed, kills=None, server="embedded", appendfsync="always", workers=3)
    assert mix[0] == FaultRequest("worker-sigkill", 49, {})
    assert [request.count for request in mix[2:-1]] == [1] * 5
    assert len({request.fault for request in mix}) == 6
    options = {request.fault: request.options for request in mix[2:-1] if request.options}
    assert options in ({"worker-sigterm": {"to_all": True}}, {"worker-sigterm": {"to_all": False}})


@given(seed=st.integers(0, 2**64))
def test_the_stops_of_a_mix_come_behind_kills_in_a_row(seed: int) -> None:
    mix = draw_mix(seed, kills=None, server="embedded", appendfsync="always", workers=3, target=Reference)
    names = [one.fault for one in plan(faults=mix, seed=seed, stated=Reference).faults]
    kill = "worker-sigkill"
    for place, name in enumerate(names):
        before = names[max(0, place - KILLS_BEFORE) : place]
        later = any(names[at : at + KILLS_BEFORE] == [kill] * KILLS_BEFORE for at in range(place + 1, len(names)))
        if FAULTS[name].asks_to_end and later:
            assert all(one == kill or FAULTS[one].asks_to_end for one in before)


def test_stops_without_kills_stay_where_they_are_drawn() -> None:
    faults = [FaultRequest("worker-sigterm", 3, {}), FaultRequest("script-flush", 3, {})]
    orders = {tuple(one.fault for one in plan(faults=faults, seed=seed).faults) for seed in range(20)}
    assert len(orders) > 5


def test_about_half_of_all_mixes_signal_every_process_of_a_worker_that_must_stop() -> None:
    stops = [
        request.options["to_all"]
        for seed in range(100)
        for request in draw_mix(seed, kills=None, server="embedded", appendfsync="always", workers=3)
        if request.fault == "worker-sigterm"
    ]
    assert 30 < sum(stops) < 70


@given(seed=st.integers(0, 2**64))
def test_the_mix_ends_with_cuts_of_all_connections_and_no_process_is_ended_after_the_first(seed: int) -> None:
    mix = draw_mix(seed, kills=9, server="embedded", appendfsync="always", workers=3)
    planned = plan(faults=mix).faults
    assert [fault.fault for fault in planned[-6:]] == ["client-kill"] * 6
    assert all(fault.options == ClientKill.ends_mix_options for fault in planned[-6:])
    assert [fault.options for fault in planned[:-6] if fault.fault == "client-kill"] == [{}]


class Keyed(Target):
    idempotent = True


def test_the_mix_has_keys_used_again_where_the_target_states_that_it_is_idempotent() -> None:
    asked: dict[str, Any] = {"kills": 2, "server": "embedded", "appendfsync": "always", "workers": 3}
    mix, keyed = draw_mix(1, **asked), draw_mix(1, **asked, target=Keyed)
    assert [request for request in keyed if request not in mix] == [FaultRequest("client-reuses-key", 1, {})]
    assert draw_mix(1, **asked, target=Keyed, load=True) == mix
    planned = plan(faults=keyed, stated=Keyed, tasks=200)
    assert {task.batch for task in planned.tasks if task.behaviour.startswith("client-reuses-key")} == {0}


class Requeuing(Target):
    behaviours = ("raise-always",)

    def requeue(self, tasks: Sequence[str]) -> None:
        pass


def test_the_mix_has_dead_letters_requeued_where_the_target_can() -> None:
    asked: dict[str, Any] = {"kills": 2, "server": "embedded", "appendfsync": "always", "workers": 3}
    mix, requeuing = draw_mix(1, **asked), draw_mix(1, **asked, target=Requeuing)
    assert [request for request in requeuing if request not in mix] == [FaultRequest("client-requeues", 1, {})]
    planned = plan(faults=parse_faults("client-requeues", None), stated=Requeuing, tasks=20)
    assert [task.behaviour for task in planned.tasks].count("raise-always") == 3


class Listing(Target):
    mix = ("server-sigkill:down_s=6", "server-sigterm", "worker-sigint", "producer-sigkill")


def test_the_mix_has_one_for_ten_kills_of_the_faults_that_the_target_lists_and_that_the_server_supports() -> None:
    asked: dict[str, Any] = {"kills": 30, "server": "embedded", "workers": 3}
    drawn = set()
    for seed in range(20):
        plain = draw_mix(seed, **asked, appendfsync="always")
        own = [one for one in draw_mix(seed, **asked, appendfsync="always", target=Listing) if one not in plain]
        assert len(own) == 3
        few = {**asked, "kills": 2, "appendfsync": "always"}
        assert len(draw_mix(seed, **few, target=Listing)) - len(draw_mix(seed, **few)) == 1
        drawn |= {(one.fault, one.count, *one.options.values()) for one in own}
    assert drawn == {
        ("server-sigkill", 1, 6.0),
        *((name, 1) for name in ("server-sigterm", "worker-sigint", "producer-sigkill")),
    }
    plain = draw_mix(1, **asked, appendfsync="no")
    own = [one.fault for one in draw_mix(1, **asked, appendfsync="no", target=Listing) if one not in plain]
    assert "server-sigkill" not in own
    under_load = draw_mix(1, **asked, appendfsync="always", target=Listing, load=True)
    assert all(one.fault != "producer-sigkill" for one in under_load)


def test_every_fault_that_the_reference_lists_is_known_and_drawn_by_some_seed() -> None:
    asked: dict[str, Any] = {"kills": 50, "server": "embedded", "appendfsync": "always", "workers": 3}
    listed = {word.partition(":")[0] for word in Reference.mix}
    drawn = {one.fault for seed in range(40) for one in draw_mix(seed, **asked, target=Reference)}
    assert listed <= drawn


WORKERS, SERVERS, CRASHES = {"worker-sigstop", "worker-sigterm"}, {"client-kill", "client-pause"}, {"server-sigkill"}


@pytest.mark.parametrize(
    ("workers", "kills", "dead"), [(1, 9, 0), (2, 9, 0), (3, 9, 1), (6, 9, 2), (9, 2, 1), (3, 1, 0)]
)
def test_of_three_workers_one_stays_dead_and_the_plan_says_which_kill_it_is(
    workers: int, kills: int, dead: int
) -> None:
    mix = draw_mix(1, kills=kills, server="embedded", appendfsync="always", workers=workers)
    planned = plan(faults=mix, workers=workers).faults
    assert sum(fault.options.get("stays_dead", False) for fault in planned) == dead
    assert sum(fault.fault == "worker-sigkill" for fault in planned) == kills
    before_the_cuts = planned[:-6]
    assert all(fault.number > len(before_the_cuts) / 2 for fault in planned if fault.options.get("stays_dead"))


def mixed(server: str, appendfsync: str) -> set[str]:
    """Return all faults that any of 100 seeds draws."""
    mixes = [draw_mix(seed, kills=2, server=server, appendfsync=appendfsync, workers=3) for seed in range(100)]
    return {request.fault for mix in mixes for request in mix}


def test_every_fault_of_the_mix_is_drawn_by_some_seed_and_makes_a_plan() -> None:
    everything = mixed("embedded", "always")
    assert everything == {"worker-sigkill", *WORKERS, *SERVERS, *CRASHES}
    assert plan(faults=[FaultRequest(name, 1, {}) for name in sorted(everything)])


def test_the_mix_leaves_a_server_alone_that_is_not_the_harness_s_own() -> None:
    assert mixed("redis://127.0.0.1:1/0", "always") == {"worker-sigkill", *WORKERS}


def test_the_mix_does_not_crash_a_server_that_keeps_less_than_it_acknowledges() -> None:
    assert mixed("embedded", "off") == {"worker-sigkill", *WORKERS, *SERVERS}
