"""Starts a system for a load: `python -m reference up` on an embedded server, with handlers that write a ledger."""

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

START_S = 60.0
STOP_S = 60.0
POLL_S = 0.05
HANDLERS = "zeroloss.targets.reference_app"
EXIT_INTERRUPTED = 130
SIGNALS = (signal.SIGINT, signal.SIGTERM)


@dataclass(frozen=True)
class System:
    """A running system: the URLs of its producer and its monitor, and the folder of its workers' ledger."""

    url: str
    ledger: Path
    monitor: str = ""


class SystemFailed(Exception):
    """The system did not start; the text ends with the last lines of its output."""


@contextmanager
def running_system(settings: Mapping[str, str], server: str = "waitress") -> Iterator[System]:
    """Start a system with these settings in its environment, and its producer on `server`; stop it at the end.

    Raises SystemFailed.
    """
    with tempfile.TemporaryDirectory(prefix="zeroloss-load-") as scratch:
        ledger, log = Path(scratch, "ledger"), Path(scratch, "system.log")
        ledger.mkdir()
        command = [sys.executable, "-m", "zeroloss.reference", "up", "--app", HANDLERS]
        command += ["--producer-port", "0", "--monitor-port", "0", "--server", server]
        environment = {**os.environ, **settings, "ZEROLOSS_LEDGER": str(ledger)}
        with log.open("wb") as output:
            process = _start(command, env=environment, stdout=output, stderr=subprocess.STDOUT)
        try:
            url, monitor = (_wait_for(part, process, log) for part in ("producer", "monitor"))
            yield System(url, ledger, monitor)
        finally:
            _end(process, "The system")


def heed_signals() -> None:
    """Let Ctrl-C and SIGTERM raise KeyboardInterrupt, even if the shell started this process with SIGINT ignored."""
    for number in SIGNALS:
        signal.signal(number, signal.default_int_handler)


def run_locust(command: Sequence[str], **how: Any) -> subprocess.CompletedProcess[str]:
    """Run Locust to its end. If this process is interrupted, Locust gets a signal, too, and still judges the load."""
    # No standard input: a process group in the background may not read from the terminal.
    with _start(command, stdin=subprocess.DEVNULL, text=True, **how) as process:
        try:
            output, errors = process.communicate()
        finally:
            _end(process, "Locust")
    return subprocess.CompletedProcess(command, process.returncode, output, errors)


def _start(command: Sequence[str], **how: Any) -> subprocess.Popen[Any]:
    # If this process is killed, the child ends too; on other systems than Linux the user must end it.
    guard = ["setpriv", "--pdeathsig", "TERM"] if shutil.which("setpriv") else []
    # A process group of its own: Ctrl-C reaches this process only, which ends the load before the system.
    return subprocess.Popen([*guard, *command], process_group=0, **how)


def _end(process: subprocess.Popen[Any], name: str) -> None:
    """End a process if it still runs: by SIGTERM, and by SIGKILL if that takes too long."""
    if process.poll() is not None:
        return
    # Another signal must not keep this process from ending what it started.
    before = {number: signal.signal(number, signal.SIG_IGN) for number in SIGNALS}
    try:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=STOP_S)  # not `wait`: a full pipe must not block the process
    except subprocess.TimeoutExpired:
        print(f"{name} did not end within {STOP_S:g} s, and was killed.", file=sys.stderr)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _wait_for(part: str, process: subprocess.Popen[bytes], log: Path) -> str:
    give_up_s = time.monotonic() + START_S
    while process.poll() is None and time.monotonic() < give_up_s:
        if listens := re.search(rf"{part} listening on (http://\S+)", log.read_text(errors="replace")):
            return listens[1]
        time.sleep(POLL_S)
    raise SystemFailed(f"The system did not start: {log.read_text(errors='replace')[-2000:]}")
