"""Growth of a resource with the faults: a leak, or not."""

import pytest
from support.histories import Story
from zeroloss.checker.judge import judge
from zeroloss.checker.verdicts import Leak, Result, Usage, Verdict


def judged(*stretches: list[int], member: str = "descriptors", name: str = "client-kill") -> Result:
    """Judge a run with one list of samples between each two faults."""
    phase, holder = ("server", {}) if member in ("clients", "keys") else ("worker", {"sid": 100, "pids": [99, 100]})
    faults = [{"number": n, "fault": name} for n in range(1, len(stretches))]
    story = Story().begin(plan={"tasks": 1, "faults": faults}).submit("t").ran("t")
    for number, samples in enumerate(stretches):
        if number:
            story.kill(number, name=name)
        for value in samples:
            story.add("resources", phase, **holder, **{member: value})
    return judge(story.add("run", "healed").add("run", "drained").end().events)


@pytest.mark.parametrize("member", ["descriptors", "threads", "clients"])
def test_five_connections_that_leak_at_each_reconnect_are_a_leak(member: str) -> None:
    result = judged([20], [25], [30], [35], [40], member=member)
    assert (result.verdict, result.exit_code) == (Verdict.LEAK, 3)
    holder = "server" if member == "clients" else "worker 100"
    assert result.leaks == [Leak(holder, member, 20, 40, 4)]
    assert f"the {member} of {holder} grew from 20 to 40 over 4 disturbances" in result.because


def test_memory_leaks_by_megabytes_only() -> None:
    mib = 2**20
    assert judged(*([n * 20 * mib] for n in range(1, 6)), member="memory_bytes").verdict is Verdict.LEAK
    assert judged(*([n * 10 * mib] for n in range(1, 6)), member="memory_bytes").verdict is Verdict.PASS


@pytest.mark.parametrize(
    "stretches",
    [
        [[20], [25], [30], [35]],  # only three faults
        [[20], [22], [24], [26], [29]],  # nine in all
        [[20], [40], [40], [40], [40]],  # a warm-up
        [[20], [90, 20], [90, 20], [90, 20], [90, 20]],  # peaks while it reconnects
        [[40, 20], [25], [30], [35], [40]],  # not above the initial value
        [[20], [25], [30], [35], [40, 20]],  # released at the end
        [[20], [21], [22], [23], [24], [25], [26], [27], [28], [29], [30], [31], *[[31]] * 12],  # below one a fault
        [[20], [40], [60], [60], [61], [61]],  # the second half hardly grows
        [[20], [20], [20], [40], [40]],  # a pool enlarged once
    ],
)
def test_a_figure_that_does_not_grow_with_the_disturbances_is_not_a_leak(stretches: list[list[int]]) -> None:
    result = judged(*stretches)
    assert (result.verdict, result.leaks) == (Verdict.PASS, [])


@pytest.mark.parametrize(("workers", "leaks"), [(1, 1), (2, 0)])
def test_the_connections_of_workers_that_start_are_not_a_leak(workers: int, leaks: int) -> None:
    """With two workers, one has not begun a task, and may still be starting."""
    faults = [{"number": n, "fault": "client-kill"} for n in range(1, 5)]
    story = Story().begin(plan={"tasks": 1, "workers": workers, "faults": faults}).submit("t").ran("t", pid=7)
    story.add("resources", "worker", sid=7, pids=[7], threads=1)
    for number, clients in enumerate([2, 7, 12, 17, 22]):
        if number:
            story.kill(number, name="client-kill")
        story.add("resources", "server", clients=clients)
    assert len(judge(story.add("run", "healed").add("run", "drained").end().events).leaks) == leaks


@pytest.mark.parametrize("first_task_after", [5, None])
def test_the_threads_and_files_of_a_start_are_not_a_leak(first_task_after: int | None) -> None:
    story = Story().begin(plan={"tasks": 2, "faults": []}).submit("t").ran("t", pid=7).submit("u")
    for number, descriptors in enumerate([3, 8, 13, 18, 23, 28, 33, 33]):
        story.add("resources", "worker", sid=99, pids=[99, 100], descriptors=descriptors)
        story.kill(number, name="worker-sigkill", pids=(55,))
        if number == first_task_after:
            story.ran("u", pid=100)
    assert judge(story.end().events).leaks == []


def test_a_baseline_has_no_disturbance_with_which_anything_could_grow() -> None:
    assert judged([20], [25], [30], [35], [40], name="none").leaks == []


def test_a_new_worker_is_not_compared_with_the_one_that_it_replaces() -> None:
    story = Story().begin(plan={"tasks": 1, "faults": []}).submit("t").ran("t")
    for number in range(1, 6):
        story.add("resources", "worker", sid=number, pids=[100], descriptors=10 * number).kill(
            number, name="worker-sigkill"
        )
    assert judge(story.end().events).leaks == []


def test_the_result_tells_what_was_held_before_at_most_and_after() -> None:
    usage = judged([7], [9], [8], member="keys").usage
    assert usage == [Usage("keys", 7, 9, 8)]
    assert judged([7], [9], [8]).usage == [Usage("descriptors of a worker", 7, 9, 8)]


def test_a_sample_without_the_member_is_passed_over() -> None:
    story = Story().begin().add("resources", "worker", sid=1).add("resources", "worker", sid=1, threads=3)
    result = judge(story.end().events)
    assert (result.leaks, result.usage) == ([], [Usage("threads of a worker", 3, 3, 3)])
