"""Worker processes, with real processes and signals: the tasks they run, the faults they survive, their ends."""

import signal
from collections.abc import Callable

import pytest
from support.processes.worker_process import STOPPING, Pool, Watched, at_the_gate
from support.queue_fixtures import Queue, ids
from support.waiting import wait_until

StartPool = Callable[..., Pool]


QUICK = {"ZEROLOSS_BACKOFF_MS": "1", "ZEROLOSS_BACKOFF_MAX_MS": "2", "ZEROLOSS_SWEEP_MS": "20"}


def test_a_task_is_run_once_and_acked(start_pool: StartPool, queue: Queue, watched: Watched) -> None:
    watched.submit("note", "t1")
    start_pool()
    wait_until(lambda: watched.completed() == 1)
    assert watched.ran() == ["t1:1"]
    assert queue.pending() == []


def test_a_task_that_arrives_while_the_worker_is_idle_is_run(start_pool: StartPool, watched: Watched) -> None:
    watched.submit("note", "t1")
    start_pool()
    wait_until(lambda: watched.completed() == 1)
    watched.submit("note", "t2")
    wait_until(lambda: watched.completed() == 2)


@pytest.mark.law("I7")
def test_one_thread_runs_tasks_in_the_order_in_which_they_were_accepted(
    start_pool: StartPool, watched: Watched
) -> None:
    for number in range(200):
        watched.submit("note", f"t{number}")
    start_pool("--threads", "1")
    wait_until(lambda: watched.completed() == 200)
    assert watched.ran() == [f"t{number}:1" for number in range(200)]


@pytest.mark.law("I5")
def test_a_handler_that_keeps_raising_is_retried_three_times_and_then_dead_lettered_with_the_reason(
    start_pool: StartPool, queue: Queue, watched: Watched
) -> None:
    watched.submit("raise", "bad", payload='"x"')
    watched.submit("note", "good")
    start_pool(**QUICK)
    wait_until(lambda: queue.dead_letters.count() == 1)
    wait_until(lambda: watched.completed() == 1)
    assert [note for note in watched.ran() if note.startswith("bad")] == ["bad:1", "bad:2", "bad:3", "bad:4"]
    assert queue.dead_letters.page()[0].error == "ValueError: no good: x"


def test_a_failed_task_is_logged_with_its_type_id_attempt_and_traceback_at_each_attempt(
    start_pool: StartPool, queue: Queue, watched: Watched
) -> None:
    watched.submit("raise", "bad", payload='"x"')
    pool = start_pool(ZEROLOSS_MAX_RETRIES="1", **QUICK)
    wait_until(lambda: queue.dead_letters.count() == 1)
    wait_until(lambda: pool.said("dead-letter list"))
    assert pool.said("Task bad of type raise, attempt 1, will be retried: ValueError: no good: x\n")
    assert pool.said("Task bad of type raise, attempt 2, goes to the dead-letter list: ValueError: no good: x\n")
    where = '    raise ValueError(f"no good: {task.payload}")\n    ValueError: no good: x\n'
    assert pool.log.read_text().count(where) == 2
    (letter,) = queue.dead_letters.page()
    assert "in always_raise\n" in letter.traceback
    assert letter.traceback.endswith("\nValueError: no good: x")


def test_the_text_of_an_error_neither_forges_nor_floods_the_log_or_the_dead_letter(
    start_pool: StartPool, queue: Queue, watched: Watched
) -> None:
    watched.submit("flood", "bad")
    pool = start_pool(**QUICK)
    wait_until(lambda: queue.dead_letters.count() == 1, timeout_s=30)
    wait_until(lambda: pool.said("dead-letter list"))
    lines = pool.log.read_text().splitlines()
    assert not [line for line in lines if line.startswith("2026-01-01")]
    assert len("".join(lines)) < 50_000
    assert len(queue.dead()[0]) < 10_000
    assert queue.dead_letters.page()[0].error.startswith(r"Flooding: \n2026-01-01 INFO forged\n2026")


def test_a_handler_that_calls_sys_exit_has_failed_and_its_thread_goes_on(
    start_pool: StartPool, queue: Queue, watched: Watched
) -> None:
    watched.submit("leave", "bad")
    watched.submit("note", "good")
    start_pool("--threads", "1", **QUICK)
    wait_until(lambda: queue.dead_letters.count() == 1 and watched.completed() == 1)
    assert queue.dead_letters.page()[0].error == "SystemExit: 3"


@pytest.mark.law("I2")
def test_a_task_of_an_unknown_type_is_dead_lettered_with_the_reason(
    start_pool: StartPool, queue: Queue, watched: Watched
) -> None:
    watched.submit("nonsense", "bad")
    watched.submit("note", "good")
    start_pool()
    wait_until(lambda: watched.completed() == 1)
    assert queue.dead_letters.page()[0].error == "No handler is registered for type 'nonsense'."


@pytest.mark.law("I2")
def test_an_element_that_is_not_a_task_is_dead_lettered_as_it_is(
    start_pool: StartPool, queue: Queue, watched: Watched
) -> None:
    queue.push(b"\xff{")
    watched.submit("note", "good")
    start_pool()
    wait_until(lambda: watched.completed() == 1)
    assert queue.dead() == [b"\xff{"]


@pytest.mark.law("I5")
def test_a_task_that_keeps_killing_its_worker_is_dead_lettered_and_takes_no_other_with_it(
    start_pool: StartPool, queue: Queue, watched: Watched
) -> None:
    watched.submit("poison", "poison")
    for number in range(20):
        watched.submit("note", f"t{number}")
    start_pool(ZEROLOSS_MAX_RECOVERIES="3", **QUICK)
    wait_until(lambda: watched.completed() == 20 and queue.dead_letters.count() == 1, timeout_s=30)
    assert "vanished 4 times" in queue.dead_letters.page()[0].error


def test_a_suspect_task_is_run_with_nothing_beside_it(start_pool: StartPool, queue: Queue, watched: Watched) -> None:
    watched.submit("gate", "suspect")
    for _ in range(2):
        queue.claim(queue.consumer("victim"))
        queue.kill(queue.consumer("victim"))
    for number in range(3):
        watched.submit("note", f"t{number}")
    start_pool()
    watched.wait_for("suspect:3")
    wait_until(lambda: ids(queue.pending()) == ["t0", "t1", "t2"], message="the others wait for another worker")
    watched.open_gate()
    wait_until(lambda: watched.completed() == 4)


@pytest.mark.law("I2")
def test_sigterm_lets_the_running_task_finish_and_gives_back_the_rest_in_order(
    start_pool: StartPool, queue: Queue, watched: Watched
) -> None:
    watched.submit("gate", "running")
    pool = start_pool("--threads", "1")
    watched.wait_for("running:1")
    for number in range(3):
        watched.submit("note", f"t{number}")
    pool.stop(signal.SIGTERM)
    watched.open_gate()
    assert pool.wait() == 0
    assert watched.passed() == ["running"]
    assert watched.completed() == 1
    assert ids(queue.pending()) == ["t0", "t1", "t2"]
    assert queue.client.zcard(queue.keys.consumers) == 0, "it has left the registry"


def test_tasks_claimed_ahead_are_given_back_in_order_at_sigterm(
    start_pool: StartPool, queue: Queue, watched: Watched
) -> None:
    for number in range(30):
        watched.submit("note", f"quick{number}")
    watched.submit("gate", "running")
    for number in range(30):
        watched.submit("note", f"t{number}")
    pool = start_pool("--threads", "1")
    wait_until(lambda: "running:1" in watched.ran())
    pool.signal(signal.SIGTERM)
    wait_until(lambda: pool.said(STOPPING) and len(queue.pending()) == 30)
    watched.open_gate()
    assert pool.wait() == 0
    assert ids(queue.pending()) == [f"t{number}" for number in range(30)]


def test_a_task_that_waits_behind_slow_ones_only_is_given_back_for_others(
    start_pool: StartPool, queue: Queue, watched: Watched
) -> None:
    for number in range(30):
        watched.submit("note", f"quick{number}")
    watched.submit("gate", "slow")
    for number in range(10):
        watched.submit("note", f"t{number}")
    start_pool("--threads", "1")
    wait_until(lambda: "slow:1" in watched.ran())
    wait_until(lambda: ids(queue.pending()) == [f"t{number}" for number in range(10)], message="it hoards")
    watched.open_gate()
    wait_until(lambda: watched.completed() == 41)


def test_sigint_is_as_good_as_sigterm(start_pool: StartPool, watched: Watched) -> None:
    watched.submit("note", "t1")
    pool = start_pool()
    wait_until(lambda: watched.completed() == 1)
    pool.signal(signal.SIGINT)
    assert pool.wait() == 0


@pytest.mark.parametrize("replaced", [False, True], ids=["a stop", "a replacement"])
def test_the_output_that_a_handler_printed_is_written_when_its_process_ends(
    start_pool: StartPool, watched: Watched, replaced: bool
) -> None:
    watched.submit("print", "t1")
    pool = start_pool(*(["--max-tasks", "1"] if replaced else []))
    wait_until(lambda: watched.completed() == 1, timeout_s=30)
    if replaced:
        wait_until(lambda: pool.said("starting its replacement."), timeout_s=30)
    pool.signal(signal.SIGTERM)
    assert pool.wait() == 0
    assert pool.said("printed by t1")


def test_a_second_signal_of_another_kind_ends_it_at_once_and_the_task_is_recovered(
    start_pool: StartPool, queue: Queue, watched: Watched
) -> None:
    pool = at_the_gate(start_pool, watched)
    child = pool.one_child()
    pool.stop(signal.SIGTERM)
    pool.signal(signal.SIGINT)
    assert pool.wait() == 128 + signal.SIGINT
    assert not child.is_running()
    wait_until(lambda: ids(queue.pending()) == ["t1"], message="its parent has it recovered")


def test_a_grace_that_ends_before_the_handlers_do_leaves_them_to_recovery(
    start_pool: StartPool, queue: Queue, watched: Watched
) -> None:
    pool = at_the_gate(start_pool, watched, "--grace", "0.2")
    pool.signal(signal.SIGTERM)
    assert pool.wait() == 1
    assert pool.said("The grace of 200 ms ended; left to recovery: ['t1']")
    assert ids(queue.pending()) == ["t1"]
    assert watched.passed() == []


@pytest.mark.law("I5")
def test_a_handler_that_hangs_fails_its_task_and_the_process_is_restarted(
    start_pool: StartPool, queue: Queue, watched: Watched
) -> None:
    watched.submit("hang", "t1")
    pool = start_pool("--time-limit", "0.3", **QUICK)
    wait_until(lambda: watched.completed() == 1, timeout_s=30)
    assert watched.ran() == ["t1:1", "t1:2"]
    assert len(set(watched.pids())) == 2, "another process ran the second attempt"
    assert pool.said("Task t1 hangs") and pool.said("status 75")
    assert queue.counters()["retried"] == 1


@pytest.mark.law("I5")
def test_a_handler_that_hangs_in_a_worker_that_stops_fails_its_task_at_its_time_limit(
    start_pool: StartPool, queue: Queue, watched: Watched
) -> None:
    watched.submit("hang", "t1")
    pool = start_pool("--time-limit", "1", "--grace", "60", **QUICK)
    wait_until(lambda: watched.ran() == ["t1:1"])
    pool.stop(signal.SIGTERM)
    assert pool.wait() == 0
    assert pool.said("Task t1 hangs: it ran past 1000 ms")
    assert queue.counters()["retried"] == 1
    assert "recovered" not in queue.counters()


def test_a_worker_without_redis_waits_for_it_and_does_not_die(
    start_pool: StartPool, queue: Queue, watched: Watched
) -> None:
    watched.submit("note", "t1")
    with queue.client.client() as connected:
        connected.config_set("maxclients", 3)
        try:
            pool = start_pool()
            wait_until(lambda: pool.said("Redis failed"))
        finally:
            connected.config_set("maxclients", 10_000)
    wait_until(lambda: watched.completed() == 1)


@pytest.mark.law("I2")
def test_lost_connections_lose_nothing(start_pool: StartPool, queue: Queue, watched: Watched) -> None:
    for number in range(2_000):
        watched.submit("note", f"t{number}")
    start_pool()
    while watched.completed() < 2_000:
        queue.client.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        done = watched.completed()
        wait_until(lambda done=done: watched.completed() > done or done == 2_000, timeout_s=60)
    assert {note.split(":")[0] for note in watched.ran()} == {f"t{number}" for number in range(2_000)}
    assert queue.dead() == []
