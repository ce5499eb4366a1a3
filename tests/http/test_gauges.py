"""The monitor's readings: places and holders of tasks, read without any change."""

import time
from dataclasses import asdict
from typing import Any

import pytest
import redis
from support.queue_fixtures import Queue, entry
from zeroloss.reference.stats.gauges import COUNTERS, Gauges, Reading


def read(queue: Queue) -> Reading:
    return Gauges(queue.own_client, queue.config).read()


def test_an_empty_queue_is_all_zeros(queue: Queue) -> None:
    reading = read(queue)
    assert (reading.pending, reading.processing, reading.delayed, reading.dead_letter) == (0, 0, 0, 0)
    assert reading.counters == dict.fromkeys(COUNTERS, 0)
    assert (reading.consumers, reading.oldest_pending_age_ms) == ([], None)


def test_each_task_is_counted_where_it_lies(queue: Queue) -> None:
    queue.dead_lettered()
    queue.enqueue(1, 2, 3, 4, 5, 6)
    worker = queue.consumer("w1")
    worker.fail(queue.claim(worker), "ValueError: no")
    queue.claim(worker)
    queue.claim(worker)
    reading = read(queue)
    assert (reading.pending, reading.processing, reading.delayed, reading.dead_letter) == (3, 2, 1, 1)
    assert reading.awaiting_recovery == 0


def test_the_counters_are_those_of_the_queue(queue: Queue) -> None:
    queue.enqueue(1, 2)
    worker = queue.consumer("w1")
    worker.ack(queue.claim(worker))
    assert read(queue).counters == {**dict.fromkeys(COUNTERS, 0), "enqueued": 2, "completed": 1}


def test_a_live_consumer_is_shown_with_what_it_holds_and_the_age_of_its_heartbeat(queue: Queue) -> None:
    queue.enqueue(1)
    queue.claim(queue.consumer("w1"))
    queue.client.zincrby(queue.keys.consumers, -5_000, "w1")  # as if it had renewed 5 s ago
    (consumer,) = read(queue).consumers
    assert (consumer.name, consumer.holding) == ("w1", 1)
    assert 5_000 <= consumer.heartbeat_age_ms < 15_000
    assert consumer.lease_left_ms + consumer.heartbeat_age_ms == queue.config.lease_ms


def test_a_consumer_whose_lease_ended_is_not_live_and_its_tasks_await_recovery(queue: Queue) -> None:
    queue.enqueue(1, 2)
    queue.claim(queue.consumer("dead"))
    queue.claim(queue.consumer("live"))
    queue.expire("dead")
    reading = read(queue)
    assert [consumer.name for consumer in reading.consumers] == ["live"]
    assert (reading.processing, reading.awaiting_recovery) == (2, 1)


def test_consumers_are_shown_by_name_and_what_all_dead_consumers_hold_awaits_recovery(queue: Queue) -> None:
    queue.enqueue(1, 2, 3)
    for name in ("c", "a", "dead 1", "b", "dead 2"):
        consumer = queue.consumer(name)
        if name.startswith("dead"):
            queue.claim(consumer)
    queue.expire("dead 1")
    queue.expire("dead 2")
    reading = read(queue)
    assert [consumer.name for consumer in reading.consumers] == ["a", "b", "c"]
    assert reading.awaiting_recovery == 2


def test_all_is_read_at_one_moment_of_the_servers_clock(queue: Queue) -> None:
    queue.consumer("w1")
    before_s, before_us = queue.client.time()
    reading = read(queue)
    after_s, after_us = queue.client.time()
    assert before_s * 1000 + before_us // 1000 <= reading.time_ms <= after_s * 1000 + after_us // 1000
    (consumer,) = reading.consumers
    assert all(isinstance(ms, int) for ms in (reading.time_ms, consumer.lease_left_ms, consumer.heartbeat_age_ms))


def test_the_oldest_pending_task_is_the_one_that_is_claimed_next(queue: Queue) -> None:
    queue.push(entry("old", since=1))
    queue.enqueue("new")
    assert (read(queue).oldest_pending_age_ms or 0) > 1_000_000_000_000


def test_waiting_tasks_are_counted_and_aged_by_priority(queue: Queue) -> None:
    queue.push(entry("old", since=1))
    queue.client.rpush(queue.keys.pending_low, entry("low", priority="l"))
    queue.client.set(queue.keys.pending_high, "a string")
    reading = read(queue)
    assert reading.pending_by_priority == {"high": None, "default": 1, "low": 1}
    ages = reading.oldest_by_priority_ms
    assert ages["high"] is None
    assert (ages["default"] or 0) > (ages["low"] or 0) > 0


def test_a_paused_queue_is_shown_as_paused(queue: Queue) -> None:
    assert read(queue).paused is False
    queue.client.set(queue.keys.paused, "1")
    assert read(queue).paused is True


def test_a_clock_that_went_back_makes_no_negative_age(queue: Queue) -> None:
    queue.push(entry("a", since=int(time.time() * 1000) + 3_600_000))
    assert read(queue).oldest_pending_age_ms == 0


@pytest.mark.parametrize("element", [b"\xff", b"nonsense", b"[]", b'{"id":"a"}', b"[" * 100_000])
def test_an_element_that_is_not_a_task_has_no_age_and_is_counted(queue: Queue, element: bytes) -> None:
    queue.client.rpush(queue.keys.pending, element)
    reading = read(queue)
    assert (reading.pending, reading.oldest_pending_age_ms) == (1, None)


def test_a_consumer_with_a_name_that_is_not_text_is_shown_all_the_same(queue: Queue) -> None:
    seconds, _ = queue.client.time()
    queue.client.zadd(queue.keys.consumers, {b"\xff": (seconds + 60) * 1000})
    queue.client.hset(b"tasks:processing:\xff", "1", "x")
    (consumer,) = read(queue).consumers
    assert (consumer.name, consumer.holding) == ("\\xff", 1)


def test_reading_changes_nothing(queue: Queue) -> None:
    queue.enqueue(1, 2)
    queue.claim(queue.consumer("w1"))
    before = queue.everything()
    read(queue)
    assert queue.everything() == before


def test_a_redis_that_is_down_gives_an_error_and_no_reading(queue: Queue, dead_port: int) -> None:
    nowhere = queue.configured(redis_url=f"redis://127.0.0.1:{dead_port}/0")
    with pytest.raises(redis.ConnectionError):
        read(nowhere)


# An unreadable key affects only its own gauges. A number that was not read is None.

EXPECTED = {
    "pending": ({"pending", "oldest_pending_age_ms"}, "tasks:pending"),
    "delayed": ({"delayed"}, "tasks:delayed"),
    "dead_letter": ({"dead_letter"}, "tasks:dead_letter"),
    "consumers": ({"consumers", "processing", "awaiting_recovery"}, "tasks:consumers"),
    "counters": ({"counters"}, "tasks:counters"),
    "processing": ({"processing"}, "tasks:processing:w1"),
    "info": ({"info"}, "tasks:info"),
    "presence": (set(), ""),
}


@pytest.fixture
def busy(queue: Queue) -> Queue:
    """A queue with one task pending, one held by w1, one delayed and one dead-lettered."""
    queue.dead_lettered()
    queue.enqueue(1, 2, 3)
    worker = queue.consumer("w1")
    worker.fail(queue.claim(worker), "ValueError: no")
    queue.claim(worker)
    return queue


def shown(reading: Reading) -> dict[str, Any]:
    """Return the part of a reading that does not change with time."""
    members = {**asdict(reading), "consumers": reading.consumers and [each.name for each in reading.consumers]}
    changing = ("time_ms", "unreadable", "oldest_by_priority_ms", "pending_by_priority")
    return {name: value for name, value in members.items() if name not in changing and not name.endswith("_age_ms")}


@pytest.mark.parametrize("name", EXPECTED)
def test_a_key_of_another_type_harms_only_the_gauges_that_are_read_from_it(busy: Queue, name: str) -> None:
    before = shown(read(busy))
    harmed, key = EXPECTED[name]
    key = key or busy.keys.presence
    busy.client.delete(key)
    busy.client.set(key, "a string")
    reading = read(busy)
    assert set(reading.unreadable) == harmed
    for gauge in harmed:
        assert reading.unreadable[gauge].startswith(f"{key} cannot be read: WRONGTYPE")
        if gauge == "counters":
            assert set(reading.counters.values()) == {None}
        elif gauge == "info":
            assert [consumer.host for consumer in reading.consumers or []] == [""]
        else:
            assert getattr(reading, gauge) is None
    after = shown(reading)
    assert {name: after[name] for name in after if name not in harmed} == {
        name: before[name] for name in before if name not in harmed
    }


def test_the_hash_of_a_dead_consumer_that_is_of_another_type_leaves_its_tasks_unknown(busy: Queue) -> None:
    busy.expire("w1")
    busy.client.delete(busy.keys.processing("w1"))
    busy.client.set(busy.keys.processing("w1"), "a string")
    reading = read(busy)
    assert set(reading.unreadable) == {"processing", "awaiting_recovery"}
    assert (reading.processing, reading.awaiting_recovery, reading.consumers) == (None, None, [])


def test_all_keys_of_another_type_leave_a_reading_without_numbers(busy: Queue) -> None:
    for key in (busy.keys.pending, busy.keys.delayed, busy.keys.dead_letter, busy.keys.consumers, busy.keys.counters):
        busy.client.delete(key)
        busy.client.set(key, "a string")
    reading = read(busy)
    assert (reading.pending, reading.processing, reading.delayed, reading.consumers) == (None, None, None, None)


@pytest.mark.parametrize("value", ["many", "1.5", "1_000", "", "9" * 5_000, "inf"])
def test_a_counter_that_is_not_a_number_is_unknown_and_the_others_stay(busy: Queue, value: str) -> None:
    busy.client.hset(busy.keys.counters, "failed", value)
    reading = read(busy)
    assert (reading.counters["failed"], reading.counters["enqueued"]) == (None, 4)
    assert set(reading.unreadable) == {"counters"}
    assert "failed" in reading.unreadable["counters"]
    assert "not a whole number" in reading.unreadable["counters"]


def test_a_lease_that_never_ends_is_shown_without_its_times(busy: Queue) -> None:
    busy.client.zadd(busy.keys.consumers, {"w1": "inf", "w2": "-inf"})
    busy.client.zadd(busy.keys.delayed, {"x": "inf"})
    reading = read(busy)
    (consumer,) = reading.consumers or []
    assert (consumer.name, consumer.holding, consumer.lease_left_ms, consumer.heartbeat_age_ms) == ("w1", 1, None, None)
    assert reading.unreadable == {
        "consumers": "tasks:consumers has the score inf for w1, which is not a time.",
    }
    assert (reading.processing, reading.awaiting_recovery, reading.delayed) == (1, 0, 2)
