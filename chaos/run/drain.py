"""After the faults: wait until the queue is quiet, poke it before the verdict STUCK, and list the broker's tasks."""

import contextlib
import time
from collections.abc import Callable, Collection
from typing import Literal, Protocol, get_args

import redis

from ..faults.planned import PlannedTask
from ..history import CensusAfter, Place, Recorder
from ..history.tail import LedgerTail
from ..plan.plan import Plan, task_id
from ..system.workers import WorkerPool
from ..target import Found, TargetError, Task
from .scan import holds_strings_only, scan

POLL_S = 0.05
MARGIN_S = 3.0
CENSUS_EVERY_S = 1.0
ON_RECORD = ("dead_letter", "failed")
POKE_WORK_MS = 5


class Submissions(Protocol):
    """The submitting side as the drain uses it: the agent, or a load with the agent behind it."""

    @property
    def promised(self) -> frozenset[str]: ...
    @property
    def handed(self) -> int: ...
    @property
    def answered(self) -> int: ...
    def enqueue(self, *tasks: Task) -> None: ...
    def census(self) -> list[Found] | None: ...


def on_record(census: Collection[Found]) -> set[str]:
    """Return the tasks that the queue has given up and that do not wait in any other place."""
    waiting = {found.task for found in census if found.place not in ON_RECORD}
    return {found.task for found in census} - waiting


class Drain:
    """The end of one run. While it waits it calls `tick(left_s)`, which shows progress and raises if the run failed."""

    def __init__(
        self,
        plan: Plan,
        *,
        recover_within_s: float,
        server_url: str,
        submitter: Submissions,
        workers: WorkerPool,
        ledger: LedgerTail,
        recorder: Recorder,
        tick: Callable[[float], None],
        warn: Callable[[str], None],
        census_every_s: float = CENSUS_EVERY_S,
        scan_finds: bool = False,
    ) -> None:
        """`scan_finds`: a scan of Redis has found waiting tasks of this run, so a task it misses is not in Redis."""
        longest_s = max((task.work_ms for task in plan.tasks), default=0) / 1000
        self.patience_s = recover_within_s + longest_s + MARGIN_S
        """Seconds without an answered submission or a completed task after which the queue counts as stuck."""
        self._plan = plan
        self._server_url = server_url
        self._submitter, self._workers, self._ledger, self._recorder = submitter, workers, ledger, recorder
        self._tick, self._warn = tick, warn
        self._census_every_s = census_every_s
        self._own_census = True
        self._scan_finds = scan_finds
        self._warned = False

    def finish(self) -> None:
        """Wait until all tasks are done, poke the queue if it is stuck, and record the censuses."""
        if self._wait_until_done():
            self._wait_until_empty()
            self._recorder.record("run", "drained")
            self._census("end")
            return
        self._recorder.record("run", "deadline")
        in_broker = self._census("deadline")
        if not in_broker & self._unfinished() and (self._own_census or self._scan_finds or self._holds_nothing()):
            return  # every missing task has left the broker, so a poke can't move any
        self._poke_with_a_task()
        done = self._wait_until_done()
        self._census("poke")
        if done:
            return
        self._recorder.record("poke", "restart")
        self._workers.restart_all()
        self._wait_until_done()
        self._census("restart")

    def _holds_nothing(self) -> bool:
        with contextlib.suppress(redis.RedisError):
            return holds_strings_only(self._server_url)
        return False

    def _poke_with_a_task(self) -> None:
        task = PlannedTask(task_id(self._plan.seed, len(self._plan.tasks) + 1), 0.0, POKE_WORK_MS)
        self._recorder.record("poke", "task", task=task.id)
        self._submitter.enqueue(task.task())

    def _unfinished(self) -> set[str]:
        self._ledger.poll()
        return set(self._submitter.promised - self._ledger.completed())

    def _wait_until_done(self) -> bool:
        """Wait until each promised task is completed or recorded as given up, and no body runs. Return False if stuck.

        Each completed task extends the deadline, so a long backlog is not STUCK.
        """
        progress = (-1, -1)
        deadline_s = census_s = 0.0
        on_record: set[str] = set()
        while True:
            now_s = time.monotonic()
            self._ledger.poll()
            reached = (self._submitter.answered, self._ledger.completed_count)
            if reached != progress:
                progress, deadline_s, census_s = reached, now_s + self.patience_s, now_s + self._census_every_s
            answered = self._submitter.answered == self._submitter.handed
            if answered and not self._ledger.open_tasks() and not self._unfinished() - on_record:
                return True
            if now_s > deadline_s:
                return False
            if now_s > census_s and self._own_census:
                census_s = now_s + self._census_every_s
                on_record = self._on_record()
            self._tick(deadline_s - now_s)
            time.sleep(POLL_S)

    def _wait_until_empty(self) -> None:
        """Wait up to `patience_s` until no task waits in the broker: an ack may be in flight or a duplicate due."""
        deadline_s = time.monotonic() + self.patience_s
        while self._own_census and (left_s := deadline_s - time.monotonic()) > 0:
            waiting = any(found.place not in ON_RECORD for found in self._targets_census() or ())
            if not waiting and not self._ledger.open_tasks():
                return
            self._tick(left_s)
            self._ledger.poll()
            time.sleep(POLL_S)

    def _on_record(self) -> set[str]:
        return on_record(self._targets_census() or [])

    def _targets_census(self) -> list[Found] | None:
        if not self._own_census:
            return None
        try:
            census = self._submitter.census()
        except TargetError as error:
            self._own_census = False
            self._warn(f"The target's census failed; a scan of Redis replaces it from now on: {error}")
            return None
        if census is None:
            self._own_census = False
        return census

    def _census(self, after: CensusAfter) -> set[str]:
        """Record the tasks found in the broker, and return their ids."""
        found = self._targets_census()
        source: Literal["target", "scan"] = "target"
        if found is None:
            source = "scan"
            planned = {task.id for task in self._plan.tasks}
            wanted = (planned | self._submitter.promised) - self._ledger.completed()
            try:
                found = scan(self._server_url, wanted)
            except redis.RedisError as error:
                self._warn(f"The census could not be taken: {error}")
                return set()
        for one in found:
            place = one.place if one.place in get_args(Place) else "unknown"
            told = {"place": place, "reason": one.reason, "digest": one.payload, "after": after, "source": source}
            self._recorder.record("census", "found", task=one.task, **told)
        self._recorder.record("census", "done", source=source, after=after, count=len(found))
        return {one.task for one in found}
