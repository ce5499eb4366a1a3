"""The health of a pool, by HTTP and by command; pausing a pool; replacing its processes without failing a task."""

import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import redis
from support.places import ROOT, TESTS
from support.processes.worker_process import Pool, Watched, at_the_gate
from support.queue_fixtures import Queue, ids
from support.waiting import wait_until

StartPool = Callable[..., Pool]
IMPATIENT = "from zeroloss.reference.worker import supervisor; supervisor.SILENCE_MAX_S = 6.0"
STUCK_APP = """
import time
from support.apps import worker_app
from zeroloss.reference.worker import claimer, process

process.CONNECT_TIMEOUT_S = -6.0
claimer.Claimer.turn = lambda self: time.sleep(3600)
"""
HOARDING_APP = """
from support.apps.worker_app import note
from zeroloss.reference import handler

hoard = []

@handler("hoard")
def keep_ten_megabytes(task):
    note(task)
    hoard.append(b"x" * 10_000_000)
"""


def command(queue: Queue, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "zeroloss.reference", *arguments],
        env={**os.environ, "REDIS_URL": queue.config.redis_url},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )


def port(pool: Pool) -> str:
    found: re.Match[str] = wait_until(
        lambda: re.search(r"Health at http://127\.0\.0\.1:(\d+)/health\.", pool.log.read_text()), timeout_s=30
    )
    return found[1]


def health(pool: Pool) -> tuple[int, Any]:
    """Return the status and the body of the pool's health endpoint."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port(pool)}/health", timeout=10) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def test_a_pool_at_work_is_healthy_by_http_and_by_command(
    start_pool: StartPool, queue: Queue, watched: Watched
) -> None:
    watched.submit("note", "t1")
    pool = start_pool("--health-port", "0", before=IMPATIENT)
    wait_until(lambda: watched.completed() == 1, timeout_s=30)
    well = (200, {"status": "ok", "complaints": []})
    wait_until(lambda: health(pool) == well, timeout_s=30)  # the first report comes 1 s after the start
    asked = command(queue, "health", "--port", port(pool))
    assert (asked.returncode, asked.stderr) == (0, "")


def test_a_pool_with_a_process_that_does_not_move_is_unhealthy_until_it_does(
    start_pool: StartPool, queue: Queue, watched: Watched
) -> None:
    watched.submit("note", "t1")
    pool = start_pool("--health-port", "0", before=IMPATIENT)
    wait_until(lambda: watched.completed() == 1, timeout_s=30)
    child = pool.one_child()
    child.suspend()
    wait_until(lambda: health(pool)[0] == 503, timeout_s=30)
    (complaint,) = health(pool)[1]["complaints"]
    assert re.fullmatch(r"Worker process \S+ has shown no activity for \d+ s\.", complaint)
    asked = command(queue, "health", "--port", port(pool))
    assert asked.returncode == 1
    assert "has shown no activity" in asked.stderr
    child.resume()
    wait_until(lambda: health(pool)[0] == 200, timeout_s=30)


def test_a_process_that_claims_nothing_though_it_could_makes_its_pool_unhealthy(
    start_pool: StartPool, tmp_path: Path
) -> None:
    (tmp_path / "stuck_app.py").write_text(STUCK_APP)
    pool = start_pool(
        "--app", "stuck_app", "--health-port", "0", PYTHONPATH=f"{ROOT}:{TESTS}:{tmp_path}", before=IMPATIENT
    )
    wait_until(lambda: pool.said("Serving:"), timeout_s=30)
    wait_until(lambda: health(pool)[0] == 503, timeout_s=30)


def test_a_pool_whose_redis_is_away_is_healthy(start_pool: StartPool, open_own_server: Callable[..., Any]) -> None:
    server = open_own_server("embedded")
    pool = start_pool("--health-port", "0", before=IMPATIENT, ZEROLOSS_REDIS_URL=server.url)
    wait_until(lambda: pool.said("Serving:"), timeout_s=30)
    server.kill()
    wait_until(lambda: pool.log.read_text().count("Redis failed") > 10, timeout_s=60)  # for longer than that
    assert health(pool)[0] == 200


def test_a_worker_that_nobody_finds_is_unhealthy_in_one_sentence(queue: Queue, dead_port: int) -> None:
    asked = command(queue, "health", "--port", str(dead_port))
    assert asked.returncode == 1
    assert asked.stderr.startswith(f"zeroloss.reference: No worker answers at 127.0.0.1:{dead_port}: ")
    assert len(asked.stderr.splitlines()) == 1


def test_a_port_that_is_taken_is_refused_by_the_option_s_name(queue: Queue, start_pool: StartPool) -> None:
    first = start_pool("--health-port", "0")
    taken = port(first)
    asked = command(queue, "worker", "--app", "zeroloss.reference.demo", "--health-port", taken)
    assert asked.returncode == 2
    assert f"--health-port {taken}: 127.0.0.1:{taken} cannot be listened on" in asked.stderr


def test_a_paused_queue_hands_out_nothing_until_it_is_resumed_and_what_runs_is_finished(
    start_pool: StartPool, queue: Queue, watched: Watched
) -> None:
    pool = at_the_gate(start_pool, watched, "--health-port", "0", before=IMPATIENT, ZEROLOSS_RENEW_MS="50")
    paused = command(queue, "pause")
    assert (paused.returncode, paused.stderr) == (0, "")
    wait_until(lambda: pool.said("Claiming is paused."))
    for number in range(3):
        watched.submit("note", f"n{number}")
    watched.open_gate()
    wait_until(lambda: watched.completed() == 1)
    wait_until(lambda: queue.client.info("clients")["blocked_clients"] == 0, message="a claim is under way")
    wait_until(lambda: ids(queue.pending()) == ["n0", "n1", "n2"])
    assert watched.ran() == ["t1:1"]
    assert health(pool)[0] == 200
    assert command(queue, "resume").stdout == "resumed\n"
    wait_until(lambda: watched.completed() == 4)
    assert command(queue, "resume").stdout == "tasks was not paused\n"


def test_a_process_that_has_run_its_number_of_tasks_is_replaced_and_no_task_is_run_twice(
    start_pool: StartPool, watched: Watched
) -> None:
    pool = start_pool("--max-tasks", "10")
    for round_number in (1, 2, 3):
        for number in range(10):
            watched.submit("note", f"t{round_number}-{number}")
        wait_until(
            lambda done=round_number: pool.log.read_text().count("starting its replacement.") == done, timeout_s=30
        )
    wait_until(lambda: watched.completed() == 30)
    assert len(watched.ran()) == len(set(watched.ran())) == 30
    assert len(set(watched.pids())) == 3
    assert pool.said("ended as planned; starting its replacement.")
    assert not pool.said("restarting it")


def test_a_process_that_is_replaced_lets_its_running_task_finish_beyond_any_grace(
    start_pool: StartPool, queue: Queue, watched: Watched
) -> None:
    watched.submit("gate", "t1")
    watched.submit("note", "t2")
    pool = start_pool("--max-tasks", "2", ZEROLOSS_GRACE_MS="1")
    wait_until(lambda: pool.said("has run 2 tasks; a new process will replace it."), timeout_s=30)
    watched.submit("note", "t3")
    watched.open_gate()
    wait_until(lambda: watched.completed() == 3, timeout_s=30)
    assert sorted(watched.ran()) == ["t1:1", "t2:1", "t3:1"]
    assert watched.passed() == ["t1"]


def test_a_process_that_has_grown_too_large_is_replaced(
    start_pool: StartPool, watched: Watched, tmp_path: Path
) -> None:
    (tmp_path / "hoarding_app.py").write_text(HOARDING_APP)
    for number in range(30):
        watched.submit("hoard", f"t{number}")
    start_pool(
        *("--app", "hoarding_app", "--max-memory", "150", "--threads", "1", "--ahead", "0"),
        PYTHONPATH=f"{ROOT}:{TESTS}:{tmp_path}",
    )
    wait_until(lambda: watched.completed() == 30, timeout_s=60)
    assert sorted(watched.ran()) == sorted(f"t{number}:1" for number in range(30))
    assert len(set(watched.pids())) > 1


@pytest.mark.parametrize("away", ["gone", "hanging"])
def test_a_stop_does_not_wait_for_a_redis_that_is_away_when_nothing_runs(
    start_pool: StartPool, open_own_server: Callable[..., Any], away: str
) -> None:
    server = open_own_server("embedded")
    pool = start_pool("--app", "zeroloss.reference.demo", ZEROLOSS_REDIS_URL=server.url)
    own = Queue(redis.Redis.from_url(server.url), server.url)
    wait_until(lambda: own.client.zcard(own.keys.consumers) == 1, timeout_s=30)
    server.kill() if away == "gone" else server.pause()
    try:
        pool.signal(signal.SIGTERM)
        assert pool.wait(12) == 1, "the grace, which is 25 s, was waited for"
        assert pool.said("Redis does not answer; left to recovery")
    finally:
        if away == "hanging":
            server.resume()


def test_a_stop_while_redis_is_away_lets_what_runs_finish(
    start_pool: StartPool, open_own_server: Callable[..., Any]
) -> None:
    server = open_own_server("embedded")
    own = Queue(redis.Redis.from_url(server.url), server.url)
    own.enqueuer.enqueue_payload(4, task_type="sleep")
    pool = start_pool("--app", "zeroloss.reference.demo", ZEROLOSS_REDIS_URL=server.url)
    wait_until(lambda: own.client.keys(own.keys.processing("*")), timeout_s=30)
    server.kill()
    begun = time.monotonic()
    pool.signal(signal.SIGTERM)
    assert pool.wait(20) == 1
    assert time.monotonic() - begun > 3
