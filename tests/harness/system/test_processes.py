"""The harness can find, stop and kill the whole process family that it starts."""

import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from support.waiting import wait_until
from zeroloss.history import Recorder, read
from zeroloss.system import sessions
from zeroloss.system.processes import CannotStart, Managed, spawn

# Two children, one of them in a separate process group, like RQ's work horse.
FAMILY = """
import os, sys, time
for _ in range(2):
    if os.fork() == 0:
        if _: os.setpgrp()
        break
print("ready", os.getpid(), flush=True)
time.sleep(60)
"""

# The parent exits at once and leaves its child to init.
ORPHAN = """
import os, time
leader = os.getpid()
if os.fork():
    os._exit(3)
while os.getppid() == leader:  # "ready" says that the leader has exited
    time.sleep(0.001)
print("ready", os.getpid(), flush=True)
time.sleep(60)
"""

# A parent that cleans up when its child dies: it writes a file.
TIDY = """
import os, sys, time
child = os.fork()
if child == 0:
    time.sleep(60)
print("ready", flush=True)
os.waitpid(child, 0)
open(sys.argv[1], "w").close()
"""

# Each process only starts the next one and exits, so a listing is always outdated.
CHAIN = """
import os
print("ready", flush=True)
while True:
    if os.fork():
        os._exit(0)
"""

TICKER = """
import itertools, time
for tick in itertools.count():
    print("ready", tick, flush=True)
    time.sleep(0.001)
"""

SLEEPER = "import time; print('ready', flush=True); time.sleep(60)"


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Managed]]:
    """Start a Python text, and wait until it has printed `ready` as many times as stated."""
    started: list[Managed] = []

    def starter(text: str, *arguments: str, ready: int = 1, recorder: Recorder | None = None) -> Managed:
        process = spawn(
            [sys.executable, "-SEc", text, *arguments],
            role="worker",
            log_path=tmp_path / f"{len(started)}.log",
            recorder=recorder,
        )
        started.append(process)
        wait_until(lambda: process.log_tail().count("ready") >= ready, message=f"not {ready} times ready")
        return process

    yield starter
    for process in started:
        process.kill_session()


def test_a_process_is_started_in_a_session_of_its_own(start: Callable[..., Managed]) -> None:
    process = start(SLEEPER)
    assert process.sid == process.pid == os.getsid(process.pid) != os.getsid(0)
    assert process.members() == [process.pid]


def test_the_members_are_all_processes_of_the_session_whatever_their_group(start: Callable[..., Managed]) -> None:
    process = start(FAMILY, ready=3)
    assert {int(word) for word in process.log_tail().split() if word.isdigit()} == set(process.members())
    assert len({os.getpgid(pid) for pid in process.members()}) == 2


def test_an_orphan_is_still_a_member_when_its_leader_has_exited(start: Callable[..., Managed]) -> None:
    process = start(ORPHAN)
    assert process.wait() == 3
    (orphan,) = process.members()
    assert orphan != process.pid


def test_a_zombie_is_not_a_member(start: Callable[..., Managed]) -> None:
    process = start(SLEEPER)
    os.kill(process.pid, signal.SIGKILL)
    wait_until(lambda: psutil.Process(process.pid).status() == psutil.STATUS_ZOMBIE)
    assert process.members() == []


def test_members_are_found_by_ps_where_there_is_no_proc(
    start: Callable[..., Managed], monkeypatch: pytest.MonkeyPatch
) -> None:
    process = start(FAMILY, ready=3)
    members = set(process.members())
    monkeypatch.setattr(sessions, "_HAS_PROC", False)
    assert set(process.members()) == members
    assert sessions.start_mark(process.pid)
    assert process.stop_session_members()
    assert process.kill_session() == -signal.SIGKILL
    assert sessions.start_mark(process.pid) is None


@pytest.mark.parametrize("text, ready", [(FAMILY, 3), (ORPHAN, 1), (SLEEPER, 1)], ids=["family", "orphan", "alone"])
def test_killing_a_session_leaves_none_of_it_alive(start: Callable[..., Managed], text: str, ready: int) -> None:
    process = start(text, ready=ready)
    members = process.members()
    process.kill_session()
    assert process.members() == []
    assert not any(psutil.pid_exists(pid) and psutil.Process(pid).status() != "zombie" for pid in members)


def test_killing_a_session_returns_that_the_leader_was_killed(start: Callable[..., Managed]) -> None:
    assert start(SLEEPER).kill_session() == -signal.SIGKILL


def test_killing_a_session_returns_the_status_of_a_leader_that_exited_before(start: Callable[..., Managed]) -> None:
    assert start(ORPHAN).kill_session() == 3


def test_killing_a_session_twice_changes_nothing(start: Callable[..., Managed]) -> None:
    process = start(SLEEPER)
    assert process.kill_session() == process.kill_session()


def test_no_parent_sees_its_child_die_when_the_session_is_killed(start: Callable[..., Managed], tmp_path: Path) -> None:
    for number in range(10):
        mark = tmp_path / f"tidied-{number}"
        start(TIDY, str(mark)).kill_session()
        assert not mark.exists()


def test_a_session_that_forks_all_the_time_does_not_outrun_its_kill(start: Callable[..., Managed]) -> None:
    process = start(CHAIN)
    process.kill_session()
    assert process.members() == []


def test_a_process_that_no_look_shows_stands_still_with_its_group(
    start: Callable[..., Managed], monkeypatch: pytest.MonkeyPatch
) -> None:
    process = start(SLEEPER)
    with monkeypatch.context() as blind:
        blind.setattr(sessions, "_pids", list)
        sessions.stop(process.sid)
    wait_until(lambda: psutil.Process(process.pid).status() == psutil.STATUS_STOPPED, message="it runs on")


def test_a_group_that_has_taken_over_the_number_of_a_session_is_left_alone(start: Callable[..., Managed]) -> None:
    family = start(FAMILY, ready=3)
    (stranger,) = {os.getpgid(pid) for pid in family.members()} - {family.sid}
    sessions.kill(stranger)
    assert stranger in family.members()


def test_a_stopped_session_can_be_killed(start: Callable[..., Managed]) -> None:
    process = start(FAMILY, ready=3)
    process.stop_session_members()
    assert process.kill_session() == -signal.SIGKILL


def test_a_stopped_session_stands_still_until_it_is_continued(start: Callable[..., Managed]) -> None:
    process = start(TICKER)
    assert process.stop_session_members() == [process.pid]
    said = process.log_tail()
    assert psutil.Process(process.pid).status() == psutil.STATUS_STOPPED
    assert process.log_tail() == said
    process.continue_session_members()
    wait_until(lambda: process.log_tail() != said, message="it did not go on")


def test_stopping_stops_the_children_too(start: Callable[..., Managed]) -> None:
    process = start(FAMILY, ready=3)
    assert set(process.stop_session_members()) == set(process.members())
    assert {psutil.Process(pid).status() for pid in process.members()} == {psutil.STATUS_STOPPED}


def test_terminate_signals_the_leader_alone(start: Callable[..., Managed]) -> None:
    process = start(FAMILY, ready=3)
    process.terminate()
    assert process.wait() == -signal.SIGTERM
    assert len(process.members()) == 2


def test_terminating_a_process_that_has_exited_does_nothing(start: Callable[..., Managed]) -> None:
    process = start(ORPHAN)
    process.wait()
    process.terminate()


def test_waiting_past_the_deadline_says_so(start: Callable[..., Managed]) -> None:
    process = start(SLEEPER)
    with pytest.raises(TimeoutError, match=rf"The worker \(process {process.pid}\) still runs after 0.01 s."):
        process.wait(0.01)


def test_the_output_of_a_process_is_in_its_log_and_never_blocks_it(start: Callable[..., Managed]) -> None:
    process = start("import sys; print('x' * 1_000_000); print('ready', file=sys.stderr)")
    assert process.wait() == 0
    assert process.log_tail().endswith("ready")
    assert process.log_path.stat().st_size > 1_000_000


def test_a_process_that_is_killed_is_on_record_as_wanted(start: Callable[..., Managed], tmp_path: Path) -> None:
    process = start(SLEEPER, recorder=Recorder(tmp_path / "events", "harness"))
    process.kill_session()
    process.poll()
    begin, end = read(tmp_path / "events")
    assert (begin.kind, begin.phase, begin.pid, begin.sid, begin.role) == (
        "process",
        "start",
        process.pid,
        process.sid,
        "worker",
    )
    assert (end.phase, end.pid, end.status, end.wanted) == ("exit", process.pid, -signal.SIGKILL, True)


def test_a_process_that_exits_by_itself_is_on_record_as_unwanted(start: Callable[..., Managed], tmp_path: Path) -> None:
    process = start("print('ready'); raise SystemExit(7)", recorder=Recorder(tmp_path / "events", "harness"))
    process.wait()
    process.kill_session()
    exits = [event for event in read(tmp_path / "events") if event.phase == "exit"]
    assert [(event.status, event.wanted) for event in exits] == [(7, False)]


@pytest.mark.parametrize("command", [["no-such-program"], ["/etc/passwd"]], ids=["missing", "not a program"])
def test_a_command_that_cannot_be_started_is_one_sentence(command: list[str], tmp_path: Path) -> None:
    with pytest.raises(CannotStart) as refused:
        spawn(command, role="worker", log_path=tmp_path / "log")
    assert str(refused.value).startswith(f"The worker cannot be started with {command[0]!r}: ")
    assert "\n" not in str(refused.value)


def test_a_missing_directory_is_named_and_not_the_command(tmp_path: Path) -> None:
    with pytest.raises(CannotStart, match=r"The worker cannot be started with '.*nowhere': no such file or directory."):
        spawn([sys.executable], role="worker", log_path=tmp_path / "log", cwd=tmp_path / "nowhere")


def test_a_signal_never_reaches_a_stranger_of_the_same_number(start: Callable[..., Managed]) -> None:
    stranger = start(SLEEPER)
    sessions.send(stranger.pid, stranger.sid + 1, signal.SIGKILL)
    assert stranger.poll() is None
    sessions.send(stranger.pid, stranger.sid, signal.SIGKILL)
    assert stranger.wait() == -signal.SIGKILL
