"""The harness notices when it does not get enough processor time."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from support.places import ROOT
from support.waiting import wait_until
from zeroloss.faults.server.clock_jump import ClockJump
from zeroloss.history import Harness, Recorder, read
from zeroloss.run.starvation import CROWDED, LATE_S, SET_MS, Watch

WATCHED = """
import sys, time
from pathlib import Path
from zeroloss.history import Recorder
from zeroloss.run.starvation import Watch
with Watch(Recorder(sys.argv[1], "harness")):
    Path(sys.argv[1], "ready").touch()
    time.sleep(3600)
"""


def test_a_harness_that_could_not_run_says_for_how_long(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    watched = subprocess.Popen([sys.executable, "-c", WATCHED, str(tmp_path)], env=environment)
    try:
        wait_until((tmp_path / "ready").exists)
        watched.send_signal(signal.SIGSTOP)
        stopped_s = time.monotonic()
        wait_until(lambda: time.monotonic() > stopped_s + LATE_S + 0.3)
        watched.send_signal(signal.SIGCONT)
        event = wait_until(lambda: read(tmp_path))[0]
        assert isinstance(event, Harness)
        assert LATE_S * 1000 <= event.late_ms <= 1000 * (time.monotonic() - stopped_s)
    finally:
        watched.kill()
        watched.wait()


@pytest.mark.parametrize("by_s", [3.2, -3_600.0])
def test_a_wall_clock_that_is_set_is_on_record_with_its_step(tmp_path: Path, by_s: float) -> None:
    """The shim of `clock-jump` shows the harness a clock that is set; the machine's own clock serves all tests."""
    (tmp_path / "clock").mkdir()
    environment = {**os.environ, "PYTHONPATH": f"{ClockJump.shim}:{ROOT}", "ZEROLOSS_RUN": str(tmp_path)}
    watched = subprocess.Popen([sys.executable, "-c", WATCHED, str(tmp_path)], env=environment, start_new_session=True)
    try:
        wait_until((tmp_path / "ready").exists)
        (tmp_path / "clock" / "new").write_text(f"{by_s} 1")
        (tmp_path / "clock" / "new").rename(tmp_path / "clock" / str(watched.pid))
        event = wait_until(lambda: [one for one in read(tmp_path) if isinstance(one, Harness)])[0]
        assert event.phase == "clock_set"
        assert abs((event.by_ms or 0) - 1_000 * by_s) < SET_MS
        assert event.since_t < event.t
    finally:
        watched.kill()
        watched.wait()


def test_a_watch_ends_with_its_block(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path, "harness")
    with Watch(recorder) as watch:
        pass
    assert not watch._thread.is_alive()
    recorder.close()


def test_a_machine_with_many_more_threads_than_processors_is_on_record_as_crowded(tmp_path: Path) -> None:
    many = int(CROWDED * len(os.sched_getaffinity(0))) + 4
    burning = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(many)]
    recorder = Recorder(tmp_path, "harness")
    try:
        with Watch(recorder):
            events = wait_until(lambda: [event for event in read(tmp_path) if isinstance(event, Harness)], 30)
    finally:
        for process in burning:
            process.kill()
            process.wait()
        recorder.close()
    assert events[0].phase == "crowded"
    assert events[0].late_ms >= 1_000
