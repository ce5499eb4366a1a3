"""The Kubernetes files, checked without a cluster: they match the schemas, and related numbers are consistent.

Kubernetes's own kinds have published schemas. The schema of KEDA's kind is written here for the fields in use; its
`behavior` is that of the plain autoscaler, which Kubernetes's schema covers.
"""

from typing import Any

import pytest
import yaml
from support.deploy import DEPLOY, stop_takes_s, understood
from support.places import TESTS
from support.processes.programs import tool
from support.promql import Shown, assert_shown
from support.promql import exposed as _  # noqa: F401 - the fixture `exposed`
from zeroloss.reference.options import HEALTH_PORT, MONITOR_PORT, PRODUCER_PORT
from zeroloss.reference.worker.supervisor import SILENCE_MAX_S

KUBERNETES = DEPLOY / "kubernetes"
PORTS = {"producer": PRODUCER_PORT, "monitor": MONITOR_PORT, "worker": HEALTH_PORT}
PARTS: dict[str, dict[str, dict[str, Any]]] = {
    part: {one["kind"]: one for one in yaml.safe_load_all((KUBERNETES / f"{part}.yaml").read_text())} for part in PORTS
}
KEDA = yaml.safe_load((KUBERNETES / "scale-keda.yaml").read_text())["spec"]
HPA = yaml.safe_load((KUBERNETES / "scale-hpa.yaml").read_text())["spec"]
ADAPTER = yaml.safe_load((KUBERNETES / "prometheus-adapter.yaml").read_text())["externalRules"]


def pod(part: str) -> dict[str, Any]:
    return dict(PARTS[part]["Deployment"]["spec"]["template"]["spec"])


def container(part: str) -> dict[str, Any]:
    (only,) = pod(part)["containers"]
    return dict(only)


def scale_queries() -> list[str]:
    """Return the queries of the metrics adapter for the plain autoscaler."""
    selector = {metric["external"]["metric"]["selector"]["matchLabels"]["queue"] for metric in HPA["metrics"]}
    (queue,) = selector
    series = [rule["seriesQuery"].partition("{")[0] for rule in ADAPTER]
    return [
        rule["metricsQuery"].replace("<<.Series>>", name).replace("<<.LabelMatchers>>", f'queue="{queue}"')
        for rule, name in zip(ADAPTER, series, strict=True)
    ]


@pytest.mark.parametrize("version", ["1.30", "1.37"])
def test_the_files_are_what_the_schemas_of_kubernetes_say(version: str) -> None:
    files = [KUBERNETES / f"{name}.yaml" for name in (*PORTS, "scale-hpa")]
    tool("kubernetes-validate", "--kubernetes-version", version, "--strict", *files)


def test_keda_s_file_is_what_a_schema_that_is_written_here_says() -> None:
    schema = TESTS / "support" / "scaledobject.schema.json"
    tool("check-jsonschema", "--schemafile", schema, KUBERNETES / "scale-keda.yaml")


@pytest.mark.parametrize("part", PORTS)
def test_a_pod_runs_a_command_of_the_queue_and_has_the_time_that_a_stop_needs(part: str) -> None:
    words = container(part)["args"]
    assert words[0] == part
    sleep_s = container(part).get("lifecycle", {}).get("preStop", {}).get("sleep", {}).get("seconds", 0)
    assert pod(part)["terminationGracePeriodSeconds"] >= sleep_s + stop_takes_s(understood(words))


@pytest.mark.parametrize("part", PORTS)
def test_a_pod_has_no_rights_and_cannot_write(part: str) -> None:
    stated = pod(part)
    assert stated["securityContext"]["runAsNonRoot"] is True
    assert stated["automountServiceAccountToken"] is False
    assert stated["enableServiceLinks"] is False
    context = container(part)["securityContext"]
    assert (context["allowPrivilegeEscalation"], context["readOnlyRootFilesystem"]) == (False, True)
    assert context["capabilities"] == {"drop": ["ALL"]}


@pytest.mark.parametrize("part", PORTS)
def test_a_pod_is_probed_where_its_command_listens(part: str) -> None:
    (port,) = container(part)["ports"]
    options = understood(container(part)["args"])
    listens = (options.health_host, options.health_port) if part == "worker" else (options.host, options.port)
    assert listens == ("0.0.0.0", port["containerPort"]) == ("0.0.0.0", PORTS[part])
    alive, ready = (container(part)[f"{probe}Probe"]["httpGet"] for probe in ("liveness", "readiness"))
    assert {alive["port"], ready["port"]} == {port["name"]}
    paths = {"producer": ("/healthz", "/readyz"), "monitor": ("/healthz",) * 2, "worker": ("/health",) * 2}
    assert (alive["path"], ready["path"]) == paths[part]


def test_a_worker_is_restarted_only_when_it_has_been_silent_for_longer_than_it_complains_about() -> None:
    probe = container("worker")["livenessProbe"]
    assert probe["failureThreshold"] * probe.get("periodSeconds", 10) > SILENCE_MAX_S


@pytest.mark.parametrize("part", PORTS)
def test_all_that_selects_pods_selects_those_of_its_part(part: str) -> None:
    kinds = PARTS[part]
    labels = kinds["Deployment"]["spec"]["template"]["metadata"]["labels"]
    assert kinds["Deployment"]["spec"]["selector"]["matchLabels"] == labels
    if "Service" in kinds:
        assert kinds["Service"]["spec"]["selector"] == labels
        (port,) = kinds["Service"]["spec"]["ports"]
        assert (port["port"], port["targetPort"]) == (PORTS[part], container(part)["ports"][0]["name"])
    assert ("PodDisruptionBudget" in kinds) == (part != "monitor")
    if "PodDisruptionBudget" in kinds:
        assert kinds["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"] == labels


def test_keda_and_the_plain_autoscaler_do_the_same() -> None:
    assert KEDA["scaleTargetRef"]["name"] == HPA["scaleTargetRef"]["name"] == "zeroloss-worker"
    assert (KEDA["minReplicaCount"], KEDA["maxReplicaCount"]) == (HPA["minReplicas"], HPA["maxReplicas"])
    assert KEDA["advanced"]["horizontalPodAutoscalerConfig"]["behavior"] == HPA["behavior"]
    assert "replicas" not in PARTS["worker"]["Deployment"]["spec"]
    metrics = [metric["external"] for metric in HPA["metrics"]]
    assert [metric["metric"]["name"] for metric in metrics] == [rule["name"]["as"] for rule in ADAPTER]
    targets = [(one["type"], one.get("averageValue") or one["value"]) for one in (each["target"] for each in metrics)]
    plain = list(zip(scale_queries(), targets, strict=True))
    told = [(one["metadata"]["query"], (one["metricType"], one["metadata"]["threshold"])) for one in KEDA["triggers"]]
    assert told == plain


def test_the_number_of_workers_never_falls_to_none_nor_where_prometheus_knows_nothing() -> None:
    assert KEDA["minReplicaCount"] >= 1
    assert {trigger["metadata"]["ignoreNullValues"] for trigger in KEDA["triggers"]} == {"false"}


def test_the_autoscalers_read_metrics_that_the_monitor_shows(exposed: Shown) -> None:
    for query in [*(trigger["metadata"]["query"] for trigger in KEDA["triggers"]), *scale_queries()]:
        assert_shown(query, exposed)
