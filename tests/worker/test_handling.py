"""Settings of one task type (retries, time limit, payload), async handlers, and `around`."""

import os
import signal
import time
from collections.abc import Callable
from typing import Any

import pytest
from support.processes.worker_process import Pool, Watched
from support.queue_fixtures import Queue, ids
from support.waiting import living, wait_until
from zeroloss.reference.worker.process import CANCEL_S

StartPool = Callable[..., Pool]
QUICK = {"ZEROLOSS_BACKOFF_MS": "1", "ZEROLOSS_BACKOFF_MAX_MS": "2", "ZEROLOSS_SWEEP_MS": "20"}


@pytest.fixture
def start(start_pool: StartPool) -> StartPool:
    def started(*arguments: str, **environ: Any) -> Pool:
        return start_pool("--app", "support.apps.handling_app", *arguments, **environ)

    return started


def reason(queue: Queue) -> str:
    """Return the error of the only dead letter."""
    wait_until(lambda: queue.dead_letters.count() == 1, timeout_s=30)
    return queue.dead_letters.page()[0].error


@pytest.mark.law("I5")
def test_a_type_s_own_number_of_retries_holds_for_its_tasks_alone(
    start: StartPool, queue: Queue, watched: Watched
) -> None:
    watched.submit("once", "t1")
    watched.submit("thrice", "t2")
    start(**QUICK)
    wait_until(lambda: queue.dead_letters.count() == 2, timeout_s=30)
    ran = [note.partition(":")[0] for note in watched.ran()]
    assert (ran.count("t1"), ran.count("t2")) == (1, 3)


def test_a_type_s_own_backoff_holds_for_its_tasks_alone(start: StartPool, queue: Queue, watched: Watched) -> None:
    watched.submit("later", "t1")
    start(**QUICK)
    wait_until(lambda: ids(queue.delayed()) == ["t1"], timeout_s=30)
    ((_element, due_ms),) = queue.client.zrange(queue.keys.delayed, 0, -1, withscores=True)
    assert 1_700 < due_ms / 1000 - time.time() <= 3_600


@pytest.mark.law("I5")
def test_a_handler_that_asks_for_a_retry_says_when_and_within_the_retries(
    start: StartPool, queue: Queue, watched: Watched
) -> None:
    watched.submit("busy", "t1", payload="1800.5")
    watched.submit("busy", "t2", payload="0")
    pool = start(ZEROLOSS_MAX_RETRIES="1", ZEROLOSS_SWEEP_MS="20")
    assert reason(queue) == "Retry: rate limited"
    assert [note for note in watched.ran() if note.startswith("t2")] == ["t2:1", "t2:2"]
    ((_element, due_ms),) = queue.client.zrange(queue.keys.delayed, 0, -1, withscores=True)
    assert 1_700 < due_ms / 1000 - time.time() <= 1_800.5, "without jitter"
    assert pool.said("Task t1 of type busy, attempt 1, will be retried: Retry: rate limited\n")


@pytest.mark.law("I5")
def test_a_rejected_task_is_dead_lettered_at_its_first_attempt_with_the_reason(
    start: StartPool, queue: Queue, watched: Watched
) -> None:
    watched.submit("reject", "t1")
    start(**QUICK)
    assert reason(queue) == "Reject: no such user"
    assert watched.ran() == ["t1:1"]
    assert queue.counters()["failed"] == 1


def test_a_type_s_own_time_limit_holds_for_its_tasks_alone(start: StartPool, queue: Queue, watched: Watched) -> None:
    watched.submit("slow", "t1")
    pool = start(**QUICK)
    wait_until(lambda: watched.completed() == 1, timeout_s=30)
    assert pool.said("It ran past its time limit of 300 ms.")
    assert watched.ran() == ["t1:1", "t1:2"]


def test_a_typed_handler_gets_the_payload_as_its_struct(start: StartPool, watched: Watched) -> None:
    watched.submit("email", "t1", payload='{"to": "a@b.c", "attachments": [{"size": 3}, {"size": 4, "more": 1}]}')
    watched.submit("async email", "t2", payload='{"to": "a@b.c"}')
    start()
    wait_until(lambda: watched.completed() == 2, timeout_s=30)
    notes = {note.decode() for note in watched.queue.client.lrange("ran", 0, -1)}
    assert notes == {"t1:1:to a@b.c, 7 bytes", "t2:1:to a@b.c, on _UnixSelectorEventLoop, within t2"}


@pytest.mark.law("I5")
@pytest.mark.parametrize("task_type", ["email", "async email"])
@pytest.mark.parametrize(
    ("payload", "wrong"),
    [
        (
            '{"to": "a", "attachments": [{"size": 1}, {"size": "big"}]}',
            "Expected `int`, got `str` - at `$.attachments[1].size`",
        ),
        ("{}", "Object missing required field `to`"),
        ("null", "Expected `object`, got `null`"),
    ],
    ids=["a field", "a missing one", "no object"],
)
def test_a_payload_that_does_not_fit_is_dead_lettered_with_the_path_and_its_handler_does_not_run(
    start: StartPool, queue: Queue, watched: Watched, task_type: str, payload: str, wrong: str
) -> None:
    watched.submit(task_type, "t1", payload=payload)
    start(**QUICK)
    assert reason(queue) == f"Reject: The payload is not a valid Email: {wrong}."
    assert watched.ran() == []


def test_async_handlers_run_beside_each_other_each_in_a_thread_s_place(
    start: StartPool, queue: Queue, watched: Watched
) -> None:
    for mine, other in (("t1", "t2"), ("t2", "t1"), ("t3", "t4")):
        watched.submit("meet", mine, payload=f'"{other}"')
    start("--threads", "2")
    wait_until(lambda: watched.completed() == 2, timeout_s=30)
    wait_until(lambda: sorted(watched.ran()) == ["t1:1", "t2:1", "t3:1"])
    watched.submit("plain", "t5")
    wait_until(lambda: watched.completed() == 3)
    watched.submit("meet", "t4", payload='"t3"')
    wait_until(lambda: watched.completed() == 5)


def test_an_async_handler_is_cancelled_at_its_time_limit_and_its_process_goes_on(
    start: StartPool, queue: Queue, watched: Watched
) -> None:
    watched.submit("async slow", "t1")
    pool = start(**QUICK)
    wait_until(lambda: watched.completed() == 1, timeout_s=30)
    assert watched.ran() == ["t1:1", "t1:2"]
    assert len(set(watched.pids())) == 1
    assert queue.client.lrange("cancelled", 0, -1) == [b"t1"]
    assert pool.said("attempt 1, will be retried: RanTooLong: It ran past its time limit of 300 ms.\n")
    assert pool.said("in sleep_long\n"), "where it was cancelled"


def test_an_async_handler_that_cannot_be_cancelled_hangs_and_its_process_is_restarted(
    start: StartPool, watched: Watched
) -> None:
    watched.submit("async stuck", "t1")
    pool = start(ZEROLOSS_GRACE_MS="1000", **QUICK)
    wait_until(lambda: watched.completed() == 1, timeout_s=30)
    assert pool.said("Task t1 hangs: it ran past 300 ms. This process ends.")
    assert len(set(watched.pids())) == 2


@pytest.mark.law("I3")
def test_a_process_that_was_stopped_beyond_both_time_limits_of_a_coroutine_fails_its_task_once(
    start: StartPool, queue: Queue, watched: Watched
) -> None:
    """Its loop and its main thread both find the task late, at the same moment."""
    pool = start(**QUICK)
    for tried in range(1, 3):
        watched.submit("async slow", f"t{tried}")
        wait_until(lambda name=f"t{tried}:1": name in watched.ran(), timeout_s=30)
        pid = watched.pids()[-1]
        os.kill(pid, signal.SIGSTOP)
        time.sleep(0.3 + CANCEL_S + 0.2)
        os.kill(pid, signal.SIGCONT)
        wait_until(lambda count=tried: watched.completed() == count, timeout_s=30)
        assert watched.ran()[-2:] == [f"t{tried}:1", f"t{tried}:2"]
    assert queue.counters()["retried"] == 2
    assert not pool.said("was recovered")


def test_sys_exit_in_an_async_handler_fails_its_task_and_the_loop_goes_on(
    start: StartPool, queue: Queue, watched: Watched
) -> None:
    watched.submit("async leave", "t1")
    start("--threads", "1", **QUICK)
    assert reason(queue) == "SystemExit: 3"
    watched.submit("async email", "t2", payload='{"to": "a@b.c"}')
    wait_until(lambda: watched.completed() == 1)


def test_an_async_handler_that_returns_in_a_forked_child_ends_the_child(
    start: StartPool, queue: Queue, watched: Watched
) -> None:
    watched.submit("async fork", "t1")
    pool = start()
    wait_until(lambda: len(watched.ran()) == 2 and watched.completed() == 1, timeout_s=30)
    worker = pool.one_child()
    wait_until(lambda: not living(worker.children()), message="the forked process goes on")
    watched.submit("plain", "t2")
    wait_until(lambda: watched.completed() == 2)
    assert watched.ran() == ["t1:1", "t1:1", "t2:1"]


def test_the_function_around_a_handler_sees_its_end_and_its_error(
    start: StartPool, queue: Queue, watched: Watched
) -> None:
    watched.submit("plain", "t1")
    watched.submit("once", "t2")
    watched.submit("async email", "t3", payload='{"to": "a@b.c"}')
    start("--threads", "1")
    wait_until(lambda: queue.client.llen("around") == 3, timeout_s=30)
    assert queue.client.lrange("around", 0, -1) == [b"t1 done", b"t2 ValueError", b"t3 done"]
    assert reason(queue) == "ValueError: no"


@pytest.mark.law("I2")
def test_a_task_whose_handler_was_not_called_by_what_stands_around_it_has_failed(
    start: StartPool, queue: Queue, watched: Watched
) -> None:
    watched.submit("not called", "t1")
    start(ZEROLOSS_MAX_RETRIES="0")
    assert reason(queue) == "QueueError: The function registered with @around did not call the handler."
    assert watched.ran() == []


def test_a_traceback_begins_with_the_application_s_own_frames(start: StartPool, queue: Queue, watched: Watched) -> None:
    watched.submit("once", "t1")
    start()
    reason(queue)
    assert queue.dead_letters.page()[0].traceback.splitlines()[0].endswith("in surround")
