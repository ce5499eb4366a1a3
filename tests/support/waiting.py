"""What tests of every kind use."""

import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import TypeVar

import psutil

Result = TypeVar("Result")

POLL_S = 0.005


def wait_until(predicate: Callable[[], Result], timeout_s: float = 10, message: str = "") -> Result:
    """Asks until the answer is true, and returns it; fails after `timeout_s` with the message and the last answer."""
    give_up_s = time.monotonic() + timeout_s
    while not (answer := predicate()):
        if time.monotonic() > give_up_s:
            raise AssertionError(f"{message or 'It did not happen'} (waited {timeout_s:g} s; last answer: {answer!r})")
        time.sleep(POLL_S)
    return answer


def living(processes: Iterable[psutil.Process]) -> list[psutil.Process]:
    """Those that still run; a zombie does not."""
    found = []
    for process in processes:
        with suppress(psutil.NoSuchProcess):  # it ended while it was asked
            if process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


def plain_id(text: str) -> str:
    """A test's name from a text. Without a backslash: pytest escapes it again, each time it collects in one process.

    Under mutmut, which does that twice, such a test was not found, and the mutant counted as one that took too long.
    """
    return text.encode("unicode_escape").decode().replace("\\", "%")


SIGNAL_IN_A_WAIT = """
import signal, threading
plain = threading.Condition.wait

def wait(self, timeout=None):
    if timeout and timeout < 1 and threading.current_thread() is threading.main_thread():
        signal.raise_signal(signal.SIGTERM)
    return plain(self, timeout)

threading.Condition.wait = wait
"""
"""Done first in a process, each of its main thread's short waits for an Event gets a signal while it holds the lock."""
