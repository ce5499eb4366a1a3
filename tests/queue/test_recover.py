"""Recover: what a dead consumer held is claimable again, in its order, one attempt later (I1, I4, I5)."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from support.awkward import AWKWARD_IDS, AWKWARD_PAYLOADS
from support.queue_fixtures import Queue, ids, payloads
from support.waiting import wait_until
from zeroloss.invariants import bounded_attempts, conservation
from zeroloss.reference.queue.consumer import Consumer
from zeroloss.reference.queue.errors import LeaseLost
from zeroloss.reference.queue.reaper import Sweep
from zeroloss.reference.queue.task import decode, raw_members


def die_holding(queue: Queue, name: str, limit: int = 1) -> list[bytes]:
    """A consumer claims and is never heard of again. What it holds."""
    elements = queue.consumer(name).claim(limit)
    queue.reaper.expire(name)
    return elements


@pytest.mark.law("I1")
def test_the_tasks_of_a_dead_consumer_are_pending_again(queue: Queue) -> None:
    queue.enqueue("a")
    die_holding(queue, "w1")
    assert queue.reaper.recover("w1") == 1
    assert payloads(queue.pending()) == ["a"]
    assert queue.held() == []
    assert queue.counters() == {"enqueued": 1, "recovered": 1}


@pytest.mark.law("I5")
def test_a_recovered_task_is_the_next_attempt(queue: Queue) -> None:
    queue.enqueue("a")
    die_holding(queue, "w1")
    queue.reaper.recover("w1")
    task = queue.claim(queue.consumer("w2"))
    assert (task.recovered_count, task.retry_count, task.attempt) == (1, 0, 2)


@pytest.mark.law("I7")
def test_recovered_tasks_come_back_in_their_order_before_the_others(queue: Queue) -> None:
    queue.enqueue("a", "b", "c", "d")
    die_holding(queue, "w1", 3)
    queue.reaper.recover("w1")
    assert payloads(queue.pending()) == ["a", "b", "c", "d"]


@pytest.mark.law("I7")
def test_more_than_one_batch_is_recovered_in_order(queue: Queue) -> None:
    queue.enqueue(*range(250))
    die_holding(queue, "w1", 249)
    assert queue.reaper.recover("w1") == 249
    assert payloads(queue.pending()) == list(range(250))
    assert queue.counters()["recovered"] == 249


def test_a_living_consumer_s_tasks_are_not_touched(queue: Queue) -> None:
    queue.enqueue("a")
    queue.consumer().claim()
    before = queue.everything()
    assert queue.reaper.recover("w1") == 0
    assert queue.reaper.sweep() == Sweep(recovered=0, promoted=0)
    assert queue.everything() == before


def test_a_consumer_that_renewed_in_time_is_not_recovered(queue: Queue) -> None:
    queue.enqueue("a")
    consumer = queue.consumer()
    consumer.claim()
    queue.reaper.expire("w1")
    consumer.renew()
    assert queue.reaper.recover("w1") == 0
    assert payloads(queue.held()) == ["a"]


def test_a_list_without_an_entry_is_left_until_it_is_adopted(queue: Queue) -> None:
    queue.enqueue("a")
    queue.consumer().claim()
    queue.client.delete(queue.keys.consumers)
    assert queue.reaper.recover("w1") == 0
    assert payloads(queue.held()) == ["a"]


@pytest.mark.law("I4")
def test_a_sweep_finds_every_dead_consumer(queue: Queue) -> None:
    queue.enqueue(*range(6))
    for name in ("w1", "w2", "w3"):
        die_holding(queue, name, 2)
    queue.consumer("alive")
    assert queue.reaper.sweep() == Sweep(recovered=6, promoted=0)
    assert sorted(payloads(queue.pending())) == list(range(6))


def test_a_sweep_of_nothing_is_a_sweep(queue: Queue) -> None:
    assert queue.reaper.sweep() == Sweep(recovered=0, promoted=0)


@pytest.mark.law("I5")
def test_a_task_that_keeps_killing_its_worker_ends_in_dead_letter_with_the_reason(queue: Queue) -> None:
    twice = queue.configured(max_recoveries=2)
    (poison, _) = twice.enqueue("poison", "other")
    for deaths in range(1, 4):
        die_holding(twice, f"w{deaths}")
        twice.reaper.recover(f"w{deaths}")
        assert bounded_attempts({poison: deaths}, 3, ids(queue.dead())) == []
    task = decode(queue.dead()[0])
    assert task.error == "Its worker vanished 3 times, the last was w3."
    assert (task.id, task.attempt) == (poison, 4)
    assert payloads(queue.pending()) == ["other"]
    assert queue.counters() == {"enqueued": 2, "recovered": 2, "dead_lettered": 1}


@pytest.mark.law("I5")
def test_failures_and_recoveries_have_their_own_budgets(queue: Queue) -> None:
    strict = queue.configured(max_recoveries=1, max_retries=1)
    strict.enqueue("a")
    die_holding(strict, "w1")
    strict.reaper.recover("w1")
    consumer = strict.consumer("w2")
    assert consumer.fail(strict.claim(consumer), "no") is True
    strict.make_due()
    strict.reaper.promote()
    assert strict.claim(consumer).attempt == 3


@pytest.mark.law("I4")
def test_large_tasks_are_recovered_by_several_commands_of_a_mebibyte_and_keep_their_order(queue: Queue) -> None:
    queue.enqueue(*[[number, "x" * 400_000] for number in range(7)])
    consumer = queue.consumer()
    for _ in range(4):
        consumer.claim(9)
    sent_before = queue.client.info("stats")["total_net_input_bytes"]
    assert queue.kill(consumer) == 7
    assert queue.client.info("stats")["total_net_input_bytes"] - sent_before < 7 * 400_000 * 2.1
    assert queue.client.info("commandstats")["cmdstat_lindex"]["calls"] >= 7
    assert [payload[0] for payload in payloads(queue.pending())] == [*range(7)]


@pytest.mark.law("I4")
@pytest.mark.parametrize("digits", [17, 4_300], ids=["beyond 2^53", "more than Python writes"])
def test_a_count_beyond_2_to_the_53_is_undecodable_and_stops_no_recovery(queue: Queue, digits: int) -> None:
    absurd = b'{"id":"t1","recovered_count":' + b"9" * digits + b"}"
    queue.enqueue("sound")
    queue.client.rpush(queue.keys.pending, absurd)
    consumer = queue.consumer()
    assert len(consumer.claim(2)) == 2
    assert queue.kill(consumer) == 2
    assert queue.dead() == [absurd]
    assert payloads(queue.pending()) == ["sound"]


@pytest.mark.law("I4")
def test_an_undecodable_element_goes_to_dead_letter_as_it_is_and_does_not_stop_the_sweep(queue: Queue) -> None:
    queue.enqueue("a")
    broken = [b"\xff\x00 no task", b"[]", b'{"id":"t1","retry_count":"many"}']
    queue.client.lpush(queue.keys.pending, *broken)
    queue.enqueue("b")
    die_holding(queue, "w1", 5)
    assert queue.reaper.sweep().recovered == 5
    assert sorted(queue.dead()) == sorted(broken)
    assert payloads(queue.pending()) == ["a", "b"]
    assert queue.counters()["dead_lettered"] == 3


@pytest.mark.law("I1")
def test_two_tasks_with_the_same_bytes_are_both_recovered(queue: Queue) -> None:
    queue.enqueue("a")
    queue.client.lpush(queue.keys.pending, queue.pending()[0])
    die_holding(queue, "w1", 2)
    assert queue.reaper.recover("w1") == 2
    assert payloads(queue.pending()) == ["a", "a"]


@pytest.mark.law("I1")
def test_two_reapers_at_the_same_time_recover_each_task_once(queue: Queue) -> None:
    accepted = queue.enqueue(*range(300))
    for number in range(6):
        die_holding(queue, f"w{number}", 50)
    with ThreadPoolExecutor(4) as threads:
        swept = list(threads.map(lambda _: queue.reaper.sweep().recovered, range(4)))
    assert sum(swept) == 300
    assert conservation(accepted, [], {"pending": ids(queue.pending())}) == []
    assert {decode(element).recovered_count for element in queue.pending()} == {1}


@pytest.mark.law("I6")
@pytest.mark.parametrize("payload_json", AWKWARD_PAYLOADS, ids=AWKWARD_IDS)
def test_a_payload_keeps_its_bytes_through_recoveries_and_into_dead_letter(queue: Queue, payload_json: str) -> None:
    twice = queue.configured(max_recoveries=1)
    twice.enqueue_text(payload_json)
    for name in ("w1", "w2"):
        die_holding(twice, name)
        twice.reaper.recover(name)
    assert raw_members(queue.dead()[0].decode())["payload"] == payload_json


def test_a_tombstone_stays_when_its_list_was_recovered(queue: Queue) -> None:
    queue.enqueue("a")
    die_holding(queue, "w1")
    queue.reaper.sweep()
    assert queue.lease_left_ms("w1") <= 0


@pytest.mark.law("I4")
def test_a_task_handed_to_a_tombstone_is_found_by_the_next_sweep(queue: Queue) -> None:
    queue.consumer()
    queue.reaper.expire("w1")
    assert queue.reaper.sweep().recovered == 0
    queue.enqueue("late")
    queue.client.lmove(queue.keys.pending, queue.keys.processing("w1"), "RIGHT", "LEFT")  # as its BLMOVE would
    assert queue.reaper.sweep().recovered == 1
    assert payloads(queue.pending()) == ["late"]


PAUSED_WORKER = """
import sys
from zeroloss.reference.queue.config import Config
from zeroloss.reference.queue.connection import connect
from zeroloss.reference.queue.consumer import Consumer
from zeroloss.reference.queue.errors import LeaseLost
from zeroloss.reference.queue.task import decode
config = Config(redis_url=sys.argv[1])
consumer = Consumer(connect(config), config, "paused")
consumer.renew()
task = decode(consumer.claim_waiting(60_000))
try:
    consumer.ack(task)
except LeaseLost:
    print("lease lost", task.id, consumer.release([task.element]))
"""


@pytest.fixture
def paused_worker(queue: Queue) -> Iterator[subprocess.Popen[str]]:
    """A process that is blocked in BLMOVE and stopped."""
    command = [sys.executable, "-c", PAUSED_WORKER, queue.config.redis_url]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        wait_until(lambda: queue.client.info("clients")["blocked_clients"] == 1, message="the worker to be blocked")
        os.kill(process.pid, signal.SIGSTOP)
        yield process
    finally:
        process.kill()
        process.communicate()


@pytest.mark.law("I3")
def test_a_task_that_redis_hands_to_a_stopped_process_is_recovered_and_not_acked_by_it(
    queue: Queue, paused_worker: subprocess.Popen[str]
) -> None:
    queue.reaper.expire("paused")
    assert queue.reaper.sweep().recovered == 0
    (task_id,) = queue.enqueue("a")
    assert ids(queue.held("paused")) == [task_id], "Redis handed it to the stopped process"
    assert queue.reaper.sweep().recovered == 1
    fresh = queue.claim(queue.consumer("fresh"))
    os.kill(paused_worker.pid, signal.SIGCONT)
    printed, _ = paused_worker.communicate(timeout=20)
    assert printed.split() == ["lease", "lost", task_id, "0"]
    assert queue.held("fresh") == [fresh.element]
    assert fresh.attempt == 2


@pytest.mark.law("I3")
def test_a_zombie_of_two_recoveries_ago_changes_nothing(queue: Queue) -> None:
    queue.enqueue("a")
    zombies: list[tuple[Consumer, bytes]] = []
    for name in ("w1", "w2"):
        zombie = queue.consumer(name)
        zombies.append((zombie, zombie.claim()[0]))
        queue.kill(zombie)
    before = queue.everything()
    for zombie, element in zombies:
        for act in (zombie.ack, lambda task, zombie=zombie: zombie.fail(task, "no"),
                    lambda task, zombie=zombie: zombie.dead_letter(task, "no")):  # fmt: skip
            with pytest.raises(LeaseLost):
                act(decode(element))
        assert zombie.release([element]) == 0
    assert queue.everything() == before
