"""Run a `zeroloss` command in a process of its own, and leave no process behind."""

import os
import sys
import time
from collections.abc import Sequence
from math import inf
from pathlib import Path
from threading import Event

import msgspec

from ..checker.verdicts import Result
from ..plan.plan import PLAN_NAME, Plan
from ..report.result import read
from ..system.environment import DEFAULTS_VARIABLE
from ..system.processes import Managed, spawn

POLL_S = 0.1
STOP_DEADLINE_S = 20.0


def run_harness(
    words: Sequence[str], *, log_path: Path, stopping: Event | None = None, deadline_s: float = inf
) -> Managed:
    """Run `zeroloss words...` until it ends, `stopping` is set, or the deadline passes. Leave no process behind.

    Raises CannotStart.
    """
    stopping = stopping or Event()
    give_up_s = time.monotonic() + deadline_s
    env = {**os.environ, DEFAULTS_VARIABLE: "off"}  # the words state every option
    process = spawn([sys.executable, "-m", "zeroloss", *words], role="harness", log_path=log_path, env=env)
    try:
        while process.poll() is None and not stopping.is_set() and time.monotonic() < give_up_s:
            stopping.wait(POLL_S)
    finally:
        _end(process)
    return process


def replay_plan(plan: Plan, place: Path, *, stopping: Event, deadline_s: float) -> tuple[Result | None, str]:
    """Carry out a plan in the new folder `place`, as `zeroloss replay` does.

    Return its result (None: there is none) and the harness's last output. Raises CannotStart.
    """
    place.mkdir(parents=True)
    path = place / PLAN_NAME
    plan.write(path)
    words = ["replay", str(path), "--out", str(place / "run")]
    process = run_harness(words, log_path=place / "harness.log", stopping=stopping, deadline_s=deadline_s)
    try:
        return read(place / "run"), process.log_tail()
    except (OSError, msgspec.MsgspecError):
        return None, process.log_tail()


def _end(process: Managed) -> None:
    try:
        if process.poll() is None:
            process.terminate()
            process.wait(STOP_DEADLINE_S)
    except TimeoutError:
        pass  # it is killed below
    finally:
        process.kill_session()
