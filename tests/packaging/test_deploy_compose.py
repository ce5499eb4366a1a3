"""The image and `compose.yaml`: checks by the Compose schema, and the whole stack at work.

No image is pulled: this machine's Python stands in for `python:3-slim`, and the engine's Redis image for Docker Hub's.
Prometheus and Grafana, of the profile `watch`, are validated but not started.
"""

import http.client
import json
import os
import secrets
import shutil
import subprocess
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from support.deploy import DEPLOY, stop_takes_s, understood
from support.places import ROOT
from support.processes.programs import free_port, tool
from support.python_image import make_python_image, remove_python_image
from support.waiting import wait_until
from zeroloss.reference.options import HEALTH_PORT, MONITOR_PORT, PRODUCER_PORT

COMPOSE = DEPLOY / "compose.yaml"
SERVICES: dict[str, dict[str, Any]] = yaml.safe_load(COMPOSE.read_text())["services"]
OURS = {"producer": PRODUCER_PORT, "monitor": MONITOR_PORT, "worker": HEALTH_PORT}

pytestmark = pytest.mark.timeout(300)  # the first test waits for a build: half a minute on an idle machine


def with_default(word: str) -> str:
    """Return the default of `${NAME:-default}`, or the word itself."""
    return word.partition(":-")[2].removesuffix("}") if word.startswith("${") else word


def seconds(duration: str) -> int:
    return int(duration[:-1]) * {"s": 1, "m": 60}[duration[-1]]


def output(*command: str | Path, **environ: str) -> str:
    """Run a command, assert exit status 0, and return its output."""
    ended = subprocess.run(command, env={**os.environ, **environ}, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout


def compose_command() -> list[str]:
    """Return the Compose command: Debian's `docker-compose`, or the plugin."""
    if shutil.which("docker-compose"):
        return ["docker-compose"]
    output("docker", "compose", "version")
    return ["docker", "compose"]


@dataclass
class Stack:
    """A project of compose.yaml."""

    name: str
    environ: dict[str, str]

    def compose(self, *words: str) -> str:
        return output(*compose_command(), "-p", self.name, "-f", COMPOSE, *words, **self.environ)

    def containers(self, service: str) -> list[str]:
        return self.compose("ps", "-q", service).split()

    def ask(self, path: str, body: Any = None) -> Any:
        """Send `body` to the producer, or, without a body, query the monitor."""
        port = self.environ["PRODUCER_PORT" if body is not None else "MONITOR_PORT"]
        data = None if body is None else json.dumps(body).encode()
        token = Path(self.environ["MONITOR_TOKEN_FILE" if body is None else "PRODUCER_TOKEN_FILE"]).read_text()
        headers = {"Content-Type": "application/json", "Authorization": f"Bearer {token}"}
        request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", data, headers)
        with urllib.request.urlopen(request, timeout=10) as answer:
            return json.load(answer)

    def living_workers(self) -> int:
        """Return the monitor's number of workers; 0 while the monitor, the producer or Redis does not answer."""
        try:
            self.ask("/tasks", [{"payload": "is anybody there?"}])
            return len(self.ask("/stats")["consumers"])
        except (OSError, http.client.HTTPException):
            return 0

    def is_done(self) -> bool:
        """Return whether every accepted task is completed or scheduled."""
        stats = self.ask("/stats")
        return bool(stats["counters"]["completed"] + stats["delayed"] == stats["counters"]["enqueued"])


def inspected(container: str) -> dict[str, Any]:
    (found,) = json.loads(output("docker", "inspect", container))
    return dict(found)


@pytest.fixture(scope="module")
def stack(docker: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """The services that start by default, with three workers."""
    name = f"zeroloss-{secrets.token_hex(4)}"
    images = {"PYTHON_IMAGE": f"{name}-python", "QUEUE_IMAGE": name}
    tokens = {part: tmp_path_factory.mktemp("tokens") / part for part in ("PRODUCER", "MONITOR")}
    for file in tokens.values():
        file.parent.chmod(0o755)
        file.write_text(secrets.token_hex())
    files = {f"{part}_TOKEN_FILE": str(file) for part, file in tokens.items()}
    made = Stack(name, {**images, **files, "PRODUCER_PORT": free_port(), "MONITOR_PORT": free_port()})
    make_python_image(images["PYTHON_IMAGE"])
    try:
        made.compose("up", "-d", "--build", "--scale", "worker=3")
        wait_until(lambda: made.living_workers() == 3, 150, "not all of it runs")
        yield made
    finally:
        made.compose("down", "--volumes", "--timeout", "1")
        remove_python_image(images["PYTHON_IMAGE"])


def test_the_services_are_what_the_compose_schema_says() -> None:
    tool("check-jsonschema", "--builtin-schema", "vendor.compose-spec", COMPOSE)


@pytest.mark.parametrize("service", OURS)
def test_a_service_runs_a_command_of_the_queue_and_has_the_time_that_a_stop_needs(service: str) -> None:
    stated = SERVICES[service]
    options = understood([with_default(word) for word in stated["command"]])
    assert stated["command"][0] == service
    assert seconds(stated["stop_grace_period"]) > stop_takes_s(options)
    assert str(OURS[service]) in " ".join(stated["command"] + stated["healthcheck"]["test"] + stated.get("ports", []))


def test_each_mounted_file_is_there_and_each_port_is_open_to_this_machine_alone() -> None:
    for stated in SERVICES.values():
        for volume in stated.get("volumes", []):
            source = volume.split(":")[0]
            assert not source.startswith(".") or (DEPLOY / source).is_file()
        assert all(port.startswith("127.0.0.1:") for port in stated.get("ports", []))


def test_a_service_that_others_reach_has_a_token_of_its_own() -> None:
    for service in ("producer", "monitor"):
        (path,) = [value for name, value in SERVICES[service]["environment"].items() if name.endswith("TOKEN_FILE")]
        assert SERVICES[service]["secrets"] == [Path(path).name] == [f"{service}-token"]


def test_the_image_is_built_of_what_a_wheel_is_built_of() -> None:
    kept = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    assert kept == {"chaos", "reference", "loadtests", "LICENSE", "README.md", "pyproject.toml", "setup.py"}


@pytest.mark.container
def test_three_workers_run_what_the_producer_takes(stack: Stack) -> None:
    assert stack.living_workers() == len(stack.containers("worker")) == 3
    stack.ask("/tasks", [{"payload": number} for number in range(300)])
    wait_until(stack.is_done, 30)


@pytest.mark.container
@pytest.mark.parametrize("service", OURS)
def test_a_service_is_pid_1_without_root_and_cannot_write(stack: Stack, service: str) -> None:
    container = stack.containers(service)[0]
    host = inspected(container)["HostConfig"]
    assert (host["ReadonlyRootfs"], host["CapDrop"]) == (True, ["ALL"])
    look = "import os; print(os.getuid(), os.access('/app', os.W_OK), open('/proc/1/cmdline').read().split(chr(0)))"
    said = output("docker", "exec", container, "python", "-c", look)
    assert said.startswith("10001 False ['/opt/zeroloss/bin/python', ")
    assert f"'queue', '{service}'" in said
    output("docker", "exec", container, *SERVICES[service]["healthcheck"]["test"][1:])


@pytest.mark.container
def test_tasks_outlive_a_kill_of_redis(stack: Stack) -> None:
    delayed = stack.ask("/stats")["delayed"]
    stack.ask("/tasks", [{"payload": number, "delay_ms": 3_600_000} for number in range(20)])
    (redis,) = stack.containers("redis")
    output("docker", "kill", redis)
    output("docker", "start", redis)
    wait_until(lambda: stack.living_workers() == 3, 60)
    assert stack.ask("/stats")["delayed"] == delayed + 20


@pytest.mark.container
def test_a_worker_that_is_stopped_finishes_what_it_runs(stack: Stack) -> None:
    wait_until(stack.is_done, 30)
    before = stack.ask("/stats")["counters"]
    stack.ask("/tasks", [{"type": "sleep", "payload": 2.5} for _ in range(15)])
    wait_until(lambda: stack.ask("/stats")["processing"] == 15, 30)
    stopped = stack.containers("worker")
    output("docker", "stop", "--time", "35", *stopped)
    assert {inspected(container)["State"]["ExitCode"] for container in stopped} == {0}
    after = stack.ask("/stats")
    # Tasks that a worker had claimed ahead are given back, and wait for another worker.
    assert after["counters"]["completed"] + after["pending"] == before["completed"] + 15
    assert (after["processing"], after["counters"]["failed"]) == (0, before["failed"])
    assert after["counters"]["recovered"] == before["recovered"]
    output("docker", "start", *stopped)
