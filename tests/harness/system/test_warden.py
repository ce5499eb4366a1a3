"""When the harness ends, in whatever way, all processes that it started end too."""

import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from support.places import ROOT
from support.waiting import wait_until
from zeroloss.system import sessions
from zeroloss.system.warden import TOKEN_VARIABLE, Warden, _end_sessions

GONE_WITHIN_S = 5.0
SLEEPER = [sys.executable, "-SEc", "import time; time.sleep(60)"]

# Helpers of the harnesses in these tests: `session(...)` starts a session, `say(pid)` reports a pid to the test.
PRELUDE = """
import os, signal, subprocess, sys, time
from pathlib import Path
from zeroloss.system.processes import spawn
from zeroloss.system.servers import open_server
from zeroloss.system.warden import TOKEN_VARIABLE, warden

directory = Path(sys.argv[1])

def session(text="import time; time.sleep(60)"):
    return spawn([sys.executable, "-SEc", text], role="worker", log_path=directory / "log")

def say(*what):
    print(*what, flush=True)

def die():
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture
def harness(tmp_path: Path) -> Callable[[str], list[str]]:
    """Run a harness until it dies, and return the words it printed."""

    def run(text: str) -> list[str]:
        ended = subprocess.run(
            [sys.executable, "-c", PRELUDE + textwrap.dedent(text), str(tmp_path)],
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
            timeout=60,
            check=False,
        )
        assert ended.returncode == -signal.SIGKILL
        return ended.stdout.decode().split()

    return run


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    """A process in a separate session that no warden watches."""
    with subprocess.Popen(SLEEPER, start_new_session=True) as process:
        yield process
        process.kill()


@pytest.fixture
def keeper() -> Iterator[Warden]:
    """A warden for this test alone."""
    made = Warden()
    yield made
    made.close()


def alive(pid: str | int) -> bool:
    try:
        return psutil.Process(int(pid)).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def all_gone(pids: list[str]) -> None:
    assert pids
    for pid in pids:
        wait_until(lambda pid=pid: not alive(pid), GONE_WITHIN_S, f"process {pid} outlives its harness")


def test_sessions_end_with_a_harness_that_is_killed(harness: Callable[[str], list[str]]) -> None:
    all_gone(harness("say(session().pid, session().pid, warden().pid); die()"))


def test_the_children_of_a_session_end_too(harness: Callable[[str], list[str]]) -> None:
    all_gone(
        harness(
            """
            family = session("import os, time; os.fork() or os.setpgrp(); os.fork(); time.sleep(60)")
            while len(family.members()) < 4:
                time.sleep(0.001)
            say(*family.members())
            die()
            """
        )
    )


def test_an_embedded_server_ends_with_a_harness_that_is_killed(harness: Callable[[str], list[str]]) -> None:
    all_gone(
        harness(
            """
            server = open_server("embedded", directory=directory)
            say(server._info()["process_id"])
            die()
            """
        )
    )


@pytest.mark.container
def test_a_container_is_removed_when_the_harness_is_killed(docker: None, harness: Callable[[str], list[str]]) -> None:
    from docker.errors import NotFound
    from testcontainers.core.docker_client import DockerClient

    (name,) = harness(
        """
        server = open_server("container", directory=directory)
        say(server.container_id)
        die()
        """
    )
    engine = DockerClient().client

    def removed() -> bool:
        try:
            engine.containers.get(name)
        except NotFound:
            return True
        return False

    wait_until(removed, GONE_WITHIN_S, "the container outlives its harness")
    engine.close()


def test_a_frozen_session_ends_too(harness: Callable[[str], list[str]]) -> None:
    all_gone(harness("frozen = session(); frozen.stop_session_members(); say(frozen.pid); die()"))


def test_a_daemon_that_left_its_session_ends_too(harness: Callable[[str], list[str]]) -> None:
    all_gone(
        harness(
            """
            parent = session("import os, time; os.fork() or os.setsid(); print(os.getpid(), flush=True); time.sleep(9)")
            while len(parent.log_tail().split()) < 2:
                time.sleep(0.001)
            say(*parent.log_tail().split())
            die()
            """
        )
    )


def test_a_process_that_was_not_yet_registered_ends_too(harness: Callable[[str], list[str]]) -> None:
    all_gone(
        harness(
            """
            session()
            token = {TOKEN_VARIABLE: warden().token}
            unknown = subprocess.Popen([sys.executable, "-SEc", "import time; time.sleep(60)"], env=token)
            say(unknown.pid)
            die()
            """
        )
    )


def test_a_harness_below_a_harness_has_its_own_warden(harness: Callable[[str], list[str]], tmp_path: Path) -> None:
    (tmp_path / "inner.py").write_text(PRELUDE + "say(session().pid, warden().pid, os.getpid()); time.sleep(60)")
    all_gone(
        harness(
            """
            command = [sys.executable, str(directory / "inner.py"), str(directory)]
            inner = spawn(command, role="agent", log_path=directory / "inner.log")
            while len(inner.log_tail().split()) < 3:
                time.sleep(0.001)
            say(*inner.log_tail().split())
            die()
            """
        )
    )


def test_a_forked_child_of_the_harness_does_not_keep_the_warden_waiting(
    harness: Callable[[str], list[str]],
) -> None:
    watched, forked = harness(
        """
        watched = session()
        forked = os.fork()
        if forked == 0:
            os.close(1)
            time.sleep(60)
        say(watched.pid, forked)
        die()
        """
    )
    try:
        all_gone([watched])
        assert alive(forked)
    finally:
        os.kill(int(forked), signal.SIGKILL)


def test_a_killed_warden_is_replaced_by_one_that_knows_everything(harness: Callable[[str], list[str]]) -> None:
    all_gone(
        harness(
            """
            first = session()
            fallen = warden().pid
            os.kill(fallen, signal.SIGKILL)
            while os.path.exists(f"/proc/{fallen}") and open(f"/proc/{fallen}/stat").read().split()[2] != "Z":
                time.sleep(0.001)
            second = session()
            assert warden().pid != fallen
            say(first.pid, second.pid)
            die()
            """
        )
    )


def test_a_warden_ignores_what_interrupts_its_harness(keeper: Warden, sleeper: subprocess.Popen[bytes]) -> None:
    keeper.watch_session(sleeper.pid)
    warden = psutil.Process(keeper.pid)
    # The warden ignores these signals once its interpreter runs; until then they would end it.
    wait_until(lambda: _ignores(warden.pid, signal.SIGINT, signal.SIGTERM, signal.SIGHUP))
    for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        warden.send_signal(signum)
    keeper.close()
    assert sleeper.wait(GONE_WITHIN_S) == -signal.SIGKILL


def test_closing_ends_what_is_registered(keeper: Warden, sleeper: subprocess.Popen[bytes]) -> None:
    keeper.watch_session(sleeper.pid)
    warden = keeper.pid
    keeper.close()
    assert sleeper.wait(GONE_WITHIN_S) == -signal.SIGKILL
    assert not alive(warden)


def test_a_forgotten_session_is_left_alone(keeper: Warden, sleeper: subprocess.Popen[bytes]) -> None:
    keeper.watch_session(sleeper.pid)
    keeper.forget_session(sleeper.pid)
    keeper.close()
    assert sleeper.poll() is None


def test_a_session_whose_number_passed_to_a_stranger_is_left_alone(sleeper: subprocess.Popen[bytes]) -> None:
    _end_sessions([("session", sleeper.pid, "another start")], token="nobody's")
    assert sleeper.poll() is None
    _end_sessions([("session", sleeper.pid, str(sessions.start_mark(sleeper.pid)))], token="nobody's")
    assert sleeper.wait(GONE_WITHIN_S) == -signal.SIGKILL


def test_a_process_that_is_not_there_cannot_be_watched(keeper: Warden, sleeper: subprocess.Popen[bytes]) -> None:
    sleeper.kill()
    sleeper.wait()
    with pytest.raises(ProcessLookupError):
        keeper.watch_session(sleeper.pid)


def test_a_warden_has_no_token(
    keeper: Warden, monkeypatch: pytest.MonkeyPatch, sleeper: subprocess.Popen[bytes]
) -> None:
    monkeypatch.setenv(TOKEN_VARIABLE, "an outer harness's")
    keeper.watch_session(sleeper.pid)
    assert TOKEN_VARIABLE not in psutil.Process(keeper.pid).environ()


def _ignores(pid: int, *signums: int) -> bool:
    """Return whether the process ignores the signals, by the kernel's mask of ignored signals."""
    status = Path(f"/proc/{pid}/status").read_text()
    mask = int(next(line for line in status.splitlines() if line.startswith("SigIgn:")).split()[1], 16)
    return all(mask >> (signum - 1) & 1 for signum in signums)
