"""Release: what was claimed and not begun goes back to the claiming end, in its order, as if never claimed."""

import pytest
from support.queue_fixtures import Queue, payloads
from zeroloss.reference.queue.task import decode


@pytest.mark.law("I1")
def test_a_released_task_is_pending_again_with_the_same_bytes(queue: Queue) -> None:
    queue.enqueue("a")
    before = queue.pending()
    consumer = queue.consumer()
    assert consumer.release(consumer.claim()) == 1
    assert queue.pending() == before
    assert queue.held() == []


@pytest.mark.law("I7")
def test_released_tasks_come_back_in_their_order_before_the_others(queue: Queue) -> None:
    queue.enqueue("a", "b", "c", "d")
    consumer = queue.consumer()
    assert consumer.release(consumer.claim(3)) == 3
    assert payloads(queue.pending()) == ["a", "b", "c", "d"]


def test_large_tasks_are_given_back_in_their_order_by_several_commands_of_a_mebibyte(queue: Queue) -> None:
    queue.enqueue(*[f"{number}" + "x" * 400_000 for number in range(7)])
    before = queue.pending()
    consumer = queue.consumer()
    elements = [*consumer.claim(9), *consumer.claim(9), *consumer.claim(9), *consumer.claim(9)]
    calls_before = queue.client.info("commandstats")["cmdstat_evalsha"]["calls"]
    assert consumer.release(elements) == 7
    assert queue.client.info("commandstats")["cmdstat_evalsha"]["calls"] - calls_before >= 4
    assert queue.pending() == before


def test_a_begun_task_is_kept(queue: Queue) -> None:
    queue.enqueue("begun", "b", "c")
    consumer = queue.consumer()
    consumer.release(consumer.claim(3)[1:])
    assert payloads(queue.held()) == ["begun"]
    assert payloads(queue.pending()) == ["b", "c"]


def test_releasing_nothing_is_no_round_trip(queue: Queue) -> None:
    consumer = queue.consumer()
    queue.own_client.close()
    calls_before = queue.client.info("stats")["total_commands_processed"]
    assert consumer.release([]) == 0
    assert queue.client.info("stats")["total_commands_processed"] == calls_before + 1


@pytest.mark.law("I5")
def test_a_release_is_not_an_attempt_and_is_not_counted(queue: Queue) -> None:
    queue.enqueue("a")
    consumer = queue.consumer()
    consumer.release(consumer.claim())
    assert queue.claim(consumer).attempt == 1
    assert queue.counters() == {"enqueued": 1}


@pytest.mark.law("I3")
def test_a_recovered_task_cannot_be_released_by_its_old_owner(queue: Queue) -> None:
    queue.enqueue("a", "b")
    old = queue.consumer("old")
    stale = old.claim(2)
    queue.kill(old)
    before = queue.everything()
    assert old.release(stale) == 0
    assert queue.everything() == before


@pytest.mark.law("I1")
def test_of_several_only_those_still_held_are_given_back(queue: Queue) -> None:
    queue.enqueue("a", "b", "c")
    consumer = queue.consumer()
    elements = consumer.claim(3)
    consumer.ack(decode(elements[1]))
    assert consumer.release(elements) == 2
    assert payloads(queue.pending()) == ["a", "c"]


@pytest.mark.law("I3")
def test_a_second_release_gives_nothing_back_again(queue: Queue) -> None:
    queue.enqueue("a")
    consumer = queue.consumer()
    elements = consumer.claim()
    consumer.release(elements)
    assert consumer.release(elements) == 0
    assert payloads(queue.pending()) == ["a"]


def test_two_tasks_with_the_same_bytes_are_both_given_back(queue: Queue) -> None:
    queue.enqueue("a")
    (element,) = queue.pending()
    queue.client.lpush(queue.keys.pending, element)
    consumer = queue.consumer()
    assert consumer.release(consumer.claim(2)) == 2
    assert queue.pending() == [element, element]


def test_an_undecodable_element_can_be_released(queue: Queue) -> None:
    queue.client.lpush(queue.keys.pending, b"\xff")
    consumer = queue.consumer()
    consumer.release(consumer.claim())
    assert queue.pending() == [b"\xff"]


@pytest.mark.law("I7")
def test_thousands_are_released_in_their_order(queue: Queue) -> None:
    queue.client.lpush(queue.keys.pending, *range(9_000))
    consumer = queue.consumer()
    assert consumer.release(consumer.claim(9_000)) == 9_000
    assert queue.pending() == [b"%d" % number for number in range(9_000)]
