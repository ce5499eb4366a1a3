"""Check Prometheus queries against the metrics that the monitor and the workers expose."""

from collections.abc import Iterator

import falcon.testing
import promql_parser
import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families
from zeroloss.reference.http.readiness import connect_probe
from zeroloss.reference.monitor.app import create_app
from zeroloss.reference.queue.config import Config
from zeroloss.reference.queue.task import Task
from zeroloss.reference.telemetry.metrics import TaskMetrics
from zeroloss.reference.worker.journal import DEAD_LETTERED, RETRIED, SUCCEEDED
from zeroloss.system.servers import Server

from support.queue_fixtures import entry

Shown = dict[str, list[dict[str, str]]]
"""Name of a sample -> the label sets with which it is exposed."""
OF_PROMETHEUS: Shown = {"up": [{}]}
OF_WORKERS = "zeroloss_task_"
"""Prefix of the workers' metrics. A worker that has run no task exposes none of them; this must not raise an alert."""
ADDED_BY_SCRAPE = {"job", "instance", "queue"}


def exposition(embedded: Server) -> str:
    """Return the metrics of the monitor for an empty queue, and of a worker that has run one task of each outcome."""
    config = Config(redis_url=embedded.url, namespace="deploy")
    of_monitor = falcon.testing.TestClient(create_app(connect_probe(config), config)).simulate_get("/metrics").text
    registry = CollectorRegistry()
    metrics, task = TaskMetrics({"default"}, registry), Task(entry(recoveries=1))
    metrics.begun(task, 0.1)
    metrics.ended(task, 0.1)
    for outcome in (SUCCEEDED, RETRIED, DEAD_LETTERED):
        metrics.settled(task, outcome)
    return str(of_monitor) + generate_latest(registry).decode()


@pytest.fixture(scope="module", name="exposed")
def exposed(embedded: Server) -> Shown:
    """All samples of the monitor and of a worker: name -> label sets."""
    shown: Shown = {}
    for family in text_string_to_metric_families(exposition(embedded)):
        for sample in family.samples:
            if not sample.name.endswith("_created"):  # a pool of processes does not expose these
                shown.setdefault(sample.name, []).append(sample.labels)
    return shown


def selectors(query: str) -> Iterator[promql_parser.VectorSelector]:
    """Return the metrics that a query reads. Grafana's variables are replaced first: they are not PromQL."""
    found: list[promql_parser.VectorSelector] = []

    def look(expression: promql_parser.Expr) -> bool:
        if isinstance(expression, promql_parser.VectorSelector):
            found.append(expression)
        return True

    promql_parser.walk(promql_parser.parse(query.replace("$__rate_interval", "5m")), look)
    return iter(found)


def assert_shown(query: str, exposed: Shown) -> None:
    """Assert that each metric of the query is exposed, with each label of the query and each value it asks for."""
    read = list(selectors(query))
    assert read
    for selector in read:
        samples = (exposed | OF_PROMETHEUS).get(selector.name)
        assert samples, f"{selector.name} is not a metric of the monitor: {query}"
        for matcher in selector.matchers.matchers:
            if matcher.name not in ADDED_BY_SCRAPE:
                values = {labels[matcher.name] for labels in samples}
                assert set(matcher.value.split("|")) <= values, f"{matcher.name} is one of {values}: {query}"
