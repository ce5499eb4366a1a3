"""The monitor: what the queue holds and who works on it.

    GET /         a page that refreshes itself every second
    GET /stats    the same as JSON; a 503 problem where Redis does not answer
    GET /metrics  for Prometheus; `zeroloss_up 0` and nothing else where Redis does not answer
    GET /healthz  the process runs

It never shows numbers that it did not just read. What Redis refuses, as it does where a key is of another type, is null
in /stats, which says why in `unreadable`; it is missing in /metrics, and a sentence on the page.
"""

import json
from collections.abc import Iterator
from dataclasses import asdict
from importlib import resources
from typing import Any

import falcon
import redis
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from redis.exceptions import RedisError, ResponseError

from ..http import problems, serving
from ..http.problems import redis_unavailable
from ..http.readiness import Health, connect_probe
from ..queue.config import Config
from ..queue.connection import refuse_old_server
from ..queue.gauges import Gauges, Reading


def create_app(client: redis.Redis, config: Config) -> falcon.App[Any, Any]:
    """The WSGI app. `client` should give up quickly (`readiness.connect_probe`), so that a hung Redis shows at once."""
    return _app(Gauges(client, config))


def _app(gauges: Gauges) -> falcon.App[Any, Any]:
    app = falcon.App()
    problems.install(app)
    app.add_route("/", _Page())
    app.add_route("/stats", _Stats(gauges))
    app.add_route("/metrics", _Metrics(gauges))
    app.add_route("/healthz", Health())
    return app


def serve(config: Config, host: str, port: int) -> None:
    """Serve with waitress until SIGTERM or SIGINT.

    Raises:
        ConfigError: the address cannot be listened on, the URL cannot be used, or the server is too old.
    """
    if config.shards > 1:
        from ..shards.queue import sharded_gauges

        serving.serve("monitor", _app(sharded_gauges(config, connect_probe)), config, host, port)
        return
    refuse_old_server(config)
    serving.serve("monitor", create_app(connect_probe(config), config), config, host, port)


# The page is all there is to it: nothing is loaded from elsewhere, and it talks to this monitor only.
_PAGE_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:; connect-src 'self'"
)


class _Page:
    def __init__(self) -> None:
        self._page = resources.files(__package__).joinpath("monitor.html").read_bytes()

    def on_get(self, _req: falcon.Request, resp: falcon.Response) -> None:
        resp.content_type = falcon.MEDIA_HTML
        resp.set_header("Content-Security-Policy", _PAGE_POLICY)
        resp.data = self._page

    on_head = on_get


class _Stats:
    def __init__(self, gauges: Gauges) -> None:
        self._gauges = gauges

    def on_get(self, _req: falcon.Request, resp: falcon.Response) -> None:
        try:
            reading = self._gauges.read()
        except RedisError as error:
            raise redis_unavailable(error) from None
        resp.content_type = "application/json"
        resp.set_header("Cache-Control", "no-store")
        resp.data = json.dumps(asdict(reading)).encode()

    on_head = on_get


class _Metrics:
    def __init__(self, gauges: Gauges) -> None:
        self._registry = CollectorRegistry()
        self._registry.register(_QueueCollector(gauges))

    def on_get(self, _req: falcon.Request, resp: falcon.Response) -> None:
        resp.content_type = CONTENT_TYPE_LATEST
        resp.data = generate_latest(self._registry)

    on_head = on_get


class _QueueCollector(Collector):
    """Reads the queue at each scrape."""

    def __init__(self, gauges: Gauges) -> None:
        self._gauges = gauges

    def describe(self) -> list[Metric]:
        return []  # without this, registering reads the queue once

    def collect(self) -> Iterator[Metric]:
        try:
            reading = self._gauges.read()
        except RedisError as error:
            answers = isinstance(error, ResponseError)  # a refusal is an answer
            yield GaugeMetricFamily("zeroloss_up", "1 where Redis answers", value=answers)
            return
        yield GaugeMetricFamily("zeroloss_up", "1 where Redis answers", value=1)
        yield from metrics(reading)


def metrics(reading: Reading) -> Iterator[Metric]:
    """The reading for Prometheus: gauges, and a counter for each of `gauges.COUNTERS`; none for what is not known."""
    tasks = GaugeMetricFamily("zeroloss_tasks", "Tasks in the queue by where they lie", labels=["state"])
    for state in ("pending", "processing", "delayed", "dead_letter"):
        if getattr(reading, state) is not None:
            tasks.add_metric([state], getattr(reading, state))
    yield tasks
    for name, text, value in _gauges(reading):
        if value is not None:
            yield GaugeMetricFamily(name, text, value=value)
    for name, count in reading.counters.items():
        if count is not None:
            text = f"Tasks {name.replace('_', '-')} since the queue began"
            yield CounterMetricFamily(f"zeroloss_{name}", text, value=count)


def _gauges(reading: Reading) -> Iterator[tuple[str, str, float | None]]:
    """Name, meaning, and value where it is known."""
    yield (
        "zeroloss_tasks_awaiting_recovery",
        "Tasks in processing whose consumer's lease has ended",
        reading.awaiting_recovery,
    )
    consumers = reading.consumers
    yield "zeroloss_consumers", "Consumers with a living lease", None if consumers is None else len(consumers)
    ages_ms = [consumer.heartbeat_age_ms for consumer in consumers or []]
    known_ms = [age_ms for age_ms in ages_ms if age_ms is not None]
    is_known = consumers is not None and len(known_ms) == len(ages_ms)
    yield (
        "zeroloss_heartbeat_age_seconds_max",
        "Age of the oldest heartbeat among the living consumers",
        max(known_ms, default=0) / 1000 if is_known else None,
    )
    yield (
        "zeroloss_oldest_pending_age_seconds",
        "Age of the oldest task that is next to be claimed",
        None if "oldest_pending_age_ms" in reading.unreadable else (reading.oldest_pending_age_ms or 0) / 1000,
    )
