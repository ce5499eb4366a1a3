"""A whole system to put load on: `python -m reference up`, on an embedded server, with handlers that write a ledger."""

import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

START_S = 60.0
STOP_S = 60.0
POLL_S = 0.05
HANDLERS = "chaos.targets.reference_app"


@dataclass(frozen=True)
class System:
    """A running one: where its producer listens, and where its workers write their ledger."""

    url: str
    ledger: Path


class SystemFailed(Exception):
    """It did not start; the text ends with its last words."""


@contextmanager
def running_system(settings: Mapping[str, str]) -> Iterator[System]:
    """Start one with these settings in its environment, and stop it. Raises SystemFailed."""
    with tempfile.TemporaryDirectory(prefix="zeroloss-load-") as scratch:
        ledger, log = Path(scratch, "ledger"), Path(scratch, "system.log")
        ledger.mkdir()
        command = [sys.executable, "-m", "reference", "up", "--app", HANDLERS]
        command += ["--producer-port", "0", "--monitor-port", "0"]
        environment = {**os.environ, **settings, "ZEROLOSS_LEDGER": str(ledger)}
        with log.open("wb") as output:
            process = subprocess.Popen(command, env=environment, stdout=output, stderr=subprocess.STDOUT)
        try:
            yield System(_wait_for_producer(process, log), ledger)
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(STOP_S)


def _wait_for_producer(process: subprocess.Popen[bytes], log: Path) -> str:
    give_up_s = time.monotonic() + START_S
    while process.poll() is None and time.monotonic() < give_up_s:
        if listens := re.search(r"producer listening on (http://\S+)", log.read_text(errors="replace")):
            return listens[1]
        time.sleep(POLL_S)
    raise SystemFailed(f"The system did not start: {log.read_text(errors='replace')[-2000:]}")
