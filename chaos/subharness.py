"""A harness run by a harness: a `zeroloss` command in a process of its own, of which nothing is left at the end."""

import sys
import time
from collections.abc import Sequence
from math import inf
from pathlib import Path
from threading import Event

from chaos.processes import Managed, spawn

POLL_S = 0.1
STOP_DEADLINE_S = 20.0


def run_harness(
    words: Sequence[str], *, log_path: Path, stopping: Event | None = None, deadline_s: float = inf
) -> Managed:
    """Run `zeroloss words...` to its end, until `stopping` is set or the deadline is over; nothing of it is left then.

    Raises CannotStart.
    """
    stopping = stopping or Event()
    give_up_s = time.monotonic() + deadline_s
    process = spawn([sys.executable, "-m", "chaos", *words], role="harness", log_path=log_path)
    try:
        while process.poll() is None and not stopping.is_set() and time.monotonic() < give_up_s:
            stopping.wait(POLL_S)
    finally:
        _end(process)
    return process


def _end(process: Managed) -> None:
    try:
        if process.poll() is None:
            process.terminate()
            process.wait(STOP_DEADLINE_S)
    except TimeoutError:
        pass  # it is killed below
    finally:
        process.kill_session()
