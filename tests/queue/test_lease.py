"""The lease: how long a silent consumer keeps its tasks, by the server's clock alone."""

import dataclasses
import time

import pytest
from support.queue_fixtures import Queue, payloads, read
from zeroloss.invariants import bounded_recovery
from zeroloss.reference.queue.consumer import Consumer
from zeroloss.reference.queue.consuming.registry import Renewal

DEADLINE_S = 10.0


def test_the_first_renewal_begins_the_lease(queue: Queue) -> None:
    consumer = Consumer(queue.own_client, queue.config, "w1")
    assert queue.lease_left_ms() is None
    assert consumer.renew() == Renewal(lapsed=True, holding=0)
    assert queue.config.lease_ms - 10_000 < queue.lease_left_ms() <= queue.config.lease_ms


def test_a_renewal_lengthens_the_lease_from_now(queue: Queue) -> None:
    consumer = queue.consumer()
    queue.client.zincrby(queue.keys.consumers, -50_000, "w1")
    assert queue.lease_left_ms() < 10_001
    consumer.renew()
    assert queue.lease_left_ms() > 50_000


def test_a_renewal_says_how_many_tasks_are_held(queue: Queue) -> None:
    queue.enqueue("a", "b", "c")
    consumer = queue.consumer()
    consumer.claim(2)
    assert consumer.renew() == Renewal(lapsed=False, holding=2)


def test_a_renewal_says_that_the_lease_had_ended(queue: Queue) -> None:
    consumer = queue.consumer()
    queue.expire("w1")
    assert consumer.renew().lapsed is True
    assert consumer.renew().lapsed is False


def test_a_consumer_sees_that_another_one_holds_no_task(queue: Queue) -> None:
    consumer = queue.consumer()
    assert not consumer.others_idle()
    other = queue.consumer("w2")
    assert consumer.others_idle()
    queue.enqueue("a")
    (claimed,) = other.claim()
    assert not consumer.others_idle()
    queue.client.zadd(queue.keys.consumers, {b"not \xff text": 0})
    assert consumer.others_idle()
    assert other.others_idle()
    other.settle([claimed.number], 0)


def test_a_lease_ends_by_itself(queue: Queue) -> None:
    short = queue.configured(lease_ms=60, renew_ms=20)
    short.enqueue("a")
    consumer = short.consumer()
    assert payloads(consumer.claim()) == ["a"]
    deadline = time.monotonic() + DEADLINE_S
    while consumer.settle([], 0).lease_lives and time.monotonic() < deadline:
        pass
    assert consumer.settle([], 1).lease_lives is False


@pytest.mark.law("I4")
def test_a_dead_worker_s_task_is_claimable_within_the_lease_and_one_sweep_without_any_traffic(queue: Queue) -> None:
    short = queue.configured(lease_ms=150, renew_ms=50)
    (task_id,) = short.enqueue("a")
    not_yet_s = time.monotonic()
    consumer = short.consumer()
    began_s = time.monotonic()
    consumer.claim()
    claimable_after_s: dict[str, float | None] = {task_id: None}
    sweep_s, last_s = 0.0, time.monotonic()
    while claimable_after_s[task_id] is None and last_s < began_s + DEADLINE_S:
        recovered = short.reaper.sweep().recovered
        sweep_s, last_s = max(sweep_s, time.monotonic() - last_s), time.monotonic()
        if recovered:
            claimable_after_s[task_id] = last_s - began_s
    # The sweep during which the lease ended may miss it; the next must not. 2 ms: resolution of the server's clock.
    assert bounded_recovery(claimable_after_s, within_s=0.150 + 2 * sweep_s + 0.002) == []
    assert last_s - not_yet_s >= 0.148, "not before the lease has ended"


@pytest.mark.law("I4")
def test_a_consumer_that_renews_keeps_its_tasks(queue: Queue) -> None:
    queue.enqueue("a")
    consumer = queue.consumer()
    (claimed,) = consumer.claim()
    for _ in range(3):
        queue.client.zincrby(queue.keys.consumers, -50_000, "w1")  # 50 of the 60 s pass
        assert consumer.renew().lapsed is False
        assert queue.reaper.sweep().recovered == 0
    consumer.ack(read(claimed))


@pytest.mark.law("I4")
def test_the_lease_is_measured_by_the_server_s_clock_alone(queue: Queue, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    queue.enqueue("a")
    consumer = queue.consumer()
    monkeypatch.setattr(time, "time", lambda: 9e12)
    monkeypatch.setattr(time, "time_ns", lambda: 9 * 10**21)
    assert payloads(consumer.claim()) == ["a"]
    assert queue.reaper.sweep().recovered == 0
    consumer.renew()
    assert queue.lease_left_ms() <= queue.config.lease_ms


def test_each_consumer_has_its_own_lease(queue: Queue) -> None:
    queue.consumer("w1")
    queue.consumer("w2")
    queue.expire("w1")
    assert queue.lease_left_ms("w1") <= 0 < queue.lease_left_ms("w2")


def test_a_consumer_with_nothing_left_leaves_without_a_trace(queue: Queue) -> None:
    queue.enqueue("a")
    consumer = queue.consumer()
    consumer.ack(queue.claim(consumer))
    assert consumer.leave().left
    assert sorted(queue.everything()) == ["tasks:counters", "tasks:protocol"]


@pytest.mark.law("I1", "I7")
def test_a_consumer_that_leaves_acks_what_is_done_and_gives_back_what_was_not_begun(queue: Queue) -> None:
    queue.enqueue("done", "b", "c", "d")
    consumer = queue.consumer()
    done, *unbegun = consumer.claim(3)
    departure = consumer.leave([done.number, 4711], [each.number for each in unbegun])
    assert departure == (True, [4711])
    assert payloads(queue.pending()) == ["b", "c", "d"]
    assert queue.counters() == {"enqueued": 4, "completed": 1}
    assert queue.rings()


@pytest.mark.law("I1")
def test_a_claim_that_came_late_is_held_by_no_consumer_that_has_left(queue: Queue) -> None:
    queue.enqueue("late")
    consumer = queue.consumer()
    number = consumer.reserve(1)
    consumer.leave()
    assert not consumer.claim_waiting(number, 1).claimed
    assert payloads(queue.pending()) == ["late"]


@pytest.mark.law("I2")
def test_a_consumer_that_leaves_with_tasks_frees_them_for_recovery_at_once(queue: Queue) -> None:
    queue.enqueue("a")
    consumer = queue.consumer()
    consumer.claim()
    assert not consumer.leave().left
    assert queue.reaper.sweep().recovered == 1
    assert payloads(queue.pending()) == ["a"]


def test_a_lease_in_seconds_or_days_is_kept_in_milliseconds(queue: Queue) -> None:
    a_year_ms = 365 * 86_400_000
    longest = queue.configured(lease_ms=a_year_ms)
    longest.consumer()
    assert abs(queue.lease_left_ms() - a_year_ms) < 60_000
    assert dataclasses.asdict(longest.config)["lease_ms"] == a_year_ms
