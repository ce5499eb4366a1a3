"""The monitor: it shows a current reading, and reports when it cannot read."""

import json
import re
import signal
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import Any

import falcon.testing
import pytest
import redis
from playwright.sync_api import Browser, Page, expect
from prometheus_client import CollectorRegistry, Metric, generate_latest
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector
from support.browsing import browser as _  # noqa: F401 - the fixture `browser`
from support.processes.over_http import assert_problem, exchange, served
from support.queue_fixtures import Queue
from support.waiting import wait_until
from zeroloss.reference.http.readiness import connect_probe
from zeroloss.reference.monitor.app import create_app
from zeroloss.reference.monitor.metrics import metrics
from zeroloss.reference.stats.gauges import ConsumerReading, Reading
from zeroloss.system.servers import Server


def monitor_of(queue: Queue, **settings: Any) -> falcon.testing.TestClient:
    config = queue.configured(**settings).config
    return falcon.testing.TestClient(create_app(connect_probe(config), config))


@pytest.fixture
def busy_queue(queue: Queue) -> Queue:
    """A queue with three tasks pending, one held by w1, one dead-lettered and one completed."""
    return make_busy(queue)


def make_busy(queue: Queue) -> Queue:
    queue.dead_lettered()
    queue.enqueue(1, 2, 3, 4, 5)
    worker = queue.consumer("w1")
    worker.ack(queue.claim(worker))
    queue.claim(worker)
    return queue


# /stats


def test_stats_is_the_reading_as_json(busy_queue: Queue) -> None:
    answer = monitor_of(busy_queue).simulate_get("/stats")
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["cache-control"] == "no-store"
    stats = answer.json
    assert (stats["pending"], stats["processing"], stats["delayed"], stats["dead_letter"]) == (3, 1, 0, 1)
    assert (stats["counters"]["enqueued"], stats["counters"]["completed"]) == (6, 1)
    (consumer,) = stats["consumers"]
    assert (consumer["name"], consumer["holding"]) == ("w1", 1)
    assert stats["oldest_pending_age_ms"] >= 0


def test_stats_is_a_503_problem_where_redis_is_down(queue: Queue, dead_port: int) -> None:
    answer = monitor_of(queue, redis_url=f"redis://127.0.0.1:{dead_port}/0").simulate_get("/stats")
    assert_problem(answer, 503, "Redis does not answer", "refused", kind="redis-unavailable")
    assert int(answer.headers["retry-after"]) > 0


def test_stats_is_a_503_problem_within_seconds_where_redis_hangs(open_own_server: Callable[..., Server]) -> None:
    server = open_own_server(appendfsync=None)
    with redis.Redis.from_url(server.url) as client:
        monitor = monitor_of(Queue(client, server.url))
        assert monitor.simulate_get("/stats").status_code == 200
        server.pause()
        assert_problem(monitor.simulate_get("/stats"), 503, kind="redis-unavailable")
        server.resume()
        assert monitor.simulate_get("/stats").status_code == 200


# /metrics

UP = "# HELP zeroloss_up 1 where Redis answers\n# TYPE zeroloss_up gauge\nzeroloss_up "


def metrics_of(monitor: falcon.testing.TestClient) -> dict[str, float]:
    answer = monitor.simulate_get("/metrics")
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/plain; version=")
    return {
        sample.name + "".join(f"[{value}]" for value in sample.labels.values()): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }


def test_metrics_are_the_reading_for_prometheus(busy_queue: Queue) -> None:
    monitor = monitor_of(busy_queue)
    assert monitor.simulate_get("/metrics").text.startswith(f"{UP}1.0\n")
    shown = metrics_of(monitor)
    assert shown["zeroloss_up"] == 1
    states = {state: shown[f"zeroloss_tasks[{state}]"] for state in ("pending", "processing", "delayed", "dead_letter")}
    assert states == {"pending": 3, "processing": 1, "delayed": 0, "dead_letter": 1}
    assert (shown["zeroloss_enqueued_total"], shown["zeroloss_completed_total"]) == (6, 1)
    assert (shown["zeroloss_consumers"], shown["zeroloss_tasks_awaiting_recovery"]) == (1, 0)


def test_metrics_of_a_redis_that_is_down_are_that_it_is_down_and_nothing_else(queue: Queue, dead_port: int) -> None:
    monitor = monitor_of(queue, redis_url=f"redis://127.0.0.1:{dead_port}/0")
    assert metrics_of(monitor) == {"zeroloss_up": 0}
    assert monitor.simulate_get("/metrics").text == f"{UP}0.0\n"


def test_a_queue_of_another_protocol_is_shown_as_far_as_it_can_be_read(queue: Queue) -> None:
    """The monitor only reads; the producer and workers refuse such a queue."""
    queue.client.set(queue.keys.protocol, "1")
    queue.client.lpush(queue.keys.dead_letter, "as the first protocol had it")
    monitor = monitor_of(queue)
    stats = monitor.simulate_get("/stats")
    assert (stats.status_code, stats.json["pending"], stats.json["dead_letter"]) == (200, 0, None)
    assert metrics_of(monitor)["zeroloss_up"] == 1


def exposed(reading: Reading) -> str:
    """Return the reading in Prometheus's text format."""

    class Given(Collector):
        def collect(self) -> Iterable[Metric]:
            return metrics(reading)

    registry = CollectorRegistry()
    registry.register(Given())
    return generate_latest(registry).decode()


@pytest.mark.parametrize("busy", [True, False], ids=["busy", "idle"])
def test_each_metric_says_what_it_is_in_seconds_and_tasks(busy: bool) -> None:
    worker = ConsumerReading(name="w1", holding=2, lease_left_ms=8_000, heartbeat_age_ms=1_500)
    reading = Reading(
        time_ms=0,
        pending=3,
        processing=4,
        awaiting_recovery=2,
        delayed=5,
        dead_letter=6,
        counters={"enqueued": 7, "dead_lettered": 8},
        consumers=[replace(worker, heartbeat_age_ms=0), worker] if busy else [],
        oldest_pending_age_ms=2_250 if busy else None,
        pending_by_priority={"high": 1, "default": 2, "low": None},
    )
    expected = f"""\
# HELP zeroloss_tasks Tasks in the queue by where they lie
# TYPE zeroloss_tasks gauge
zeroloss_tasks{{state="pending"}} 3.0
zeroloss_tasks{{state="processing"}} 4.0
zeroloss_tasks{{state="delayed"}} 5.0
zeroloss_tasks{{state="dead_letter"}} 6.0
# HELP zeroloss_pending_tasks Tasks that wait for a worker
# TYPE zeroloss_pending_tasks gauge
zeroloss_pending_tasks{{priority="high"}} 1.0
zeroloss_pending_tasks{{priority="default"}} 2.0
# HELP zeroloss_tasks_awaiting_recovery Tasks in processing whose consumer's lease has ended
# TYPE zeroloss_tasks_awaiting_recovery gauge
zeroloss_tasks_awaiting_recovery 2.0
# HELP zeroloss_consumers Consumers with a living lease
# TYPE zeroloss_consumers gauge
zeroloss_consumers {"2.0" if busy else "0.0"}
# HELP zeroloss_heartbeat_age_seconds_max Age of the oldest heartbeat among the living consumers
# TYPE zeroloss_heartbeat_age_seconds_max gauge
zeroloss_heartbeat_age_seconds_max {"1.5" if busy else "0.0"}
# HELP zeroloss_oldest_pending_age_seconds Age of the oldest task that is next to be claimed
# TYPE zeroloss_oldest_pending_age_seconds gauge
zeroloss_oldest_pending_age_seconds {"2.25" if busy else "0.0"}
# HELP zeroloss_enqueued_total Tasks enqueued since the queue began
# TYPE zeroloss_enqueued_total counter
zeroloss_enqueued_total 7.0
# HELP zeroloss_dead_lettered_total Tasks dead-lettered since the queue began
# TYPE zeroloss_dead_lettered_total counter
zeroloss_dead_lettered_total 8.0
"""
    assert exposed(reading) == expected


@pytest.mark.parametrize("name", ["pending", "delayed", "dead_letter", "consumers", "counters", "presence"])
def test_a_key_of_another_type_takes_its_own_metrics_away_and_no_others(busy_queue: Queue, name: str) -> None:
    monitor = monitor_of(busy_queue)
    before = metrics_of(monitor)
    gone = {
        "pending": {
            "zeroloss_tasks[pending]",
            "zeroloss_pending_tasks[default]",
            "zeroloss_oldest_pending_age_seconds",
        },
        "delayed": {"zeroloss_tasks[delayed]"},
        "dead_letter": {"zeroloss_tasks[dead_letter]"},
        "consumers": {
            "zeroloss_tasks[processing]",
            "zeroloss_tasks_awaiting_recovery",
            "zeroloss_consumers",
            "zeroloss_heartbeat_age_seconds_max",
        },
        "counters": {name for name in before if name.endswith("_total")},
        "presence": set(),
    }[name]
    key = getattr(busy_queue.keys, name)
    busy_queue.client.delete(key)
    busy_queue.client.set(key, "a string")
    after = metrics_of(monitor)
    assert after["zeroloss_up"] == 1
    assert set(before) - set(after) == gone
    changing = {"zeroloss_oldest_pending_age_seconds", "zeroloss_heartbeat_age_seconds_max"}
    assert {name: after[name] for name in after if name not in changing} == {
        name: before[name] for name in before if name in after and name not in changing
    }
    stats = monitor.simulate_get("/stats")
    assert stats.status_code == 200
    assert all(
        sentence.startswith(f"{key} cannot be read: WRONGTYPE") for sentence in stats.json["unreadable"].values()
    )


def test_zeroloss_up_is_1_where_redis_answers_with_a_refusal(busy_queue: Queue) -> None:
    busy_queue.client.acl_setuser("blind", enabled=True, nopass=True, commands=["+@all", "-time"], keys=["*"])
    url = busy_queue.config.redis_url.replace("redis://", "redis://blind:any@")
    assert metrics_of(monitor_of(busy_queue, redis_url=url)) == {"zeroloss_up": 1}
    busy_queue.client.acl_deluser("blind")


# The rest


def test_healthz_speaks_for_the_process_alone(queue: Queue, dead_port: int) -> None:
    monitor = monitor_of(queue, redis_url=f"redis://127.0.0.1:{dead_port}/0")
    answer = monitor.simulate_get("/healthz")
    assert answer.json == {"status": "ok"}
    assert answer.headers["content-type"] == "application/json"


def test_an_unknown_route_and_a_wrong_method_are_problems(queue: Queue) -> None:
    monitor = monitor_of(queue)
    assert_problem(monitor.simulate_get("/statz"), 404, "/statz")
    assert_problem(monitor.simulate_post("/stats"), 405, "GET")


def test_nothing_on_the_page_comes_from_elsewhere(queue: Queue) -> None:
    page = monitor_of(queue).simulate_get("/")
    assert page.headers["content-type"].startswith("text/html")
    assert "default-src 'none'" in page.headers["content-security-policy"]
    assert "</html>" in page.text
    assert re.findall(r"https?://(?!www\.w3\.org/)", page.text) == []


def test_the_monitor_process_reads_the_queue_and_ends_with_status_0_on_sigterm(queue: Queue) -> None:
    with served("monitor", queue.config.redis_url) as monitor:
        status, _, body = exchange(monitor.port, b"GET /stats HTTP/1.1\r\n\r\n")
        assert (status, json.loads(body)["pending"]) == (200, 0)
        monitor.process.send_signal(signal.SIGTERM)
        assert monitor.process.wait(timeout=10) == 0


# The page in a browser


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    with browser.new_page() as opened:
        errors: list[str] = []
        opened.on("pageerror", lambda error: errors.append(str(error)))
        yield opened
        assert errors == []


def shows(page: Page, **texts: str) -> None:
    for name, text in texts.items():
        expect(page.locator(f"#{name}")).to_have_text(text, timeout=15_000)


def test_the_page_shows_the_counts_and_the_live_consumers(page: Page, busy_queue: Queue) -> None:
    with served("monitor", busy_queue.config.redis_url, lease_ms=60_000) as monitor:
        page.goto(monitor.url)
        shows(page, pending="3", processing="1", delayed="0", dead_letter="1", live="1")
        row = page.locator("#consumers tbody tr")
        expect(row).to_have_count(1)
        expect(row).to_contain_text("w1")
        expect(page.locator("#oldest")).to_have_text(re.compile(r"\d s$"))
        expect(page.locator("#banner")).to_be_hidden()
        expect(page.locator("#counters")).to_contain_text("enqueued6")


def test_the_page_follows_the_queue_without_a_reload(page: Page, busy_queue: Queue) -> None:
    with served("monitor", busy_queue.config.redis_url) as monitor:
        page.goto(monitor.url)
        shows(page, pending="3")
        busy_queue.enqueue(*range(1_000))
        shows(page, pending="1,003")
        busy_queue.client.hincrby(busy_queue.keys.counters, "completed", 500)
        expect(page.locator("#throughput")).to_have_text(re.compile(r"^[1-9]"), timeout=15_000)


def test_an_unreadable_figure_is_a_sentence_in_its_tile_and_the_rest_of_the_page_stays(
    page: Page, busy_queue: Queue
) -> None:
    client, keys = busy_queue.client, busy_queue.keys
    with served("monitor", busy_queue.config.redis_url) as monitor:
        page.goto(monitor.url)
        shows(page, pending="3", processing="1", dead_letter="1", live="1")
        client.rename(keys.pending, "aside")
        client.set(keys.pending, "a string")
        client.hset(keys.counters, "completed", "many")
        shows(page, pending="–", oldest="–", throughput="–", processing="1", delayed="0", dead_letter="1", live="1")
        expect(page.locator("#pending + small")).to_contain_text("tasks:pending cannot be read: WRONGTYPE")
        expect(page.locator("#throughput + small")).to_contain_text("'many' for completed")
        expect(page.locator("#delayed + small")).to_have_text("scheduled, or waiting for a retry")
        expect(page.locator("#banner")).to_be_hidden()
        client.rename("aside", keys.pending)
        client.hset(keys.counters, "completed", 1)
        client.zadd(keys.consumers, {"w1": "inf"})
        shows(page, pending="3", live="1")
        expect(page.locator("#pending + small")).to_have_text("waiting for a worker")
        expect(page.locator("#live + small")).to_contain_text("the score inf for w1, which is not a time")
        client.delete(keys.consumers)
        client.set(keys.consumers, "a string")
        shows(page, pending="3", live="–", processing="–", nobody="–")


def test_the_page_says_when_no_worker_lives_and_how_many_tasks_await_recovery(page: Page, busy_queue: Queue) -> None:
    busy_queue.expire("w1")
    with served("monitor", busy_queue.config.redis_url) as monitor:
        page.goto(monitor.url)
        shows(page, processing="1", live="0", recovery="1 awaiting recovery")
        expect(page.locator("#nobody")).to_contain_text("No worker is alive")


def test_the_page_shows_a_consumers_name_as_text_whatever_it_is(page: Page, queue: Queue) -> None:
    queue.consumer("<img src=x onerror=alert(1)>")
    with served("monitor", queue.config.redis_url) as monitor:
        page.goto(monitor.url)
        expect(page.locator("#consumers tbody td").first).to_have_text("<img src=x onerror=alert(1)>")


def test_the_page_says_that_redis_is_down_and_shows_no_numbers_and_recovers(
    page: Page, open_own_server: Callable[..., Server]
) -> None:
    server = open_own_server(appendfsync="always")
    with redis.Redis.from_url(server.url) as client:
        make_busy(Queue(client, server.url))
    with served("monitor", server.url) as monitor:
        page.goto(monitor.url)
        shows(page, pending="3")
        server.kill()
        expect(page.get_by_role("alert")).to_contain_text("Redis is down", timeout=15_000)
        shows(page, pending="–", processing="–", delayed="–", dead_letter="–", live="–", throughput="–", oldest="–")
        assert "Redis is down" in page.title()
        server.start()
        expect(page.get_by_role("alert")).to_be_hidden(timeout=15_000)
        shows(page, pending="3", processing="1")


def test_the_page_says_that_the_monitor_is_gone_and_recovers(page: Page, busy_queue: Queue) -> None:
    with served("monitor", busy_queue.config.redis_url) as monitor:
        page.goto(monitor.url)
        shows(page, pending="3")
    expect(page.get_by_role("alert")).to_contain_text("The monitor does not answer", timeout=15_000)
    shows(page, pending="–", dead_letter="–")
    with served("monitor", busy_queue.config.redis_url, port=monitor.port):
        shows(page, pending="3")
        wait_until(lambda: page.locator("#banner").is_hidden())
