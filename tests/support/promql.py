"""Queries of Prometheus, held to what the monitor shows."""

from collections.abc import Iterator

import falcon.testing
import promql_parser
import pytest
from prometheus_client.parser import text_string_to_metric_families
from zeroloss.reference.http.readiness import connect_probe
from zeroloss.reference.monitor.app import create_app
from zeroloss.reference.queue.config import Config
from zeroloss.system.servers import Server

Shown = dict[str, list[dict[str, str]]]
"""The name of each sample, and the labels that it comes with."""
OF_PROMETHEUS: Shown = {"up": [{}]}
ADDED_BY_SCRAPE = {"job", "instance", "queue"}


@pytest.fixture(scope="module", name="exposed")
def exposed(embedded: Server) -> Shown:
    """Each sample that the monitor shows of an empty queue: its name, and the labels it comes with."""
    config = Config(redis_url=embedded.url, namespace="deploy")
    text = falcon.testing.TestClient(create_app(connect_probe(config), config)).simulate_get("/metrics").text
    shown: Shown = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            shown.setdefault(sample.name, []).append(sample.labels)
    return shown


def selectors(query: str) -> Iterator[promql_parser.VectorSelector]:
    """The metrics that a query reads. Grafana's own variables are no PromQL."""
    found: list[promql_parser.VectorSelector] = []

    def look(expression: promql_parser.Expr) -> bool:
        if isinstance(expression, promql_parser.VectorSelector):
            found.append(expression)
        return True

    promql_parser.walk(promql_parser.parse(query.replace("$__rate_interval", "5m")), look)
    return iter(found)


def assert_shown(query: str, exposed: Shown) -> None:
    """Each metric of the query exists, with each label, and where a label has to have a value, with this one."""
    read = list(selectors(query))
    assert read
    for selector in read:
        samples = (exposed | OF_PROMETHEUS).get(selector.name)
        assert samples, f"{selector.name} is no metric of the monitor: {query}"
        for matcher in selector.matchers.matchers:
            if matcher.name not in ADDED_BY_SCRAPE:
                values = {labels[matcher.name] for labels in samples}
                assert set(matcher.value.split("|")) <= values, f"{matcher.name} is one of {values}: {query}"
