"""Promote: any worker moves a due task from delayed to the end of the queue, once."""

from concurrent.futures import ThreadPoolExecutor

import pytest
from support.queue_fixtures import Queue, entry, ids, payloads
from zeroloss.reference.queue.enqueuing.submission import Submission
from zeroloss.reference.queue.reaper import MOVE_BATCH, Sweep


def fail_all(queue: Queue, *names: object) -> None:
    queue.enqueue(*names)
    consumer = queue.consumer()
    for _ in names:
        consumer.fail(queue.claim(consumer), "no")


def delay(queue: Queue, count: int) -> list[bytes]:
    """Add `count` due entries to delayed, in order."""
    entries = [entry(f"{number:05d}") for number in range(count)]
    queue.client.zadd(queue.keys.delayed, {each: score for score, each in enumerate(entries, start=1)})
    return entries


@pytest.mark.law("I1")
def test_a_due_retry_is_pending_and_no_longer_delayed(queue: Queue) -> None:
    fail_all(queue, "a")
    queue.make_due()
    assert queue.reaper.promote() == 1
    assert payloads(queue.pending()) == ["a"]
    assert queue.delayed() == []


def test_a_retry_waits_until_it_is_due(queue: Queue) -> None:
    fail_all(queue, "a")
    assert queue.reaper.promote() == 0
    assert payloads(queue.delayed()) == ["a"]


def test_only_what_is_due_is_moved(queue: Queue) -> None:
    fail_all(queue, "due", "later")
    due = next(each for each in queue.delayed() if payloads([each]) == ["due"])
    queue.client.zadd(queue.keys.delayed, {due: 1})
    assert queue.reaper.promote() == 1
    assert payloads(queue.pending()) == ["due"]
    assert payloads(queue.delayed()) == ["later"]


def test_due_retries_go_behind_what_waits_already(queue: Queue) -> None:
    fail_all(queue, "retry")
    queue.enqueue("waiting")
    queue.make_due()
    queue.reaper.promote()
    assert payloads(queue.pending()) == ["waiting", "retry"]


@pytest.mark.law("I7")
def test_the_task_due_first_is_claimed_first(queue: Queue) -> None:
    entries = delay(queue, 30)
    queue.reaper.promote()
    assert queue.pending() == entries


@pytest.mark.law("I7")
def test_more_than_one_batch_is_promoted_in_order(queue: Queue) -> None:
    entries = delay(queue, 2 * MOVE_BATCH + 3)
    assert queue.reaper.promote() == len(entries)
    assert queue.pending() == entries


@pytest.mark.law("I6")
def test_promoting_changes_no_bytes(queue: Queue) -> None:
    fail_all(queue, {"a": 1})
    before = queue.delayed()
    queue.make_due()
    queue.reaper.promote()
    assert queue.pending() == before


@pytest.mark.law("I1")
def test_two_reapers_at_the_same_time_promote_each_retry_once(queue: Queue) -> None:
    entries = delay(queue, 3 * MOVE_BATCH)
    with ThreadPoolExecutor(4) as threads:
        moved = list(threads.map(lambda _: queue.reaper.promote(), range(4)))
    assert sum(moved) == len(entries)
    assert sorted(queue.pending()) == entries


def test_a_sweep_promotes_and_recovers(queue: Queue) -> None:
    fail_all(queue, "retry")
    (held,) = queue.enqueue("held")
    queue.consumer("dead").claim()
    queue.expire("dead")
    queue.make_due()
    assert queue.reaper.sweep() == Sweep(recovered=1, promoted=1)
    assert ids(queue.pending())[0] == held
    assert payloads(queue.pending()) == ["held", "retry"]


def test_a_due_task_goes_to_the_list_of_its_priority_and_rings(queue: Queue) -> None:
    for priority in ("high", "default", "low"):
        queue.enqueuer.enqueue(Submission(payload_json=f'"{priority}"', priority=priority, due="+60000"))
    assert not queue.rings()
    queue.make_due()
    assert queue.reaper.promote() == 3
    assert [payloads(queue.pending(priority)) for priority in ("high", "default", "low")] == [
        ["high"],
        ["default"],
        ["low"],
    ]
    assert queue.rings()


def test_an_unreadable_entry_is_promoted_too_and_given_up_by_its_claimer(queue: Queue) -> None:
    queue.client.zadd(queue.keys.delayed, {b"no task": 1})
    assert queue.reaper.promote() == 1
    assert queue.pending() == [b"no task"]
