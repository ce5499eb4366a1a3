"""The target's workers: a fixed number of sessions. A worker that ends by itself is recorded and started again."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from .processes import Managed

POLL_S = 0.1
BACKOFF_S = 0.2
BACKOFF_MAX_S = 5.0
FUTILE_STARTS = 2
STOP_DEADLINE_S = 10.0


@dataclass(slots=True)
class _Slot:
    """One place for a worker. `start_at`: time (monotonic, s) before which it stays empty; 0: no such limit."""

    worker: Managed | None = None
    start_at: float = 0.0
    backoff_s: float = BACKOFF_S
    started_at: float = field(default=0.0)
    retired: bool = False
    """Whether a worker that ends here is not replaced."""


class WorkerPool:
    """`size` workers, started by `start_one(slot)`. Safe across threads.

    `on_gone(sid)` is called for each ended session before its worker is replaced.
    """

    def __init__(self, size: int, start_one: Callable[[int], Managed], on_gone: Callable[[int], None]) -> None:
        self.size = size
        self._start_one = start_one
        self._on_gone = on_gone
        self._slots = [_Slot() for _ in range(size)]
        self._lock = threading.RLock()
        self._closing = threading.Event()
        self._supervisor = threading.Thread(target=self._supervise, name="supervisor", daemon=True)
        self.failure: BaseException | None = None
        """Why the supervisor gave up: a worker could not be started again."""
        self.self_exits = 0
        """Number of workers that ended without being killed."""
        self.last_words = ""
        """The last output of the latest of these workers."""

    def start(self) -> None:
        """Start all workers, and supervise them from now on. Raises CannotStart."""
        self.start_missing()
        self._supervisor.start()

    def living(self) -> list[Managed]:
        """Return the running workers."""
        with self._lock:
            return [slot.worker for slot in self._slots if slot.worker and slot.worker.poll() is None]

    @property
    def wanted(self) -> int:
        """Number of workers that should run: all except the retired ones."""
        with self._lock:
            return sum(not slot.retired for slot in self._slots)

    def retire(self, worker: Managed) -> bool:
        """Do not replace this worker once it ends. Return False, and change nothing, if it is the last one."""
        with self._lock:
            if self.wanted < 2:
                return False
            for slot in self._slots:
                slot.retired = slot.retired or slot.worker is worker
            return True

    def slot_of(self, worker: Managed) -> int | None:
        """Return the slot that the worker fills; None: it was replaced."""
        with self._lock:
            return next((number for number, slot in enumerate(self._slots) if slot.worker is worker), None)

    def futile(self) -> str | None:
        """Return an error sentence if the workers keep ending as soon as they are started, else None."""
        if self.self_exits <= FUTILE_STARTS * self.size:
            return None
        return f"The workers exit immediately after they are started; last output: {self.last_words}"

    def start_missing(self) -> None:
        """Start every worker that neither runs nor is retired, without waiting for a backoff or `postpone`."""
        with self._lock:
            for number, slot in enumerate(self._slots):
                if (
                    not self._closing.is_set()
                    and not slot.retired
                    and (slot.worker is None or slot.worker.poll() is not None)
                ):
                    self._refill(number, slot)

    def postpone(self, worker: Managed, seconds: float) -> None:
        """If this worker ends, keep its slot empty until `seconds` from now, unless `start_missing` fills it."""
        with self._lock:
            for slot in self._slots:
                if slot.worker is worker:
                    slot.start_at = time.monotonic() + seconds

    def restart_all(self) -> None:
        """Stop each worker in order, kill those that do not stop in time, and start all of them again."""
        for worker in self.living():
            worker.terminate()
        deadline_s = time.monotonic() + STOP_DEADLINE_S
        for worker in self.living():
            try:
                worker.wait(max(0.0, deadline_s - time.monotonic()))
            except TimeoutError:
                worker.kill_session()
        self.start_missing()

    def close(self) -> None:
        """Kill all workers and start none again."""
        self._closing.set()
        if self._supervisor.is_alive():
            self._supervisor.join()
        with self._lock:
            for slot in self._slots:
                if slot.worker:
                    slot.worker.kill_session()

    def _refill(self, number: int, slot: _Slot) -> None:
        if slot.worker:
            # A leader that ended by itself may leave children, which a container or a systemd unit would end with it.
            slot.worker.kill_session()
            self._on_gone(slot.worker.sid)
        slot.worker = self._start_one(number)
        slot.started_at = time.monotonic()
        slot.start_at = 0.0

    def _supervise(self) -> None:
        while not self._closing.wait(POLL_S):
            with self._lock:
                for number, slot in enumerate(self._slots):
                    try:
                        self._look_after(number, slot)
                    except Exception as error:  # noqa: BLE001 - it must reach the run, whatever it is
                        self.failure = error
                        return

    def _look_after(self, number: int, slot: _Slot) -> None:
        if slot.retired or slot.worker is None or slot.worker.poll() is None:
            return
        now = time.monotonic()
        if slot.start_at == 0.0:
            self.self_exits += 1
            self.last_words = slot.worker.log_tail()
            lived_long = now - slot.started_at > 2 * BACKOFF_MAX_S
            slot.backoff_s = BACKOFF_S if lived_long else min(BACKOFF_MAX_S, slot.backoff_s * 2)
            slot.start_at = now + slot.backoff_s
        elif now >= slot.start_at:
            self._refill(number, slot)
