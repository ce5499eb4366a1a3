"""Turn Ctrl-C and SIGTERM into one exception, so that the work in progress ends in order."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class Interrupted(BaseException):
    """Ctrl-C or SIGTERM. A BaseException, so that no `except Exception` handles it as a failure."""


@contextmanager
def interruptible() -> Iterator[None]:
    """Raise Interrupted at the first Ctrl-C or SIGTERM; ignore further ones, so that the cleanup can finish."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        for number in numbers:
            signal.signal(number, signal.SIG_IGN)
        raise Interrupted

    numbers = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.signal(number, interrupt) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
