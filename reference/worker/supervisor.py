"""The parent of a pool of worker processes: restarts a dead child and recovers its tasks, both at once.

The parent sees the child die, so it need not wait for the lease to end.
"""

import logging
import os
import random
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Container, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Protocol

import redis

from ..queue.config import Config
from ..queue.connection import connect
from ..queue.reaper import Reaper
from ..signals import STOP_SIGNALS

logger = logging.getLogger(__name__)

UNIT = __package__.rpartition(".")[0]  # the name of this package, or of a copy

USAGE_STATUS = 2
NEVER_STARTED_STATUS = 69  # EX_UNAVAILABLE: every process died at its start, STARTS_MAX times in a row
RECYCLED_STATUS = 76  # the process reached its limit of tasks or memory, and left in order
STARTS_MAX = 10
AT_WORK = b"w"  # a process writes it to its pipe when it begins a task
WELL = b"h"  # ... and this about every second while it claims, or cannot
SILENCE_MAX_S = 10.0  # a process without WELL for this time is unhealthy
LOOK_S = 0.05
BALANCE_S = 3.0  # interval between checks of all shards, with jitter
CALM_S = 5.0  # a child that lived this long did not fail at its start
RESTART_MAX_S = 5.0
LINGER_S = 2.0  # time beyond the grace before the remaining children are killed
AGAIN_S = 2.0  # one stop may be signalled twice within moments; the same signal after that is a demand to end at once


@dataclass
class _Child:
    number: int
    pipe: tuple[int, int] = field(default_factory=os.pipe)  # messages of its process: it has begun; AT_WORK; WELL
    told: set[int] = field(default_factory=set)  # the messages of its present or last process
    well_at: float = field(default_factory=time.monotonic)
    had_begun: bool = False  # whether the last process that died had begun
    name: str = ""
    namespace: str = ""  # of the queue that it attends
    moving: bool = False  # whether it was asked to end, so that its successor attends another queue
    process: subprocess.Popen[bytes] | None = None
    started_at: float = 0.0
    quick_deaths: int = 0
    failed_starts: int = 0  # in a row
    restart_at: float = 0.0
    to_recover: list[tuple[str, str]] = field(default_factory=list)  # namespace and consumer

    def __post_init__(self) -> None:
        os.set_blocking(self.pipe[0], False)

    def hear(self) -> None:
        """Read the messages of its process."""
        with suppress(BlockingIOError):
            while written := os.read(self.pipe[0], 65_536):
                self.told.update(written)
                if WELL in written:
                    self.well_at = time.monotonic()


class Balance(Protocol):
    """Chooses the queue that a process attends, among several: see `shards/balance.py`."""

    def choose(self, attended: Iterable[str]) -> Config:
        """Return the settings of a process that starts. `attended`: the namespaces of the pool's other processes."""

    def relocation(self, attended: Sequence[str]) -> str | None:
        """Return the namespace of a process that another queue needs more; None if no process should move."""


class Supervisor:
    """Runs `processes` worker processes until a signal. `run()` returns the exit status."""

    def __init__(
        self,
        config: Config,
        command: Sequence[str],
        processes: int,
        environment: Mapping[str, str] | None = None,
        balance: Balance | None = None,
    ) -> None:
        self._config, self._command, self._balance = config, list(command), balance
        self._environment = {**child_environment(config), **(environment or {})}
        self._reapers: dict[str, Reaper] = {}
        self._balance_at = time.monotonic() + BALANCE_S
        self._children = [_Child(number) for number in range(processes)]
        self._stop_signal: int | None = None
        self._stopped_at = 0.0
        self._at_once: int | None = None  # the signal that ended the grace

    def run(self) -> int:
        for number in STOP_SIGNALS:
            signal.signal(number, self._on_signal)
        while not self._is_signalled():
            for child in self._children:
                if self._is_signalled():  # each start may take seconds, where shards do not answer
                    return self._stop()
                child.hear()
                # A handler may end its process with any status: the usage was wrong only if no handler can have run.
                if self._tend(child) == USAGE_STATUS and not child.had_begun:
                    self._stop()
                    return USAGE_STATUS
            if self._never_starts():
                self._stop()
                return NEVER_STARTED_STATUS
            self._rebalance()
            reap_orphans({child.process.pid for child in self._children if child.process})
            time.sleep(LOOK_S)
        return self._stop()

    def _is_signalled(self) -> bool:
        return self._stop_signal is not None

    def complaints(self) -> list[str]:
        """Return a sentence for each process that could claim and does not, or does not run; nothing during a stop."""
        if self._is_signalled():
            return []
        now = time.monotonic()
        return [
            f"Worker process {child.name} has shown no activity for {now - child.well_at:.0f} s."
            for child in self._children
            if now - child.well_at > SILENCE_MAX_S
        ]

    def _on_signal(self, number: int, _frame: object) -> None:
        """Note a stop, or the demand to end at once: another signal, or the same one again after `AGAIN_S`."""
        now = time.monotonic()
        if self._stop_signal is None:
            self._stop_signal, self._stopped_at = number, now  # no Event: see `Worker._on_signal`
        elif number != self._stop_signal or now - self._stopped_at >= AGAIN_S:
            self._at_once = number

    def _never_starts(self) -> bool:
        """Whether each process has died at its start so often that the next start will fail too."""
        return min(child.failed_starts for child in self._children) >= STARTS_MAX

    def _tend(self, child: _Child) -> int | None:
        """Start or restart the process, and recover its tasks. Return its exit status if it has just died."""
        status = child.process.poll() if child.process else None
        if child.process is not None and status is not None:
            child.process = None
            self._judge(child, status)
            if status == RECYCLED_STATUS or child.moving:
                logger.info("Worker process %s ended as planned; starting its replacement.", child.name)
            else:
                then = "" if status == USAGE_STATUS else "; restarting it"
                logger.warning("Worker process %s ended with status %d%s.", child.name, status, then)
                self._postpone(child)
            child.moving = False
            child.to_recover.append((child.namespace, child.name))
        if child.process is None and status != USAGE_STATUS and time.monotonic() >= child.restart_at:
            self._start(child)
        self._recover(child)
        return status

    def _judge(self, child: _Child, status: int) -> None:
        """Count a process that died at its start: it loaded no handlers, or ended soon without beginning a task.

        A task that kills its worker does not count, however soon it does so: it is dead-lettered in the end.
        """
        child.hear()
        child.had_begun = bool(child.told)
        ended_soon = time.monotonic() - child.started_at < CALM_S and AT_WORK[0] not in child.told
        child.told.clear()
        child.failed_starts = child.failed_starts + 1 if ended_soon or not child.had_begun else 0
        if self._never_starts():
            logger.critical(
                "This pool ends: its processes died at their start %d times in a row, the last with status %d.",
                STARTS_MAX,
                status,
            )

    def _postpone(self, child: _Child) -> None:
        lived_s = time.monotonic() - child.started_at
        child.quick_deaths = child.quick_deaths + 1 if lived_s < CALM_S else 0
        # The first restarts are immediate; a child that always dies at once is not restarted in a tight loop.
        pause_s = 0.0 if child.quick_deaths < 3 else min(RESTART_MAX_S, 0.1 * 2 ** min(child.quick_deaths, 10))
        child.restart_at = time.monotonic() + pause_s

    def _start(self, child: _Child) -> None:
        chosen = self._balance.choose(self._attended(child)) if self._balance else self._config
        child.namespace = chosen.namespace
        child.name = f"{socket.gethostname()}-{os.getpid()}-{child.number}-{secrets.token_hex(4)}"
        child.started_at = time.monotonic()
        _, begun = child.pipe
        told = ["--consumer", child.name, "--parent", str(os.getpid()), "--begun", str(begun)]
        told += ["--place", str(child.number)]
        if child.number == 0 and not child.had_begun:
            told += ["--pool", str(len(self._children))]
        if self._balance:
            told += ["--namespace", child.namespace]  # the last --namespace counts
        try:
            self._reaper(child.namespace)  # now: when the child dies, nothing more may be opened
            # A group of its own: Ctrl-C in a terminal reaches this parent only, which then asks each child once.
            child.process = subprocess.Popen(
                [*self._command, *told], process_group=0, pass_fds=[begun], env=self._environment
            )
        except OSError as error:  # there are too many processes or open files, or no memory: that may pass
            logger.warning("Worker process %s could not be started: %s; trying again.", child.name, error)
            self._postpone(child)

    def _recover(self, child: _Child) -> None:
        try:
            while child.to_recover:
                namespace, name = child.to_recover[0]
                moved = self._reaper(namespace).recover(name, is_dead=True)
                if moved:
                    logger.warning("Recovered %d tasks of %s.", moved, name)
                child.to_recover.pop(0)
        except redis.RedisError as error:
            logger.warning("Immediate recovery failed (%s); sweeps of other workers will recover the tasks.", error)
            child.to_recover.clear()

    def _reaper(self, namespace: str) -> Reaper:
        if namespace not in self._reapers:
            config = replace(self._config, namespace=namespace, shards=1)
            self._reapers[namespace] = Reaper(connect(config, connections=2), config)
        return self._reapers[namespace]

    def _attended(self, but: _Child | None = None) -> list[str]:
        """Return the namespaces that the running processes attend, without the process of `but`."""
        return [child.namespace for child in self._children if child.process and child is not but]

    def _rebalance(self) -> None:
        """Ask one process to stop, in order, if another queue needs it more; its successor starts there."""
        if not self._balance or time.monotonic() < self._balance_at or any(child.moving for child in self._children):
            return
        # Jitter, so that of two pools that see the same need only one acts first.
        self._balance_at = time.monotonic() + BALANCE_S * random.uniform(0.5, 1.0)
        namespace = self._balance.relocation(self._attended())
        for child in self._children:
            if child.process and child.namespace == namespace:
                logger.info("Worker process %s leaves %s: another shard has work and no worker.", child.name, namespace)
                child.moving = True
                child.process.send_signal(signal.SIGTERM)
                return

    def _stop(self) -> int:
        """Ask the children to stop; kill those that outlive the grace, or all of them if that is demanded."""
        until = time.monotonic() + self._config.grace_ms / 1000 + LINGER_S
        processes = [child.process for child in self._children if child.process]
        for process in processes:
            process.send_signal(signal.SIGTERM)
        while any(process.poll() is None for process in processes):
            if self._at_once or time.monotonic() > until:
                for process in processes:
                    process.kill()
            time.sleep(LOOK_S)
        left = [child for child in self._children if child.process and child.process.returncode]
        if left and self._answers():
            for child in left:
                child.to_recover.append((child.namespace, child.name))
                self._recover(child)
        if self._at_once and any(process.returncode == -signal.SIGKILL for process in processes):
            return 128 + self._at_once
        # A process that died of the signal itself had not installed its handler yet, so it had claimed nothing.
        return max((abs(p.returncode) for p in processes if -p.returncode not in STOP_SIGNALS), default=0)

    def _answers(self) -> bool:
        """Whether Redis answers at once: a stop does not wait for it."""
        try:
            namespaces = {child.namespace for child in self._children if child.namespace}
            configs = [replace(self._config, namespace=namespace, shards=1) for namespace in namespaces]
            return all(bool(connect(each, connections=1, timeout_s=1.0).ping()) for each in configs)
        except redis.RedisError as error:
            logger.warning("Redis does not answer (%s); other workers will recover the remaining tasks.", error)
            return False


def reap_orphans(own: Container[int]) -> None:
    """Reap ended processes that this one inherited, as PID 1 does, but not its `own`, which it polls."""
    if not hasattr(os, "waitid"):  # for example macOS, where only PID 1 inherits processes
        return
    with suppress(ChildProcessError):
        while (dead := os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)) and dead.si_pid not in own:
            os.waitpid(dead.si_pid, 0)


def child_environment(config: Config) -> dict[str, str]:
    """Return this process's environment with the Redis URL in `ZEROLOSS_REDIS_URL`, which takes precedence.

    The URL may hold a password, and every user can read a command line. `REDIS_URL` stays unchanged: the application
    may use it for another server.
    """
    return {**os.environ, "ZEROLOSS_REDIS_URL": config.redis_url}


def worker_command(arguments: Sequence[str]) -> list[str]:
    """Return the command of a child, under the name that this package has, or that its copy has."""
    return [sys.executable, "-m", UNIT, "worker-process", *arguments]
