"""Monitoring: Prometheus's rules and the Grafana dashboard use metrics that the monitor exposes."""

import json
from itertools import combinations
from pathlib import Path
from typing import Any

import falcon.testing
import pytest
import yaml
from support.deploy import DEPLOY
from support.places import ROOT
from support.processes.programs import system_tool
from support.promql import OF_PROMETHEUS, OF_WORKERS, Shown, assert_shown, exposition, selectors
from support.promql import exposed as _  # noqa: F401 - the fixture `exposed`
from zeroloss.reference.http import producer
from zeroloss.reference.options import HEALTH_PORT
from zeroloss.reference.queue.config import Config
from zeroloss.system.servers import Server

PROMETHEUS, GRAFANA = DEPLOY / "prometheus", DEPLOY / "grafana"
(GROUP,) = yaml.safe_load((PROMETHEUS / "alerts.yml").read_text())["groups"]
ALERTS = {rule["alert"]: rule for rule in GROUP["rules"]}
DASHBOARD = json.loads((GRAFANA / "zeroloss.json").read_text())
QUERIES = [target["expr"] for panel in DASHBOARD["panels"] for target in panel["targets"]]


def test_prometheus_s_configuration_and_rules_are_what_promtool_takes(tmp_path: Path) -> None:
    """The token file is created first: promtool reports its absence as a mistake."""
    (tmp_path / "monitor-token").write_text("token")
    text = (PROMETHEUS / "prometheus.yml").read_text().replace("/run/secrets/monitor-token", "monitor-token")
    (tmp_path / "prometheus.yml").write_text(text)
    (tmp_path / "alerts.yml").write_bytes((PROMETHEUS / "alerts.yml").read_bytes())
    assert "13 rules found" in system_tool("promtool", "prometheus", "check", "config", tmp_path / "prometheus.yml")


def test_the_alerts_fire_and_keep_silent_where_their_tests_say() -> None:
    system_tool("promtool", "prometheus", "test", "rules", PROMETHEUS / "alerts_test.yml")


def test_each_alert_has_a_test_in_which_it_fires_and_one_in_which_it_does_not() -> None:
    fires, silent = set(), set()
    for case in yaml.safe_load((PROMETHEUS / "alerts_test.yml").read_text())["tests"]:
        for check in case["alert_rule_test"]:
            (fires if check["exp_alerts"] else silent).add(check["alertname"])
    assert fires == silent == set(ALERTS)


@pytest.mark.parametrize("alert", ALERTS)
def test_an_alert_reads_metrics_that_monitor_or_workers_show(alert: str, exposed: Shown) -> None:
    assert_shown(ALERTS[alert]["expr"], exposed)


def test_the_alerts_of_a_metric_that_may_be_missing_are_covered_by_one_that_notices(
    exposed: Shown,
) -> None:
    """An alert on a missing series does not fire."""
    noticed = {selector.name for selector in selectors(ALERTS["ZerolossReadingIncomplete"]["expr"])}
    read = {selector.name for rule in ALERTS.values() for selector in selectors(rule["expr"])}
    assert {name for name in read - OF_PROMETHEUS.keys() if not name.startswith(OF_WORKERS)} == noticed
    assert f"(zeroloss_tasks) == {len(exposed['zeroloss_tasks'])}" in ALERTS["ZerolossReadingIncomplete"]["expr"]


@pytest.mark.parametrize("alert", ALERTS)
def test_an_alert_leads_to_what_to_do_on_the_page(alert: str) -> None:
    file, anchor = ALERTS[alert]["annotations"]["runbook"].split("#")
    assert anchor == alert.lower()
    assert f"\n### {alert}\n" in (ROOT / file).read_text()


def test_the_settings_of_an_alert_s_numbers_have_these_defaults() -> None:
    defaults = Config()
    assert "max_pending and max_scheduled are 1,000,000" in (PROMETHEUS / "alerts.yml").read_text()
    assert defaults.max_pending == defaults.max_scheduled == 1_000_000
    assert ALERTS["ZerolossHeartbeatsLate"]["expr"].endswith(f"> {defaults.lease_ms // 2000}")
    assert f"[{defaults.task_timeout_ms // 60_000}m]" in ALERTS["ZerolossNothingFinishes"]["expr"]


@pytest.mark.parametrize("query", QUERIES)
def test_a_query_of_the_dashboard_reads_metrics_that_monitor_or_workers_show(query: str, exposed: Shown) -> None:
    assert_shown(query, exposed)
    assert all("queue" in {one.name for one in selector.matchers.matchers} for selector in selectors(query))


def test_the_dashboard_shows_every_metric_of_monitor_and_workers(exposed: Shown) -> None:
    assert {selector.name for query in QUERIES for selector in selectors(query)} == set(exposed)


def test_the_metrics_of_monitor_workers_and_producer_are_named_as_promtool_wants_them(embedded: Server) -> None:
    config = Config(redis_url=embedded.url, namespace="deploy")
    http = falcon.testing.TestClient(producer.create_app(producer.client_of(config), config))
    assert http.simulate_post("/task", json={"payload": 1}).status_code == 202
    for metrics in (exposition(embedded), http.simulate_get("/metrics").text):
        assert "zeroloss_" in metrics
        assert system_tool("promtool", "prometheus", "check", "metrics", given=metrics) == ""


def test_the_dashboard_is_provisioned_with_its_source_and_its_panels_do_not_overlap() -> None:
    (source,) = yaml.safe_load((GRAFANA / "datasources.yml").read_text())["datasources"]
    (provider,) = yaml.safe_load((GRAFANA / "dashboards.yml").read_text())["providers"]
    assert provider["type"] == "file"
    panels: list[dict[str, Any]] = DASHBOARD["panels"]
    (variable,) = DASHBOARD["templating"]["list"]
    used = [variable, *panels, *(target for panel in panels for target in panel["targets"])]
    assert {one["datasource"]["uid"] for one in used} == {source["uid"]}
    assert variable["query"]["query"] == f"label_values(zeroloss_up, {variable['name']})"
    assert len({panel["id"] for panel in panels}) == len({panel["title"] for panel in panels}) == len(panels)
    for one, other in combinations([panel["gridPos"] for panel in panels], 2):
        beside = one["x"] + one["w"] <= other["x"] or other["x"] + other["w"] <= one["x"]
        above = one["y"] + one["h"] <= other["y"] or other["y"] + other["h"] <= one["y"]
        assert beside or above
    job, workers = yaml.safe_load((PROMETHEUS / "prometheus.yml").read_text())["scrape_configs"]
    assert job["job_name"] in ALERTS["ZerolossMonitorDown"]["expr"]
    assert workers["dns_sd_configs"][0]["port"] == HEALTH_PORT
    assert all("queue" in target["labels"] for target in job["static_configs"])
