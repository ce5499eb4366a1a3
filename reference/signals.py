"""SIGTERM and SIGINT where they are not a stop in order yet, or not at all: at the start, and in forked processes."""

import os
import signal
import threading

TYPE_CHECKING = False  # see `__init__.py`
if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)


def guard_forks(own_sockets: "Callable[[], list[socket.socket]]") -> None:
    """Give each process that is forked from this one default signals, and none of the sockets.

    With the worker's handlers it would ignore the SIGTERM of `multiprocessing`'s `terminate()`, which its parent then
    waits for. With its sockets the connections of a killed worker would live on. The signals are blocked during the
    fork: in the child Python forgets what comes before it is set up, and it may be terminated as soon as it is there.
    """
    fork = threading.local()  # several threads may fork at a time

    def before() -> None:
        fork.mask = signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
        fork.sockets = own_sockets()

    def in_parent() -> None:
        fork.sockets = None
        signal.pthread_sigmask(signal.SIG_SETMASK, fork.mask)

    def in_child() -> None:
        for inherited in fork.sockets:
            inherited.close()  # the copy: no shutdown, which would end the parent's connection
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.pthread_sigmask(signal.SIG_SETMASK, fork.mask)

    os.register_at_fork(before=before, after_in_parent=in_parent, after_in_child=in_child)
