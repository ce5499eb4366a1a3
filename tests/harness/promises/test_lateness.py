"""Recovery in time: LIVENESS if a dead worker's task runs late although a worker was idle, and only then."""

from typing import Any

import pytest
from support.histories import Story
from zeroloss.checker.judge import judge
from zeroloss.checker.verdicts import Result, Verdict


def a_kill(within_s: float | None = 2.0, name: str = "worker-sigkill", survivor: int = 200, **more: Any) -> Story:
    """Return a run in which worker 100 dies in `a` at 5 s; 200 has run a task. `a` is due by 7 s, 8 s with margin."""
    faults = [{"number": 1, "fault": name}, *more.pop("faults", ())]
    story = Story().begin(recover_within=within_s, plan={"misbehaving": 0, "faults": faults, **more.pop("plan", {})})
    story.submit("before").ran("before", pid=survivor)
    story.add("process", "start", role="worker", sid=20, at_ms=100).submit("a")
    story.add("effect", "begin", pid=100, task="a", execution="a1", at_ms=4_000)
    story.add("fault", "begin", fault=name, number=1, at_ms=4_900)
    story.add("fault", "effective", fault=name, number=1, at_ms=5_000, pids=[100], tasks=["a"])
    return story.add("fault", "end", fault=name, number=1, at_ms=5_010)


def ran(story: Story, begin_ms: int, end_ms: int, pid: int = 200, task: str = "a") -> Story:
    if task != "a":
        story.submit(task)
    story.add("effect", "begin", pid=pid, task=task, execution=f"{task}{begin_ms}", at_ms=begin_ms)
    return story.add("effect", "end", pid=pid, task=task, execution=f"{task}{begin_ms}", at_ms=end_ms)


def judged(story: Story) -> Result:
    return judge(story.add("run", "healed", at_ms=60_000).add("run", "drained").end().events)


def assert_in_time(story: Story) -> None:
    result = judged(story)
    assert result.late == []
    assert result.verdict is not Verdict.LIVENESS


def test_a_task_that_runs_later_than_promised_while_a_worker_was_idle_is_LIVENESS() -> None:
    result = judged(ran(a_kill(), 10_100, 10_200))
    assert (result.verdict, result.exit_code) == (Verdict.LIVENESS, 3)
    assert [(one.task, one.fault, one.ms) for one in result.late] == [("a", 1, 5_100.0)]
    assert (
        "1 task ran again later than promised after a worker's death, although another worker was idle"
        in result.because
    )
    assert [law.violations for law in result.properties if law.number == "I4"] == [
        ["Task a was recovered after 5.100 s, later than 2 s."]
    ]


def test_a_task_of_a_worker_whose_death_the_target_hears_of_sooner_is_late_sooner() -> None:
    def late(sooner: object) -> bool:
        story = a_kill(within_s=8.0, plan={"recover_sooner": sooner})
        return bool(judged(ran(story, 10_100, 10_200)).late)

    assert late({"worker-sigkill": 2.0})
    not_so_soon = ({"worker-sigkill": 4.0}, {"worker-sigstop": 2.0}, {"worker-sigkill": "soon"}, {}, None, [])
    assert not any(late(stated) for stated in not_so_soon)


def test_a_death_that_the_target_hears_of_sooner_is_among_what_it_states() -> None:
    result = judged(ran(a_kill(plan={"recover_sooner": {"worker-sigkill": 1.5}}), 5_100, 5_200))
    [stated] = [one.stated for one in result.promises if one.name == "recover_within"]
    assert stated == "A dead worker's task can be claimed again within 2 s, after worker-sigkill within 1.5 s."


@pytest.mark.parametrize("begin_ms", [4_950, 6_900, 8_900])
def test_a_task_that_runs_in_time_or_hardly_later_is_not(begin_ms: int) -> None:
    assert_in_time(ran(a_kill(), begin_ms, begin_ms + 100))


def test_a_target_that_promises_no_time_is_held_to_none() -> None:
    assert_in_time(ran(a_kill(None), 30_000, 30_100))


def test_a_task_that_waits_while_every_worker_is_busy_is_not_late() -> None:
    story = a_kill()
    for begin_ms in range(5_100, 20_000, 1_000):
        ran(story, begin_ms, begin_ms + 900, task=f"t{begin_ms}")
    assert_in_time(ran(story, 20_100, 20_200))


def test_a_task_that_waits_while_one_of_two_workers_is_idle_is_late() -> None:
    story = ran(ran(a_kill(), 5_100, 5_200, pid=300, task="x"), 5_100, 20_000, task="y")
    assert [one.task for one in judged(ran(story, 15_000, 15_100, pid=300)).late] == ["a"]


def test_a_task_that_waits_for_a_body_that_never_ended_is_not_late() -> None:
    story = a_kill().submit("hangs")
    story.add("effect", "begin", pid=200, task="hangs", execution="h", at_ms=6_000)
    assert_in_time(ran(story, 30_000, 30_100, pid=300))


@pytest.mark.parametrize(("sid", "ends_ms", "late"), [(20, None, True), (20, 8_000, False), (21, None, False)])
def test_where_only_a_new_process_runs_it_a_worker_that_lived_all_the_time_has_been_idle(
    sid: int, ends_ms: int | None, late: bool
) -> None:
    story = a_kill()
    if sid == 21:  # only the replacement, which may have needed the time to start
        story.add("process", "exit", role="worker", sid=20, status=-9, wanted=True, at_ms=5_000)
        story.add("process", "start", role="worker", sid=21, at_ms=5_020)
    if ends_ms:
        story.add("process", "exit", role="worker", sid=20, status=0, wanted=True, at_ms=ends_ms)
    assert bool(judged(ran(story, 10_100, 10_200, pid=300)).late) is late


def test_a_worker_that_has_run_nothing_yet_may_still_be_starting_and_is_not_idle() -> None:
    assert_in_time(ran(a_kill(survivor=100), 16_000, 16_100, pid=300))


@pytest.mark.parametrize("name", ["server-sigkill", "worker-sigkill", "net-partition"])
def test_a_fault_meanwhile_gives_the_target_its_time_again(name: str) -> None:
    def until(begin_ms: int) -> Result:
        story = a_kill(faults=[{"number": 2, "fault": name}])
        story.add("fault", "begin", fault=name, number=2, at_ms=7_000)
        story.add("fault", "effective", fault=name, number=2, at_ms=8_000)
        story.add("fault", "end", fault=name, number=2, at_ms=8_100)
        return judged(ran(story, begin_ms, begin_ms + 100))

    assert until(11_900).late == []
    assert [one.task for one in until(12_200).late] == ["a"]


def test_a_fault_that_did_not_end_holds_up_everything_after_it() -> None:
    story = a_kill(faults=[{"number": 2, "fault": "net-cut"}]).add(
        "fault", "begin", fault="net-cut", number=2, at_ms=7_000
    )
    assert_in_time(ran(story, 30_000, 30_100))


def test_a_task_late_before_another_fault_began_is_late_whatever_came_then() -> None:
    story = a_kill(faults=[{"number": 2, "fault": "net-cut"}])
    story.add("fault", "begin", fault="net-cut", number=2, at_ms=9_500)
    story.add("fault", "effective", fault="net-cut", number=2, at_ms=9_600)
    assert [one.task for one in judged(ran(story, 10_000, 10_100)).late] == ["a"]


@pytest.mark.parametrize("name", ["none", "slow"])
def test_a_fault_that_does_nothing_gives_no_time(name: str) -> None:
    story = a_kill(faults=[{"number": 2, "fault": name}]).add("fault", "begin", fault=name, number=2, at_ms=6_000)
    story.add("fault", "effective", fault=name, number=2, at_ms=12_000)
    assert [one.task for one in judged(ran(story, 10_000, 10_100)).late] == ["a"]


def test_a_process_that_died_by_itself_may_have_held_the_task() -> None:
    story = a_kill().submit("exits").add("effect", "begin", pid=300, task="exits", execution="e", at_ms=6_500)
    assert_in_time(ran(ran(story, 9_000, 9_100, task="exits"), 11_900, 12_000))


def test_a_starved_machine_gives_the_target_its_time_again() -> None:
    assert_in_time(ran(a_kill().add("harness", "late", late_ms=1_500, at_ms=8_500), 12_000, 12_100))
    assert_in_time(ran(a_kill().add("harness", "crowded", late_ms=1_500, at_ms=8_500), 12_000, 12_100))


@pytest.mark.parametrize("name", ["net-partition", "server-sigkill"])
def test_only_the_death_of_a_worker_starts_the_clock(name: str) -> None:
    assert_in_time(ran(a_kill(name=name), 30_000, 30_100))


def test_a_worker_that_was_paused_and_went_on_was_not_dead() -> None:
    story = a_kill(name="worker-sigstop").add("effect", "end", pid=100, task="a", execution="a1", at_ms=9_000)
    assert_in_time(ran(story, 30_000, 30_100))
