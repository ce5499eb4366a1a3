"""One case of the enumeration: a worker runs the workload, is killed at one point, and others recover."""

import shutil
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path

from ..checker.judge import judge
from ..faults.planned import PlannedTask
from ..history import EVENTS_DIRECTORY, Recorder, load, write_merged
from ..history.tail import LedgerTail
from ..plan.plan import Plan
from ..run.drain import ON_RECORD, Drain
from ..system.environment import NAMESPACE, Environment
from ..system.processes import Managed, spawn
from ..system.proxy import Listener, Point, Strike, StrikeKind
from ..system.proxy.peers import Ends, owner
from ..system.workers import WorkerPool
from ..target import TargetError
from .plan import Crash
from .preamble import FAULT_NAME, record_begin
from .redelivery import redelivery_ms
from .scenario import ALL_TASKS, COLLEAGUE, FIRST, LAST, LATE, LEFT, RUNNING, STOP, Case, Outcome, Prepared
from .slot import LOGS_DIRECTORY, Slot, SlotWorker

POLL_S = 0.01
CENSUS_EVERY_S = 0.1
STEP_DEADLINE_S = 10.0
LAST_WAIT_S = 3.0
STOP_DEADLINE_S = 10.0
QUIET_S = 0.3
COLLEAGUE_ATTEMPTS = 5


class Stopped(Exception):
    """The enumeration is being stopped."""


class CaseRun:
    """Carries out one case in `directory`, which is emptied first. `stopping` ends it early, by Stopped."""

    def __init__(
        self, slot: Slot, case: Case, prepared: Prepared | None, directory: Path, stopping: threading.Event
    ) -> None:
        self._slot, self._case, self._prepared, self._stopping = slot, case, prepared, stopping
        self._directory = directory.resolve()
        self._events = self._directory / EVENTS_DIRECTORY
        shutil.rmtree(self._directory, ignore_errors=True)
        for folder in (self._events, self._directory / LOGS_DIRECTORY):
            folder.mkdir(parents=True)
        self._recorder = Recorder(self._events, "harness")
        self._ledger = LedgerTail(self._events)
        self._plan = Plan(
            seed=0, target=slot.spec, server="", appendfsync="off", workers=1, faults=[], tasks=list(ALL_TASKS)
        )
        self._struck: dict[int, tuple[frozenset[int], int]] = {}  # crash number -> the pids that it killed, and when
        self._pool: WorkerPool | None = None

    def prepare(self) -> Prepared | None:
        """Kill another worker in the middle of a task, and return the state; None: it was never seen there."""
        for _ in range(COLLEAGUE_ATTEMPTS):
            with ExitStack() as stack:
                self._slot.begin([], frozenset())
                worker = self._worker(stack, "colleague", gated=False)
                self._submit(LEFT)
                try:
                    if self._kill_in_its_body(worker):
                        self._take_history(self._directory)
                        return Prepared(self._slot.snapshot(), self._events)
                finally:
                    self._slot.submitter.start_over(frozenset())
        return None

    def carry_out(self) -> Outcome:
        """Carry out the case. Raises Stopped, TargetError, CannotStart, and errors of the target's agent."""
        prepared = self._prepared if COLLEAGUE in self._case.steps else None
        self._slot.begin(prepared.snapshot if prepared else [], frozenset({LEFT.id} if prepared else ()))
        if prepared:
            for path in prepared.events.glob("*.jsonl"):
                # Under a name that the tail does not follow: these events are complete.
                shutil.copyfile(path, self._events / f"before-{path.name}")
        with ExitStack() as stack:
            record_begin(self._recorder, self._slot, self._case, self._plan.doomed)
            victims = [self._worker(stack, f"worker-{n}") for n in range(1, max(1, len(self._case.crashes)) + 1)]
            healthy = self._slot.proxy.listen(gated=True, recording=True)
            stack.callback(healthy.close)
            pool = WorkerPool(1, lambda _: self._spawn(healthy, "healthy"), self._forget)
            self._pool = pool
            stack.callback(pool.close)
            pool.start()
            for number, (crash, victim) in enumerate(zip(self._case.crashes, victims, strict=False), start=1):
                victim.listener.arm(self._strike(number, crash, victim))
            self._go_through_workload(victims[0])
            for victim in victims[1:]:
                self._wait(lambda victim=victim: victim.gone or victim.listener.is_connected())  # type: ignore[misc]
                victim.listener.open()
                self._wait_until_quiet(victim)
                # An idle worker keeps sending commands, and the point may be among them.
                self._wait(lambda victim=victim: victim.gone, LAST_WAIT_S)  # type: ignore[misc]
            for victim in victims:
                # A worker that missed its point must not run beside the healthy one.
                victim.managed.kill_session()
                self._forget(victim.managed.sid)
            self._record_missed()
            # A slow start of the healthy worker is not the queue's fault.
            self._wait(healthy.is_connected)
            healthy.open()
            self._recorder.record("run", "healed")
            self._drain(pool).finish()
            self._recorder.record("run", "end")
            seen = [tuple(listener.seen) for listener in (*(victim.listener for victim in victims), healthy)]
        return self._judge(tuple(seen))

    # -- the workload ----------------------------------------------------------------------------------------------

    def _go_through_workload(self, victim: SlotWorker) -> None:
        """Run the workload until the worker is gone. Tasks that were not submitted by then are left out."""
        for task in FIRST:
            self._submit(task)
        self._wait(lambda: victim.gone or victim.listener.is_connected())
        victim.listener.open()
        self._wait_until_quiet(victim)
        if victim.gone:
            return
        self._submit(LATE)
        self._wait_until_quiet(victim)
        if victim.gone or STOP not in self._case.steps:
            # The worker may be waiting in the very command at which it is to be killed.
            self._wait(lambda: victim.gone or not victim.listener.struck, LAST_WAIT_S)
            return
        # Held back for a moment, the worker finds all tasks together, and may prefetch those behind the first.
        victim.listener.hold()
        for task in LAST:
            self._submit(task)
        victim.listener.open()
        self._wait(lambda: victim.gone or RUNNING.id in self._open())
        victim.managed.terminate()
        self._wait(lambda: victim.gone, STOP_DEADLINE_S)

    def _submit(self, task: PlannedTask) -> None:
        """Submit a task and wait for the answer, so that the order is always the same."""
        self._slot.submitter.enqueue(task.task())
        self._wait(lambda: self._slot.submitter.answered == self._slot.submitter.handed)

    def _wait_until_quiet(self, victim: SlotWorker) -> None:
        """Wait until the worker is gone, or all promised tasks are done or given up.

        If the target has no census, a period of `recover_within` + QUIET_S without a begin or end of a task is enough.
        """
        stands_still_s = self._slot.target.recover_within + QUIET_S
        seen, quiet_at_s = -1, 0.0

        def is_quiet() -> bool:
            nonlocal seen, quiet_at_s
            self._ledger.poll()
            if seen != self._ledger.seen:
                seen, quiet_at_s = self._ledger.seen, time.monotonic() + stands_still_s
            if self._ledger.open_tasks():
                return False
            census = self._slot.submitter.census()
            if census is not None:
                return all(found.place in ON_RECORD for found in census)
            left = self._slot.submitter.promised - self._ledger.completed()
            return not left or time.monotonic() > quiet_at_s

        self._wait(lambda: victim.gone or is_quiet())

    def _open(self) -> dict[str, int]:
        self._ledger.poll()
        return self._ledger.open_tasks()

    def _wait(self, condition: Callable[[], bool], deadline_s: float = STEP_DEADLINE_S) -> None:
        """Wait for a condition, up to a deadline. A worker that does not meet it is judged by the state it left."""
        give_up_s = time.monotonic() + deadline_s
        while not condition() and time.monotonic() < give_up_s:
            self._check()
            time.sleep(POLL_S)

    def _check(self) -> None:
        if self._stopping.is_set():
            raise Stopped
        if self._slot.proxy.failure:
            raise self._slot.proxy.failure
        # Workers that are not to be killed, and yet never begin a task, are broken.
        unused = not self._case.crashes and not self._ledger.seen
        if unused and self._pool and (futile := self._pool.futile()):
            raise TargetError(futile)

    # -- processes -------------------------------------------------------------------------------------------------

    def _worker(self, stack: ExitStack, log: str, *, gated: bool = True) -> SlotWorker:
        """Start a worker ahead of its turn; if `gated`, it waits behind the proxy's gate."""
        listener = self._slot.proxy.listen(gated=gated, recording=True)
        stack.callback(listener.close)
        managed = self._spawn(listener, log)
        stack.callback(managed.kill_session)
        return SlotWorker(listener, managed)

    def _spawn(self, listener: Listener, log: str) -> Managed:
        target = self._slot.target(redis_url=listener.url, namespace=NAMESPACE, directory=self._directory)
        return spawn(
            target.worker,
            role="worker",
            log_path=self._directory / LOGS_DIRECTORY / f"{log}.log",
            env=Environment(self._directory, self._slot.spec, target).of(target.worker),
            recorder=self._recorder,
        )

    def _strike(self, number: int, crash: Crash, victim: SlotWorker) -> Strike:
        def kill(ends: Ends) -> None:
            worker = victim.managed
            self._recorder.record("fault", "begin", fault=FAULT_NAME, number=number)
            worker.stop_session_members()
            self._ledger.poll()
            tasks = self._ledger.open_in_session(worker.sid)
            pids = worker.members()
            sender = owner(ends, pids)
            status = worker.kill_session()
            self._struck[number] = (frozenset(pids), time.monotonic_ns())
            self._recorder.record(
                "fault",
                "effective",
                fault=FAULT_NAME,
                number=number,
                evidence=f"Worker {worker.sid} (process {sender} sent it) was killed at {crash}, with status {status}.",
                pids=pids,
                tasks=list(tasks) or None,
            )
            self._recorder.record("fault", "end", fault=FAULT_NAME, number=number)
            self._forget(worker.sid)

        return Strike(point=crash.point, kind=StrikeKind.KILL, phase=crash.phase, kill=kill)

    def _kill_in_its_body(self, worker: SlotWorker) -> bool:
        self._wait(lambda: worker.gone or LEFT.id in self._open())
        worker.managed.stop_session_members()
        hit = LEFT.id in self._open()
        worker.managed.kill_session()
        self._forget(worker.managed.sid)
        return hit

    def _forget(self, sid: int) -> None:
        self._ledger.poll()
        self._ledger.abandon(sid)

    # -- the record ------------------------------------------------------------------------------------------------

    def _record_missed(self) -> None:
        for number, crash in enumerate(self._case.crashes, start=1):
            if number not in self._struck:
                reason = f"The worker did not reach the crash point {crash}."
                self._recorder.record("fault", "missed", fault=FAULT_NAME, number=number, reason=reason)

    def _drain(self, pool: WorkerPool) -> Drain:
        return Drain(
            self._plan,
            recover_within_s=self._slot.target.recover_within,
            server_url=self._slot.url,
            submitter=self._slot.submitter,
            workers=pool,
            ledger=self._ledger,
            recorder=self._recorder,
            tick=lambda _: self._check(),
            warn=lambda sentence: print(sentence, file=sys.stderr),
            census_every_s=CENSUS_EVERY_S,
        )

    def _take_history(self, directory: Path) -> None:
        self._slot.take_agent_events(self._events)
        self._recorder.close()
        write_merged(directory)

    def _judge(self, seen: Sequence[tuple[Point, ...]]) -> Outcome:
        self._take_history(self._directory)
        events = load(self._directory)
        reached = len(self._struck) == len(self._case.crashes)
        return Outcome(judge(events), reached, tuple(seen), redelivery_ms(events, self._struck))
