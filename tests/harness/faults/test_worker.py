"""Faults of workers: each hits inside a task, and afterwards all workers run again."""

import re
import time
from typing import Any

import pytest
from support.fault_stage import BUSY, Scene
from support.waiting import wait_until
from zeroloss.faults import FAULTS, Fault, Missed
from zeroloss.faults.base import Caught, Effect, Stage
from zeroloss.faults.worker.kill_in_recovery import WorkerKillInRecovery
from zeroloss.faults.worker.kill_storm import WorkerKillStorm
from zeroloss.faults.worker.memory import WorkerMemory
from zeroloss.faults.worker.sigkill import WorkerSigkill
from zeroloss.faults.worker.sigkill_child import WorkerSigkillChild
from zeroloss.faults.worker.sigkill_full import WorkerSigkillFull
from zeroloss.faults.worker.sigkill_parent import WorkerSigkillParent
from zeroloss.faults.worker.sigkill_quiet import WorkerSigkillQuiet
from zeroloss.faults.worker.sigterm_full import WorkerSigtermFull
from zeroloss.faults.worker.sigterm_sigkill import WorkerSigtermSigkill

PARENT = f"""
import subprocess, sys, time
while True:
    subprocess.run([sys.executable, "-c", {BUSY!r}])
"""
ALONE_AT_FIRST = f"""
import time
from zeroloss.ledger import effect
with effect("alone"):
    time.sleep(2.5)
{PARENT}
"""
DEAF = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)\n" + BUSY
WAITS_AFTER_SIGTERM = """
import signal, time
from zeroloss.ledger import effect
asked = []
signal.signal(signal.SIGTERM, lambda *_: asked.append(1))
with effect("a"):
    while not asked:
        time.sleep(0.01)
time.sleep(3600)
"""
SHARED = """
import os, time
from zeroloss.ledger import effect
while True:
    for number in range(3):
        with effect(f"task-{number}"):
            time.sleep(0.05)
"""
"""A worker that runs the same tasks again and again, as if they were redelivered from another worker."""
# It allocates more each time, because the limit may be set just after it has got its last allocation.
HUNGRY = """
import time
from zeroloss.ledger import effect
number, size = 0, 64_000_000
while True:
    number, size = number + 1, size + 16_000_000
    try:
        with effect(f"task-{number}"):
            time.sleep(0.02)
            bytearray(size)
    except MemoryError:
        size = 64_000_000
"""
MODEST = BUSY
WAITS = """
import os, time
from pathlib import Path
from zeroloss.ledger import effect
come = Path(os.environ["ZEROLOSS_LEDGER"]).parent / "come"
while not come.exists():
    time.sleep(0.01)
for number in range(30):
    with effect(f"call-{number:02}"):
        time.sleep(0.0 if number < 10 else 0.1)
time.sleep(3600)
"""
"""Each worker begins all tasks of a call when it arrives."""
STAYS_INSIDE = """
import time
from zeroloss.ledger import effect
with effect("long"):
    time.sleep(3600)
"""
A_CHILD_FOR_EACH = """
import os, time
from zeroloss.ledger import effect
number = 0
while True:
    number += 1
    if os.fork() == 0:
        with effect(f"task-{number}"):
            time.sleep(0.05)
        os._exit(0)
    os.wait()
"""
DIES_OF_IT = """
import os, time
from zeroloss.ledger import effect
if os.fork() == 0:
    with effect("task"):
        size = 16_000_000
        while True:
            time.sleep(0.02)
            size += 16_000_000
            try:
                bytearray(size)
            except MemoryError:
                os._exit(1)
os.wait()
time.sleep(3600)
"""


def test_every_fault_says_what_it_does_and_what_it_threatens() -> None:
    for name, fault in FAULTS.items():
        assert fault.name == name
        assert fault.summary().endswith(".")
        assert all(f"{number}" in fault.summary() for number in fault.threatens), name


def test_the_parent_is_killed_and_its_child_lives_on_until_the_worker_is_started_again(scene: Scene) -> None:
    pool = scene.workers(PARENT)
    before = pool.living()[0]
    effect = scene.play(WorkerSigkillParent(orphans_for_s=1.0))
    assert "1 of its 1 children lived on" in effect.evidence
    assert effect.tasks
    assert before.pid in effect.pids
    assert before.members() == []
    assert [worker.sid for worker in pool.living()] != [before.sid]


def test_a_parent_that_has_no_child_at_the_moment_is_killed_once_it_has_one(scene: Scene) -> None:
    """A task may have ended the child just now, and its successor is not there yet."""
    scene.workers(ALONE_AT_FIRST)
    effect = scene.play(WorkerSigkillParent(orphans_for_s=0.1))
    assert "1 of its 1 children lived on" in effect.evidence
    assert "alone" not in effect.tasks


def test_while_an_orphan_may_live_its_place_is_not_filled(scene: Scene) -> None:
    pool = scene.workers(PARENT)
    before = pool.living()[0]
    stage = scene.stage()
    fault = WorkerSigkillParent(orphans_for_s=3600.0)
    fault.inject(stage)
    assert pool.living() == []
    assert len(before.members()) == 1
    pool.start_missing()


def test_a_worker_of_one_process_has_no_children_to_orphan_and_goes_on(scene: Scene) -> None:
    pool = scene.workers(BUSY)
    before = pool.living()[0].sid
    with pytest.raises(Missed, match="it has no children"):
        scene.play(WorkerSigkillParent())
    assert [worker.sid for worker in pool.living()] == [before]
    seen = scene.ledger.seen
    wait_until(lambda: scene.ledger.poll() or scene.ledger.seen > seen)


def test_a_child_is_killed_inside_its_task_and_its_parent_lives_on(scene: Scene) -> None:
    pool = scene.workers(PARENT)
    before = pool.living()[0]
    effect = scene.play(WorkerSigkillChild())
    assert "its parent lives on" in effect.evidence
    assert effect.tasks
    assert effect.tasks[0].startswith(f"task-{effect.pids[0]}-")
    assert before.pid not in effect.pids
    assert pool.living() == [before]


def test_a_task_that_a_dead_child_had_open_is_open_no_more(scene: Scene) -> None:
    scene.workers(PARENT)
    effect = scene.play(WorkerSigkillChild())
    assert not set(effect.tasks) & set(scene.ledger.open_tasks())


def test_a_worker_of_one_process_has_no_child_to_kill(scene: Scene) -> None:
    scene.workers(BUSY)
    with pytest.raises(Missed, match="in its first process"):
        scene.play(WorkerSigkillChild())


def test_a_quiet_kill_waits_until_all_was_submitted(scene: Scene) -> None:
    pool = scene.workers(BUSY)
    before = pool.living()[0].sid
    answers = iter([False, False, True])
    effect = scene.play(WorkerSigkillQuiet(), workload_over=lambda: next(answers))
    assert "All tasks had been submitted and answered" in effect.evidence
    assert effect.tasks
    assert [worker.sid for worker in pool.living()] != [before]


def test_a_quiet_kill_waits_until_nothing_else_is_there_to_be_begun(scene: Scene) -> None:
    (worker,) = scene.workers(BUSY).living()
    effect = scene.play(WorkerSigkillQuiet(), promised=lambda: frozenset({f"task-{worker.sid}-{n}" for n in (10, 30)}))
    (struck,) = effect.tasks
    assert int(struck.rpartition("-")[2]) >= 30
    assert "the last one had begun" in effect.evidence


def test_where_the_last_task_never_begins_a_quiet_kill_is_missed(scene: Scene) -> None:
    before = scene.workers(SHARED).living()
    scene.wait_for_task()
    missed = r"No task began within 0\.3 s, and the last promised task, zl-1-0000009, has not begun"
    with pytest.raises(Missed, match=missed):
        scene.play(WorkerSigkillQuiet(patience_s=0.3), promised=lambda: frozenset({"zl-1-0000009"}))
    assert scene.pool
    assert scene.pool.living() == before


def test_a_quiet_kill_waits_for_the_last_task_as_long_as_others_begin(scene: Scene) -> None:
    (worker,) = scene.workers(BUSY).living()
    scene.wait_for_task()
    promised = frozenset({f"task-{worker.sid}-30"})
    assert scene.play(WorkerSigkillQuiet(patience_s=0.5), promised=lambda: promised).tasks


def test_where_traffic_goes_on_a_quiet_kill_is_missed(scene: Scene) -> None:
    pool = scene.workers(BUSY)
    before = pool.living()
    with pytest.raises(Missed, match=r"There still was traffic after 0\.1 s"):
        scene.play(WorkerSigkillQuiet(patience_s=0.1), workload_over=lambda: False)
    assert pool.living() == before


CALL = frozenset(f"call-{number:02}" for number in range(30))
"""The tasks that each worker of `WAITS` begins."""


def play_with_call(scene: Scene, fault: WorkerSigkillFull, **members: Any) -> Effect:
    """Play a fault that holds the call back until it lets the traffic on."""
    come = scene.directory / "come"
    return scene.play(
        fault,
        recover_within_s=30.0,
        let_on=come.touch,
        promised=lambda: CALL if come.exists() else frozenset(),
        **members,
    )


def test_a_full_hand_is_the_successors_while_the_others_stand_still(scene: Scene) -> None:
    pool = scene.workers(WAITS, WAITS, WAITS)
    before = {worker.sid for worker in pool.living()}
    effect = play_with_call(scene, WorkerSigkillFull())
    first, second = (int(word) for word in re.findall(r"worker (\d+)", effect.evidence.lower()))
    assert first in before
    assert second not in before
    assert {first, second} <= set(effect.pids)
    assert effect.tasks
    assert set(effect.tasks) < CALL
    assert not before - {first} - {worker.sid for worker in pool.living()}
    assert len(pool.living()) == 3


def test_a_long_body_in_another_worker_does_not_keep_the_call_back(scene: Scene) -> None:
    pool = scene.workers(WAITS, STAYS_INSIDE)
    began_s = time.monotonic()
    wait_until(lambda: scene.ledger.poll() or "long" in scene.ledger.open_tasks())
    play_with_call(scene, WorkerSigkillFull(calm_within_s=40.0), long=frozenset({"long"}))
    assert time.monotonic() - began_s < 30
    assert len(pool.living()) == 2


def test_where_no_call_comes_a_worker_is_replaced_and_no_other_is_killed(scene: Scene) -> None:
    pool = scene.workers(BUSY, BUSY)
    effect = scene.play(WorkerSigkillFull(calm_within_s=0.2))
    assert "was not seen inside the call in time" in effect.evidence
    assert len(pool.living()) == 2


def test_where_no_worker_lives_no_hand_is_full(scene: Scene) -> None:
    with pytest.raises(Missed, match="No worker was running"):
        scene.play(WorkerSigkillFull(calm_within_s=0.1))


def test_a_full_hand_is_asked_to_end_and_all_others_but_one_stand_still_until_its_tasks_have_begun(
    scene: Scene,
) -> None:
    pool = scene.workers(WAITS, WAITS, WAITS)
    before = {worker.sid for worker in pool.living()}
    effect = play_with_call(scene, WorkerSigtermFull())
    assert "was inside a task at SIGTERM, and exited with status -15" in effect.evidence
    (ended,) = before - {worker.sid for worker in pool.living()}
    assert ended in effect.pids
    assert effect.tasks
    assert set(effect.tasks) < CALL
    assert len(pool.living()) == 3
    assert wait_until(lambda: scene.ledger.poll() or scene.ledger.begun >= CALL)


def test_a_worker_without_a_second_one_is_not_asked_to_end_with_a_full_hand(scene: Scene) -> None:
    scene.workers(BUSY)
    with pytest.raises(Missed, match="no second worker"):
        scene.play(WorkerSigtermFull(calm_within_s=0.1))


def test_where_no_call_comes_no_worker_is_asked_to_end(scene: Scene) -> None:
    pool = scene.workers(BUSY, BUSY)
    before = pool.living()
    assert "was not seen inside the call in time" in scene.play(WorkerSigtermFull(calm_within_s=0.2)).evidence
    assert pool.living() == before


def test_a_worker_that_was_asked_to_end_is_killed_before_it_has(scene: Scene) -> None:
    scene.workers(DEAF)
    effect = scene.play(WorkerSigtermSigkill(after_s=0.05))
    assert "0.05 s after SIGTERM, inside a task, and exited with status -9" in effect.evidence
    assert effect.tasks


def test_a_worker_that_is_killed_between_its_tasks_after_sigterm_was_inside_no_task(scene: Scene) -> None:
    scene.workers(WAITS_AFTER_SIGTERM)
    effect = scene.play(WorkerSigtermSigkill(after_s=0.3))
    assert "inside no task, and exited with status -9" in effect.evidence
    assert not effect.tasks


def test_workers_that_end_at_once_when_asked_cannot_be_killed_meanwhile(scene: Scene) -> None:
    pool = scene.workers(BUSY)
    scene.wait_for_task()
    with pytest.raises(Missed, match="Every worker had ended"):
        scene.play(WorkerSigtermSigkill(after_s=0.6, patience_s=0.5))
    assert len(pool.living()) == 1


def test_a_storm_kills_many_and_leaves_all_running(scene: Scene) -> None:
    pool = scene.workers(BUSY, BUSY)
    effect = scene.play(WorkerKillStorm(for_s=2.0, every_s=0.15))
    assert int(effect.evidence.split()[0]) >= 3
    assert len(pool.living()) == 2


def test_one_kill_is_not_a_storm(scene: Scene) -> None:
    scene.workers(BUSY)
    with pytest.raises(Missed, match="Only 1 of at least 2 workers were killed") as missed:
        scene.play(WorkerKillStorm(for_s=0.05, every_s=0.1))
    assert missed.value.effect
    assert missed.value.effect.pids


def observed(victims: list[int], in_vain: int) -> WorkerKillInRecovery:
    """Return the fault, which records its first victims, and finds no successor for the first `in_vain` of them."""

    class Observed(WorkerKillInRecovery):
        def _successor(self, stage: Stage, first: Caught, give_up_s: float) -> Caught | None:
            victims.append(first.worker.sid)
            return super()._successor(stage, first, give_up_s) if len(victims) > in_vain else None

    return Observed()


def test_the_successor_of_a_killed_worker_is_killed_inside_the_same_task(scene: Scene) -> None:
    pool = scene.workers(SHARED, SHARED)
    before = {worker.sid for worker in pool.living()}
    victims: list[int] = []
    effect = scene.play(observed(victims, in_vain=0))
    assert "The last had taken over 1 of the 1 tasks of another" in effect.evidence
    assert before & set(effect.pids)
    assert len(effect.pids) == len(victims) + 1
    assert len(pool.living()) == 2


def test_a_worker_that_was_killed_in_vain_is_reported_too(scene: Scene) -> None:
    """Its task was done before a successor could be caught, but the worker was killed inside the task."""
    victims: list[int] = []
    scene.workers(SHARED, SHARED)
    effect = scene.play(observed(victims, in_vain=1))
    assert len(victims) >= 2
    assert set(victims) < set(effect.pids)
    assert len(effect.pids) == len(victims) + 1


def test_where_nobody_takes_over_the_second_kill_is_missed(scene: Scene) -> None:
    scene.workers(BUSY, BUSY)
    scene.wait_for_task()
    with pytest.raises(Missed, match=r"No worker was seen to take over a dead one's task within 0\.5 s") as missed:
        scene.play(WorkerKillInRecovery(patience_s=0.5))
    assert missed.value.effect
    assert missed.value.effect.pids


def test_a_worker_that_asks_for_much_memory_is_refused_and_gets_it_afterwards(scene: Scene) -> None:
    scene.workers(HUNGRY)
    effect = scene.play(WorkerMemory())
    assert "raised MemoryError" in effect.evidence
    done = scene.ledger.completed_count
    wait_until(lambda: scene.ledger.poll() or scene.ledger.completed_count > done)


def test_a_worker_that_needs_no_more_memory_does_not_feel_the_limit(scene: Scene) -> None:
    scene.workers(MODEST)
    with pytest.raises(Missed, match="did not reach its memory limit"):
        scene.play(WorkerMemory(for_s=0.2))


def test_a_child_that_has_done_its_task_and_ends_is_not_out_of_memory(scene: Scene) -> None:
    scene.workers(A_CHILD_FOR_EACH)
    with pytest.raises(Missed, match="did not reach its memory limit"):
        scene.play(WorkerMemory(for_s=1.0))


def test_a_child_that_dies_in_the_middle_of_a_task_has_felt_the_limit(scene: Scene) -> None:
    scene.workers(DIES_OF_IT)
    effect = scene.play(WorkerMemory(for_s=30.0))
    assert "is gone, in the middle of a task" in effect.evidence


@pytest.mark.parametrize("fault", [WorkerSigkillQuiet, WorkerSigkillParent, WorkerSigkillChild, WorkerMemory])
def test_where_nobody_is_inside_a_task_it_is_missed(scene: Scene, fault: type[Fault]) -> None:
    scene.workers("import time; time.sleep(3600)")
    with pytest.raises(Missed, match=r"No worker was seen inside a task within 0\.1 s"):
        scene.play(fault(patience_s=0.1))  # type: ignore[call-arg]


def test_a_fault_waits_for_longer_where_workers_take_long_to_start(scene: Scene) -> None:
    scene.workers(f"import time\ntime.sleep(1.5)\n{BUSY}")
    with pytest.raises(Missed, match="No worker was seen inside a task"):
        scene.play(WorkerSigkill(patience_s=0.1))
    effect = scene.play(WorkerSigkill(patience_s=0.1), startup_s=lambda: 15.0)
    assert effect.tasks
