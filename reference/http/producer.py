"""The producer: tasks in over HTTP, promised with a 202 once Redis has acknowledged them, and not before.

    POST /task          one task as JSON
    POST /tasks         many, as NDJSON or a JSON array; one answer for each, in order
    GET  /healthz       the process runs
    GET  /readyz        Redis answers, takes tasks, does not evict them, and can be as durable as was asked for
    GET  /openapi.json  all of this for machines

`create_app` gives an ordinary WSGI app. Under another server:
`gunicorn 'zeroloss.reference.http.producer:from_environment()'`, or
`granian --interface wsgi --factory zeroloss.reference.http.producer:from_environment`.
"""

import json
import logging
from typing import Any

import falcon
import redis

from ..queue.config import Config, load_config, unknown_variables
from ..queue.connection import connect
from ..queue.durability import Durability
from ..queue.enqueuer import Accepted, Enqueuer, Submission, turn_to_decode
from ..queue.errors import OutcomeUnknown, TaskTooLarge
from ..queue.keys import Keys
from ..queue.protocol import refuse_at_start
from . import problems, serving
from .openapi import describe
from .problems import Problem, malformed, problem_of
from .readiness import Health, connect_probe, require_ready
from .submissions import (
    ENVELOPE_BYTES,
    decode_utf8,
    read_body,
    read_idempotency_key,
    read_submission,
    read_trace_context,
    require_media_type,
    split_array,
    split_lines,
)

JSON_TYPE = "application/json"
DURABILITY_HEADER = "Zeroloss-Durability"
NDJSON_TYPES = ("application/x-ndjson", "application/jsonl")


def create_app(client: redis.Redis | None, config: Config) -> falcon.App[Any, Any]:
    """The WSGI app. `client` enqueues; readiness is asked with a client of its own that gives up sooner.

    With several shards each has clients of its own, and `client` is None.

    Raises:
        ConfigError: the URL is not one that redis-py reads.
    """
    app = falcon.App()
    problems.install(app)
    enqueuer = _enqueuer(client, config)
    app.add_route("/task", _Task(enqueuer, config))
    app.add_route("/tasks", _Tasks(enqueuer, config))
    app.add_route("/healthz", Health())
    app.add_route("/readyz", _Ready(config))
    app.add_route("/openapi.json", _Description(config))
    return app


def from_environment() -> falcon.App[Any, Any]:
    """The app for a WSGI server that takes a factory."""
    config = load_config()
    for sentence in unknown_variables():
        logging.getLogger(__name__).warning(sentence)
    return _started(config)


def serve(config: Config, host: str, port: int) -> None:
    """Serve with waitress until SIGTERM or SIGINT.

    Raises:
        ConfigError: the address cannot be listened on, the URL cannot be used, or the server is too old.
    """
    serving.serve("producer", _started(config), config, host, port)


def _started(config: Config) -> falcon.App[Any, Any]:
    if config.shards == 1:
        refuse_at_start(config)
        return create_app(connect(config), config)
    from ..shards import layout

    layout.refuse_at_start(config)
    return create_app(None, config)


def _enqueuer(client: redis.Redis | None, config: Config) -> Enqueuer:
    if client is not None:
        return Enqueuer(client, config)
    from ..shards.spread import Spread

    return Spread(config)


class _Task:
    def __init__(self, enqueuer: Enqueuer, config: Config) -> None:
        self._enqueuer, self._config = enqueuer, config

    def on_post(self, req: falcon.Request, resp: falcon.Response) -> None:
        require_media_type(req, (JSON_TYPE,))
        key = read_idempotency_key(req)
        limit_bytes = min(self._config.max_body_bytes, self._config.max_task_bytes + ENVELOPE_BYTES)
        body = read_body(req, limit_bytes, "send less, or send a reference to where the data lies")
        with turn_to_decode(len(body)):
            submission = read_submission(decode_utf8(body, "The body"), "The body", key)
        submission = submission._replace(trace_context=read_trace_context(req))
        accepted = self._enqueuer.enqueue(submission)
        if accepted.replayed:
            resp.set_header("Idempotency-Replayed", "true")
        resp.set_header(DURABILITY_HEADER, self._config.durability)
        _answer(resp, falcon.HTTP_202, _queued(accepted))


class _Tasks:
    def __init__(self, enqueuer: Enqueuer, config: Config) -> None:
        self._enqueuer, self._config = enqueuer, config

    def on_post(self, req: falcon.Request, resp: falcon.Response) -> None:
        results = self._enqueue(self._read(req))
        queued, refused = (sum(result["status"] == status for result in results) for status in ("queued", "refused"))
        resp.set_header(DURABILITY_HEADER, self._config.durability)
        answer = {"queued": queued, "refused": refused, "results": results}
        _answer(resp, falcon.HTTP_207 if queued < len(results) else falcon.HTTP_202, answer)

    def _read(self, req: falcon.Request) -> list[Submission | Problem]:
        media_type = require_media_type(req, (JSON_TYPE, *NDJSON_TYPES))
        key = read_idempotency_key(req)
        body = read_body(req, self._config.max_body_bytes)
        items_max, item_max = self._config.max_batch, self._config.max_task_bytes + ENVELOPE_BYTES
        with turn_to_decode(len(body)):
            items: list[str] | list[bytes]
            if media_type == JSON_TYPE:
                items = split_array(decode_utf8(body, "The body"), items_max, item_max)
            else:
                items = split_lines(body, items_max)
            if not items:
                raise malformed("The batch is empty; send at least one task.")
            read = [self._read_item(items[index], index, key) for index in range(len(items))]
        trace = read_trace_context(req)
        return [item._replace(trace_context=trace) if isinstance(item, Submission) else item for item in read]

    def _read_item(self, item: str | bytes, index: int, key: str | None) -> Submission | Problem:
        """One item of a batch. What is wrong with it is its own answer; the batch's key covers it by its index."""
        what = f"Item {index}"
        limit_bytes = self._config.max_task_bytes
        if len(item) > limit_bytes + ENVELOPE_BYTES:  # a line: its end is found without decoding it
            return problem_of(TaskTooLarge(len(item), limit_bytes))
        try:
            text = item if isinstance(item, str) else decode_utf8(item, what)
            return read_submission(text, what, None if key is None else f"{key}:{index}")
        except Problem as problem:
            return problem

    def _enqueue(self, items: list[Submission | Problem]) -> list[dict[str, Any]]:
        outcomes = iter(self._enqueuer.enqueue_many([item for item in items if isinstance(item, Submission)]))
        results = []
        for item in items:
            outcome = next(outcomes) if isinstance(item, Submission) else item
            if isinstance(outcome, Accepted):
                results.append(_queued(outcome))
            else:
                problem = outcome if isinstance(outcome, Problem) else problem_of(outcome)
                status = "unknown" if isinstance(outcome, OutcomeUnknown) else "refused"
                results.append({"status": status, "problem": problem.document()})
        return results


class _Ready:
    """With several shards it is ready as long as one is: a task without a key goes there."""

    def __init__(self, config: Config) -> None:
        self._durability = Durability(config.durability, config.durability_timeout_ms)
        self._sharded = config.shards > 1
        configs = [config]
        if self._sharded:
            from ..shards.layout import shard_configs

            configs = shard_configs(config)
        self._probes = {each.namespace: (connect_probe(each), Keys(each.namespace)) for each in configs}

    def on_get(self, _req: falcon.Request, resp: falcon.Response) -> None:
        policies: dict[str, str] = {}
        problems: dict[str, Problem] = {}
        for namespace, (probe, keys) in self._probes.items():
            try:
                policies[namespace] = require_ready(probe, self._durability, keys)
            except Problem as problem:
                problems[namespace] = problem
        if not policies:
            raise next(iter(problems.values()))
        policy = ", ".join(sorted(set(policies.values())))
        ready: dict[str, Any] = {"status": "ready", "maxmemory_policy": policy, "durability": self._durability.level}
        if self._sharded:
            ready["shards"] = dict.fromkeys(policies, "ready")
            ready["shards"] |= {name: problem.document()["detail"] for name, problem in problems.items()}
        _answer(resp, falcon.HTTP_200, ready)

    on_head = on_get


class _Description:
    def __init__(self, config: Config) -> None:
        self._description = describe(config)

    def on_get(self, _req: falcon.Request, resp: falcon.Response) -> None:
        _answer(resp, falcon.HTTP_200, self._description)

    on_head = on_get


def _queued(accepted: Accepted) -> dict[str, Any]:
    return {"status": "queued", "task_id": accepted.task_id}


def _answer(resp: falcon.Response, status: str, document: dict[str, Any]) -> None:
    resp.status = status
    resp.content_type = JSON_TYPE
    resp.set_header("Cache-Control", "no-store")
    resp.data = json.dumps(document).encode()
