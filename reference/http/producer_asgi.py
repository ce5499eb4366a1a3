"""The producer as an ASGI app: one call pushes all requests that arrive within two turns of the event loop.

    uvicorn --no-access-log --factory zeroloss.reference.http.producer_asgi:from_environment
    granian --interface asgi --factory zeroloss.reference.http.producer_asgi:from_environment

The routes and answers are those of `producer.py`.
"""

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import falcon
import falcon.asgi
import redis

from ..logs import configure
from ..queue.config import Config
from ..queue.connection import refuse_client_of_shards
from ..queue.enqueuer import Enqueuer
from ..queue.enqueuing.submission import LARGE
from . import problems
from .bodies import read_body_async
from .group_commit import Commit, GroupCommit
from .hosts import known_hosts
from .intake import Intake, submissions_of
from .late_bodies import LateBodies
from .metrics import Metrics
from .problems import Problem
from .producer import client_of, config_from_environment, looking
from .readiness import Health
from .servers import common
from .servers.common import Refusal
from .tokens import guards, producer_token


class _App(falcon.asgi.App[Any, Any]):
    """Checks the head before it reads the body. Falcon reads the body's first part at once, which sends `100 Continue`.

    Errors that Falcon meets before it has a request are answered here. `late_bodies`: the time limit of bodies; None if
    the server has its own.
    """

    late_bodies: LateBodies | None = None

    async def __call__(  # type: ignore[override]  # Falcon's own differs from its base's in the same way
        self, scope: Any, receive: Any, send: Any
    ) -> None:
        if scope["type"] != "http":
            await super().__call__(scope, receive, send)
            return
        headers = [tuple(each) for each in scope["headers"]]  # the specification promises iterables only
        receive = _whole_body(receive, self.late_bodies)
        if any(each[0] == b"expect" for each in headers):
            receive = _after_nothing(receive)
        try:
            await super().__call__({**scope, "headers": headers, "http_version": _version(scope)}, receive, send)
        except _NeverAnswered as problem:
            _, answered, body = Refusal(problem).to_response()
            answered += [("Content-Length", str(len(body))), ("Connection", "close")]
            fields = [(name.lower().encode(), value.encode()) for name, value in answered]
            await send({"type": "http.response.start", "status": problem.status_code, "headers": fields})
            await send({"type": "http.response.body", "body": body})


class _NeverAnswered(Problem):
    """An error in a request that ends its connection."""

    def __init__(self, status: int, detail: str) -> None:
        super().__init__(None, f"{detail} Nothing was accepted.", status=status, headers={"Connection": "close"})


def _version(scope: Any) -> str:
    """Return the HTTP version in the form that Falcon accepts."""
    version: str = {"1": "1.0"}.get(scope["http_version"], scope["http_version"])  # granian calls 1.0 "1"
    if version not in ("1.0", "1.1", "2"):
        raise _NeverAnswered(505, f"HTTP/{version} is not supported; send HTTP/1.1.")
    return version


def _whole_body(receive: Any, late: LateBodies | None) -> Any:
    """Return a `receive` that raises _NeverAnswered if the body does not arrive whole and in time.

    ASGI reports a body that ends early as a disconnection, and so a body with invalid chunks.
    """
    until = late.deadline() if late else 0.0

    async def receive_next() -> Any:
        try:
            event = await (late.received(receive(), until) if late else receive())
        except TimeoutError:
            limit = f"{common.BODY_TIMEOUT_S:g} s"
            raise _NeverAnswered(408, f"The body did not arrive within {limit}; send it at once.") from None
        if event["type"] == "http.disconnect":
            raise _NeverAnswered(400, "The body is incomplete: the connection ended before it.")
        return event

    return receive_next


def _after_nothing(receive: Any) -> Any:
    """Return a `receive` that first returns an empty part of the body."""
    rest = iter([{"type": "http.request", "body": b"", "more_body": True}])

    async def receive_next() -> Any:
        return next(rest, None) or await receive()

    return receive_next


def create_app(client: redis.Redis | None, config: Config, hosts: Sequence[str] | None = None) -> _App:
    """Return the ASGI app. `client` enqueues; the readiness check uses another client with a shorter timeout.

    With several shards `client` is None, as each shard has its own clients. `hosts`: the only host names that are
    accepted; None: any.

    Raises:
        ConfigError: redis-py cannot read the URL, or `client` does not fit the number of shards.
    """
    metrics = Metrics()
    app = _App(middleware=[metrics, *guards(producer_token(config)), *known_hosts("producer", hosts)])
    problems.install_async(app)
    group = _group(client, config)
    intake = Intake(config, metrics.enqueued)
    decoding = ThreadPoolExecutor(1, thread_name_prefix="decode")  # see `turn_to_decode`
    app.add_route("/task", _Task(group, intake, decoding))
    app.add_route("/tasks", _Tasks(group, intake, decoding))
    app.add_route("/healthz", _Health())
    for route, resource in looking(config, metrics).items():
        app.add_route(route, _InThread(resource))
    return app


def _group(client: redis.Redis | None, config: Config) -> Commit:
    refuse_client_of_shards(client, config)
    timeout_s = config.socket_timeout_ms / 1_000
    if client is not None:
        return GroupCommit(Enqueuer(client, config), timeout_s)
    from .sharded import ShardedGroupCommit

    return ShardedGroupCommit(config, timeout_s)


def from_environment() -> _App:
    """Return the app for an ASGI server that takes a factory. It limits the time of a body, as such servers do not."""
    configure("plain")
    app = for_own_server()
    app.late_bodies = LateBodies(common.BODY_TIMEOUT_S)
    return app


def for_own_server(hosts: Sequence[str] | None = None) -> _App:
    """Return the app for `servers/by_uvicorn.py`, which itself ends a connection whose body is late."""
    config = config_from_environment()
    return create_app(client_of(config), config, hosts)


class _Task:
    def __init__(self, group: Commit, intake: Intake, decoding: ThreadPoolExecutor) -> None:
        self._group, self._intake, self._decoding = group, intake, decoding

    async def on_post(self, req: falcon.asgi.Request, resp: falcon.asgi.Response) -> None:
        expected = self._intake.expect_one(req)
        body = await read_body_async(req, expected.limit_bytes, expected.advice)
        submission = await _decoded(self._decoding, self._intake.read_one, expected, body)
        (outcome,) = await self._group.enqueue([submission])
        self._intake.answer_one(resp, submission, outcome)


class _Tasks:
    def __init__(self, group: Commit, intake: Intake, decoding: ThreadPoolExecutor) -> None:
        self._group, self._intake, self._decoding = group, intake, decoding

    async def on_post(self, req: falcon.asgi.Request, resp: falcon.asgi.Response) -> None:
        expected = self._intake.expect_many(req)
        body = await read_body_async(req, expected.limit_bytes, expected.advice)
        items = await _decoded(self._decoding, self._intake.read_many, expected, body)
        submissions = submissions_of(items)
        self._intake.answer_many(resp, items, await self._group.enqueue(submissions) if submissions else [])


async def _decoded(threads: ThreadPoolExecutor, read: Any, expected: Any, body: bytes) -> Any:
    """Decode a large body in a thread, so that the loop can serve other requests meanwhile."""
    if len(body) < LARGE:
        return read(expected, body)
    return await asyncio.get_running_loop().run_in_executor(threads, read, expected, body)


class _Health:
    def __init__(self) -> None:
        self._health = Health()

    async def on_get(self, req: falcon.asgi.Request, resp: falcon.asgi.Response) -> None:
        self._health.on_get(req, resp)

    on_head = on_get


class _InThread:
    """Runs a WSGI resource in a thread, as it may wait, mostly for Redis."""

    def __init__(self, resource: Any) -> None:
        self._resource = resource

    async def on_get(self, req: falcon.asgi.Request, resp: falcon.asgi.Response) -> None:
        await asyncio.to_thread(self._resource.on_get, req, resp)

    on_head = on_get
