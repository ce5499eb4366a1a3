"""The producer: accepts tasks over HTTP, and promises them with a 202 only after Redis has acknowledged them.

    POST /task          one task as JSON
    POST /tasks         several tasks, as NDJSON or a JSON array; one answer for each, in order
    GET  /healthz       the process runs
    GET  /readyz        Redis answers, accepts tasks, does not evict them, and can reach the required durability
    GET  /metrics       requests and tasks, for Prometheus
    GET  /openapi.json  the description of these routes

`create_app` returns an ordinary WSGI app. Under another server:
`gunicorn 'zeroloss.reference.http.producer:from_environment()'`, or
`granian --interface wsgi --factory zeroloss.reference.http.producer:from_environment`. The ASGI app, which accepts four
times as many tasks, is in `producer_asgi.py`.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import falcon
import redis

from ..queue.config import Config, load_config, unknown_variables
from ..queue.connection import connect, refuse_client_of_shards
from ..queue.durability import Durability
from ..queue.enqueuer import Enqueuer
from ..queue.errors import ConfigError
from ..queue.keys import Keys
from ..queue.protocol import refuse_at_start
from . import problems
from .bodies import read_body
from .hosts import known_hosts, own_hosts
from .intake import Intake, answer, submissions_of, task_body_limit
from .metrics import Metrics, MetricsResource
from .openapi import describe
from .problems import Problem
from .readiness import Health, connect_probe, require_ready
from .servers import by_waitress
from .tokens import guards, producer_token


def create_app(client: redis.Redis | None, config: Config, hosts: Sequence[str] | None = None) -> falcon.App[Any, Any]:
    """Return the WSGI app. `client` enqueues; the readiness check uses another client with a shorter timeout.

    With several shards `client` is None, as each shard has its own clients. `hosts`: the only host names that are
    accepted; None: any.

    Raises:
        ConfigError: redis-py cannot read the URL, or `client` does not fit the number of shards.
    """
    metrics = Metrics()
    app = falcon.App(middleware=[metrics, *guards(producer_token(config)), *known_hosts("producer", hosts)])
    problems.install(app)
    enqueuer, intake = _enqueuer(client, config), Intake(config, metrics.enqueued)
    app.add_route("/task", _Task(enqueuer, intake))
    app.add_route("/tasks", _Tasks(enqueuer, intake))
    app.add_route("/healthz", Health())
    for route, resource in looking(config, metrics).items():
        app.add_route(route, resource)
    return app


def looking(config: Config, metrics: Metrics) -> dict[str, Any]:
    """Return the read-only routes except `/healthz`, with their WSGI resources.

    Raises:
        ConfigError: redis-py cannot read the URL.
    """
    return {
        "/readyz": _Ready(config),
        "/metrics": MetricsResource(metrics),
        "/openapi.json": _Description(config),
    }


def from_environment() -> falcon.App[Any, Any]:
    """Return the app for a WSGI server that takes a factory."""
    config = config_from_environment()
    return create_app(client_of(config), config)


def config_from_environment() -> Config:
    """Return the configuration for an app that an HTTP server makes itself, after a check of the Redis server.

    Raises:
        ConfigError, OtherProtocol: the settings are invalid, or the Redis server cannot be used.
    """
    config = load_config()
    for sentence in unknown_variables():
        logging.getLogger(__name__).warning(sentence)
    refuse_unusable(config)
    return config


def serve(
    config: Config, host: str, port: int, *, server: str = "waitress", processes: int = 1, log_format: str = "plain"
) -> None:
    """Serve with waitress, or the ASGI app with uvicorn (`asgi`), until SIGTERM or SIGINT.

    `log_format`: that of further processes; this process has set up its own logging.

    Raises:
        ConfigError: the address cannot be listened on, the URL cannot be used, the server is too old, or uvicorn is
            not installed.
    """
    refuse_unusable(config)
    if server == "waitress":
        if processes != 1:
            raise ConfigError("--processes needs --server asgi: waitress serves with one process.")
        limits = {"/task": task_body_limit(config)}
        app = create_app(client_of(config), config, own_hosts("producer", config, host))
        by_waitress.serve("producer", app, config, host, port, config.max_body_bytes, limits)
        return
    if processes < 1:
        raise ConfigError(f"--processes must be at least 1, not {processes}.")
    try:
        from .servers import by_uvicorn
    except ModuleNotFoundError as error:
        raise ConfigError(f"--server asgi needs the package {error.name}: pip install 'zeroloss[asgi]'.") from None
    by_uvicorn.serve(config, host, port, processes, log_format)


def client_of(config: Config) -> redis.Redis | None:
    """Return the client for `create_app`; None with several shards, as each shard gets its own clients.

    Raises:
        ConfigError: redis-py cannot read the URL.
    """
    return connect(config) if config.shards == 1 else None


def refuse_unusable(config: Config) -> None:
    """Refuse a Redis server that cannot be used, on any shard, if it answers at once.

    Raises:
        ConfigError: a server is too old, or the URL cannot be used.
        OtherProtocol: a queue has another protocol, or the number of shards differs.
    """
    if config.shards == 1:
        refuse_at_start(config)
        return
    from ..shards import members

    members.refuse_at_start(config)


def _enqueuer(client: redis.Redis | None, config: Config) -> Enqueuer:
    refuse_client_of_shards(client, config)
    if client is not None:
        return Enqueuer(client, config)
    from ..shards.spread import Spread

    return Spread(config)


class _Task:
    def __init__(self, enqueuer: Enqueuer, intake: Intake) -> None:
        self._enqueuer, self._intake = enqueuer, intake

    def on_post(self, req: falcon.Request, resp: falcon.Response) -> None:
        expected = self._intake.expect_one(req)
        submission = self._intake.read_one(expected, read_body(req, expected.limit_bytes, expected.advice))
        self._intake.answer_one(resp, submission, self._enqueuer.enqueue(submission))


class _Tasks:
    def __init__(self, enqueuer: Enqueuer, intake: Intake) -> None:
        self._enqueuer, self._intake = enqueuer, intake

    def on_post(self, req: falcon.Request, resp: falcon.Response) -> None:
        expected = self._intake.expect_many(req)
        items = self._intake.read_many(expected, read_body(req, expected.limit_bytes, expected.advice))
        self._intake.answer_many(resp, items, self._enqueuer.enqueue_many(submissions_of(items)))


class _Ready:
    """`/readyz`. One ready shard is enough: a task without a key goes there."""

    def __init__(self, config: Config) -> None:
        self._durability = Durability(config.durability, config.durability_timeout_ms)
        self._sharded = config.shards > 1
        self._probes: Mapping[str, tuple[redis.Redis, Keys]]
        if self._sharded:
            from ..shards.members import EachShard, Shards

            shards = Shards(config)
            self._look: Callable[[], object] = shards.look
            self._probes = EachShard(shards, _probe)
        else:
            self._probes = {config.namespace: _probe(config)}

    def on_get(self, _req: falcon.Request, resp: falcon.Response) -> None:
        found = self._ask_all()
        policies = {name: each for name, each in found.items() if isinstance(each, str)}
        problems = {name: each for name, each in found.items() if isinstance(each, Problem)}
        if not policies:
            raise next(iter(problems.values()))
        policy = ", ".join(sorted(set(policies.values())))
        ready: dict[str, Any] = {"status": "ready", "maxmemory_policy": policy, "durability": self._durability.level}
        if self._sharded:
            ready["shards"] = dict.fromkeys(policies, "ready")
            ready["shards"] |= {name: problem.document()["detail"] for name, problem in problems.items()}
        answer(resp, falcon.HTTP_200, ready)

    on_head = on_get

    def _ask_all(self) -> dict[str, str | Problem]:
        if not self._sharded:
            return {name: self._ask(probe) for name, probe in self._probes.items()}
        self._look()
        probes = dict(self._probes)
        with ThreadPoolExecutor(len(probes)) as threads:  # the waits for shards that hang overlap
            return dict(zip(probes, threads.map(self._ask, probes.values()), strict=True))

    def _ask(self, probe: tuple[redis.Redis, Keys]) -> str | Problem:
        """Return the eviction policy of one shard, or why the shard is not ready."""
        client, keys = probe
        try:
            return require_ready(client, self._durability, keys)
        except Problem as problem:
            return problem


def _probe(config: Config) -> tuple[redis.Redis, Keys]:
    return connect_probe(config), Keys(config.namespace)


class _Description:
    def __init__(self, config: Config) -> None:
        self._description = describe(config)

    def on_get(self, _req: falcon.Request, resp: falcon.Response) -> None:
        answer(resp, falcon.HTTP_200, self._description)

    on_head = on_get
