"""Fail: a raising handler moves its task to delayed with growing backoff, after `max_retries` to dead_letter (I5)."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.awkward import AWKWARD_IDS, AWKWARD_PAYLOADS
from support.queue_fixtures import Queue, ids, payloads, raw_payload, read
from zeroloss.invariants import bounded_attempts
from zeroloss.reference.queue.config import Config
from zeroloss.reference.queue.consumer import backoff_ms
from zeroloss.reference.queue.enqueuing.submission import Submission
from zeroloss.reference.queue.errors import LeaseLost
from zeroloss.reference.queue.task import Task
from zeroloss.reference.queue.texts import MAX_ERROR_CHARS


def fail_again(queue: Queue, error: str = "ValueError: no") -> Task:
    """Deliver the only task once more and fail it. Return the task as delivered."""
    queue.make_due()
    queue.reaper.promote()
    consumer = queue.consumer()
    task = queue.claim(consumer)
    consumer.fail(task, error)
    return task


@pytest.mark.law("I1")
def test_a_failed_task_waits_in_delayed_and_nowhere_else(queue: Queue) -> None:
    queue.enqueue("a")
    consumer = queue.consumer()
    assert consumer.fail(queue.claim(consumer), "ValueError: no") is True
    assert payloads(queue.delayed()) == ["a"]
    assert queue.held() == queue.pending() == queue.dead() == []
    assert queue.counters() == {"enqueued": 1, "failed": 1, "retried": 1}


@pytest.mark.law("I5")
def test_the_next_delivery_of_a_failed_task_is_the_next_attempt(queue: Queue) -> None:
    queue.enqueue("a")
    assert [fail_again(queue).attempt for _ in range(4)] == [1, 2, 3, 4]


@pytest.mark.law("I5")
def test_the_fourth_failure_dead_letters_with_the_reason(queue: Queue) -> None:
    (task_id,) = queue.enqueue("a")
    for failures in range(1, 5):
        fail_again(queue, f"ValueError: {failures}")
        assert bounded_attempts({task_id: failures}, 4, ids(queue.dead())) == []
    (letter,) = queue.dead_letters.page()
    assert (letter.task.id, letter.error, letter.reason) == (task_id, "ValueError: 4", "failed")
    assert (letter.task.retries, letter.task.attempt) == (4, 5)
    assert queue.held() == queue.pending() == queue.delayed() == []
    assert queue.counters() == {"enqueued": 1, "failed": 4, "retried": 3, "dead_lettered": 1}


@pytest.mark.law("I5")
def test_without_retries_the_first_failure_dead_letters(queue: Queue) -> None:
    unforgiving = queue.configured(max_retries=0)
    unforgiving.enqueue("a")
    consumer = unforgiving.consumer()
    assert consumer.fail(unforgiving.claim(consumer), "no") is False
    assert payloads(queue.dead()) == ["a"]


@pytest.mark.law("I5")
def test_a_failing_task_does_not_block_the_others(queue: Queue) -> None:
    queue.enqueue("poison", "b", "c")
    fail_again(queue)
    assert payloads(queue.consumer().claim(9)) == ["b", "c"]


@given(failures=st.integers(1, 2_000), base=st.integers(1, 100_000), extra=st.integers(0, 10_000_000))
def test_the_backoff_doubles_up_to_its_bound_and_jitters_over_the_upper_half(
    failures: int, base: int, extra: int
) -> None:
    longest = base + extra
    ceiling = min(longest, base * 2 ** (failures - 1))
    assert ceiling // 2 <= backoff_ms(Config(backoff_ms=base, backoff_max_ms=longest), failures) <= ceiling


def test_tasks_that_failed_together_do_not_return_together(queue: Queue) -> None:
    assert len({backoff_ms(queue.config, 1) for _ in range(100)}) > 20


def test_the_jitter_is_taken_from_no_more_than_the_upper_half(monkeypatch: pytest.MonkeyPatch) -> None:
    config = Config(backoff_ms=1_000, backoff_max_ms=60_000)
    for chosen, backoffs_ms in ((min, [500, 1_000, 30_000]), (max, [1_000, 2_000, 60_000])):
        monkeypatch.setattr(random, "randint", lambda *bounds, chosen=chosen: chosen(bounds))
        assert [backoff_ms(config, failures) for failures in (1, 2, 10)] == backoffs_ms


def test_a_retry_is_due_after_its_backoff_by_the_server_s_clock(queue: Queue) -> None:
    growing = queue.configured(backoff_ms=60_000, backoff_max_ms=600_000)
    growing.enqueue("a")
    for ceiling_ms in (60_000, 120_000, 240_000):
        fail_again(growing)
        seconds, microseconds = queue.client.time()
        now_ms = seconds * 1000 + microseconds / 1000
        ((_, due_ms),) = queue.client.zrange(queue.keys.delayed, 0, -1, withscores=True)
        assert ceiling_ms / 2 - 10_000 < due_ms - now_ms <= ceiling_ms


@pytest.mark.law("I3")
def test_a_recovered_task_cannot_be_failed_by_its_old_owner(queue: Queue) -> None:
    queue.enqueue("a")
    old = queue.consumer("old")
    stale = queue.claim(old)
    queue.kill(old)
    before = queue.everything()
    with pytest.raises(LeaseLost) as caught:
        old.fail(stale, "too late")
    assert (caught.value.consumer, caught.value.task_id) == ("old", stale.id)
    assert queue.everything() == before


@pytest.mark.law("I3")
def test_the_last_failure_of_a_recovered_task_is_not_the_old_owner_s_either(queue: Queue) -> None:
    unforgiving = queue.configured(max_retries=0)
    unforgiving.enqueue("a")
    old = unforgiving.consumer("old")
    stale = unforgiving.claim(old)
    unforgiving.kill(old)
    before = queue.everything()
    with pytest.raises(LeaseLost):
        old.fail(stale, "too late")
    assert queue.everything() == before


def test_a_task_fails_once_and_not_twice(queue: Queue) -> None:
    queue.enqueue("a")
    consumer = queue.consumer()
    task = queue.claim(consumer)
    consumer.fail(task, "no")
    before = queue.everything()
    with pytest.raises(LeaseLost):
        consumer.fail(task, "no")
    assert queue.everything() == before


@pytest.mark.law("I1")
def test_an_entry_identical_to_one_already_in_delayed_is_not_swallowed(queue: Queue) -> None:
    queue.enqueue("a")
    queue.push(*queue.pending() * 2)  # an id submitted again: three tasks with the same bytes
    consumer = queue.consumer()
    for twin in consumer.claim(3):
        consumer.fail(read(twin), "no")
    assert queue.held() == queue.pending() == []
    assert payloads(queue.delayed()) == ["a"] * 3
    assert {read(each).retries for each in queue.delayed()} == {1}


def test_an_entry_identical_to_one_in_delayed_does_not_change_when_that_is_due(queue: Queue) -> None:
    queue.enqueue("a")
    queue.push(*queue.pending())
    consumer = queue.consumer()
    first, second = consumer.claim(2)
    consumer.fail(read(first), "no", after_ms=1_000)
    (before,) = queue.client.zrange(queue.keys.delayed, 0, -1, withscores=True)
    consumer.fail(read(second), "no", after_ms=60_000)
    assert queue.client.zrange(queue.keys.delayed, 0, -1, withscores=True)[0] == before


def test_a_failed_task_keeps_its_priority(queue: Queue) -> None:
    queue.enqueuer.enqueue(Submission(payload_json='"a"', priority="high"))
    fail_again(queue)
    queue.make_due()
    queue.reaper.promote()
    assert payloads(queue.pending("high")) == ["a"]


def test_the_text_of_a_reason_is_bounded(queue: Queue) -> None:
    unforgiving = queue.configured(max_retries=0)
    unforgiving.enqueue("a")
    consumer = unforgiving.consumer()
    consumer.fail(unforgiving.claim(consumer), "x" * 1_000_000)
    assert queue.dead_letters.page()[0].error == "x" * MAX_ERROR_CHARS


@pytest.mark.parametrize("reason", ["", "é \0 \n", '"quoted" \\'])
def test_any_text_serves_as_a_reason(queue: Queue, reason: str) -> None:
    unforgiving = queue.configured(max_retries=0)
    unforgiving.enqueue("a")
    consumer = unforgiving.consumer()
    consumer.fail(unforgiving.claim(consumer), reason)
    assert queue.dead_letters.page()[0].error == reason


@pytest.mark.law("I6")
@pytest.mark.parametrize("payload_json", AWKWARD_PAYLOADS, ids=AWKWARD_IDS)
def test_a_payload_keeps_its_bytes_through_all_its_retries_and_into_dead_letter(
    queue: Queue, payload_json: str
) -> None:
    queue.enqueue_text(payload_json)
    for _ in range(4):
        fail_again(queue)
    assert raw_payload(queue.dead()[0]) == payload_json
