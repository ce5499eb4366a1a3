"""One worker process: a claimer, its handler threads, maintenance, signals. Its parent is in `supervisor.py`.

A handler that hangs cannot be stopped: a thread cannot be killed. So the process fails the hung task, gives back what
it has not begun, lets the other handlers finish, and exits with `HUNG_STATUS` for its parent to restart it.
"""

import logging
import os
import random
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from itertools import islice
from typing import Any, NoReturn

import redis

from .. import signals
from ..queue.config import Config
from ..queue.connection import connect
from ..queue.consumer import Consumer
from ..queue.errors import LazyResult
from ..queue.presence import Presence
from ..queue.reaper import Reaper
from ..queue.texts import MAX_ERROR_CHARS, printable, reason_of, traceback_of
from ..signals import STOP_SIGNALS, guard_forks
from .claimer import Claimer
from .delivery import Delivery
from .handlers import Handler, refuse_lazy

logger = logging.getLogger(__name__)

HUNG_STATUS = 75  # EX_TEMPFAIL: start me again
GRACE_STATUS = 1  # the grace ended before the handlers did
BUG_STATUS = 70  # EX_SOFTWARE: one of the worker's own threads broke
ADOPT_STEPS = 100  # of the slow sweep between two sweeps: 100,000 keys, some tens of milliseconds
LOOK_S = 0.1  # how often the main thread looks at clocks and threads


class HandlerThread(threading.Thread):
    """Runs handlers, one after the other. `at_work` is called once, when it begins its first task."""

    def __init__(
        self,
        number: int,
        claimer: Claimer,
        handlers: Mapping[str, Handler],
        at_work: Callable[[], None] | None = None,
    ) -> None:
        super().__init__(name=f"handler-{number}", daemon=True)
        self.current: Delivery | None = None
        self._claimer, self._handlers, self._at_work = claimer, handlers, at_work

    def run(self) -> None:
        ready, inbox = self._claimer.ready, self._claimer.inbox
        while (delivery := ready.get()) is not None:
            started = time.monotonic()
            # After the lease others may run it by now: the claimer looks first.
            if not delivery.dropped and started < self._claimer.lease_until:
                delivery.started = started
                self.current = delivery
                if self._at_work:
                    self._at_work()
                    self._at_work = None
                delivery.error = self._outcome(delivery)
                if signals.forked:
                    _end_fork(delivery)
                self.current = None
                delivery.seconds = time.monotonic() - started
            inbox.put(delivery)

    def _outcome(self, delivery: Delivery) -> str | None:
        """Run the handler; why it failed. Where, is left in the delivery."""
        try:
            result = self._handlers[delivery.task.type](delivery.task)
            if result is not None:
                refuse_lazy(result)
        except LazyResult as error:
            return printable(str(error), MAX_ERROR_CHARS)
        except BaseException as error:  # noqa: BLE001  a handler's sys.exit() is a failure too, and must not end the thread
            delivery.traceback = traceback_of(error)
            return reason_of(error)
        return None


def _end_fork(delivery: Delivery) -> NoReturn:
    """End a process that the handler forked and that left the handler: the task and the queue are its parent's."""
    outcome = delivery.error or "it returned"
    logger.warning("A process that the handler of task %s forked left the handler: %s", delivery.task.shown_id, outcome)
    with suppress(Exception):
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(0 if delivery.error is None else 1)


class Maintenance(threading.Thread):
    """Recovers what the dead held and promotes what is due, with or without traffic (I4)."""

    def __init__(self, reaper: Reaper, config: Config) -> None:
        super().__init__(name="maintenance", daemon=True)
        self._reaper, self._config = reaper, config
        self._stopped = threading.Event()

    def stop(self) -> None:
        self._stopped.set()

    def run(self) -> None:
        adopt_at = time.monotonic()
        adopting: Iterator[int] | None = None  # the slow sweep that is under way
        # Jitter, so that the processes of a pool do not all look at the same moment.
        while not self._stopped.wait(self._config.sweep_ms / 1000 * random.uniform(0.8, 1.0)):
            try:
                sweep = self._reaper.sweep()
                if sweep.recovered:
                    logger.warning("Recovered %d tasks of workers that vanished.", sweep.recovered)
                if adopting is None and time.monotonic() >= adopt_at:
                    adopting = self._reaper.adopting()
                if adopting is not None and sum(1 for _ in islice(adopting, ADOPT_STEPS)) < ADOPT_STEPS:
                    adopting, adopt_at = None, time.monotonic() + self._config.orphan_sweep_ms / 1000
            except redis.RedisError as error:
                adopting = None
                logger.warning("The sweep failed and will be repeated: %s", error)


class Worker:
    """A worker process, which ends with its parent. `run()` gives its exit status."""

    def __init__(
        self,
        config: Config,
        name: str,
        handlers: Mapping[str, Handler],
        parent: int,
        at_work: Callable[[], None] | None = None,
    ) -> None:
        client = connect(config)
        self._config = config
        self._consumer = Consumer(client, config, name)
        self._claimer = Claimer(self._consumer, config, handlers)
        self._pool: Any = client.connection_pool
        self._maintenance = Maintenance(Reaper(client, config), config)
        self._threads = [HandlerThread(number, self._claimer, handlers, at_work) for number in range(config.threads)]
        self._all_threads = (self._claimer, self._maintenance, *self._threads, Presence(client, config, name))
        self._signalled = False
        self._parent = parent

    def run(self) -> int:
        for number in STOP_SIGNALS:
            signal.signal(number, self._on_signal)
        guard_forks(self._pool)
        for thread in self._all_threads:
            thread.start()
        while not self._signalled:
            broken = [thread.name for thread in self._all_threads if not thread.is_alive()]
            if broken:
                logger.critical("Broke: %s; the tasks in hand are left to recovery.", ", ".join(broken))
                return BUG_STATUS
            hung = self._hung()
            if hung:
                return self._abandon(hung)
            if os.getppid() != self._parent:
                logger.warning("The parent is gone.")
                break
            time.sleep(LOOK_S)
        return 0 if self._finish() else GRACE_STATUS

    def _on_signal(self, _number: int, _frame: object) -> None:
        # Once or twice, as everybody may be signalled and the parent passes it on; only the parent ends it at once.
        self._signalled = True  # no Event: its lock may be held by this very thread, which would wait for itself

    def _finish(self) -> bool:
        """Claim no more, let what runs finish within the grace, give the rest back, leave. Whether it came to that."""
        self._claimer.stop()
        self._maintenance.stop()
        logger.info("Worker %s is stopping; it claims no more.", self._consumer.name)
        until = time.monotonic() + self._config.grace_ms / 1000
        while self._claimer.is_alive() and time.monotonic() < until:
            self._claimer.join(LOOK_S)
        if self._claimer.left:
            return True
        running = [thread.current.task.shown_id for thread in self._threads if thread.current]
        logger.error(
            "The grace of %d ms ended; left to recovery: %s", self._config.grace_ms, running or "what Redis holds"
        )
        return False

    def _hung(self) -> list[Delivery]:
        began_before = time.monotonic() - self._config.task_timeout_ms / 1000
        running = [thread.current for thread in self._threads]
        return [d for d in running if d is not None and d.started is not None and d.started < began_before]

    def _abandon(self, hung: list[Delivery]) -> int:
        """Fail what hangs, give back what was not begun, let the others finish, and ask to be restarted."""
        for delivery in hung:
            logger.error(
                "Task %s hangs: it ran past %d ms. This process ends.",
                delivery.task.shown_id,
                self._config.task_timeout_ms,
            )
            delivery.error = f"It ran past its time limit of {self._config.task_timeout_ms} ms."
            delivery.seconds = self._config.task_timeout_ms / 1000
            self._claimer.inbox.put(delivery)
        self._finish()
        return HUNG_STATUS


def run_worker(
    config: Config,
    name: str,
    handlers: Mapping[str, Handler],
    parent: int,
    at_work: Callable[[], None] | None = None,
) -> None:
    """Run a worker in this process and end the process with its status, whatever its threads still do.

    `parent` is the pid of who started it, and told by that one: who asks the system may be too late.
    `at_work` is called by each handler thread when it begins its first task.
    """
    status = Worker(config, name, handlers, parent, at_work).run()
    logging.shutdown()
    os._exit(status)
