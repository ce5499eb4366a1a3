"""Recover: a dead consumer's tasks are claimable again, in order, with the attempt increased (I1, I4, I5)."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from support.awkward import AWKWARD_IDS, AWKWARD_PAYLOADS
from support.queue_fixtures import Queue, entry, ids, payloads, raw_payload, read
from support.waiting import wait_until
from zeroloss.invariants import bounded_attempts, conservation
from zeroloss.reference.queue.consumer import Consumer
from zeroloss.reference.queue.consuming.settling import Claimed
from zeroloss.reference.queue.enqueuing.submission import Submission
from zeroloss.reference.queue.errors import LeaseLost
from zeroloss.reference.queue.reaper import Sweep


def die_holding(queue: Queue, name: str, limit: int = 1) -> list[Claimed]:
    """Let a consumer claim and die. Return the tasks it holds."""
    claimed = queue.consumer(name).claim(limit)
    queue.expire(name)
    return claimed


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
    assert (task.recoveries, task.retries, task.attempt) == (1, 0, 2)


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
    after = queue.everything()
    after.pop(queue.keys.asked, None)  # records the turn to check presence
    assert after == before


def test_a_consumer_that_renewed_in_time_is_not_recovered(queue: Queue) -> None:
    queue.enqueue("a")
    consumer = queue.consumer()
    consumer.claim()
    queue.expire("w1")
    consumer.renew()
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
    (letter,) = queue.dead_letters.page()
    assert (letter.error, letter.reason) == ("Its worker vanished 3 times, the last was w3.", "vanished")
    assert (letter.task.id, letter.task.attempt, letter.consumer) == (poison, 4, "w3")
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
def test_large_tasks_are_recovered_in_their_order_and_no_payload_leaves_the_server(queue: Queue) -> None:
    queue.enqueue(*[[number, "x" * 400_000] for number in range(7)])
    consumer = queue.consumer()
    for _ in range(4):
        consumer.claim(9)
    before = queue.client.info("stats")
    assert queue.kill(consumer) == 7
    after = queue.client.info("stats")
    for direction in ("total_net_input_bytes", "total_net_output_bytes"):
        assert after[direction] - before[direction] < 50_000
    assert [payload[0] for payload in payloads(queue.pending())] == [*range(7)]


@pytest.mark.law("I4")
@pytest.mark.parametrize("digits", [10, 17, 4_300])
def test_a_header_with_an_absurd_count_cannot_be_read_and_stops_no_recovery(queue: Queue, digits: int) -> None:
    absurd = entry("t1", recoveries="9" * digits)
    queue.enqueue("sound")
    queue.push(absurd)
    consumer = queue.consumer()
    assert len(consumer.claim(2)) == 2
    assert queue.kill(consumer) == 2
    assert queue.dead() == [absurd]
    assert payloads(queue.pending()) == ["sound"]


@pytest.mark.law("I4")
def test_an_entry_without_a_header_goes_to_dead_letter_as_it_is_and_does_not_stop_the_sweep(queue: Queue) -> None:
    queue.enqueue("a")
    broken = [b"\xff\x00 no task", b"[]", b'd,1,0,0,many,0,;{"id":"t1"}']
    queue.push(*broken)
    queue.enqueue("b")
    die_holding(queue, "w1", 5)
    assert queue.reaper.sweep().recovered == 5
    assert sorted(queue.dead()) == sorted(broken)
    assert payloads(queue.pending()) == ["a", "b"]
    assert queue.counters()["dead_lettered"] == 3


@pytest.mark.law("I4")
@pytest.mark.parametrize("fields", [["x"], ["", "-1", "1.5"], ["nan", "inf", "-inf", "0x10", "1e5"], ["9" * 400]])
def test_an_entry_under_a_field_that_is_not_a_delivery_number_is_recovered_and_stops_no_sweep(
    queue: Queue, fields: list[str]
) -> None:
    queue.enqueue(*range(12))
    die_holding(queue, "w1", 12)
    for field in fields:
        queue.client.hset(queue.keys.processing("w1"), field, entry(f"under {field[:9]}"))
    queue.client.zadd(queue.keys.delayed, {entry("due"): 1})
    assert queue.reaper.sweep() == Sweep(recovered=12 + len(fields), promoted=1)
    recovered = ids(queue.pending())
    assert len(recovered) == 13 + len(fields)
    assert {f"under {field[:9]}" for field in fields} <= {*recovered}
    assert [payload for payload in payloads(queue.pending()) if isinstance(payload, int)] == [*range(12)]
    assert queue.held() == []


@pytest.mark.law("I4")
def test_a_consumer_with_an_entry_under_a_field_that_is_not_a_delivery_number_sees_its_other_tasks(
    queue: Queue,
) -> None:
    queue.enqueue("a", "b")
    consumer = queue.consumer()
    numbers = [number for number, _ in consumer.claim(2)]
    queue.client.hset(queue.keys.processing("w1"), "x", entry("under x"))
    assert consumer.held() == numbers
    assert consumer.leave(unbegun=numbers).left is False
    assert queue.reaper.sweep().recovered == 1
    assert {*ids(queue.pending())} > {"under x"}


@pytest.mark.law("I1")
def test_two_reapers_at_the_same_time_recover_each_task_once(queue: Queue) -> None:
    accepted = queue.enqueue(*range(300))
    for number in range(6):
        die_holding(queue, f"w{number}", 50)
    with ThreadPoolExecutor(4) as threads:
        swept = list(threads.map(lambda _: queue.reaper.sweep().recovered, range(4)))
    assert sum(swept) == 300
    assert conservation(accepted, [], {"pending": ids(queue.pending())}) == []
    assert {read(each).recoveries for each in queue.pending()} == {1}


@pytest.mark.law("I6")
@pytest.mark.parametrize("payload_json", AWKWARD_PAYLOADS, ids=AWKWARD_IDS)
def test_a_payload_keeps_its_bytes_through_recoveries_and_into_dead_letter(queue: Queue, payload_json: str) -> None:
    twice = queue.configured(max_recoveries=1)
    twice.enqueue_text(payload_json)
    for name in ("w1", "w2"):
        die_holding(twice, name)
        twice.reaper.recover(name)
    assert raw_payload(queue.dead()[0]) == payload_json


def test_a_dead_consumer_leaves_no_trace_when_all_was_recovered(queue: Queue) -> None:
    queue.enqueue("a")
    die_holding(queue, "w1")
    queue.reaper.sweep()
    assert queue.lease_left_ms("w1") is None
    assert not queue.client.exists(queue.keys.processing("w1"), queue.keys.numbers, queue.keys.presence)


@pytest.mark.law("I3")
def test_a_claim_that_arrives_after_its_consumer_was_recovered_takes_nothing(queue: Queue) -> None:
    queue.enqueue("a")
    consumer = queue.consumer()
    queue.kill(consumer)
    assert consumer.claim() == []
    assert payloads(queue.pending()) == ["a"]
    assert queue.rings()


@pytest.mark.law("I4")
def test_a_parent_recovers_from_a_child_that_it_saw_die_whatever_its_lease_says(queue: Queue) -> None:
    queue.enqueue(*range(250))
    queue.consumer().claim(250)
    assert queue.reaper.recover("w1", is_dead=True) == 250
    assert payloads(queue.pending()) == [*range(250)]
    assert queue.lease_left_ms() is None


def test_recovered_tasks_keep_their_priority_and_ring(queue: Queue) -> None:
    for priority in ("high", "default", "low"):
        queue.enqueuer.enqueue(Submission(payload_json=f'"{priority}"', priority=priority))
    die_holding(queue, "w1", 3)
    assert not queue.rings()
    assert queue.reaper.recover("w1") == 3
    assert [payloads(queue.pending(priority)) for priority in ("high", "default", "low")] == [
        ["high"],
        ["default"],
        ["low"],
    ]
    assert queue.rings()


@pytest.mark.law("I4")
def test_a_task_that_cannot_be_buried_stays_and_the_others_are_recovered(queue: Queue) -> None:
    strict = queue.configured(max_recoveries=1)
    queue.client.set(queue.keys.dead_letter, "another user's")
    queue.hold("w1", entry("sound"), entry("poison", recoveries=1), entry("other"), b"no task")
    queue.client.zadd(queue.keys.consumers, {"w1": 1})
    assert strict.reaper.sweep().recovered == 2
    assert ids(queue.pending()) == ["sound", "other"]
    assert queue.held() == [entry("poison", recoveries=1), b"no task"]
    assert strict.reaper.sweep().recovered == 0
    queue.client.delete(queue.keys.dead_letter)
    assert strict.reaper.sweep().recovered == 2
    assert [letter.reason for letter in queue.dead_letters.page()] == ["vanished", "vanished"]


PAUSED_WORKER = """
import sys
from zeroloss.reference.queue.config import Config
from zeroloss.reference.queue.connection import connect
from zeroloss.reference.queue.consumer import Consumer
from zeroloss.reference.queue.consuming.settling import Claimed
from zeroloss.reference.queue.enqueuing.submission import Submission
config = Config(redis_url=sys.argv[1])
consumer = Consumer(connect(config), config, "paused")
consumer.renew()
consumer.claim()  # finds nothing, and leaves the script with the server: one that is not known there must be sent again
settlement = consumer.claim_waiting(consumer.reserve(1), 60_000)
print(settlement.lease_lives, settlement.claimed)
"""


@pytest.fixture
def paused_worker(queue: Queue) -> Iterator[subprocess.Popen[str]]:
    """A process that is stopped (SIGSTOP) while it waits for the bell."""
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
def test_a_stopped_process_whose_lease_ended_is_handed_nothing(
    queue: Queue, paused_worker: subprocess.Popen[str]
) -> None:
    queue.expire("paused")
    assert queue.reaper.sweep().recovered == 0
    (task_id,) = queue.enqueue("a")
    wait_until(lambda: queue.client.info("clients")["blocked_clients"] == 0, message="the bell woke it")
    assert (ids(queue.pending()), queue.held("paused"), queue.rings()) == ([task_id], [], True)
    os.kill(paused_worker.pid, signal.SIGCONT)
    printed, _ = paused_worker.communicate(timeout=20)
    assert printed.split() == ["False", "[]"]


@pytest.mark.law("I4")
def test_a_task_that_redis_hands_to_a_stopped_process_is_recovered(
    queue: Queue, paused_worker: subprocess.Popen[str]
) -> None:
    (task_id,) = queue.enqueue("a")
    wait_until(lambda: ids(queue.held("paused")) == [task_id], message="Redis handed it to the stopped process")
    queue.expire("paused")
    assert queue.reaper.sweep().recovered == 1
    assert queue.claim(queue.consumer("fresh")).attempt == 2


@pytest.mark.law("I3")
def test_a_zombie_of_two_recoveries_ago_changes_nothing(queue: Queue) -> None:
    queue.enqueue("a")
    zombies: list[tuple[Consumer, Claimed]] = []
    for name in ("w1", "w2"):
        zombie = queue.consumer(name)
        zombies.append((zombie, zombie.claim()[0]))
        queue.kill(zombie)
    before = queue.everything()
    for zombie, claimed in zombies:
        for act in (zombie.ack, lambda task, zombie=zombie: zombie.fail(task, "no")):
            with pytest.raises(LeaseLost):
                act(read(claimed))
        with pytest.raises(LeaseLost):
            zombie.dead_letter(claimed, "no")
        assert zombie.release([claimed.number]) == 0
    assert queue.everything() == before


def orphan(queue: Queue, name: str = "lost", *names: object) -> None:
    """Create tasks held by a consumer without a registry entry."""
    queue.enqueue(*(names or ("a",)))
    queue.consumer(name).claim(100)
    queue.client.zrem(queue.keys.consumers, name)


@pytest.mark.law("I4")
def test_tasks_that_no_entry_names_are_adopted_and_then_recovered(queue: Queue) -> None:
    orphan(queue)
    assert queue.reaper.adopt() == 1
    queue.expire("lost")
    assert queue.reaper.sweep().recovered == 1
    assert payloads(queue.pending()) == ["a"]


def test_the_owner_of_adopted_tasks_gets_a_whole_lease_to_speak_up(queue: Queue) -> None:
    orphan(queue)
    queue.reaper.adopt()
    assert queue.lease_left_ms("lost") > queue.config.lease_ms - 10_000
    assert queue.reaper.sweep().recovered == 0


def test_tasks_of_a_consumer_with_an_entry_are_not_adopted_again(queue: Queue) -> None:
    queue.enqueue("a")
    queue.consumer().claim()
    queue.expire("w1")
    assert queue.reaper.adopt() == 0
    assert queue.lease_left_ms() <= 0, "its lease has not been touched"


@pytest.mark.law("I4")
def test_all_orphans_are_adopted_at_once(queue: Queue) -> None:
    for number in range(30):
        orphan(queue, f"lost{number}")
    assert queue.reaper.adopt() == 30
    assert queue.reaper.adopt() == 0


@pytest.mark.parametrize("namespace", ["{tasks-0}", "a*b", "a?b", "[ab]", "back\\slash", "^"])
def test_orphans_are_found_in_any_namespace_and_in_no_other(queue: Queue, namespace: str) -> None:
    special = queue.configured(namespace=namespace)
    orphan(special)
    orphan(queue.configured(namespace="aXb"))
    orphan(queue.configured(namespace="a"))
    assert special.reaper.adopt() == 1
    assert special.client.zrange(special.keys.consumers, 0, -1) == [b"lost"]


def test_a_consumer_s_name_may_hold_colons(queue: Queue) -> None:
    orphan(queue, "host:12:0")
    queue.reaper.adopt()
    queue.expire("host:12:0")
    assert queue.reaper.sweep().recovered == 1


@pytest.mark.parametrize("entry", [True, False], ids=["with an entry", "without"])
def test_a_name_that_cannot_be_one_of_ours_does_not_stop_the_sweeps(queue: Queue, entry: bool) -> None:
    queue.client.hset(queue.keys.processing("").encode() + b"\xff", "1", "x")
    if entry:
        queue.client.zadd(queue.keys.consumers, {b"\xff": 1})
    orphan(queue)
    assert queue.reaper.adopt() == 1
    queue.expire("lost")
    assert queue.reaper.sweep().recovered == 1


def test_a_name_that_cannot_be_one_of_ours_is_reported_once(queue: Queue, caplog: pytest.LogCaptureFixture) -> None:
    queue.client.hset(queue.keys.processing("").encode() + b"\xff", "1", "x")
    queue.client.zadd(queue.keys.consumers, {b"\xff": 1})
    for _ in range(2):
        queue.reaper.adopt()
        queue.reaper.sweep()
    assert [record.getMessage() for record in caplog.records] == [
        r"b'\xff' cannot be a consumer's name, as it is not UTF-8: its key is ignored."
    ]


def test_under_the_name_of_one_that_died_a_key_that_is_not_a_hash_does_not_stop_the_sweeps(queue: Queue) -> None:
    queue.client.set(queue.keys.processing("foreign"), "x")
    queue.client.zadd(queue.keys.consumers, {"foreign": 1})
    orphan(queue)
    assert queue.reaper.adopt() == 1
    assert queue.client.zrange(queue.keys.consumers, 0, -1) == [b"foreign", b"lost"]
    queue.expire("lost")
    assert queue.reaper.sweep().recovered == 1


def test_a_foreign_key_that_is_not_a_hash_does_not_stop_the_sweeps(queue: Queue) -> None:
    queue.client.set(queue.keys.processing("foreign"), "x")
    orphan(queue)
    queue.reaper.adopt()
    queue.expire("foreign")
    queue.expire("lost")
    assert queue.reaper.sweep().recovered == 1
