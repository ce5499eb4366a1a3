"""A load test that is ended from outside: all processes that it started end with it."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from support.processes.load_system import ROOT
from support.processes.programs import free_port
from support.waiting import living, wait_until
from zeroloss.loadtests import system
from zeroloss.loadtests.system import running_system
from zeroloss.system import sessions

PROFILE = ("loadtests", "loadtests/profiles/smoke.conf", "--run-time", "1h", "--patience-s", "2")
CAPACITY = ("zeroloss.loadtests.capacity", "--step-s", "3600")


class Started:
    """A command in a separate session, which contains all its descendants, with a separate temporary folder."""

    def __init__(self, module: str, *options: str, directory: Path) -> None:
        self.scratch = directory / "scratch"
        self.scratch.mkdir()
        self._log = directory / "log"
        outputs = (f"--{name}={directory / name}" for name in ("csv", "html", "junit"))
        if "--processes" in options:
            options = (*options, f"--master-bind-port={(port := free_port())}", f"--master-port={port}")
        options = (*options, *outputs) if module == "loadtests" else (*options, f"--out={directory / 'out'}")
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", module, *options],
                cwd=ROOT,
                env={**os.environ, "TMPDIR": str(self.scratch)},
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def listens(self) -> bool:
        """Return whether the producer of its system listens."""
        return "producer listening on" in self._read("system.log")

    def sends(self) -> bool:
        """Return whether its Locust sends: tasks are executed."""
        return '"end"' in self._read("ledger/worker-*.jsonl")

    def said(self) -> str:
        return self._log.read_text()

    def alive(self) -> list[int]:
        """Return the pids of the command and its descendants, orphans included."""
        return sessions.members(self.process.pid)

    def end(self) -> None:
        sessions.kill(self.process.pid)
        self.process.wait(30)

    def _read(self, pattern: str) -> str:
        return "".join(path.read_text() for path in self.scratch.glob(f"zeroloss-load-*/{pattern}"))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "SIGINT"])
@pytest.mark.parametrize(
    ("command", "moment"),
    [
        (PROFILE, Started.listens),
        (PROFILE, Started.sends),
        ((*PROFILE, "--processes", "2"), Started.sends),
        (CAPACITY, Started.sends),
    ],
    ids=["before-locust-sends", "under-load", "with-workers", "capacity"],
)
def test_a_signal_to_the_command_alone_ends_all_that_it_started_and_leaves_no_scratch_folder(
    command: tuple[str, ...], moment: Callable[[Started], bool], number: signal.Signals, tmp_path: Path
) -> None:
    started = Started(*command, directory=tmp_path)
    try:
        wait_until(lambda: moment(started), 60, "It did not get so far")
        started.process.send_signal(number)
        assert started.process.wait(60) == 130, started.said()
        wait_until(lambda: not started.alive(), 10, "Some of its processes are left")
    finally:
        started.end()
    assert list(started.scratch.iterdir()) == []
    # Tracebacks of Locust itself at its exit are not checked.
    assert not re.search(r'File "\S*/loadtests/(__main__|capacity|system)\.py"', started.said()), started.said()


def test_an_interrupted_load_is_judged_all_the_same(tmp_path: Path) -> None:
    started = Started(*PROFILE, directory=tmp_path)
    try:
        wait_until(started.sends, 60)
        started.process.send_signal(signal.SIGTERM)
        started.process.wait(60)
    finally:
        started.end()
    assert "SLO kept: tasks accepted and never executed: 0" in started.said()


def test_the_processes_of_a_killed_command_end_too(tmp_path: Path) -> None:
    started = Started(*PROFILE, directory=tmp_path)
    try:
        wait_until(started.sends, 60)
        started.process.kill()
        wait_until(lambda: started.alive() in ([], [started.process.pid]), 60, "Some of its processes are left")
    finally:
        started.end()


def test_a_system_that_does_not_end_when_asked_is_killed_and_reported_as_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(system, "STOP_S", 0.5)
    before = psutil.Process().children()
    with running_system({"TMPDIR": str(tmp_path), "ZEROLOSS_GRACE_MS": "500"}):  # a killed system leaves its data
        (up,) = [child for child in psutil.Process().children() if child not in before]
        everyone = [up, *up.children(recursive=True)]
        up.suspend()
    wait_until(lambda: not living(everyone), 30, "Some of its processes are left")
    assert capsys.readouterr().err == "The system did not end within 0.5 s, and was killed.\n"
