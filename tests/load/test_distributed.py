"""Locust in several processes, with its page, and under a signal: no part of the load is missed."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest
from support.processes.load_system import LOCUST, ROOT, SHORT, effects, put_load, rows, run
from support.processes.load_system import own_system as _  # noqa: F401 - the fixture `system`
from support.processes.programs import free_port
from support.waiting import wait_until
from zeroloss.loadtests.system import System


def test_with_several_processes_every_accepted_task_is_followed_and_thresholds_count(
    system: System,
    tmp_path: Path,
) -> None:
    options = ("--processes", "2", "--csv", str(tmp_path / "load"), "--slo-p95-ms", "0.01", "--run-time", "3s")
    ended = put_load(system, *options, "SingleTasks")
    assert ended.status == 3, ended.said
    assert [line.partition(":")[0] for line in ended.broken] == ["p95 of requests"]
    (requests,) = [int(row["Request Count"]) for row in rows(tmp_path / "load") if row["Type"] == "POST"]
    assert effects(tmp_path / "load") == {"single": requests}
    assert requests > 20


SLOW = """import locust, zeroloss.loadtests.options, zeroloss.loadtests.session

class Slow(locust.User):
    wait_time = locust.constant(0.1)

    @locust.task
    def answered(self):
        for kind in ("POST", zeroloss.loadtests.session.EFFECT):
            self.environment.events.request.fire(
                request_type=kind, name="x", response_time={ms}, response_length=0, exception=None, context={{}}
            )
"""
"""A locustfile in which each request reports a duration of `ms`."""


@pytest.mark.parametrize("processes", [0, 2])
@pytest.mark.parametrize(
    ("ms", "threshold", "told"),
    [(1_040, "1000", "1,040 ms, at most 1,000 ms"), (104, "100", "104 ms, at most 100 ms"), (1_000, "1000", "")],
)
def test_a_time_just_above_a_threshold_is_not_rounded_down_to_it(
    ms: int, threshold: str, told: str, processes: int, tmp_path: Path
) -> None:
    locustfile = tmp_path / "slow.py"
    locustfile.write_text(SLOW.format(ms=ms))
    names = ("p95", "p99", "effect-p95")
    thresholds = [word for name in names for word in (f"--slo-{name}-ms", threshold)]
    others = ["--run-time", "1s", "--ledger", str(tmp_path)]
    if processes:
        port = free_port()
        others += ["--processes", str(processes), "--master-bind-port", port, "--master-port", port]
    ended = run(sys.executable, "-m", "locust", "-f", str(locustfile), "--headless", *others, *thresholds)
    times = [line for line in ended.broken if line.startswith("p9")]
    assert len(times) == (3 if told else 0), ended.said
    assert all(told in line for line in times)


def distributed(
    system: System, tmp_path: Path, run_time: str
) -> tuple[subprocess.Popen[bytes], subprocess.Popen[bytes]]:
    port = free_port()
    where = ("--host", system.url, "--ledger", str(system.ledger))
    master = ("--master", "--expect-workers", "1", "--master-bind-port", port, "--csv", str(tmp_path / "load"))
    worker = ("--worker", "--master-port", port)
    started = []
    for name, options in (("master", (*SHORT, "--run-time", run_time, *where, *master)), ("worker", worker)):
        with (tmp_path / f"{name}.log").open("wb") as log:
            started.append(subprocess.Popen([*LOCUST, *options], cwd=ROOT, stdout=log, stderr=subprocess.STDOUT))
    return started[0], started[1]


def test_a_distributed_load_is_followed_and_judged_by_the_master(system: System, tmp_path: Path) -> None:
    master, worker = distributed(system, tmp_path, "2s")
    try:
        assert master.wait(60) == 0, (tmp_path / "master.log").read_text()
    finally:
        master.kill()
        worker.kill()
        worker.wait(30)
    requests = [int(row["Request Count"]) for row in rows(tmp_path / "load") if row["Name"] == "/task"]
    assert effects(tmp_path / "load")["single"] == requests[0]


def test_a_locust_worker_that_goes_away_fails_the_load(system: System, tmp_path: Path) -> None:
    master, worker = distributed(system, tmp_path, "1h")
    log = tmp_path / "master.log"
    ledger = lambda: "".join(path.read_text() for path in system.ledger.glob("worker-*.jsonl"))  # noqa: E731
    try:
        before = len(ledger())
        wait_until(lambda: len(ledger()) > before + 5_000, 60)
        worker.send_signal(signal.SIGKILL)
        wait_until(lambda: "The last worker went missing" in log.read_text(), 30)
        master.send_signal(signal.SIGTERM)
        assert master.wait(60) == 3, log.read_text()
    finally:
        master.kill()
        worker.kill()
        worker.wait(30)
    assert "of Locust's workers went away" in log.read_text()


def test_a_signal_ends_the_load_and_it_is_judged_all_the_same(system: System, tmp_path: Path) -> None:
    command = [*LOCUST, *SHORT, "--run-time", "1h", "--host", system.url, "--ledger", str(system.ledger)]
    log = tmp_path / "log"
    with log.open("wb") as output:
        locust = subprocess.Popen(command, cwd=ROOT, stdout=output, stderr=subprocess.STDOUT)
    try:
        before = sum(path.stat().st_size for path in system.ledger.glob("worker-*.jsonl"))
        size = lambda: sum(path.stat().st_size for path in system.ledger.glob("worker-*.jsonl"))  # noqa: E731
        wait_until(lambda: size() > before + 5_000, 60)
        locust.send_signal(signal.SIGTERM)
        assert locust.wait(30) == 0, log.read_text()
    finally:
        locust.kill()
        locust.wait(30)
    assert "SLO kept: tasks accepted and never executed: 0" in log.read_text()
