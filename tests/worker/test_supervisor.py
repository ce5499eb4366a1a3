"""The parent of a pool: death of a child, death of the parent."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
from support.places import ROOT, TESTS
from support.processes.worker_process import SLOW_APP, STOPPING, Pool, Watched, at_the_gate
from support.queue_fixtures import Queue, ids
from support.waiting import SIGNAL_IN_A_WAIT, living, wait_until
from zeroloss.reference import __version__
from zeroloss.reference.queue.config import Config
from zeroloss.reference.signals import STOP_SIGNALS
from zeroloss.reference.worker import supervisor as supervisors
from zeroloss.reference.worker.supervisor import CALM_S, NEVER_STARTED_STATUS, STARTS_MAX, Supervisor

StartPool = Callable[..., Pool]
QUICK = "from zeroloss.reference.worker import supervisor; supervisor.RESTART_MAX_S = 0.02"
UNLUCKY_APP = """
import os
from support.apps import worker_app
from zeroloss.reference import handler

@handler("unlucky")
def end_the_process_as_a_usage_error_does(task):
    os._exit(2)
"""


def test_a_killed_child_is_restarted_and_its_task_recovered_without_waiting_for_the_lease(
    start_pool: StartPool, watched: Watched
) -> None:
    """The recovery does not wait for the presence check either, which is off here."""
    pool = at_the_gate(start_pool, watched, ZEROLOSS_LEASE_MS="3600000", ZEROLOSS_ABSENCE_MS="0")
    pool.one_child().send_signal(signal.SIGKILL)
    wait_until(lambda: watched.ran() == ["t1:1", "t1:2"], message="an hour's lease was waited for")
    watched.open_gate()
    wait_until(lambda: watched.completed() == 1)


def test_a_task_that_ends_its_worker_with_the_status_of_a_usage_error_stops_neither_pool_nor_others(
    start_pool: StartPool, queue: Queue, watched: Watched, tmp_path: Path
) -> None:
    (tmp_path / "unlucky_app.py").write_text(UNLUCKY_APP)
    watched.submit("unlucky", "unlucky")
    for number in range(20):
        watched.submit("note", f"t{number}")
    path = f"{ROOT}:{TESTS}:{tmp_path}"
    pool = start_pool(
        "--app", "unlucky_app", "--processes", "2", PYTHONPATH=path, ZEROLOSS_MAX_RECOVERIES="3", ZEROLOSS_SWEEP_MS="20"
    )
    wait_until(lambda: pool.process.poll() or queue.dead_letters.count() == 1, timeout_s=30)
    wait_until(lambda: pool.process.poll() or watched.completed() == 20)
    assert pool.process.poll() is None
    assert "vanished 4 times" in queue.dead_letters.page()[0].error


def test_a_child_that_cannot_be_started_is_started_later(start_pool: StartPool, watched: Watched) -> None:
    """Here the parent cannot open another file. It may also run out of memory or processes."""
    watched.submit("note", "t1")
    pool = start_pool(ZEROLOSS_SWEEP_MS="20")
    wait_until(lambda: watched.completed() == 1, 30)
    parent, child = psutil.Process(pool.process.pid), pool.one_child()
    before = parent.rlimit(psutil.RLIMIT_NOFILE)
    parent.rlimit(psutil.RLIMIT_NOFILE, (0, before[1]))
    child.kill()
    wait_until(lambda: pool.process.poll() or pool.said("Too many open files; trying again"))
    assert pool.process.poll() is None
    parent.rlimit(psutil.RLIMIT_NOFILE, before)
    watched.submit("note", "t2")
    wait_until(lambda: watched.completed() == 2, 30)


@pytest.mark.parametrize("named_by", ["--redis", "REDIS_URL", "ZEROLOSS_REDIS_URL"])
def test_no_child_shows_the_password_of_the_server_in_the_list_of_processes(
    start_pool: StartPool, queue: Queue, watched: Watched, named_by: str
) -> None:
    queue.client.acl_setuser(
        "app", enabled=True, passwords=["+open-sesame"], keys="*", channels="*", commands=["+@all"]
    )
    url = queue.config.redis_url.replace("//", "//app:open-sesame@")
    try:
        watched.submit("note", "t1")
        if named_by == "--redis":
            pool = start_pool("--redis", url, ZEROLOSS_REDIS_URL="redis://127.0.0.1:1")
        else:
            pool = start_pool(**{named_by: url})
        wait_until(lambda: watched.completed() == 1, 30)
        wait_until(lambda: [c["user"] for c in queue.client.client_list() if c["cmd"] == "subscribe"] == ["app"])
        assert not [word for word in pool.one_child().cmdline() if "open-sesame" in word]
        assert not pool.said("open-sesame")
    finally:
        queue.client.acl_deluser("app")


def test_a_pool_whose_every_process_was_killed_is_recovered_by_another_after_the_lease(
    start_pool: StartPool, watched: Watched
) -> None:
    watched.submit("gate", "t1")
    lease = {"ZEROLOSS_LEASE_MS": "600", "ZEROLOSS_RENEW_MS": "100", "ZEROLOSS_SWEEP_MS": "50"}
    pool = start_pool(**lease)
    watched.wait_for("t1:1")
    pool.end()
    start_pool(**lease)
    wait_until(lambda: watched.ran() == ["t1:1", "t1:2"])


def test_a_child_whose_parent_was_killed_stops_by_itself_and_loses_nothing(
    start_pool: StartPool, queue: Queue, watched: Watched
) -> None:
    pool = at_the_gate(start_pool, watched)
    child = pool.one_child()
    pool.process.kill()
    pool.wait()
    watched.open_gate()
    wait_until(lambda: not living([child]))
    assert watched.passed() == ["t1"]
    assert queue.client.zcard(queue.keys.consumers) == 0


def test_a_signal_ends_parent_and_child_at_whatever_moment_it_comes(
    start_pool: Callable[..., Pool], watched: Watched, tmp_path: Path
) -> None:
    (tmp_path / "sitecustomize.py").write_text(SIGNAL_IN_A_WAIT)
    watched.submit("note", "t1")
    pool = start_pool(PYTHONPATH=f"{tmp_path}:{ROOT}:{TESTS}")
    wait_until(lambda: watched.completed() == 1, 30)
    pool.signal(signal.SIGTERM)
    assert pool.wait() == 0


def test_a_child_whose_parent_was_killed_before_it_had_begun_stops_by_itself_too(
    start_pool: StartPool, tmp_path: Path
) -> None:
    (tmp_path / "slow_app.py").write_text(SLOW_APP)
    pool = start_pool("--app", "slow_app", PYTHONPATH=f"{ROOT}:{tmp_path}", APP_IS_THERE=str(tmp_path / "there"))
    child = pool.one_child()
    wait_until(lambda: pool.said("importing"))
    pool.process.kill()
    pool.wait()
    (tmp_path / "there").touch()
    wait_until(lambda: not living([child]))
    assert pool.said("The parent process is gone; this worker stops.")


@pytest.mark.law("I3")
def test_a_worker_that_is_paused_past_its_lease_comes_back_and_harms_nobody(
    start_pool: StartPool, queue: Queue, watched: Watched
) -> None:
    lease = {"ZEROLOSS_LEASE_MS": "400", "ZEROLOSS_RENEW_MS": "100", "ZEROLOSS_SWEEP_MS": "50"}
    watched.submit("gate", "t1")
    paused = start_pool("--threads", "1", **lease)
    watched.wait_for("t1:1")
    everyone = [psutil.Process(paused.process.pid), paused.one_child()]
    for process in everyone:
        process.suspend()
    start_pool("--threads", "1", **lease)
    wait_until(lambda: watched.ran() == ["t1:1", "t1:2"])
    for process in everyone:
        process.resume()
    watched.open_gate()
    wait_until(lambda: sorted(watched.passed()) == ["t1", "t1"] and watched.completed() >= 1)
    watched.submit("note", "t2")
    watched.submit("note", "t3")
    wait_until(lambda: watched.completed() == 3, message="one completion for each task, none for the zombie")
    assert queue.pending() == []


def test_several_processes_share_the_work(start_pool: StartPool, watched: Watched) -> None:
    for number in range(4):
        watched.submit("gate", f"t{number}")
    pool = start_pool("--processes", "2", "--threads", "2")
    wait_until(lambda: len(watched.ran()) == 4)
    assert set(watched.pids()) == {child.pid for child in pool.children()}
    watched.open_gate()


def test_an_application_that_cannot_be_imported_ends_the_parent_with_one_sentence(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "zeroloss.reference", "worker", "--app", "no.such.module"]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=30, check=False)
    assert ended.returncode == 2
    assert "--app no.such.module" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_pool_whose_application_cannot_be_imported_ends_after_ten_tries_with_a_status_and_a_sentence(
    start_pool: StartPool, tmp_path: Path
) -> None:
    (tmp_path / "broken_app.py").write_text("import a_library_that_is_not_installed\n")
    pool = start_pool("--app", "broken_app", before=QUICK, PYTHONPATH=f"{ROOT}:{tmp_path}")
    assert pool.wait(60) == NEVER_STARTED_STATUS
    assert pool.log.read_text().count("ended with status 1") == STARTS_MAX == 10
    assert pool.said("This pool ends: its processes died at their start 10 times in a row, the last with status 1.")
    assert pool.said("No module named 'a_library_that_is_not_installed'")


def test_tasks_that_kill_their_worker_one_after_the_other_do_not_end_the_pool(
    start_pool: StartPool, queue: Queue, watched: Watched
) -> None:
    for number in range(STARTS_MAX + 2):
        watched.submit("poison", f"t{number}")
    watched.submit("note", "last")
    pool = start_pool("--threads", "1", "--ahead", "0", before=QUICK, ZEROLOSS_MAX_RECOVERIES="0")
    wait_until(lambda: pool.process.poll() or watched.completed() == 1, timeout_s=60)
    assert pool.process.poll() is None
    assert queue.dead_letters.count() == STARTS_MAX + 2
    assert pool.log.read_text().count("ended with status 9") == STARTS_MAX + 2


def lives(says: str) -> list[str]:
    """Return the command of a child that writes this text to its parent and dies."""
    return ["sh", "-c", f"printf '%b' '{says}' > /dev/fd/$6; exit 1", "sh"]


@pytest.mark.parametrize(
    ("says", "lived_s", "failed"),
    [
        ("", 0.1, True),
        ("", CALM_S, True),
        ("\\n", 0.1, True),
        ("\\n", CALM_S, False),
        ("\\nw", 0.1, False),
    ],
    ids=["not loaded", "not loaded for long", "loaded", "loaded and alive for long", "at work"],
)
def test_a_process_died_at_its_start_if_it_loaded_no_handlers_or_ended_soon_and_had_begun_no_task(
    queue: Queue, monkeypatch: pytest.MonkeyPatch, says: str, lived_s: float, failed: bool
) -> None:
    now_s = 100.0
    monkeypatch.setattr(supervisors, "time", SimpleNamespace(monotonic=lambda: now_s))
    supervisor = Supervisor(queue.config, lives(says), processes=1)
    (child,) = supervisor._children
    child.failed_starts = 7
    supervisor._tend(child)
    assert child.process
    child.process.wait(30)
    now_s += lived_s
    child.restart_at = now_s + 1
    supervisor._tend(child)
    assert child.failed_starts == (8 if failed else 0)
    if child.process:
        child.process.wait(30)


def test_a_pool_goes_on_while_one_of_its_processes_has_not_died_at_its_start(queue: Queue) -> None:
    supervisor = Supervisor(queue.config, ["false"], processes=2)
    one, other = supervisor._children
    one.failed_starts, other.failed_starts = STARTS_MAX + 5, STARTS_MAX - 1
    assert not supervisor._never_starts()
    other.failed_starts += 1
    assert supervisor._never_starts()


def test_a_pool_says_in_one_line_at_its_start_what_it_serves(
    start_pool: StartPool, queue: Queue, watched: Watched
) -> None:
    """The line is logged once, not for each process or restart."""
    queue.client.acl_setuser(
        "app", enabled=True, passwords=["+open-sesame"], keys="*", channels="*", commands=["+@all"]
    )
    url = queue.config.redis_url.replace("//", "//app:open-sesame@")
    try:
        pool = start_pool("--processes", "2", "--threads", "3", REDIS_URL=url)
        wait_until(lambda: len(queue.client.zrange(queue.keys.consumers, 0, -1)) == 2, 30)
        first = set(queue.client.zrange(queue.keys.consumers, 0, -1))
        watched.submit("poison", "t1")
        wait_until(lambda: pool.said("ended with status 9"))
        wait_until(lambda: set(queue.client.zrange(queue.keys.consumers, 0, -1)) - first, 30)
    finally:
        queue.client.acl_deluser("app")
    (line,) = [line for line in pool.log.read_text().splitlines() if "Serving" in line]
    assert line.endswith(
        f"Serving: zeroloss.reference {__version__}, {queue.config.redis_url}, namespace tasks, handlers flood, gate, "
        "hang, leave, note, poison, print, raise, 2 processes x 3 threads."
    )
    assert not pool.said("open-sesame")


def test_a_pool_of_no_processes_is_refused() -> None:
    command = [
        sys.executable,
        "-m",
        "zeroloss.reference",
        "worker",
        "--app",
        "support.apps.worker_app",
        "--processes",
        "0",
    ]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=30, check=False)
    assert ended.returncode == 2
    assert "--processes must be at least 1" in ended.stderr


def test_the_children_give_back_in_one_list_each(start_pool: StartPool, queue: Queue, watched: Watched) -> None:
    pool = at_the_gate(start_pool, watched, "--processes", "2")
    holders = list(queue.client.scan_iter("tasks:processing:*"))
    assert len(holders) == 1
    assert ids(queue.held(holders[0].decode().removeprefix("tasks:processing:"))) == ["t1"]
    watched.open_gate()
    pool.signal(signal.SIGTERM)
    assert pool.wait() == 0


def test_a_child_that_does_not_end_within_the_grace_is_killed_and_what_it_held_is_recovered(
    start_pool: StartPool, queue: Queue, watched: Watched
) -> None:
    pool = at_the_gate(start_pool, watched, "--grace", "0.2")
    pool.one_child().suspend()
    pool.signal(signal.SIGTERM)
    assert pool.wait() == signal.SIGKILL
    assert ids(queue.pending()) == ["t1"]


def test_a_child_that_dies_of_the_signal_itself_had_begun_nothing_and_is_not_a_failure(queue: Queue) -> None:
    supervisor = Supervisor(queue.config, [sys.executable, "-c", "import time; time.sleep(60)"], processes=1)
    supervisor._tend(*supervisor._children)
    assert supervisor._stop() == 0


def test_a_signal_that_comes_while_the_processes_start_is_obeyed_before_the_next_one(
    queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The choice of a shard for each may take seconds."""
    chosen = []

    def choose(attended: list[str]) -> Config:
        chosen.append(attended)
        signal.raise_signal(signal.SIGTERM)
        return queue.config

    balance: Any = SimpleNamespace(choose=choose, relocation=lambda _attended: None)
    monkeypatch.setattr(supervisors, "reap_orphans", lambda _own: None)  # they are this process's children
    command = [sys.executable, "-c", "import time; time.sleep(60)"]
    before = {number: signal.getsignal(number) for number in STOP_SIGNALS}
    try:
        assert Supervisor(queue.config, command, processes=3, balance=balance).run() == 0
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    assert chosen == [[]]


def test_ctrl_c_in_a_terminal_reaches_each_child_once_and_what_runs_is_finished(
    start_pool: StartPool, watched: Watched
) -> None:
    pool = at_the_gate(start_pool, watched)
    os.killpg(pool.process.pid, signal.SIGINT)  # a terminal signals the whole foreground group
    wait_until(lambda: pool.said(STOPPING))
    watched.open_gate()
    assert pool.wait() == 0
    assert watched.completed() == 1


def test_a_child_that_always_dies_at_once_is_restarted_ever_later_until_one_has_lived_for_long(
    queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only the clock is simulated: real processes die."""
    now_s = 100.0
    monkeypatch.setattr(supervisors, "time", SimpleNamespace(monotonic=lambda: now_s))
    supervisor = Supervisor(queue.config, ["false"], processes=1)
    (child,) = supervisor._children
    pauses_s, names = [], set()
    for lived_s in (0.0, 0.1, 4.9, 0.1, 0.1, 0.1, 0.1, 5.0, 0.1, 0.1):
        assert child.process or supervisor._tend(child) is None
        assert child.process
        names.add(child.name)
        child.process.wait(30)
        now_s += lived_s
        assert supervisor._tend(child) == 1
        pauses_s.append(round(child.restart_at - now_s, 3))
        if pauses_s[-1]:
            now_s = child.restart_at - 0.01
            supervisor._tend(child)
            assert child.process is None
            now_s = child.restart_at
    assert pauses_s == [0.0, 0.0, 0.8, 1.6, 3.2, 5.0, 5.0, 0.0, 0.0, 0.0]
    assert len(names) == 10, "a name is never used twice"
    assert child.process
    child.process.wait(30)
