"""Data that workers' renewals leave in Redis for the monitor: identities, counts per minute, vanished workers."""

import json
import time
from typing import Any

import pytest
from support.queue_fixtures import Queue, entry
from zeroloss.reference.monitor.series import Series, SeriesReading, quantile
from zeroloss.reference.queue.consumer import Consumer
from zeroloss.reference.queue.consuming.registry import Report
from zeroloss.reference.queue.enqueuing.submission import Submission
from zeroloss.reference.queue.lua import SERIES_KEPT_S, VANISHED_MAX
from zeroloss.reference.queue.task import Task
from zeroloss.reference.stats.gauges import Gauges
from zeroloss.reference.worker.delivery import Delivery
from zeroloss.reference.worker.journal import RUNNING_MAX, Journal


def minute_of(queue: Queue) -> int:
    return int(queue.client.time()[0]) // 60


def renewed(queue: Queue, name: str = "w1", **counts: int) -> Consumer:
    """Return a consumer that has renewed with a report."""
    consumer = queue.consumer(name)
    consumer.renew(Report('{"host":"h1","version":"9","up_ms":5000}', minute_of(queue), counts))
    return consumer


def series_of(queue: Queue) -> SeriesReading:
    return Series(queue.own_client, queue.config).read(5)


def info_of(queue: Queue) -> dict[bytes, bytes]:
    found: Any = queue.client.hgetall(queue.keys.info)
    return found


def vanished(queue: Queue) -> list[dict[str, str]]:
    records: Any = queue.client.xrange(queue.keys.vanished)
    return [{name.decode(): text.decode() for name, text in fields.items()} for _, fields in records]


# Identity of a worker


def test_a_renewal_says_who_its_consumer_is_and_the_gauges_show_it(queue: Queue) -> None:
    renewed(queue)
    (consumer,) = Gauges(queue.own_client, queue.config).read().consumers or []
    assert (consumer.name, consumer.host, consumer.version) == ("w1", "h1", "9")
    assert 5_000 <= (consumer.age_ms or 0) < 15_000


def test_the_words_of_a_consumer_go_in_the_step_in_which_it_leaves(queue: Queue) -> None:
    consumer = renewed(queue)
    assert set(info_of(queue)) == {b"w1"}
    assert consumer.leave().left
    assert info_of(queue) == {}
    assert vanished(queue) == []


def test_a_recovered_consumer_is_noted_as_vanished_with_the_number_of_its_tasks(queue: Queue) -> None:
    queue.push(entry("a"), entry("b", recoveries=queue.config.max_recoveries))
    consumer = renewed(queue)
    consumer.claim(2)
    assert queue.kill(consumer) == 2
    (record,) = vanished(queue)
    assert (record["consumer"], record["recovered"], record["dead_lettered"]) == ("w1", "1", "1")
    assert json.loads(record["about"].partition(" ")[2])["host"] == "h1"
    assert info_of(queue) == {}


def test_a_consumer_that_left_in_order_is_not_noted_when_its_parent_recovers_from_it(queue: Queue) -> None:
    renewed(queue).leave()
    assert queue.reaper.recover("w1", is_dead=True) == 0
    assert vanished(queue) == []


def test_the_list_of_the_vanished_is_bounded(queue: Queue) -> None:
    for number in range(VANISHED_MAX + 20):
        queue.kill(queue.consumer(f"w{number}"))
    records = vanished(queue)
    assert len(records) == VANISHED_MAX
    assert records[-1]["consumer"] == f"w{VANISHED_MAX + 19}"


@pytest.mark.law("I4")
@pytest.mark.parametrize("key", ["info", "vanished", "series", "counters"])
def test_a_key_of_another_type_for_the_monitor_stops_no_renewal_no_recovery_and_no_leave(
    queue: Queue, key: str
) -> None:
    name = queue.keys.series(minute_of(queue)) if key == "series" else getattr(queue.keys, key)
    queue.enqueue(1)
    consumer = queue.consumer("dead")
    queue.claim(consumer)
    queue.client.delete(name)
    queue.client.set(name, "a string")
    renewed(queue, "dead", **{"wait:5": 1})
    if key != "counters":  # a recovery needs this key
        assert queue.kill(consumer) == 1
        assert len(queue.pending()) == 1
    assert renewed(queue, "w2", **{"run:5": 1}).leave().left


def test_the_words_of_a_consumer_that_is_not_registered_are_removed_within_moments(queue: Queue) -> None:
    """A reaper of an older release, or a log that lost its end, may leave such entries."""
    queue.client.hset(queue.keys.info, "ghost", "1 {}")
    queue.client.zadd(queue.keys.consumers, {"dead": 1})
    queue.client.hset(queue.keys.info, "dead", "1 {}")
    renewed(queue)
    assert set(info_of(queue)) == {b"dead", b"w1"}


# The series


def test_the_first_renewal_in_ten_seconds_notes_what_redis_holds_and_later_ones_do_not(queue: Queue) -> None:
    queue.enqueue(1, 2, 3)
    renewed(queue)
    queue.enqueue(4)
    renewed(queue, "w2")
    points = series_of(queue).points
    assert points[0].counters["enqueued"] == 3
    assert points[0].pending == {"high": 0, "default": 3, "low": 0}
    assert 0 <= (points[0].oldest_ms["default"] or 0) < 10_000
    assert points[0].oldest_ms["high"] is None
    assert len(points) <= 2  # two if a slot of ten seconds ended in between


def test_counts_of_all_workers_are_summed_and_expire(queue: Queue) -> None:
    minute = minute_of(queue)
    for name in ("w1", "w2"):
        queue.consumer(name).renew(Report("", minute, {"wait:5": 10, "run:20": 3}))
    key = queue.keys.series(minute)
    assert queue.client.hget(key, "wait:5") == b"20"
    assert 0 < queue.client.ttl(key) <= SERIES_KEPT_S
    (latency,) = [each for each in series_of(queue).latencies if each.time_ms == minute * 60_000]
    assert (latency.wait_p50, latency.run_p95) == (3.5, 19.5)


@pytest.mark.parametrize("text", ["", "x", "1 2 3", "inf " * 15, "9" * 5_000, "- " * 15])
def test_a_point_that_is_invalid_is_left_out_and_the_others_stay(queue: Queue, text: str) -> None:
    renewed(queue)
    key = queue.keys.series(minute_of(queue))
    queue.client.hset(key, mapping={"9": text, "wait:x": "1", "wait:5": "many", "junk": "1"})
    reading = series_of(queue)
    assert len(reading.points) == 1
    assert reading.unreadable == {}


def test_a_series_of_another_type_is_a_sentence_and_no_error(queue: Queue) -> None:
    queue.client.set(queue.keys.series(minute_of(queue)), "a string")
    assert "cannot be read: WRONGTYPE" in series_of(queue).unreadable["series"]


def test_a_quantile_is_linear_within_its_bucket() -> None:
    assert quantile({}, 0.5) is None
    assert quantile({10.0: 10, 20.0: 10}, 0.5) == 10.0
    assert quantile({10.0: 10, 20.0: 10}, 0.75) == 15.0
    assert quantile({10.0: 1, float("inf"): 9}, 0.95) == 10.0


# The journal of a worker process


def delivery(task: bytes, *, started: float | None = None, seconds: float | None = None) -> Delivery:
    made = Delivery(Task(task, 7))
    made.started, made.seconds = started, seconds
    return made


def test_a_journal_counts_the_wait_of_first_attempts_only_by_redis_s_clock() -> None:
    journal = Journal(5)
    now = time.monotonic()
    journal.hear(now, 1_000_000)
    started = now - 1.0  # 999,000 ms by Redis's clock
    journal.ended(delivery(entry(since=998_997), started=started, seconds=0.015))
    journal.ended(delivery(entry(since=0, attempt=2), started=started, seconds=0.015))
    report = journal.report([])
    assert report.counts == {"wait:5": 1, "run:20": 2}
    assert report.minute == 16
    assert journal.report([]).counts == {}


def test_a_journal_keeps_its_counts_until_it_knows_redis_s_clock() -> None:
    journal = Journal(5)
    journal.ended(delivery(entry(), started=1.0, seconds=0.5))
    assert journal.report([])[1:] == (0, {})
    journal.hear(time.monotonic(), 1_000_000)
    assert journal.report([]).counts == {"run:500": 1}


def test_a_journal_names_what_runs_longest_first_and_not_more_than_a_few() -> None:
    now = time.monotonic()
    running = [delivery(entry(task_type=f"t{n}"), started=now - n) for n in range(1, RUNNING_MAX + 10)]
    idle = [delivery(entry()), delivery(entry(), started=now, seconds=1.0)]
    about = json.loads(Journal(5).report([*running, *idle]).about)
    assert len(about["running"]) == RUNNING_MAX
    number, task_type, running_ms = about["running"][0]
    assert (number, task_type) == (7, f"t{RUNNING_MAX + 9}")
    assert running_ms >= (RUNNING_MAX + 9) * 1000


# The age of waiting tasks


def test_the_age_of_a_scheduled_task_counts_from_the_time_at_which_it_is_due(queue: Queue) -> None:
    queue.enqueuer.enqueue(Submission("1", due="+600000"))
    (held,) = queue.delayed()
    due_ms = queue.client.zscore(queue.keys.delayed, held)
    assert Task(held).enqueued_at == due_ms
    now_ms = int(queue.client.time()[0]) * 1000
    assert 590_000 < due_ms - now_ms < 610_000


def test_a_reader_without_a_worker_s_words_shows_none_of_them(queue: Queue) -> None:
    queue.consumer()
    queue.client.hset(queue.keys.info, "w1", "nonsense \xff {")
    (consumer,) = Gauges(queue.own_client, queue.config).read().consumers or []
    assert (consumer.host, consumer.age_ms, consumer.running) == ("", None, [])
