"""What signals do to a pool and to the processes that its handlers start; who buries the processes left behind."""

import signal
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from queue_fixtures import Queue, ids
from support import wait_until
from worker_process import STOPPING, Pool, Watched

StartPool = Callable[..., Pool]
BOTH = [signal.SIGTERM, signal.SIGINT]


@pytest.fixture
def notes(tmp_path: Path) -> Path:
    folder = tmp_path / "notes"
    folder.mkdir()
    return folder


@pytest.fixture
def start_forking(start_pool: StartPool, notes: Path) -> StartPool:
    """A pool whose handlers are those of `forking_app`."""

    def start(*arguments: str, **environ: str) -> Pool:
        return start_pool("--app", "forking_app", *arguments, NOTES=str(notes), **environ)

    return start


def read(note: Path) -> str:
    wait_until(note.exists, 30, f"nothing was noted as {note.name!r}")
    return note.read_text()


# -- one stop, however often it is signalled -------------------------------------------------------------------------


@pytest.mark.parametrize("number", BOTH)
def test_a_signal_to_every_process_of_the_pool_at_once_lets_running_handlers_finish(
    start_forking: StartPool, watched: Watched, notes: Path, number: int
) -> None:
    """As systemd does it, and a container's runtime."""
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
    """`timeout`, and whoever passes on a Ctrl-C that reached all of the terminal, signals the pool twice."""
    watched.submit("take a while", "t1")
    pool = start_forking()
    read(notes / "begun-t1")
    pool.signal(signal.SIGTERM)
    wait_until(lambda: pool.said(STOPPING))
    pool.signal(signal.SIGTERM)
    assert pool.wait() == 0
    assert (notes / "ended-t1").exists()


def test_the_same_signal_again_and_again_ends_the_pool_before_its_grace_is_over(
    start_pool: StartPool, queue: Queue, watched: Watched
) -> None:
    watched.submit("gate", "t1")
    pool = start_pool("--grace", "600")
    watched.wait_for("t1:1")
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
