"""Injects the planned faults, one after the other, and records whether they took effect."""

import math
import random
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import msgspec

from ..faults import FAULTS, Effect, Fault, Missed, Stage
from ..faults.base import long_ms
from ..history.tail import LedgerTail
from ..plan.plan import FAULTS_UNTIL_SHARE, Plan
from ..plan.requests import build_fault
from ..system.servers import Server
from ..system.workers import WorkerPool

POLL_S = 0.05
SETTLE_S = 1.5
"""Extra wait, in seconds beyond `recover_within`, between a fault that leaves workers alive and the next fault that
asks a worker to stop: tasks recovered because of the first would otherwise excuse the second."""
BROUGHT_S = 2.0
"""Longest wait, in seconds, of a fault that hits all workers until one of the tasks submitted for it has begun."""
COME_BACK_S = 5.0
"""Longest wait, in seconds beyond `recover_within`, of a fault that hits all workers until all complete tasks again."""
STILL_S = 2.0
"""Shorter limit, in seconds, of the same wait if meanwhile no accepted task waits or runs: few tasks are left."""
STANDSTILL_S = 20.0
"""Seconds, beyond `recover_within`, after which a queue stands still: tasks wait all that time, and none begins."""

LATE_SHARE = 0.25
"""Minimum rate of tasks while a fault takes longer than planned, as a share of the planned rate."""


class Pace(NamedTuple):
    """Rate of tasks in addition to `LATE_SHARE`, as a share of the planned rate."""

    busy: float
    """While a task body runs."""
    idle: float


SCHEDULED = Pace(0.0, 0.0)
FOR_WORKERS = Pace(0.0, 1.0)
"""For faults that hit a worker inside a task: new tasks come while no body runs."""
FOR_ALL = Pace(2.0, 4.0)
"""Until each worker has completed a task again: one long body must not leave the other workers without tasks, and few
are left late in a plan."""
FOR_CLIENTS = Pace(1.0, 1.0)
"""For faults that make the queue refuse a submission, or lose its answer."""


class Records(Protocol):
    """The part of a Recorder that the nemesis uses."""

    def record(self, kind: str, phase: str, **members: Any) -> Any: ...


class Stopped(Exception):
    """The run was stopped while a fault waited."""


@dataclass(slots=True)
class Score:
    """Counts of the faults so far, for the progress line."""

    planned: int
    effective: int = 0
    missed: int = 0
    mid_task: int = 0


class Nemesis(threading.Thread):
    """A thread that injects a plan's faults. `failure`: the error that ended it early."""

    def __init__(
        self,
        plan: Plan,
        *,
        server: Server,
        workers: WorkerPool,
        ledger: LedgerTail,
        recorder: Records,
        **more: Any,
    ) -> None:
        """`more`: the optional members of each fault's Stage."""
        super().__init__(name="nemesis", daemon=True)
        self._plan = plan
        self._server, self._workers, self._ledger, self._recorder = server, workers, ledger, recorder
        self._more = more
        self._stopping = threading.Event()
        self._struck: frozenset[str] = frozenset()
        self.score = Score(planned=len(plan.faults))
        self.failure: BaseException | None = None
        self._doomed = frozenset(plan.doomed)
        self._outage_over_t = 0
        self._settled_s = -math.inf
        # When the queue last moved, as far as was seen: the time, how many tasks had begun, and which waited.
        self._moved_s, self._begun_then, self._waited_then = 0.0, -1, frozenset[str]()
        self._taken_up, self._reached_s = 0, 0.0
        self._taken_up_s = self._looked_s = math.inf
        self._pace, self._rate = SCHEDULED, 0.0
        self._holding = self._let_on = False
        self.bodies_end_at_once = False
        """Whether task bodies end at once: then no fault waits for a task inside its body."""
        self.begun: dict[int, Fault] = {}
        """Number -> fault, for the faults that have begun."""

    def stop(self) -> None:
        """Inject no more faults, and end. A fault in progress is healed first."""
        self._stopping.set()

    def horizon_s(self) -> float:
        """Return up to which second of the plan tasks may be submitted; 0: the run has not begun.

        This is the time of the next fault, or later if earlier faults needed more tasks; infinite after the last one.
        """
        if self._looked_s == math.inf:
            return 0.0
        if self._holding:
            return self._plan.faults[self._taken_up - 1].at_s
        if self._let_on or self._taken_up == len(self._plan.faults):
            left = self._plan.faults[self._taken_up :]
            return min((one.at_s for one in left if FAULTS[one.fault].holds_traffic), default=math.inf)
        planned = self._plan.faults[self._taken_up]
        if FAULTS[planned.fault].holds_traffic:
            return planned.at_s
        # Leave some tasks to later faults.
        ahead_s = min(self._reached(), planned.at_s / FAULTS_UNTIL_SHARE)
        return max(planned.at_s, ahead_s) + LATE_SHARE * (time.monotonic() - self._taken_up_s)

    def catches_up(self) -> bool:
        """Return whether late tasks may come faster than planned, as no fault is left that needs their traffic.

        The faults that hold traffic back come when all tasks before their call have come.
        """
        left = self._plan.faults[self._taken_up :]
        return self._holding or self._let_on or not left or FAULTS[left[0].fault].holds_traffic

    def has_begun(self, number: int) -> bool:
        """Return whether the fault of this number has begun, or the last fault of the plan was taken up."""
        return number in self.begun or self._taken_up == len(self._plan.faults)

    def run(self) -> None:
        begun_s = self._looked_s = self._taken_up_s = time.monotonic()
        behaving, long = self._plan.behaving, long_tasks(self._plan, self._more.get("recover_within_s", 0.0))
        try:
            for planned in self._plan.faults:
                self._pace = SCHEDULED
                self._wait(planned.at_s - (time.monotonic() - begun_s))
                fault = build_fault(planned.fault, planned.options)
                self._holding, self._let_on = fault.holds_traffic, False
                self._taken_up, self._taken_up_s = self._taken_up + (not _awaits(fault)), time.monotonic()
                self._look()
                self._reached_s = max(self._reached_s, self.horizon_s())
                draw = random.Random(f"fault:{self._plan.seed}:{planned.number}")
                stage = Stage(
                    server=self._server,
                    workers=self._workers,
                    ledger=self._ledger,
                    random=draw,
                    wait=self._wait,
                    behaving=behaving,
                    long=long,
                    struck=lambda: self._struck,
                    nothing_left=self._nothing_left,
                    let_on=self._let_traffic_on,
                    **self._more,
                )
                self._strike(fault, planned.number, stage)
                self._holding = False
        except Stopped:
            pass
        except BaseException as error:  # noqa: BLE001 - it must reach the run, whatever it is
            self.failure = error

    def _let_traffic_on(self) -> None:
        self._holding, self._let_on = False, True

    def _strike(self, fault: Fault, number: int, stage: Stage) -> None:
        name = fault.name
        self._pace = FOR_ALL if fault.everywhere else FOR_WORKERS
        met = self._await_comeback(stage) if fault.everywhere else None
        if fault.asks_to_end:  # tasks lost to an earlier fault would excuse this one
            self._wait(self._settled_s - time.monotonic())
        self.begun[number] = fault
        asked = "client" if fault.fills_memory else fault.aims_at
        self._pace = {"client": FOR_CLIENTS, "worker": FOR_WORKERS}.get(asked, SCHEDULED)
        if fault.everywhere:
            self._await_brought(number)
        self._taken_up += _awaits(fault)
        self._recorder.record("fault", "begin", fault=name, number=number, traits=msgspec.to_builtins(fault.traits()))
        pids: tuple[int, ...] = ()
        try:
            effect = fault.inject(stage)
            pids = effect.pids
            self.score.effective += 1
            self._note(fault, number, effect, met)
        except Missed as missed:
            self.score.missed += 1
            if missed.effect:
                self._note(fault, number, missed.effect, met)
            self._recorder.record("fault", "missed", fault=name, number=number, reason=str(missed))
        finally:
            fault.heal(stage)
            self._recorder.record("fault", "end", fault=name, number=number)
            if fault.everywhere:
                self._outage_over_t = time.monotonic_ns()
            if fault.everywhere or self._live(pids):
                self._settled_s = time.monotonic() + stage.recover_within_s + SETTLE_S

    def _await_comeback(self, stage: Stage) -> list[int]:
        """Wait until every worker has completed a task since the last fault that hit all of them.

        Return the numbers of these workers: some are missing if time ran out or no work was left.
        """
        busy_s = time.monotonic()
        give_up_s = busy_s + COME_BACK_S + stage.recover_within_s
        while True:
            self._ledger.poll()
            now_s = time.monotonic()
            if self._waits_or_runs():
                busy_s = now_s
            back = [one for one in self._workers.living() if self._ledger.completed_since(one.sid, self._outage_over_t)]
            late = now_s > give_up_s or now_s > busy_s + STILL_S
            if len(back) >= self._workers.wanted or late or self._nothing_left():
                slots = [self._workers.slot_of(worker) for worker in back]
                return sorted(slot + 1 for slot in slots if slot is not None)
            self._wait(POLL_S)

    def _waits_or_runs(self) -> bool:
        """Return whether a body runs, or an accepted task has not begun."""
        return "promised" not in self._more or bool(self._ledger.open_tasks() or self._waiting())

    def _waiting(self) -> frozenset[str]:
        """Return the accepted tasks that have not begun, without those that are given up without a body."""
        promised = self._more.get("promised", frozenset)
        return frozenset(promised() - self._ledger.begun - self._doomed)

    def _await_brought(self, number: int) -> None:
        """Wait until a task submitted for this fault runs: a body that ends in an outage cannot be acked at once."""
        brought = {one.id for one in self._plan.tasks if one.fault == number and not (one.behaviour or one.batch)}
        give_up_s = time.monotonic() + BROUGHT_S
        while brought and not brought & self._ledger.open_tasks().keys() and time.monotonic() < give_up_s:
            self._wait(POLL_S)
            self._ledger.poll()

    def _live(self, pids: Sequence[int]) -> bool:
        """Return whether any of these worker processes is still alive."""
        return any(not set(pids).isdisjoint(worker.members()) for worker in self._workers.living()) if pids else False

    def _nothing_left(self) -> bool:
        """Return whether no task is left for a fault to wait for.

        Then nothing more is submitted, no body runs, and each promised task is completed, or has begun and must be
        given up. The same holds if bodies end at once, and if the queue stands still.
        """
        if self.bodies_end_at_once or self._stands_still():
            return True
        over, promised = self._more.get("workload_over"), self._more.get("promised")
        if over is None or promised is None or not over() or self._ledger.open_tasks():
            return False
        return not promised() - self._ledger.completed() - (self._doomed & self._ledger.begun)

    def _stands_still(self) -> bool:
        """Return whether promised tasks have waited for long while none began: a fault would wait for each in vain."""
        now_s, begun, waiting = time.monotonic(), len(self._ledger.begun), self._waiting()
        if begun != self._begun_then or self._ledger.open_tasks() or not waiting & self._waited_then:
            self._moved_s, self._begun_then, self._waited_then = now_s, begun, waiting
        still_s: float = now_s - self._moved_s - self._more.get("recover_within_s", 0.0)
        return still_s > STANDSTILL_S

    def _note(self, fault: Fault, number: int, effect: Effect, met: list[int] | None) -> None:
        self._recorder.record(
            "fault",
            "effective",
            fault=fault.name,
            number=number,
            evidence=effect.evidence,
            pids=_listed(effect.pids),
            tasks=_listed(effect.tasks),
            lasted=_listed(effect.lasted or ()),
            met=met,
        )
        if effect.pids:
            self._struck |= set(effect.tasks)
        if effect.tasks and fault.aims_at == "worker":
            self.score.mid_task += 1

    def _wait(self, seconds: float) -> None:
        self._look()
        if self._stopping.wait(max(0.0, seconds)):
            raise Stopped

    def _look(self) -> None:
        """Set the rate at which tasks come from now on: as fast as they are needed now."""
        self._looked_s, self._reached_s = time.monotonic(), self._reached()
        self._rate = self._pace.busy if self._ledger.open_tasks() else self._pace.idle

    def _reached(self) -> float:
        return self._reached_s + self._rate * (time.monotonic() - self._looked_s)


def _awaits(fault: Fault) -> bool:
    """Return whether the fault waits for a condition before it begins; until then it is not yet taken up."""
    return fault.everywhere or fault.asks_to_end


def long_tasks(plan: Plan, recover_within_s: float) -> frozenset[str]:
    """Return the tasks with a long body that behave well."""
    least_ms = long_ms(recover_within_s)
    return frozenset(task.id for task in plan.tasks if task.work_ms >= least_ms and not task.behaviour)


def _listed(items: Sequence[Any]) -> list[Any] | None:
    return list(items) or None
