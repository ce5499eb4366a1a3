"""The processes of a benchmark: each in its own session, and all are killed when the command ends, in any way."""

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil

from .errors import BenchError

ROOT = Path(__file__).resolve().parents[2]
KILL_DEADLINE_S = 10.0
LINE_CHARS = 300
POLL_S = 0.002


class Processes:
    """Starts processes, with their output in files of one folder, and kills the rest of their sessions at its end.

    By session and not by group: a forked job of RQ changes its process group, and would survive.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._started: dict[subprocess.Popen[bytes], Path] = {}

    def start(self, command: Sequence[str], env: Mapping[str, str] | None = None) -> subprocess.Popen[bytes]:
        """Start a command in the project's root, with these variables added to the environment."""
        path = self.log(command)
        with path.open("ab") as log, _uninterrupted():
            process = subprocess.Popen(
                list(command),
                cwd=ROOT,
                env={**os.environ, **(env or {})},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            self._started[process] = path
        return process

    @contextlib.contextmanager
    def running(
        self, command: Sequence[str], env: Mapping[str, str] | None = None
    ) -> Iterator[subprocess.Popen[bytes]]:
        """Run a command until the end of the `with` at the latest."""
        process = self.start(command, env)
        try:
            yield process
        finally:
            self.kill(process)

    def check(self, process: subprocess.Popen[bytes]) -> None:
        """Raise BenchError, with the last line of its output, if the process has ended with an error."""
        if process.poll():
            raise BenchError(f"it ended with status {process.returncode}: {self._last_line(process)}")

    def _last_line(self, process: subprocess.Popen[bytes]) -> str:
        lines = self._started[process].read_text(errors="replace").split("\n")
        return next((line.strip()[:LINE_CHARS] for line in reversed(lines) if line.strip()), "it said nothing")

    def log(self, command: Sequence[str]) -> Path:
        """Return the file for the output of a command."""
        return self._folder / f"{Path(command[0]).name}-{abs(hash(tuple(command))):x}.log"

    def kill(self, process: subprocess.Popen[bytes]) -> None:
        """Send SIGKILL to the whole session, unless that was done before."""
        if process not in self._started:
            return
        until = time.monotonic() + KILL_DEADLINE_S
        while left := members(process.pid):  # a process forked meanwhile is found in the next turn
            for pid in left:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            if time.monotonic() > until:
                raise TimeoutError(f"processes {left} outlived SIGKILL for {KILL_DEADLINE_S:g} s")
            time.sleep(POLL_S)
        process.wait(KILL_DEADLINE_S)
        del self._started[process]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for process in list(reversed(self._started)):
            self.kill(process)


@contextlib.contextmanager
def _uninterrupted() -> Iterator[None]:
    """Delay signals until the end: otherwise one could interrupt between the start of a process and its record."""
    caught: list[int] = []
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.signal(number, lambda came, _frame: caught.append(came)) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    for number in caught:
        signal.raise_signal(number)


def members(session: int) -> list[int]:
    """Return the live processes of a session."""
    found = []
    for pid in psutil.pids():
        with contextlib.suppress(OSError, psutil.NoSuchProcess):
            if os.getsid(pid) == session and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
                found.append(pid)
    return found


def cpu_seconds(session: int) -> float:
    """Return the processor time, in seconds, that the processes of a session have used so far."""
    total = 0.0
    for pid in members(session):
        with contextlib.suppress(psutil.NoSuchProcess):
            times = psutil.Process(pid).cpu_times()
            total += times.user + times.system
    return total
