"""Release: claimed tasks that were not begun go back to the claiming end, in order, as if never claimed."""

import pytest
from support.queue_fixtures import Queue, payloads, read
from zeroloss.reference.queue.consumer import Consumer
from zeroloss.reference.queue.consuming.settling import Claimed
from zeroloss.reference.queue.enqueuing.submission import Submission


def release(consumer: Consumer, claimed: list[Claimed]) -> int:
    return consumer.release(each.number for each in claimed)


@pytest.mark.law("I1")
def test_a_released_task_is_pending_again_with_the_same_bytes(queue: Queue) -> None:
    queue.enqueue("a")
    before = queue.pending()
    consumer = queue.consumer()
    assert release(consumer, consumer.claim()) == 1
    assert queue.pending() == before
    assert queue.held() == []


@pytest.mark.law("I7")
def test_released_tasks_come_back_in_their_order_before_the_others(queue: Queue) -> None:
    queue.enqueue("a", "b", "c", "d")
    consumer = queue.consumer()
    assert release(consumer, consumer.claim(3)) == 3
    assert payloads(queue.pending()) == ["a", "b", "c", "d"]


def test_large_tasks_are_given_back_in_their_order_and_no_payload_is_sent(queue: Queue) -> None:
    queue.enqueue(*[f"{number}" + "x" * 400_000 for number in range(7)])
    before = queue.pending()
    consumer = queue.consumer()
    claimed = [*consumer.claim(9), *consumer.claim(9), *consumer.claim(9), *consumer.claim(9)]
    sent_before = queue.client.info("stats")["total_net_input_bytes"]
    assert release(consumer, claimed) == 7
    assert queue.client.info("stats")["total_net_input_bytes"] - sent_before < 10_000
    assert queue.pending() == before


def test_a_released_task_keeps_its_priority_and_rings(queue: Queue) -> None:
    for priority in ("high", "default", "low"):
        queue.enqueuer.enqueue(Submission(payload_json=f'"{priority}"', priority=priority))
    consumer = queue.consumer()
    claimed = consumer.claim(3)
    assert not queue.rings()
    release(consumer, claimed)
    assert [payloads(queue.pending(priority)) for priority in ("high", "default", "low")] == [
        ["high"],
        ["default"],
        ["low"],
    ]
    assert queue.rings()


def test_a_begun_task_is_kept(queue: Queue) -> None:
    queue.enqueue("begun", "b", "c")
    consumer = queue.consumer()
    release(consumer, consumer.claim(3)[1:])
    assert payloads(queue.held()) == ["begun"]
    assert payloads(queue.pending()) == ["b", "c"]


def test_releasing_nothing_is_not_a_round_trip(queue: Queue) -> None:
    consumer = queue.consumer()
    queue.own_client.close()
    calls_before = queue.client.info("stats")["total_commands_processed"]
    assert consumer.release([]) == 0
    assert queue.client.info("stats")["total_commands_processed"] == calls_before + 1


@pytest.mark.law("I5")
def test_a_release_is_not_an_attempt_and_is_not_counted(queue: Queue) -> None:
    queue.enqueue("a")
    consumer = queue.consumer()
    release(consumer, consumer.claim())
    assert queue.claim(consumer).attempt == 1
    assert queue.counters() == {"enqueued": 1}


@pytest.mark.law("I3")
def test_a_recovered_task_cannot_be_released_by_its_old_owner(queue: Queue) -> None:
    queue.enqueue("a", "b")
    old = queue.consumer("old")
    stale = old.claim(2)
    queue.kill(old)
    before = queue.everything()
    assert release(old, stale) == 0
    assert queue.everything() == before


@pytest.mark.law("I1")
def test_of_several_only_those_still_held_are_given_back(queue: Queue) -> None:
    queue.enqueue("a", "b", "c")
    consumer = queue.consumer()
    claimed = consumer.claim(3)
    consumer.ack(read(claimed[1]))
    assert release(consumer, claimed) == 2
    assert payloads(queue.pending()) == ["a", "c"]


@pytest.mark.law("I3")
def test_a_second_release_gives_nothing_back_again(queue: Queue) -> None:
    queue.enqueue("a")
    consumer = queue.consumer()
    claimed = consumer.claim()
    release(consumer, claimed)
    assert release(consumer, claimed) == 0
    assert payloads(queue.pending()) == ["a"]


def test_two_tasks_with_the_same_bytes_are_both_given_back(queue: Queue) -> None:
    queue.enqueue("a")
    (entry,) = queue.pending()
    queue.push(entry)
    consumer = queue.consumer()
    assert release(consumer, consumer.claim(2)) == 2
    assert queue.pending() == [entry, entry]


def test_an_unreadable_entry_can_be_released(queue: Queue) -> None:
    queue.push(b"\xff")
    consumer = queue.consumer()
    release(consumer, consumer.claim())
    assert queue.pending() == [b"\xff"]


@pytest.mark.law("I7")
def test_thousands_are_released_in_their_order(queue: Queue) -> None:
    queue.push(*[b"%d" % number for number in range(9_000)])
    consumer = queue.consumer()
    assert release(consumer, consumer.claim(9_000)) == 9_000
    assert queue.pending() == [b"%d" % number for number in range(9_000)]
