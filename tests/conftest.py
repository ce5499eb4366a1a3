"""Real servers for the tests: one of each kind per pytest worker, flushed before each test that uses `client`.

A test that stops, kills or reconfigures a server opens a separate one with `open_own_server`.
"""

import itertools
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import psutil
import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry
from support.waiting import plain_id, wait_until
from zeroloss.system.servers import Server, engine_answers, open_server
from zeroloss.system.sessions import bearing
from zeroloss.system.warden import TOKEN_VARIABLE, warden

os.environ.pop("PYTHONUNBUFFERED", None)  # it would hide a missing flush

SDK = find_spec("opentelemetry") and find_spec("opentelemetry.sdk")
collect_ignore = [] if SDK else ["monitor/test_tracing.py"]  # see the group `tracing`

pytest_plugins = ["support.fault_stage", "support.queue_fixtures", "support.processes.worker_process"]


def pytest_make_parametrize_id(val: object) -> str | None:
    if isinstance(val, bytes):
        return plain_id(val.decode("latin-1"))
    return plain_id(val) if isinstance(val, str) else None


@pytest.fixture(scope="session", autouse=True)
def nothing_is_left_behind() -> Iterator[None]:
    """After all other fixtures, assert that no process or container of the tests is left."""
    yield
    wait_until(lambda: not _living_descendants(), message=f"tests left processes behind: {_living_descendants()}")
    assert _containers() == [], "tests left containers behind"
    warden().close()


@pytest.fixture(scope="session")
def embedded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """An embedded server without persistence, so no test waits for a disk."""
    with open_server("embedded", appendfsync=None, directory=tmp_path_factory.mktemp("embedded")) as server:
        yield server


@pytest.fixture(scope="session")
def container(docker: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Redis in a container, without persistence."""
    with open_server("container", appendfsync=None, directory=tmp_path_factory.mktemp("container")) as server:
        yield server


@pytest.fixture(scope="session")
def docker() -> None:
    """A Docker engine. Without one, tests fail in CI and skip elsewhere."""
    if engine_answers():
        return
    if os.environ.get("CI"):
        pytest.fail("No Docker engine answers, and CI must have one: sh ci/engine.sh installs and starts it.")
    pytest.skip("no Docker engine answers")


@pytest.fixture(scope="session", params=["embedded", pytest.param("container", marks=pytest.mark.container)])
def server(request: pytest.FixtureRequest) -> Server:
    """Each kind of server in turn."""
    return request.getfixturevalue(request.param)


@pytest.fixture
def client(server: Server) -> Iterator[redis.Redis]:
    """A client without retries, on a flushed server; answers are bytes."""
    with redis.Redis.from_url(server.url, retry=Retry(NoBackoff(), 0), socket_timeout=10) as connected:
        connected.flushall()
        yield connected


@pytest.fixture
def open_own_server(tmp_path: Path) -> Iterator[Callable[..., Server]]:
    """`open_own_server("embedded", appendfsync="always")` opens a server for one test, which is closed afterwards."""
    number = itertools.count(1)
    with ExitStack() as opened:

        def opener(spec: str = "embedded", **options: Any) -> Server:
            directory = tmp_path / f"server-{next(number)}"
            directory.mkdir()
            return opened.enter_context(open_server(spec, **{"directory": directory, **options}))

        yield opener


def _living_descendants() -> list[str]:
    """Return the descendants of this process, and all other processes with its warden's token."""
    pids = {child.pid for child in psutil.Process().children(recursive=True)}
    pids.update(bearing(f"{TOKEN_VARIABLE}={warden().token}"))
    pids.discard(warden().pid or 0)
    found = []
    for pid in pids:
        try:
            process = psutil.Process(pid)
            if process.status() != psutil.STATUS_ZOMBIE and "resource_tracker" not in " ".join(process.cmdline()):
                found.append(f"{pid} {' '.join(process.cmdline())}")
        except psutil.NoSuchProcess:
            continue
    return found


def _containers() -> list[str]:
    if not engine_answers():
        return []
    from testcontainers.core.docker_client import DockerClient

    engine = DockerClient().client
    try:
        label = f"{TOKEN_VARIABLE}={warden().token}"
        return [made.name for made in engine.containers.list(all=True, filters={"label": label})]
    finally:
        engine.close()
