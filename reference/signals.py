"""SIGTERM and SIGINT outside of an orderly stop: at the start of a process, and in forked processes."""

import os
import signal
import sys
import threading
from contextlib import suppress

TYPE_CHECKING = False  # see `__init__.py`
if TYPE_CHECKING:
    from typing import NoReturn

    from .queue.servers.pool import Pool

forked = False  # whether this process was forked from the one that called `guard_forks`
STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)


def handle_at_start(command: str) -> None:
    """Let a signal end a process that has not begun anything: an orderly stop, so with status 0.

    For the first moment of a process. PID 1 needs it most: the kernel drops signals that PID 1 does not handle.
    """
    if command in ("producer", "monitor", "worker", "up"):
        for number in STOP_SIGNALS:
            signal.signal(number, lambda _number, _frame: os._exit(0))
    elif command == "worker-process":
        # Like SIGTERM's, and without a traceback. A handler would wait for the import of an application in C.
        signal.signal(signal.SIGINT, signal.SIG_DFL)


def guard_forks(pool: "Pool") -> None:
    """Give each process that is forked from this one default signals, and none of the pool's sockets.

    With the worker's signal handlers the child would ignore the SIGTERM of `multiprocessing`'s `terminate()`, and its
    parent would wait for it. With the worker's sockets in the child, the connections of a killed worker would live on.
    The signals are blocked during the fork: the child may be terminated at once, and Python in the child forgets
    signals that arrive before its set-up.
    """
    fork = threading.local()  # several threads may fork at a time

    def before() -> None:
        fork.mask = signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
        pool.gate.shut()

    def in_parent() -> None:
        pool.gate.open()
        signal.pthread_sigmask(signal.SIG_SETMASK, fork.mask)

    def in_child() -> None:
        global forked
        forked = True
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.pthread_sigmask(signal.SIG_SETMASK, fork.mask)
        for inherited in pool.sockets():
            inherited.close()  # the copy only: no shutdown, which would end the parent's connection

    os.register_at_fork(before=before, after_in_parent=in_parent, after_in_child=in_child)


def end_fork(*, failed: bool) -> "NoReturn":
    """End a process that a handler forked and that left the handler: the task and the queue belong to its parent."""
    flush_output()
    os._exit(1 if failed else 0)


def flush_output() -> None:
    """Write what `print` has buffered, before an end by `os._exit`."""
    with suppress(Exception):
        sys.stdout.flush()
        sys.stderr.flush()
