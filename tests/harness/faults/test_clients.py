"""Faults of the producer and its clients, of clocks, and the baselines that change the plan."""

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest
from msgspec.structs import replace
from support.fault_stage import BUSY, Scene
from support.runs import carry_out
from support.waiting import wait_until
from zeroloss.checker.verdicts import Verdict
from zeroloss.faults import Missed
from zeroloss.faults.client.gives_up import ClientGivesUp
from zeroloss.faults.client.pauses import ClientPauses
from zeroloss.faults.client.producer_sigkill import ProducerSigkill
from zeroloss.faults.client.producer_sigkill_batch import ProducerSigkillBatch
from zeroloss.faults.client.requeues import ClientRequeues
from zeroloss.faults.client.retries import ClientRetries
from zeroloss.faults.client.reuses_key import ClientReusesKey
from zeroloss.faults.planned import PlannedTask
from zeroloss.faults.server.clock_jump import CLOCKS, SHIM, ClockJump
from zeroloss.faults.slow import Slow, SlowIdle
from zeroloss.faults.worker.memory import WorkerMemory
from zeroloss.faults.worker.sigkill_quiet import WorkerSigkillQuiet
from zeroloss.plan.plan import Plan, make_plan
from zeroloss.plan.requests import PlanError, parse_faults
from zeroloss.system.processes import Managed, spawn
from zeroloss.system.producer import Producer

LISTENS = "import socket, time; s = socket.create_server(('127.0.0.1', 0)); time.sleep(3600)"
READS_CLOCK = """
import time
from zeroloss.ledger import effect
number = 0
while True:
    number += 1
    with effect(f"{number} {round((time.time() - time.clock_gettime(time.CLOCK_REALTIME)) / 3600)}"):
        time.sleep(0.02)
"""
WAITS = """
with effect("waits"):
    time.sleep(3600)
"""


@pytest.fixture
def start_producer(tmp_path: Path) -> Callable[[], Managed]:
    return lambda: spawn([sys.executable, "-c", LISTENS], role="producer", log_path=tmp_path / "producer.log")


def hours(path: Path) -> list[str]:
    """Return the error of the clock at each event of a worker."""
    return [json.loads(line)["task"].split()[1] for line in path.read_text().splitlines() if line.endswith("}")]


def plan(faults: str, tasks: int = 40, recover_within_s: float = 2.0) -> Plan:
    return make_plan(
        seed=1, target="reference", server="embedded", appendfsync="off", workers=2, tasks=tasks,
        faults=parse_faults(faults, None), recover_within_s=recover_within_s,
    )  # fmt: skip


def planned(count: int = 40) -> list[PlannedTask]:
    return [PlannedTask(f"t{number}", number / 100, 10) for number in range(count)]


def test_the_producer_is_killed_while_something_is_under_way_and_listens_again(
    scene: Scene, start_producer: Callable[[], Managed]
) -> None:
    producer = Producer(start_producer)
    before = producer.process
    try:
        answers = iter([0, 0, 3])
        effect = scene.play(ProducerSigkill(down_s=0.0), producer=producer, under_way=lambda: next(answers))
        assert effect.evidence == "The producer exited with status -9 while 3 submissions were under way."
        assert before.members() == []
        assert producer.process.pid != before.pid
        assert producer.ended_by_itself() is None
    finally:
        producer.close()


def test_the_producer_is_killed_under_a_batch_and_not_under_single_tasks(
    scene: Scene, start_producer: Callable[[], Managed]
) -> None:
    producer = Producer(start_producer)
    sizes = iter((0, 1, 50))
    try:
        effect = scene.play(ProducerSigkillBatch(down_s=0.0), producer=producer, batch_under_way=lambda: next(sizes))
        assert effect.evidence == "The producer exited with status -9 while a batch of 50 tasks was under way."
    finally:
        producer.close()


def test_a_target_without_batches_is_refused_a_fault_of_batches_in_one_sentence() -> None:
    with pytest.raises(PlanError, match="needs a target with `enqueue_many`"):
        make_plan(
            seed=1, target="brpop", server="embedded", appendfsync="always", workers=1, tasks=9,
            faults=parse_faults("producer-sigkill-batch", None),
        )  # fmt: skip


def test_the_reference_loses_nothing_when_its_producer_is_killed_under_batches(tmp_path: Path) -> None:
    outcome = carry_out(tmp_path, "reference", "producer-sigkill-batch:count=1", tasks=1_000)
    assert outcome.result.verdict is Verdict.PASS, outcome.result
    assert all("a batch of" in fault.evidence for fault in outcome.result.faults)


def test_a_producer_that_answers_between_two_looks_is_stopped_until_a_submission_comes(
    scene: Scene, start_producer: Callable[[], Managed], monkeypatch: pytest.MonkeyPatch
) -> None:
    producer = Producer(start_producer)
    go_on, since = producer.process.continue_session_members, [time.monotonic()]

    def noted() -> None:
        since.append(time.monotonic())
        go_on()

    monkeypatch.setattr(producer.process, "continue_session_members", noted)
    try:
        effect = scene.play(
            ProducerSigkill(down_s=0.0), producer=producer, under_way=lambda: int(time.monotonic() > since[-1] + 0.5)
        )
        assert effect.evidence == "The producer exited with status -9 while a submission was under way."
        assert len(since) > 5
    finally:
        producer.close()


def test_where_nothing_is_under_way_the_producer_is_left_alone(
    scene: Scene, start_producer: Callable[[], Managed]
) -> None:
    producer = Producer(start_producer)
    before = producer.process
    try:
        with pytest.raises(Missed, match="No submission was under way"):
            scene.play(ProducerSigkill(patience_s=0.1), producer=producer)
        assert producer.process is before
        assert producer.ended_by_itself() is None
    finally:
        producer.close()


def test_a_target_without_a_producer_cannot_lose_it(scene: Scene) -> None:
    with pytest.raises(Missed, match="no producer"):
        scene.play(ProducerSigkill())


def test_a_producer_that_ends_by_itself_differs_from_one_that_was_killed(tmp_path: Path) -> None:
    producer = Producer(lambda: spawn([sys.executable, "-c", "exit(3)"], role="producer", log_path=tmp_path / "log"))
    try:
        assert wait_until(producer.ended_by_itself) == 3
        producer.kill()
        assert producer.ended_by_itself() is None
    finally:
        producer.close()


def test_some_clients_are_planned_to_hang_up_and_the_others_wait() -> None:
    arranged = ClientGivesUp(one_in=4).arrange(planned(200), Random(1), 2.0)
    assert 20 < sum(task.behaviour == "client-gives-up" for task in arranged) < 90


def play_giving_up(scene: Scene, *, unknown: set[str], promised: set[str]) -> str:
    behaving = {"client-gives-up": frozenset({"a", "b"})}
    heard = {"unknown": lambda: frozenset(unknown), "promised": lambda: frozenset(promised)}
    return scene.play(ClientGivesUp(), behaving=behaving, **heard).evidence


def test_that_clients_gave_up_is_seen_by_their_submissions_without_an_answer(scene: Scene) -> None:
    evidence = play_giving_up(scene, unknown={"a", "b", "another"}, promised={"c"})
    assert evidence == "2 of 2 clients disconnected before the answer."


@pytest.mark.parametrize(
    ("unknown", "promised"),
    [(set(), {"a", "b", "c"}), ({"b", "c"}, {"a"}), ({"c"}, set())],
    ids=["all had an answer", "the server was away for one of them", "nobody submitted theirs"],
)
def test_where_no_client_hung_up_it_is_missed_though_others_had_no_answer(
    scene: Scene, unknown: set[str], promised: set[str]
) -> None:
    with pytest.raises(Missed, match="clients that were to hang up had an answer"):
        play_giving_up(scene, unknown=unknown, promised=promised)


def test_some_clients_are_planned_to_send_their_task_twice_with_an_answer_and_without() -> None:
    behaviours = [task.behaviour for task in ClientRetries(one_in=4).arrange(planned(200), Random(1), 2.0)]
    assert behaviours.count("client-retries") > 10
    assert behaviours.count("client-retries-unanswered") > 10
    assert 110 < behaviours.count("") < 180


def test_that_clients_retried_is_seen_by_the_second_promises(scene: Scene) -> None:
    effect = scene.play(ClientRetries(), repeated=lambda: 7)
    assert effect.evidence == "7 submissions were sent again with the same idempotency key and promised again."
    with pytest.raises(Missed, match="No submission was promised a second time"):
        scene.play(ClientRetries())


def test_keys_are_planned_to_be_used_again_at_once_and_after_the_answer() -> None:
    behaviours = [task.behaviour for task in ClientReusesKey().arrange(planned(200), Random(1), 2.0)]
    assert [behaviours.count(way) for way in ("client-reuses-key", "client-reuses-key-at-once", "")] == [3, 3, 194]


def test_a_key_that_is_used_again_may_be_of_a_scheduled_task_where_there_is_one() -> None:
    tasks = [replace(task, delay_ms=500 * (task.id == "t7")) for task in planned()]
    for seed in range(20):
        behaviours = {task.id: task.behaviour for task in ClientReusesKey().arrange(tasks, Random(seed), 2.0)}
        assert behaviours["t7"]
        assert sum(map(bool, behaviours.values())) == 6


def test_that_keys_were_used_again_is_seen_by_the_promises(scene: Scene) -> None:
    behaving = {"client-reuses-key": frozenset({"a"}), "client-reuses-key-at-once": frozenset({"b"})}
    effect = scene.play(ClientReusesKey(), behaving=behaving, promised=lambda: frozenset({"b", "c"}))
    assert effect.evidence == "Of 2 tasks whose idempotency key was used several times 1 were promised."
    with pytest.raises(Missed, match="No task whose idempotency key was used several times was promised"):
        scene.play(ClientReusesKey(), behaving=behaving)


def test_a_clock_jumps_and_jumps_back_in_one_worker_only(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    (scene.directory / CLOCKS).mkdir()
    monkeypatch.setenv("PYTHONPATH", str(SHIM))
    scene.workers(READS_CLOCK, READS_CLOCK)
    events = scene.directory / "events"
    wait_until(lambda: sum(len(hours(path)) > 2 for path in events.glob("worker-*.jsonl")) == 2)
    effect = scene.play(ClockJump(for_s=1.5), directory=scene.directory)
    assert "1 of its 1 processes read it" in effect.evidence
    jumped = wait_until(lambda: [path.stem for path in events.glob("worker-*.jsonl") if {"1", "-1"} & set(hours(path))])
    assert jumped == [f"worker-{effect.pids[0]}"]
    assert hours(events / f"{jumped[0]}.jsonl")[0] == "0"
    wait_until(lambda: hours(events / f"{jumped[0]}.jsonl")[-1] == "0", message="the clock did not jump back")


def test_only_what_was_read_of_this_jump_counts_and_not_of_one_before(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    (scene.directory / CLOCKS).mkdir()
    monkeypatch.setenv("PYTHONPATH", str(SHIM))
    enough = scene.directory / "enough"
    scene.workers(READS_CLOCK.replace("while True:", f"import os\nwhile not os.path.exists({str(enough)!r}):") + WAITS)
    scene.wait_for_task()
    first = scene.play(ClockJump(for_s=1.5), directory=scene.directory)
    assert "1 of its 1 processes read it" in first.evidence
    enough.touch()
    wait_until(lambda: scene.ledger.poll() or "waits" in scene.ledger.open_tasks())
    second = scene.play(ClockJump(for_s=0.1), directory=scene.directory)
    assert "0 of its 1 processes read it" in second.evidence


def test_a_worker_whose_clock_cannot_be_set_is_missed(scene: Scene) -> None:
    (scene.directory / CLOCKS).mkdir()
    scene.workers(BUSY)
    with pytest.raises(Missed, match="must be Python"):
        scene.play(ClockJump(for_s=0.0), directory=scene.directory)


def test_slow_tasks_take_twice_as_long_as_recovery_and_the_others_stay_as_they_are() -> None:
    arranged = Slow(tasks=3).arrange(planned(), Random(1), 2.0)
    assert sorted(task.work_ms for task in arranged)[-4:] == [10, 4_000, 4_000, 4_000]
    assert [task.at_s for task in arranged] == [task.at_s for task in planned()]


def test_slow_and_idle_means_that_nothing_else_is_there() -> None:
    arranged = SlowIdle(tasks=3).arrange(planned(), Random(1), 2.0)
    assert [(task.at_s, task.work_ms) for task in arranged] == [(0.0, 4_000)] * 3


def test_a_baseline_of_slow_tasks_is_seen_when_one_is_long_in_its_body(scene: Scene) -> None:
    scene.workers(BUSY.replace("0.05", "1"))
    effect = scene.play(Slow(), recover_within_s=0.3)
    assert "Nothing was injected; a task body had been running for 0." in effect.evidence


def test_where_all_are_quick_there_is_no_slow_baseline(scene: Scene) -> None:
    scene.workers(BUSY)
    with pytest.raises(Missed, match="No task body ran longer than"):
        scene.play(Slow(patience_s=0.3), recover_within_s=0.3)


def test_before_a_quiet_kill_the_last_tasks_are_long() -> None:
    arranged = WorkerSigkillQuiet(tasks=2).arrange(planned(), Random(1), 2.0)
    assert [task.work_ms for task in arranged[-3:]] == [10, 3_000, 3_000]


def test_a_quiet_kill_is_the_last_fault_and_comes_when_all_has_been_submitted() -> None:
    made = plan("worker-sigkill-quiet,worker-sigkill:count=5")
    assert [fault.fault for fault in made.faults] == ["worker-sigkill"] * 5 + ["worker-sigkill-quiet"]
    assert made.faults[-1].at_s >= made.tasks[-1].at_s


def test_a_fifth_of_the_tasks_is_hungry_where_memory_is_short() -> None:
    arranged = WorkerMemory().arrange(planned(), Random(1), 2.0)
    assert sum(task.behaviour == "hungry" for task in arranged) == 8


@pytest.mark.parametrize("baseline", ["none", "slow", "slow-idle"])
def test_a_baseline_stands_alone(baseline: str) -> None:
    with pytest.raises(PlanError, match=f"--faults {baseline} cannot be combined"):
        parse_faults(f"{baseline},worker-sigkill", None)


def test_the_tasks_that_faults_arrange_are_in_the_plan_and_the_same_for_a_seed() -> None:
    assert plan("slow").tasks == plan("slow").tasks
    assert max(task.work_ms for task in plan("slow", recover_within_s=5.0).tasks) == 10_000


def raising(count: int) -> dict[str, frozenset[str]]:
    return {"raise-always": frozenset(f"t{number}" for number in range(count))}


def test_dead_letters_of_the_workload_are_requeued_until_the_target_says_that_it_did(scene: Scene) -> None:
    dead, asked = {"t1", "t2", "t3", "a stranger's"}, list[list[str]]()

    def requeue(tasks: list[str]) -> bool:
        asked.append(sorted(tasks))
        dead.discard("t1")  # requeued, although the answer was lost
        return len(asked) > 1

    effect = scene.play(
        ClientRequeues(tasks=3), behaving=raising(9), dead_letters=lambda: frozenset(dead), requeue=requeue
    )
    assert asked == [["t1", "t2", "t3"], ["t2", "t3"]]
    assert sorted(effect.tasks) == ["t1", "t2", "t3"]


def test_fewer_dead_letters_than_are_wanted_are_requeued_after_a_while(scene: Scene) -> None:
    fault = ClientRequeues(tasks=5, patience_s=0.3)
    dead = frozenset({"t1"})
    assert scene.play(fault, behaving=raising(9), dead_letters=lambda: dead, requeue=lambda _: True).tasks == ("t1",)


def test_requeueing_is_missed_where_nothing_was_given_up(scene: Scene) -> None:
    with pytest.raises(Missed, match="no dead letter that could be requeued"):
        scene.play(ClientRequeues(patience_s=0.1), behaving=raising(9), requeue=lambda _: True)


def test_requeued_tasks_of_the_reference_run_again_with_all_their_attempts(tmp_path: Path) -> None:
    outcome = carry_out(tmp_path, "reference", "client-requeues", tasks=30)
    assert outcome.result.verdict is Verdict.PASS, outcome.result.because
    (fault,) = outcome.result.faults
    assert (fault.state, len(fault.evidence) > 0) == ("effective", True)


def test_claiming_is_paused_before_the_call_comes_and_resumed_until_the_target_says_that_it_is(scene: Scene) -> None:
    order: list[str] = []

    def resume() -> bool:
        order.append("resume")
        return len(order) > 3

    def pause() -> bool:
        order.append("pause")
        return True

    promised = frozenset({"a", "b"})
    effect = scene.play(
        ClientPauses(for_s=0.1),
        pause=pause,
        resume=resume,
        let_on=lambda: order.append("call"),
        promised=lambda: promised if "call" in order else frozenset(),
    )
    assert order == ["pause", "call", "resume", "resume"]
    assert "Claiming was paused; 2 tasks came meanwhile, of which 0 began." in effect.evidence
    assert effect.lasted
    assert effect.lasted[1] - effect.lasted[0] >= 100_000_000


def test_a_pause_of_unknown_outcome_is_missed_and_claiming_resumed(scene: Scene) -> None:
    asked: list[str] = []
    with pytest.raises(Missed, match="unknown whether claiming was paused"):
        scene.play(ClientPauses(patience_s=0.1), resume=lambda: not asked.append("resume"))
    assert asked == ["resume"]


def test_a_target_without_a_pause_is_refused_one_in_one_sentence() -> None:
    with pytest.raises(PlanError, match="needs a target with `pause` that states `pauses_within`"):
        make_plan(
            seed=1, target="brpop", server="embedded", appendfsync="always", workers=1, tasks=9,
            faults=parse_faults("client-pauses", None),
        )  # fmt: skip


def test_tasks_of_all_priorities_that_become_due_in_a_pause_of_the_reference_begin_by_priority(tmp_path: Path) -> None:
    outcome = carry_out(tmp_path, "reference", "client-pauses", tasks=600)
    assert outcome.result.verdict is Verdict.PASS, outcome.result.because
    (fault,) = outcome.result.faults
    assert "of which 0 began" in fault.evidence
