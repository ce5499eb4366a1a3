"""One worker process: a claimer, its handler threads, maintenance, signals. Its parent is in `supervisor.py`.

A plain function that hangs cannot be stopped: a thread cannot be killed. So the process fails the hung task, gives back
what it has not begun, lets the other handlers finish, and exits with `HUNG_STATUS` for its parent to restart it.
"""

import logging
import os
import random
import signal
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from itertools import count
from math import inf
from pathlib import Path
from typing import Any, NoReturn

import redis

from .. import signals
from ..logs import running
from ..queue.config import Config
from ..queue.connection import connect
from ..queue.consumer import Consumer
from ..queue.errors import LazyResult, RanTooLong
from ..queue.reaper import Reaper
from ..queue.servers.pool import CONNECT_TIMEOUT_S
from ..queue.texts import MAX_ERROR_CHARS, printable, reason_of, traceback_of
from ..signals import STOP_SIGNALS, flush_output, guard_forks
from .claimer import Claimer
from .delivery import Delivery, State
from .event_loop import EventLoop
from .handlers import Handler, Reject, Retry
from .journal import Observer
from .presence import Presence
from .supervisor import AT_WORK, RECYCLED_STATUS, WELL

logger = logging.getLogger(__name__)

HUNG_STATUS = 75  # EX_TEMPFAIL: the parent starts another process
GRACE_STATUS = 1  # the grace ended before the handlers did
BUG_STATUS = 70  # EX_SOFTWARE: one of the worker's own threads broke
CANCEL_S = 2.0  # an async handler that still runs this long after its cancellation counts as hung
WELL_S = 1.0  # interval between WELL messages to the parent
LOOK_S = 0.1  # interval at which the main thread checks clocks and threads


class HandlerThread(threading.Thread):
    """Runs handlers, one after the other. It calls `at_work` once, when it begins its first task."""

    def __init__(
        self,
        number: int,
        claimer: Claimer,
        handlers: Mapping[str, Handler],
        at_work: Callable[[], None] | None = None,
        loop: EventLoop | None = None,
    ) -> None:
        super().__init__(name=f"handler-{number}", daemon=True)
        self.current: Delivery | None = None
        self.begun = 0  # number of tasks begun
        self._claimer, self._handlers, self._at_work, self._loop = claimer, handlers, at_work, loop

    def run(self) -> None:
        ready, inbox = self._claimer.ready, self._claimer.inbox
        while (delivery := ready.get()) is not None:
            started = time.monotonic()
            # After the lease others may run the task already: the claimer checks first.
            if delivery.state is State.OUT and started < self._claimer.lease_until:
                delivery.started = started
                self.current = delivery
                self._claimer.journal.begun(delivery)
                self.begun += 1
                if self._at_work:
                    self._at_work()
                    self._at_work = None
                error = self._outcome(delivery)
                if signals.forked:
                    who, outcome = delivery.task.shown_id, error or "it returned"
                    logger.warning("The handler of task %s forked a process that left the handler: %s", who, outcome)
                    signals.end_fork(failed=error is not None)
                self.current = None
                running.set(None)
                if not delivery.end(error, time.monotonic() - started):
                    continue  # it has failed as hung
            inbox.put(delivery)

    def _outcome(self, delivery: Delivery) -> str | None:
        """Run the handler and return why it failed. The delivery gets the traceback and the terms of a retry."""
        handler = self._handlers[delivery.task.type]
        running.set(delivery.task)
        if handler.settings:  # else the consumer's own config counts
            delivery.config = handler.config
        try:
            handler.run(delivery.task, self._loop)
        except LazyResult as error:
            return printable(str(error), MAX_ERROR_CHARS)
        except BaseException as error:  # noqa: BLE001  sys.exit() is a failure, too, and must not end the thread
            delivery.traceback = traceback_of(_below(error))
            if isinstance(error, Retry):
                delivery.after_ms = error.after_ms
            elif isinstance(error, Reject):
                delivery.config = replace(handler.config or Config(), max_retries=0)
            return reason_of(error)
        return None


def _below(error: BaseException) -> BaseException:
    """Return the error with a traceback that begins at this package's last frame before the application's."""
    frames = error.__traceback__
    while frames and frames.tb_next and frames.tb_next.tb_frame.f_globals.get("__package__") == __package__:
        frames = frames.tb_next
    return error.with_traceback(frames)


class Maintenance(threading.Thread):
    """Recovers the tasks of dead workers and promotes due tasks, with or without traffic (I4).

    `looks`: how often per sweep it looks for absent consumers, so that these are noticed soon.
    """

    looks = 3

    def __init__(self, reaper: Reaper, config: Config) -> None:
        super().__init__(name="maintenance", daemon=True)
        self._reaper, self._config = reaper, config
        self._stopped = threading.Event()

    def stop(self) -> None:
        self._stopped.set()

    def run(self) -> None:
        again_ms = inf
        for looked in count(1):
            # Jitter, so that the processes of a pool do not all sweep at the same moment.
            look_ms = self._config.sweep_ms / self.looks * random.uniform(0.8, 1.0)
            if self._stopped.wait(min(look_ms, again_ms) / 1000):
                return
            due = looked % self.looks == 0 or again_ms <= look_ms
            again_ms = inf
            try:
                again_ms = (self._sweep() if due else self._reaper.look()) or inf
            except redis.RedisError as error:
                logger.warning("The sweep failed and will be repeated: %s", error)

    def _sweep(self) -> int | None:
        sweep = self._reaper.sweep()
        if sweep.recovered:
            logger.warning("Recovered %d tasks of workers that vanished.", sweep.recovered)
        return sweep.again_ms


class Worker:
    """A worker process, which ends with its parent.

    `parent` is the pid of the process that started it, passed explicitly: getppid() is racy at start-up.
    `tell` is called with AT_WORK when a handler thread begins its first task, and with WELL while the process is well.
    """

    def __init__(
        self,
        config: Config,
        name: str,
        handlers: Mapping[str, Handler],
        parent: int,
        tell: Callable[[bytes], None],
        observer: Observer | None = None,
    ) -> None:
        client = connect(config)
        self._config = config
        self._consumer = Consumer(client, config, name)
        self._claimer = Claimer(self._consumer, config, handlers, observer)
        self._pool: Any = client.connection_pool
        self._maintenance = Maintenance(Reaper(client, config), config)
        loops = [EventLoop()] if any(handler.is_async for handler in handlers.values()) else []
        self._handlers = handlers
        self._threads = [
            HandlerThread(number, self._claimer, handlers, partial(tell, AT_WORK), *loops)
            for number in range(config.threads)
        ]
        self._all_threads = (self._claimer, self._maintenance, *self._threads, Presence(client, config, name), *loops)
        self._signalled = False
        self._parent, self._tell = parent, tell
        self._told_at = self._could_since = time.monotonic()
        self._worn = False  # whether it claims no more, so that another process takes its place

    def run(self) -> NoReturn:
        """Work until a signal, then end the process with its status, even if threads still run."""
        status = self._work()
        if status in (0, RECYCLED_STATUS):  # no handler runs: none can hold the lock of a stream
            flush_output()
        logging.shutdown()
        os._exit(status)

    def _work(self) -> int:
        for number in STOP_SIGNALS:
            signal.signal(number, self._on_signal)
        guard_forks(self._pool)
        for thread in self._all_threads:
            thread.start()
        while not self._signalled:
            broken = [thread.name for thread in self._all_threads if not thread.is_alive()]
            if self._claimer.left:  # read after the threads: the claimer ends when it has left
                return RECYCLED_STATUS
            if broken:
                logger.critical(
                    "Threads of this worker died: %s; recovery will return its tasks to the queue.", ", ".join(broken)
                )
                return BUG_STATUS
            if self._fail_hung():
                self._finish()
                return HUNG_STATUS
            if os.getppid() != self._parent:
                logger.warning("The parent process is gone; this worker stops.")
                break
            self._say_if_well()
            self._retire_if_worn()
            time.sleep(LOOK_S)
        return 0 if self._finish() else GRACE_STATUS

    def _on_signal(self, _number: int, _frame: object) -> None:
        # Once or twice, as the whole group may be signalled and the parent passes it on; only the parent kills at once.
        self._signalled = True  # not an Event: this very thread may hold its lock, and would wait for itself

    def _say_if_well(self) -> None:
        """Report WELL, unless a thread is free and the claimer has not tried to claim; a Redis error is a try."""
        now = time.monotonic()
        if not self._claimer.could_claim():
            self._could_since = now
        patience_s = self._config.socket_timeout_ms / 1000 + CONNECT_TIMEOUT_S + WELL_S  # for one claim
        if now - self._told_at >= WELL_S and now - max(self._could_since, self._claimer.tried_at) < patience_s:
            self._told_at = now
            self._tell(WELL)

    def _retire_if_worn(self) -> None:
        """Stop claiming at the limit of tasks or memory. Running tasks may take up to their time limits."""
        tasks, limit = sum(thread.begun for thread in self._threads), self._config.max_tasks
        memory_max = self._config.max_memory_bytes
        if not self._worn and (0 < limit <= tasks or 0 < memory_max < _resident_bytes()):
            self._worn = True
            logger.info("Worker %s has run %d tasks; a new process will replace it.", self._consumer.name, tasks)
            self._claimer.stop()

    def _finish(self) -> bool:
        """Claim no more, let running tasks finish within the grace, give the rest back; return whether it left so."""
        self._claimer.stop()
        self._maintenance.stop()
        logger.info("Worker %s is stopping; it claims no more.", self._consumer.name)
        now = busy_at = time.monotonic()
        until = now + self._config.grace_ms / 1000
        # If Redis is away and nothing runs, there is nothing to wait for.
        patience_s = self._config.block_ms / 1000 + 1.0
        while self._claimer.is_alive() and now < min(until, max(busy_at, self._claimer.heard_at) + patience_s):
            self._fail_hung()
            self._claimer.join(LOOK_S)
            now = time.monotonic()
            if any(thread.current for thread in self._threads):
                busy_at = now
        if self._claimer.left:
            return True
        running = [thread.current.task.shown_id for thread in self._threads if thread.current]
        why = f"The grace of {self._config.grace_ms} ms ended" if now >= until else "Redis does not answer"
        logger.error("%s; left to recovery: %s", why, running or "what Redis holds")
        return False

    def _fail_hung(self) -> bool:
        """Fail tasks that ran past their time limit. Return whether there were any: the process must end then."""
        now = time.monotonic()
        begun = [d for thread in self._threads if (d := thread.current)]
        late = [d for d in begun if d.started is not None and now > d.started + self._patience_s(d)]
        limits = [(d, self._limit_ms(d)) for d in late]
        hung = [(d, limit_ms) for d, limit_ms in limits if d.end(str(RanTooLong(limit_ms)), limit_ms / 1000)]
        for delivery, limit_ms in hung:
            logger.error("Task %s hangs: it ran past %d ms. This process ends.", delivery.task.shown_id, limit_ms)
            self._claimer.inbox.put(delivery)
        return bool(hung)

    def _limit_ms(self, delivery: Delivery) -> int:
        return (self._handlers[delivery.task.type].config or self._config).task_timeout_ms

    def _patience_s(self, delivery: Delivery) -> float:
        return self._limit_ms(delivery) / 1000 + CANCEL_S * self._handlers[delivery.task.type].is_async


def _resident_bytes() -> int:
    """Return the resident memory of this process; 0 if the system does not report it."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except OSError:
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")
