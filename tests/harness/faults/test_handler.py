"""Faults of a task body: it raises, hangs, ends its process, or outlives its lease."""

from pathlib import Path
from random import Random

import pytest
from support.fault_stage import Scene
from support.runs import carry_out
from support.waiting import wait_until
from zeroloss.checker.verdicts import Fate, Verdict
from zeroloss.faults import FAULTS, Missed
from zeroloss.faults.behaviours import BEHAVIOURS, DOOMED
from zeroloss.faults.handler.base import HandlerFault
from zeroloss.faults.handler.exits import HandlerExits
from zeroloss.faults.handler.exits_always import HandlerExitsAlways
from zeroloss.faults.handler.hangs import HandlerHangs
from zeroloss.faults.handler.outlives_lease import HandlerOutlivesLease
from zeroloss.faults.handler.raises import HandlerRaises
from zeroloss.faults.handler.raises_always import HandlerRaisesAlways
from zeroloss.faults.planned import PlannedTask

HANDLERS = [fault for fault in FAULTS.values() if issubclass(fault, HandlerFault)]

BODIES = """
import os, time
from contextlib import suppress
from zeroloss.ledger import effect
with suppress(RuntimeError), effect("raises"):
    raise RuntimeError("as planned")
if os.fork() == 0:
    with effect("exits"):
        os._exit(1)
os.wait()
with effect("quick"):
    pass
with effect("long"):
    time.sleep(0.3)
with effect("hangs"):
    time.sleep(3600)
"""


def planned(count: int = 40) -> list[PlannedTask]:
    return [PlannedTask(f"t{number}", number / 100, 10) for number in range(count)]


def test_there_are_six_ways_for_a_handler_to_misbehave() -> None:
    assert {fault.name for fault in HANDLERS} == {
        "handler-raises", "handler-hangs", "handler-exits", "handler-outlives-lease", "handler-raises-always",
        "handler-exits-always",
    }  # fmt: skip


@pytest.mark.parametrize("fault", HANDLERS, ids=lambda fault: fault.name)
def test_that_many_tasks_of_the_plan_misbehave_and_those_that_always_do_are_to_be_given_up(
    fault: type[HandlerFault],
) -> None:
    asked = fault(tasks=7)
    arranged = asked.arrange(planned(), Random(1), 2.0)
    assert [task.behaviour for task in arranged].count(fault.behaviour) == 7
    assert fault.behaviour in BEHAVIOURS
    assert (fault.behaviour in DOOMED) == fault.name.endswith("-always")
    assert asked.arrange(planned(), Random(1), 2.0) == arranged


def test_a_task_that_misbehaves_already_is_left_to_it() -> None:
    raising = HandlerRaises(tasks=30).arrange(planned(), Random(1), 2.0)
    both = HandlerExits(tasks=30).arrange(raising, Random(1), 2.0)
    behaviours = [task.behaviour for task in both]
    assert (behaviours.count("raise-once"), behaviours.count("exit-once")) == (30, 10)


def test_the_harness_is_as_patient_as_a_handler_that_hangs() -> None:
    [hanging] = [task for task in HandlerHangs(tasks=1, for_s=12).arrange(planned(), Random(1), 2.0) if task.behaviour]
    assert hanging.work_ms == 12_000


@pytest.mark.parametrize(
    ("fault", "task", "evidence"),
    [
        (HandlerRaises(), "raises", "1 of 1 tasks raised an error."),
        (HandlerRaisesAlways(), "raises", "1 of 1 tasks raised an error."),
        (HandlerExitsAlways(), "exits", "1 of 1 tasks ended the process that they ran in."),
        (HandlerExits(), "exits", "1 of 1 tasks ended the process that they ran in."),
        (HandlerOutlivesLease(), "long", "1 of 1 tasks were in their body for longer than a dead worker's task lies."),
        (HandlerHangs(for_s=0.2), "hangs", "1 of 1 tasks were in their body for at least 0.1 s."),
    ],
    ids=lambda given: getattr(given, "name", None),
)
def test_the_deeds_of_the_bodies_are_read_from_the_ledger(
    scene: Scene, fault: HandlerFault, task: str, evidence: str
) -> None:
    scene.workers(BODIES)
    wait_until(lambda: scene.ledger.poll() or "hangs" in scene.ledger.open_tasks())
    behaving = {fault.behaviour: frozenset({task})}
    assert scene.play(fault, behaving=behaving, recover_within_s=0.2).evidence == evidence


def test_a_task_that_is_completed_is_waited_for_no_longer(scene: Scene) -> None:
    """For example a task that would raise in its first attempt, and was recovered before it began."""
    scene.workers(BODIES)
    wait_until(lambda: scene.ledger.poll() or "hangs" in scene.ledger.open_tasks())
    effect = scene.play(HandlerRaises(patience_s=3_600), behaving={"raise-once": frozenset({"raises", "quick"})})
    assert effect.evidence == "1 of 2 tasks raised an error."


@pytest.mark.parametrize(
    ("fault", "task"), [(HandlerRaises, "raises"), (HandlerExits, "exits"), (HandlerHangs, "hangs")]
)
def test_a_body_that_another_fault_ended_did_nothing_of_itself(
    scene: Scene, fault: type[HandlerFault], task: str
) -> None:
    scene.workers(BODIES)
    wait_until(lambda: scene.ledger.poll() or "hangs" in scene.ledger.open_tasks())
    behaving = {fault.behaviour: frozenset({task})}
    with pytest.raises(Missed, match="None of 1 tasks"):
        scene.play(fault(), behaving=behaving, struck=lambda: frozenset({task}))


@pytest.mark.parametrize("fault", HANDLERS, ids=lambda fault: fault.name)
def test_where_no_body_did_so_the_fault_was_missed(scene: Scene, fault: type[HandlerFault]) -> None:
    scene.workers(BODIES)
    wait_until(lambda: scene.ledger.poll() or "hangs" in scene.ledger.open_tasks())
    behaving = {fault.behaviour: frozenset({"quick"})}
    with pytest.raises(Missed, match="None of 1 tasks"):
        scene.play(fault(patience_s=0.1), behaving=behaving, recover_within_s=30.0)


def test_tasks_that_were_never_accepted_are_waited_for_no_longer_than_anything_is_left(scene: Scene) -> None:
    scene.workers(BODIES)
    wait_until(lambda: scene.ledger.poll() or "hangs" in scene.ledger.open_tasks())
    behaving = {"raise-once": frozenset({"raises", "refused"})}
    effect = scene.play(HandlerRaises(patience_s=3_600), behaving=behaving, nothing_left=lambda: True)
    assert effect.evidence == "1 of 2 tasks raised an error."


def test_the_reference_gives_up_what_always_fails_and_completes_all_else(tmp_path: Path) -> None:
    result = carry_out(tmp_path, "reference", "handler-raises-always:tasks=3,handler-exits-always", tasks=40).result
    assert (result.verdict, [fault.state for fault in result.faults]) == (Verdict.PASS, ["effective"] * 2), result
    assert result.counts["DEAD"] == 4


def test_the_reference_completes_every_task_whose_handler_misbehaved_once(tmp_path: Path) -> None:
    faults = "handler-raises:tasks=5,handler-exits:tasks=2,handler-hangs:tasks=2:for_s=4,handler-outlives-lease:tasks=2"
    result = carry_out(tmp_path, "reference", faults).result
    assert (result.verdict, [fault.state for fault in result.faults]) == (Verdict.PASS, ["effective"] * 4), result
    assert set(result.fates.values()) <= {Fate.DONE, Fate.DUPLICATE}
    assert "lease-expired-alive" not in {one.name for one in result.situations if one.count}
