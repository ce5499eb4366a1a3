"""The producer: tasks in over HTTP, promised with a 202 once Redis has acknowledged them, and not before.

    POST /task          one task as JSON
    POST /tasks         many, as NDJSON or a JSON array; one answer for each, in order
    GET  /healthz       the process runs
    GET  /readyz        Redis answers, takes tasks, does not evict them, and can be as durable as was asked for
    GET  /metrics       requests and tasks, for Prometheus
    GET  /openapi.json  all of this for machines

`create_app` gives an ordinary WSGI app. Under another server:
`gunicorn 'zeroloss.reference.http.producer:from_environment()'`, or
`granian --interface wsgi --factory zeroloss.reference.http.producer:from_environment`. The ASGI app, which takes four
times as many, is in `producer_asgi.py`.
"""

import logging
from typing import Any

import falcon
import redis

from ..queue.config import Config, load_config, unknown_variables
from ..queue.connection import connect
from ..queue.durability import Durability
from ..queue.enqueuer import Enqueuer
from ..queue.errors import ConfigError
from ..queue.keys import Keys
from ..queue.protocol import refuse_at_start
from . import problems, serving
from .bodies import read_body
from .intake import Intake, answer, submissions_of, task_body_limit
from .metrics import Metrics, MetricsResource
from .openapi import describe
from .readiness import Health, connect_probe, require_ready
from .tokens import guards, producer_token


def create_app(client: redis.Redis, config: Config) -> falcon.App[Any, Any]:
    """The WSGI app. `client` enqueues; readiness is asked with a client of its own that gives up sooner.

    Raises:
        ConfigError: the URL is not one that redis-py reads.
    """
    metrics = Metrics()
    app = falcon.App(middleware=[metrics, *guards(producer_token(config))])
    problems.install(app)
    enqueuer, intake = Enqueuer(client, config), Intake(config, metrics.enqueued)
    app.add_route("/task", _Task(enqueuer, intake))
    app.add_route("/tasks", _Tasks(enqueuer, intake))
    app.add_route("/healthz", Health())
    for route, resource in looking(config, metrics).items():
        app.add_route(route, resource)
    return app


def looking(config: Config, metrics: Metrics) -> dict[str, Any]:
    """The routes that change nothing, `/healthz` aside, with their WSGI resources.

    Raises:
        ConfigError: the URL is not one that redis-py reads.
    """
    return {
        "/readyz": _Ready(connect_probe(config), config),
        "/metrics": MetricsResource(metrics),
        "/openapi.json": _Description(config),
    }


def from_environment() -> falcon.App[Any, Any]:
    """The app for a WSGI server that takes a factory."""
    config = config_from_environment()
    return create_app(connect(config), config)


def config_from_environment() -> Config:
    """The configuration of an app that a server makes by itself; the server behind the URL is looked at.

    Raises:
        ConfigError, OtherProtocol: it cannot serve.
    """
    config = load_config()
    for sentence in unknown_variables():
        logging.getLogger(__name__).warning(sentence)
    refuse_at_start(config)
    return config


def serve(config: Config, host: str, port: int, *, server: str = "waitress", processes: int = 1) -> None:
    """Serve with waitress, or the ASGI app with uvicorn (`asgi`), until SIGTERM or SIGINT.

    Raises:
        ConfigError: the address cannot be listened on, the URL cannot be used, the server is too old, or uvicorn is
            not installed.
    """
    refuse_at_start(config)
    if server == "waitress":
        if processes != 1:
            raise ConfigError("--processes needs --server asgi: waitress serves with one process.")
        limits = {"/task": task_body_limit(config)}
        serving.serve("producer", create_app(connect(config), config), config, host, port, limits)
        return
    if processes < 1:
        raise ConfigError(f"--processes has to be at least 1, not {processes}.")
    try:
        from . import serving_asgi
    except ModuleNotFoundError as error:
        raise ConfigError(f"--server asgi needs the package {error.name}: pip install 'zeroloss[asgi]'.") from None
    serving_asgi.serve(config, host, port, processes)


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
    def __init__(self, probe: redis.Redis, config: Config) -> None:
        self._probe = probe
        self._durability = Durability(config.durability, config.durability_timeout_ms)
        self._keys = Keys(config.namespace)

    def on_get(self, _req: falcon.Request, resp: falcon.Response) -> None:
        policy = require_ready(self._probe, self._durability, self._keys)
        ready = {"status": "ready", "maxmemory_policy": policy, "durability": self._durability.level}
        answer(resp, falcon.HTTP_200, ready)

    on_head = on_get


class _Description:
    def __init__(self, config: Config) -> None:
        self._description = describe(config)

    def on_get(self, _req: falcon.Request, resp: falcon.Response) -> None:
        answer(resp, falcon.HTTP_200, self._description)

    on_head = on_get
