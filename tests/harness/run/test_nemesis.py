"""The nemesis: a fault counts only if there is evidence of its effect."""

import math
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
import redis
from support.fault_stage import BUSY
from support.waiting import wait_until
from zeroloss.faults.planned import PlannedTask
from zeroloss.history import Effect, Fault, Process, Recorder, read
from zeroloss.history.tail import LedgerTail
from zeroloss.plan.plan import Plan, PlannedFault, make_plan
from zeroloss.plan.requests import FaultRequest
from zeroloss.run.nemesis import Nemesis, long_tasks
from zeroloss.system.environment import Environment
from zeroloss.system.processes import Managed, spawn
from zeroloss.system.servers import Server
from zeroloss.system.workers import WorkerPool
from zeroloss.target import Target

IDLE = "import time; time.sleep(3600)"
FINISHED = """
import time
from zeroloss.ledger import effect
with effect("done"):
    pass
time.sleep(3600)
"""
LATER = f"""
import time
from zeroloss.ledger import effect
time.sleep(0.5)
with effect("task-of-the-fault"):
    time.sleep(0.5)
{BUSY}"""
GONE_AT_ONCE = "import sys; sys.exit('I have had enough')"


class Theatre:
    """Workers with a program each, a ledger and a recorder, without a queue."""

    def __init__(self, directory: Path) -> None:
        (directory / "events").mkdir()
        self.directory = directory
        self.ledger = LedgerTail(directory / "events")
        self.recorder = Recorder(directory / "events", "harness")
        self.pools: list[WorkerPool] = []

    def pool(self, *programs: str) -> WorkerPool:
        target = Target(redis_url="redis://127.0.0.1:1/0", namespace="zeroloss", directory=self.directory)
        env = Environment(self.directory, "package.module:Class", target).of([sys.executable])

        def start(slot: int) -> Managed:
            command = [sys.executable, "-c", programs[slot]]
            log = self.directory / f"worker-{slot}.log"
            return spawn(command, role="worker", log_path=log, env=env, recorder=self.recorder)

        pool = WorkerPool(len(programs), start, self.ledger.abandon)
        self.pools.append(pool)
        pool.start()
        return pool

    def nemesis(self, program: str, faults: Sequence[PlannedFault], **more: Any) -> Nemesis:
        """Return a nemesis that is not started, with one worker."""
        return Nemesis(
            plan(1, *faults),
            server=None,  # type: ignore[arg-type]
            workers=self.pool(program),
            ledger=self.ledger,
            recorder=self.recorder,
            **more,
        )

    def perform(
        self,
        workers: WorkerPool,
        *faults: PlannedFault,
        server: Server | None = None,
        seed: int = 1,
        tasks: Sequence[PlannedTask] = (),
        **more: Any,
    ) -> Nemesis:
        played = plan(seed, *faults)
        nemesis = Nemesis(
            msgspec.structs.replace(played, tasks=list(tasks) or played.tasks),
            server=server,  # type: ignore[arg-type]
            workers=workers,
            ledger=self.ledger,
            recorder=self.recorder,
            **more,
        )
        nemesis.start()
        nemesis.join(30)
        assert not nemesis.is_alive()
        assert nemesis.failure is None
        return nemesis

    def faults(self) -> list[Fault]:
        return [event for event in read(self.directory / "events") if isinstance(event, Fault)]

    def exits(self) -> list[Process]:
        events = read(self.directory / "events")
        return [event for event in events if isinstance(event, Process) and event.phase == "exit"]


def plan(seed: int, *faults: PlannedFault) -> Plan:
    base = make_plan(
        seed=seed, target="brpop", server="embedded", appendfsync="off", workers=1, tasks=1,
        faults=[FaultRequest("none", 1, {})],
    )  # fmt: skip
    return Plan(**{**{name: getattr(base, name) for name in base.__struct_fields__}, "faults": list(faults)})


def kill(number: int = 1, **options: float) -> PlannedFault:
    return PlannedFault(number, "worker-sigkill", dict(options), 0.0)


@pytest.fixture
def theatre(tmp_path: Path) -> Iterator[Theatre]:
    made = Theatre(tmp_path)
    yield made
    for pool in made.pools:
        pool.close()
    made.recorder.close()


def test_a_worker_is_killed_while_a_task_is_open_and_the_task_is_named(theatre: Theatre) -> None:
    nemesis = theatre.perform(theatre.pool(BUSY, BUSY), kill())
    begin, effective, end = theatre.faults()
    assert [begin.phase, effective.phase, end.phase] == ["begin", "effective", "end"]
    assert effective.tasks
    assert "exited with status -9" in (effective.evidence or "")
    assert nemesis.score.mid_task == 1
    text = "".join(
        path.read_text() for path in (theatre.directory / "events").glob(f"worker-{effective.pids[0]}.jsonl")
    )
    last = text.splitlines()[-1]
    assert '"phase":"begin"' in last
    assert f'"task":"{effective.tasks[0]}"' in last


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_only_a_worker_that_is_inside_a_task_is_killed(theatre: Theatre, seed: int) -> None:
    pool = theatre.pool(IDLE, BUSY, FINISHED)
    spared = {pool.living()[0].sid, pool.living()[2].sid}
    theatre.perform(pool, kill(), seed=seed)
    assert not spared & {event.sid for event in theatre.exits()}
    assert [event.status for event in theatre.exits()] == [-9]


def test_where_nobody_is_inside_a_task_nothing_is_killed_and_the_fault_is_missed(theatre: Theatre) -> None:
    nemesis = theatre.perform(theatre.pool(IDLE), kill(patience_s=0.1))
    assert [event.phase for event in theatre.faults()] == ["begin", "missed", "end"]
    assert theatre.faults()[1].reason == "No worker was seen inside a task within 0.1 s."
    assert theatre.exits() == []
    assert (nemesis.score.effective, nemesis.score.missed) == (0, 1)


def test_a_killed_worker_is_on_record_as_wanted_and_is_running_again_at_the_end_of_the_fault(theatre: Theatre) -> None:
    pool = theatre.pool(BUSY)
    before = pool.living()[0].sid
    theatre.perform(pool, kill())
    assert [event.wanted for event in theatre.exits()] == [True]
    assert [worker.sid for worker in pool.living()] != [before]
    assert len(pool.living()) == 1


def test_kills_follow_each_other_and_each_finds_its_task(theatre: Theatre) -> None:
    nemesis = theatre.perform(theatre.pool(BUSY, BUSY), *[kill(number) for number in range(1, 6)])
    assert nemesis.score.mid_task == 5


def test_a_worker_that_ends_by_itself_is_on_record_as_unwanted_and_is_started_again(theatre: Theatre) -> None:
    pool = theatre.pool(GONE_AT_ONCE)
    wait_until(lambda: pool.self_exits >= 2)
    assert [event.wanted for event in theatre.exits()][:2] == [False, False]
    assert "I have had enough" in pool.last_words


def test_a_closed_pool_starts_nobody_again(theatre: Theatre) -> None:
    pool = theatre.pool(BUSY, GONE_AT_ONCE)
    pool.close()
    pool.start_missing()
    assert pool.living() == []


def test_the_baseline_does_nothing_and_sees_that_all_workers_run(theatre: Theatre) -> None:
    theatre.perform(theatre.pool(IDLE, IDLE), PlannedFault(1, "none", {}, 0.0))
    assert theatre.faults()[1].evidence == "Nothing was injected; all 2 workers run."
    assert theatre.exits() == []


def test_a_killed_server_comes_back_under_another_run_id_with_its_data(
    theatre: Theatre, open_own_server: Callable[..., Server]
) -> None:
    server = open_own_server("embedded", appendfsync="always")
    with redis.Redis.from_url(server.url) as client:
        client.set("kept", "yes")
    theatre.perform(theatre.pool(BUSY), PlannedFault(1, "server-sigkill", {"down_s": 0.1}, 0.0), server=server)
    assert "its run_id changed" in (theatre.faults()[1].evidence or "")
    with redis.Redis.from_url(server.url) as client:
        assert client.get("kept") == b"yes"


def test_a_stopped_nemesis_ends_at_once_however_far_its_next_fault_is(theatre: Theatre) -> None:
    far = PlannedFault(1, "worker-sigkill", {}, 3600.0)
    nemesis = Nemesis(
        plan(1, far),
        server=None,  # type: ignore[arg-type]
        workers=theatre.pool(IDLE),
        ledger=theatre.ledger,
        recorder=theatre.recorder,
    )
    nemesis.start()
    begun_s = time.monotonic()
    nemesis.stop()
    nemesis.join(30)
    assert time.monotonic() - begun_s < 1
    assert theatre.faults() == []


def clock(number: int) -> PlannedFault:
    return PlannedFault(number, "clock-jump", {"for_s": 0.0}, 0.0)


def test_a_fault_that_meets_all_workers_waits_until_each_has_completed_a_task(theatre: Theatre) -> None:
    (theatre.directory / "clock").mkdir()
    theatre.perform(theatre.pool(BUSY, BUSY), clock(1), clock(2), directory=theatre.directory)
    ends = [event for event in read(theatre.directory / "events") if isinstance(event, Effect) and event.phase == "end"]
    faults = theatre.faults()
    first, second = (event.t for event in faults if event.phase == "begin")
    over = next(event.t for event in faults if event.phase == "end")
    assert len({event.pid for event in ends if event.t <= first}) == 2
    assert len({event.pid for event in ends if over <= event.t <= second}) == 2


def test_a_fault_hits_all_the_same_when_a_worker_does_not_come_back_and_says_which_had(
    theatre: Theatre, open_own_server: Callable[..., Server], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("zeroloss.run.nemesis.COME_BACK_S", 0.5)
    server = open_own_server("embedded", appendfsync="always")
    pool = theatre.pool(BUSY, IDLE)
    wait_until(lambda: theatre.ledger.poll() or theatre.ledger.completed_count, 30)
    theatre.perform(pool, PlannedFault(1, "server-sigkill", {"down_s": 0.0}, 0.0), server=server)
    (effective,) = (event for event in theatre.faults() if event.phase == "effective")
    assert effective.met == [1]


def test_tasks_come_faster_than_planned_while_a_fault_waits_for_all_workers(
    theatre: Theatre, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Late in a plan only two tasks a second are left, and each of several workers must get one."""
    monkeypatch.setattr("zeroloss.run.nemesis.FAULTS_UNTIL_SHARE", 0.05)
    (theatre.directory / "clock").mkdir()
    waiting = {"promised": lambda: frozenset({"waiting"}), "workload_over": lambda: False}
    fault = msgspec.structs.replace(clock(1), at_s=0.5)
    nemesis = theatre.nemesis(IDLE, [fault], directory=theatre.directory, **waiting)
    nemesis.start()
    try:
        from_s = wait_until(lambda: nemesis.horizon_s() > 1.0 and nemesis.horizon_s())
        since_s = time.monotonic()
        wait_until(lambda: time.monotonic() > since_s + 0.5)
        assert nemesis.horizon_s() - from_s > 3.0 * (time.monotonic() - since_s)
    finally:
        nemesis.stop()
        nemesis.join(30)


@pytest.mark.parametrize(("promised", "waits"), [(frozenset(), False), (frozenset({"waiting"}), True)])
def test_a_fault_waits_no_longer_for_a_worker_when_no_task_waits_or_runs_for_a_while(
    theatre: Theatre, monkeypatch: pytest.MonkeyPatch, promised: frozenset[str], waits: bool
) -> None:
    monkeypatch.setattr("zeroloss.run.nemesis.STILL_S", 0.2)
    monkeypatch.setattr("zeroloss.run.nemesis.COME_BACK_S", 3.0)
    (theatre.directory / "clock").mkdir()
    begun_s = time.monotonic()
    theatre.perform(theatre.pool(IDLE), clock(1), directory=theatre.directory, promised=lambda: promised)
    assert (time.monotonic() - begun_s > 3.0) is waits


def test_a_fault_that_meets_all_workers_waits_until_a_task_that_comes_with_it_has_begun(
    theatre: Theatre, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("zeroloss.run.nemesis.COME_BACK_S", 0.0)
    (theatre.directory / "clock").mkdir()
    mine = PlannedTask("task-of-the-fault", 0.0, 0, fault=1)
    others = [PlannedTask("undecodable", 0.0, 0, fault=1, behaviour="undecodable"), PlannedTask("other", 0.0, 0)]
    theatre.perform(theatre.pool(LATER), clock(1), tasks=[mine, *others], directory=theatre.directory)
    begun = next(event for event in read(theatre.directory / "events") if isinstance(event, Effect))
    assert begun.task == mine.id
    assert theatre.faults()[0].t > begun.t
    monkeypatch.setattr("zeroloss.run.nemesis.BROUGHT_S", 0.1)
    never = [PlannedTask("never", 0.0, 0, fault=1)]
    assert theatre.perform(theatre.pool(BUSY), clock(1), tasks=never, directory=theatre.directory).score.missed == 1


@pytest.mark.parametrize(("first", "waits"), [("worker-sigstop", True), ("worker-sigkill", False)])
def test_a_worker_is_asked_to_end_when_what_it_outlived_is_over_and_at_once_after_a_kill(
    theatre: Theatre, first: str, waits: bool
) -> None:
    options = {"for_s": 0.1} if waits else {}
    faults = [PlannedFault(1, first, options, 0.0), PlannedFault(2, "worker-sigterm", {"to_all": False}, 0.0)]
    theatre.perform(theatre.pool(BUSY), *faults, recover_within_s=0.5)
    _, _, over, asked, *_ = theatre.faults()
    assert (over.phase, asked.phase) == ("end", "begin")
    assert (asked.t - over.t >= 2_000_000_000) == waits


def test_a_killed_worker_that_stays_dead_is_not_started_again_while_others_are(theatre: Theatre) -> None:
    pool = theatre.pool(BUSY, BUSY)
    first = theatre.perform(pool, kill(stays_dead=True))
    assert (first.score.effective, pool.wanted, len(pool.living())) == (1, 1, 1)
    theatre.perform(pool, kill(2))
    wait_until(lambda: len(pool.living()) == 1)
    assert "for the rest of the run" in (theatre.faults()[1].evidence or "")


def test_the_last_worker_does_not_stay_dead(theatre: Theatre) -> None:
    pool = theatre.pool(BUSY)
    assert theatre.perform(pool, kill(stays_dead=True)).score.missed == 1
    assert len(pool.living()) == 1


def test_a_kill_does_not_wait_for_a_task_when_nothing_is_left_to_do(theatre: Theatre) -> None:
    begun_s = time.monotonic()
    more = {"workload_over": lambda: True, "promised": frozenset}
    theatre.perform(theatre.pool(IDLE), kill(patience_s=20), **more)
    assert theatre.faults()[1].reason == "No worker was inside a task, and nothing was left to wait for."
    assert time.monotonic() - begun_s < 15


def test_kills_do_not_wait_for_a_task_where_tasks_wait_and_none_has_begun_for_long(
    theatre: Theatre, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("zeroloss.run.nemesis.STANDSTILL_S", 0.3)
    begun_s = time.monotonic()
    more = {"workload_over": lambda: False, "promised": lambda: frozenset({"waiting"}), "recover_within_s": 0.3}
    theatre.perform(theatre.pool(IDLE), *(kill(number, patience_s=20) for number in (1, 2, 3)), **more)
    assert [event.phase for event in theatre.faults()] == ["begin", "missed", "end"] * 3
    assert 0.6 < time.monotonic() - begun_s < 15


def test_a_task_that_has_just_come_is_waited_for_however_long_nothing_began_before(
    theatre: Theatre, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("zeroloss.run.nemesis.STANDSTILL_S", 1.0)
    come_s = time.monotonic() + 1.0
    later = msgspec.structs.replace(kill(2, patience_s=20), at_s=1.5)
    waiting = {
        "workload_over": lambda: False,
        "promised": lambda: frozenset({"new"} if time.monotonic() > come_s else ()),
    }
    theatre.perform(theatre.pool(IDLE), kill(patience_s=0.1), later, **waiting)
    begun, missed = (event.t for event in theatre.faults() if event.number == 2 and event.phase in ("begin", "missed"))
    assert missed - begun > 900_000_000


def test_tasks_come_up_to_the_next_fault_and_at_their_own_pace_while_one_waits_for_a_task(theatre: Theatre) -> None:
    faults = [PlannedFault(number, "worker-sigkill", {"patience_s": 20}, 100.0 * (number - 1)) for number in (1, 2)]
    nemesis = theatre.nemesis(IDLE, faults)
    assert nemesis.horizon_s() == 0.0
    nemesis.start()
    try:
        first = wait_until(lambda: nemesis.horizon_s() > 100.0 and nemesis.horizon_s())
        assert 100.0 < first < 102.0
        since_s = time.monotonic()
        wait_until(lambda: nemesis.horizon_s() > first + 2.0)
        assert time.monotonic() - since_s < 4.0
    finally:
        nemesis.stop()
        nemesis.join(30)


def test_a_fault_that_waits_for_a_task_leaves_some_to_those_after_it(theatre: Theatre) -> None:
    faults = [PlannedFault(number, "worker-sigkill", {"patience_s": 30}, 10.0 * number) for number in range(3)]
    nemesis = theatre.nemesis(IDLE, faults)
    nemesis.start()
    try:
        begun_s = time.monotonic()
        wait_until(lambda: nemesis.horizon_s() > 10.0 / 0.85)
        wait_until(lambda: time.monotonic() - begun_s > 4.0)
        assert nemesis.horizon_s() < 10.0 / 0.85 + 0.25 * (time.monotonic() - begun_s) + 0.1
    finally:
        nemesis.stop()
        nemesis.join(30)


def test_all_of_the_tasks_come_while_a_fault_of_the_clients_is_late(theatre: Theatre) -> None:
    faults = [PlannedFault(number, "client-reply-loss", {}, 100.0 * (number - 1)) for number in (1, 2)]
    nemesis = theatre.nemesis(IDLE, faults, network=SimpleNamespace(clients={}), workload_over=lambda: False)
    nemesis.start()
    try:
        wait_until(lambda: nemesis.begun)
        since_s, from_s = time.monotonic(), nemesis.horizon_s()
        wait_until(lambda: nemesis.horizon_s() > from_s + 1.0)
        assert time.monotonic() - since_s < 2.0
    finally:
        nemesis.stop()
        nemesis.join(30)


def test_late_tasks_catch_up_once_the_only_fault_left_holds_the_traffic_back(theatre: Theatre) -> None:
    faults = [
        PlannedFault(1, "worker-sigkill", {"patience_s": 2}, 0.0),
        PlannedFault(2, "worker-sigkill-full", {}, 100.0),
    ]
    nemesis = theatre.nemesis(IDLE, faults)
    assert not nemesis.catches_up()
    nemesis.start()
    try:
        assert wait_until(nemesis.catches_up, 30)
        assert nemesis.horizon_s() == 100.0
    finally:
        nemesis.stop()
        nemesis.join(30)


def test_tasks_that_a_fault_holds_back_come_when_it_says_so_whatever_follows(theatre: Theatre) -> None:
    faults = [
        PlannedFault(1, "worker-sigkill-full", {"calm_within_s": 0.3}, 0.0),
        PlannedFault(2, "worker-sigkill", {}, 100.0),
    ]
    nemesis = theatre.nemesis(BUSY, faults)
    nemesis.start()
    try:
        wait_until(lambda: nemesis.begun)
        assert nemesis.horizon_s() == 0.0
        assert nemesis.catches_up()
        assert wait_until(nemesis.horizon_s, 30) == math.inf
    finally:
        nemesis.stop()
        nemesis.join(30)


def test_tasks_that_a_later_fault_holds_back_do_not_come_with_those_of_an_earlier_one(theatre: Theatre) -> None:
    faults = [
        PlannedFault(1, "worker-sigkill-full", {"calm_within_s": 0.3}, 0.0),
        PlannedFault(2, "worker-sigterm-full", {"calm_within_s": 0.3}, 5.0),
    ]
    nemesis = theatre.nemesis(BUSY, faults)
    nemesis.start()
    try:
        assert wait_until(nemesis.horizon_s, 30) == 5.0
        assert wait_until(lambda: nemesis.horizon_s() == math.inf, 30)
    finally:
        nemesis.stop()
        nemesis.join(30)


def test_a_task_is_long_whose_worker_would_have_lost_it_before_its_end_and_that_does_nothing_else() -> None:
    tasks = [
        PlannedTask("short", 0.0, 3_900),
        PlannedTask("long", 0.0, 4_100),
        PlannedTask("very long", 0.0, 6_600),
        PlannedTask("failing", 0.0, 6_600, behaviour="raise-once"),
    ]
    planned = msgspec.structs.replace(plan(1), tasks=tasks)
    assert long_tasks(planned, 2.5) == {"long", "very long"}
    assert long_tasks(planned, 11.0) == {"very long"}
