"""A signal soon after the start: before a command serves, while it imports, or while it starts its parts."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from support.places import ROOT, TESTS
from support.processes.worker_process import SLOW_APP, Pool
from support.waiting import wait_until
from zeroloss.reference.http.servers.common import DRAIN_S
from zeroloss.reference.up import BEYOND_GRACE_S
from zeroloss.reference.worker.supervisor import LINGER_S
from zeroloss.system.servers import Server
from zeroloss.system.sessions import members

StartPool = Callable[..., Pool]
BOTH = [signal.SIGTERM, signal.SIGINT]
GRACE_S = 2.0
PARTS_OF_UP = 4

COMMANDS_AND_BOUNDS_S = {
    "producer --port 0": DRAIN_S,
    "producer --port 0 --server asgi": DRAIN_S,
    "monitor --port 0": DRAIN_S,
    "worker --app support.apps.worker_app": GRACE_S + LINGER_S,
    "up --producer-port 0 --monitor-port 0": PARTS_OF_UP * (GRACE_S + BEYOND_GRACE_S),
}


@pytest.mark.parametrize("delay_ms", [50, 150, 300, 600, 1_200])
@pytest.mark.parametrize("command, bound_s", COMMANDS_AND_BOUNDS_S.items(), ids=COMMANDS_AND_BOUNDS_S)
def test_a_sigterm_soon_after_the_start_ends_a_command_and_its_parts_with_status_0_within_its_bound(
    embedded: Server, tmp_path: Path, command: str, bound_s: float, delay_ms: int
) -> None:
    """Only before Python reaches the first line of the command does the signal's default action end the process."""
    server = {} if command.startswith("up") else {"REDIS_URL": embedded.url}
    own = {"PYTHONPATH": f"{ROOT}:{TESTS}", "TMPDIR": str(tmp_path), "ZEROLOSS_GRACE_MS": f"{GRACE_S * 1000:.0f}"}
    with (tmp_path / "log").open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "zeroloss.reference", *command.split()],
            env={**os.environ, **own, **server},
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(delay_ms / 1000)
        handled = catches(process.pid, signal.SIGTERM)
        process.terminate()
        status = process.wait(bound_s)
        assert status == 0 or (status == -signal.SIGTERM and not handled)
        wait_until(lambda: not members(process.pid), message="it left processes behind")
        assert "Traceback" not in (tmp_path / "log").read_text()
    finally:
        print((tmp_path / "log").read_text())
        for pid in members(process.pid):
            os.kill(pid, signal.SIGKILL)
        process.wait(30)


def catches(pid: int, number: int) -> bool:
    """Return whether the process has a handler for the signal."""
    (mask,) = (line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("SigCgt:"))
    return bool(int(mask.split()[1], 16) >> (number - 1) & 1)


SLOW_REDIS = """
import time
print("importing", flush=True)
for _ in range(6_000):  # a signal that comes just before a single long sleep begins would wait for its end
    time.sleep(0.01)
"""


@pytest.mark.parametrize("command", ["producer", "monitor", "worker --app support.apps.worker_app", "up"])
@pytest.mark.parametrize("number", BOTH)
def test_a_signal_ends_a_command_in_order_while_it_still_imports_its_libraries(
    tmp_path: Path, command: str, number: int
) -> None:
    """This holds also where the system ignores unhandled signals, as it does for PID 1 of a container."""
    (tmp_path / "redis.py").write_text(SLOW_REDIS)
    process = subprocess.Popen(
        [sys.executable, "-m", "zeroloss.reference", *command.split()],
        env={**os.environ, "PYTHONPATH": f"{tmp_path}:{ROOT}"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(number, signal.SIG_IGN),
    )
    assert process.stdout
    assert process.stdout.readline() == "importing\n"
    process.send_signal(number)
    try:
        assert process.communicate(timeout=20) == ("", "")
    finally:
        process.kill()
    assert process.returncode == 0


@pytest.mark.parametrize("number", BOTH)
def test_a_signal_to_every_process_while_the_application_is_imported_ends_them_without_a_traceback(
    start_pool: StartPool, tmp_path: Path, number: int
) -> None:
    (tmp_path / "slow_app.py").write_text(SLOW_APP)
    path = f"{ROOT}:{tmp_path}"
    pool = start_pool("--app", "slow_app", PYTHONPATH=path, APP_IS_THERE=str(tmp_path / "never"))
    wait_until(lambda: pool.said("importing"), 30)
    for process in [psutil.Process(pool.process.pid), *pool.children()]:
        process.send_signal(number)
    assert pool.wait() == 0
    assert not pool.said("Traceback")
