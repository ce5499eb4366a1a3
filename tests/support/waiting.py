"""Waiting and other helpers that tests of every kind use."""

import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import TypeVar

import psutil

Result = TypeVar("Result")

POLL_S = 0.005


def wait_until(predicate: Callable[[], Result], timeout_s: float = 30, message: str = "") -> Result:
    """Poll until the answer is true, and return it; after `timeout_s` fail with the message and the last answer."""
    give_up_s = time.monotonic() + timeout_s
    while not (answer := predicate()):
        if time.monotonic() > give_up_s:
            raise AssertionError(f"{message or 'It did not happen'} (waited {timeout_s:g} s; last answer: {answer!r})")
        time.sleep(POLL_S)
    return answer


def living(processes: Iterable[psutil.Process]) -> list[psutil.Process]:
    """Return the processes that still run; zombies do not count."""
    found = []
    for process in processes:
        with suppress(psutil.NoSuchProcess):  # it ended in between
            if process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


def plain_id(text: str) -> str:
    """Return a test id made from a text, without backslashes: pytest escapes these at each collection in a process.

    mutmut collects twice, so it did not find a test with a backslash, and counted the mutant as timed out.
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
"""Program text to run first in a process: each wait below 1 s on a Condition, in the main thread, raises SIGTERM while
the lock is held."""
