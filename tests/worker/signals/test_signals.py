"""Signals to a pool and to the processes that its handlers start, and the reaping of processes left behind."""

import dataclasses
import json
import signal
import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest
import redis
from support.places import ROOT, TESTS
from support.processes.up import Up
from support.processes.worker_process import STOPPING, Pool, Watched, at_the_gate
from support.queue_fixtures import Queue, ids
from support.waiting import living, wait_until
from zeroloss.reference.queue.connection import connect

StartPool = Callable[..., Pool]
BOTH = [signal.SIGTERM, signal.SIGINT]


@pytest.fixture
def notes(tmp_path: Path) -> Path:
    folder = tmp_path / "notes"
    folder.mkdir()
    return folder


@pytest.fixture
def start_forking(start_pool: StartPool, notes: Path) -> StartPool:
    """Start pools with the handlers of `forking_app`."""

    def start(*arguments: str, **environ: str) -> Pool:
        return start_pool("--app", "support.apps.forking_app", *arguments, NOTES=str(notes), **environ)

    return start


def read(note: Path) -> str:
    wait_until(note.exists, 30, f"nothing was noted as {note.name!r}")
    return note.read_text()


# -- one stop for any number of signals --------------------------------------------------------------------------------


@pytest.mark.parametrize("number", BOTH)
def test_a_signal_to_every_process_of_the_pool_at_once_lets_running_handlers_finish(
    start_forking: StartPool, watched: Watched, notes: Path, number: int
) -> None:
    """systemd and container runtimes signal all processes."""
    for name in ("t1", "t2", "t3"):
        watched.submit("take a while", name)
    pool = start_forking("--processes", "2", "--threads", "2")
    for name in ("t1", "t2", "t3"):
        read(notes / f"begun-{name}")
    for process in [psutil.Process(pool.process.pid), *pool.children()]:
        process.send_signal(number)
    assert pool.wait() == 0
    assert sorted(note.name for note in notes.glob("ended-*")) == ["ended-t1", "ended-t2", "ended-t3"]
    assert watched.completed() == 3


def test_the_same_signal_again_within_a_moment_is_the_same_stop(
    start_forking: StartPool, watched: Watched, notes: Path
) -> None:
    """`timeout` signals the pool twice, and so does a program that forwards a Ctrl-C which the terminal sent to all."""
    watched.submit("take a while", "t1")
    pool = start_forking()
    read(notes / "begun-t1")
    pool.stop(signal.SIGTERM)
    pool.signal(signal.SIGTERM)
    assert pool.wait() == 0
    assert (notes / "ended-t1").exists()


def test_the_same_signal_again_and_again_ends_the_pool_before_its_grace_is_over(
    start_pool: StartPool, queue: Queue, watched: Watched
) -> None:
    pool = at_the_gate(start_pool, watched, "--grace", "600")
    wait_until(lambda: pool.signal(signal.SIGTERM) or pool.process.poll(), 30)
    assert pool.wait() == 128 + signal.SIGTERM
    assert ids(queue.pending()) == ["t1"], "its parent has it recovered"


def test_a_process_of_the_pool_that_was_told_to_stop_before_its_parent_was_still_has_its_grace(
    start_forking: StartPool, watched: Watched, notes: Path
) -> None:
    watched.submit("take a while", "t1")
    pool = start_forking()
    read(notes / "begun-t1")
    child = pool.one_child()
    child.send_signal(signal.SIGINT)
    wait_until(lambda: pool.said(STOPPING))
    child.send_signal(signal.SIGTERM)
    pool.signal(signal.SIGTERM)
    assert pool.wait() == 0
    assert (notes / "ended-t1").exists()
    assert watched.completed() == 1


# -- processes that handlers start -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "task_type, count", [("pool", 100), ("pool with a time-out", 4), ("executor", 10), ("terminate at once", 4)]
)
def test_handlers_may_use_multiprocessing(
    start_forking: StartPool, queue: Queue, watched: Watched, task_type: str, count: int
) -> None:
    for number in range(count):
        watched.submit(task_type, f"t{number}")
    # One thread: with several, multiprocessing may reap another thread's process, whose exit code is then None.
    start_forking("--threads", "1", ZEROLOSS_MAX_RETRIES="0")
    wait_until(lambda: watched.completed() + queue.dead_letters.count() == count, timeout_s=60)
    assert [letter.error for letter in queue.dead_letters.page()] == []


@pytest.mark.parametrize("how", ["fork", "subprocess", "spawn"])
def test_a_process_that_a_handler_starts_has_default_signals_and_none_of_the_workers_sockets(
    start_forking: StartPool, watched: Watched, notes: Path, how: str
) -> None:
    watched.submit("look", "t1", payload=f'"{how}"')
    start_forking()
    child, worker = json.loads(read(notes / "child")), json.loads(read(notes / "worker"))

    def has(process: dict[str, Any], mask: str, number: int) -> bool:
        return bool(int(process[mask], 16) >> (number - 1) & 1)

    assert has(worker, "SigCgt", signal.SIGTERM) and "socket:" in str(worker["files"]), "there is something to inherit"
    assert not [(mask, n) for n in BOTH for mask in ("SigBlk", "SigIgn") if has(child, mask, n)]
    assert not has(child, "SigCgt", signal.SIGTERM)
    assert has(child, "SigCgt", signal.SIGINT) == (how == "fork"), "Python's own, which raises KeyboardInterrupt"
    assert "socket:" not in str(child["files"])


def test_a_killed_worker_is_seen_to_be_gone_though_a_process_that_its_handler_forked_lives_on(
    start_forking: StartPool, queue: Queue, watched: Watched, notes: Path
) -> None:
    """Its closed connections show it: the lease lasts an hour, and the parent is killed first."""
    watched.submit("leave a child behind", "t1")
    hour = {"ZEROLOSS_LEASE_MS": "3600000", "ZEROLOSS_SWEEP_MS": "20"}
    pool = start_forking(**hour)
    orphan = psutil.Process(int(read(notes / "child")))
    try:
        wait_until(lambda: queue.client.hlen(queue.keys.presence) == 1)
        child = pool.one_child()
        pool.process.kill()
        child.kill()
        start_forking(**hour)
        read(notes / "again")
        assert living([orphan])
    finally:
        (notes / "release").touch()
    wait_until(lambda: not living([orphan]))


@pytest.mark.parametrize("how, status", [("return", 0), ("raise", 1)])
def test_a_forked_process_that_leaves_the_handler_ends_and_leaves_the_queue_alone(
    start_forking: StartPool, queue: Queue, watched: Watched, notes: Path, how: str, status: int
) -> None:
    watched.submit("let a child return", "t1", payload=f'"{how}"')
    pool = start_forking("--threads", "1")
    assert int(read(notes / "status")) == status
    assert pool.said("The handler of task t1 forked a process that left the handler")
    assert watched.completed() == 0
    (notes / "release").touch()
    wait_until(lambda: watched.completed() == 1)
    assert (queue.pending(), queue.delayed(), queue.dead()) == ([], [], [])


def test_a_fork_waits_for_connections_that_are_just_being_made_and_none_is_begun_meanwhile(queue: Queue) -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full, socket.create_connection(full.getsockname()):
        config = dataclasses.replace(queue.config, redis_url=f"redis://127.0.0.1:{full.getsockname()[1]}")
        client = connect(config)
        pool: Any = client.connection_pool

        def ping() -> None:
            with suppress(redis.RedisError):
                client.ping()

        threads = [threading.Thread(target=ping), threading.Thread(target=ping)]
        threads[0].start()
        wait_until(lambda: pool.gate.making == 1)
        shut = threading.Thread(target=pool.gate.shut)
        shut.start()
        wait_until(lambda: pool.gate.closed)
        threads[1].start()
        wait_until(lambda: len(pool._connections) == 2)
        assert pool.sockets() == [] and shut.is_alive()
        accepted = [full.accept()[0], full.accept()[0]]
        shut.join()
        (made,) = pool.sockets()
        assert made.getpeername() == full.getsockname()
        pool.gate.open()
        accepted.append(full.accept()[0])
        for connection in accepted:
            connection.close()
        for thread in threads:
            thread.join()


# -- processes that are left behind ----------------------------------------------------------------------------------

SUBREAPER = """
import ctypes, sys
PR_SET_CHILD_SUBREAPER = 36
if "worker" in sys.orig_argv:
    assert ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0
"""
"""Makes the pool's parent adopt its orphaned descendants, as PID 1 of a container does."""


def test_processes_that_handlers_leave_behind_are_reaped_and_dead_workers_still_noticed(
    start_forking: StartPool, watched: Watched, notes: Path, tmp_path: Path
) -> None:
    (tmp_path / "sitecustomize.py").write_text(SUBREAPER)
    names = [f"t{number}" for number in range(10)]
    for name in names:
        watched.submit("leave a process in the background", name)
    pool = start_forking("--processes", "2", PYTHONPATH=f"{tmp_path}:{ROOT}:{TESTS}")
    left = [psutil.Process(int(read(notes / f"background-{name}"))) for name in names]
    wait_until(lambda: {process.ppid() for process in left} == {pool.process.pid})
    workers = [process for process in pool.children() if process not in left]
    for process in [*left, *workers]:
        process.kill()
    wait_until(lambda: not [process for process in [*left, *workers] if process.is_running()], message="zombies")
    wait_until(lambda: pool.log.read_text().count("ended with status -9; restarting it") == 2)
    wait_until(lambda: len(pool.children()) == 2)


def test_up_reaps_what_handlers_leave_behind(tmp_path: Path, notes: Path) -> None:
    environ = {"PYTHONPATH": f"{ROOT}:{TESTS}", "NOTES": str(notes)}
    inherit = "import ctypes; ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)"
    system = Up(tmp_path / "up.log", "--app", "support.apps.forking_app", before=inherit, **environ)
    try:
        system.started().post(type="leave a process in the background", payload=None, id="t1")
        left = psutil.Process(int(read(notes / "background-t1")))
        wait_until(lambda: left.ppid() == system.process.pid)
        left.kill()
        wait_until(lambda: not left.is_running(), message="a zombie")
    finally:
        system.end()
