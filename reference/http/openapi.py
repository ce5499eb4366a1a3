"""The producer's OpenAPI 3.1 description, with the limits of a configuration."""

from typing import Any

from ..queue.config import Config
from ..queue.enqueuing.submission import DELAY_MS_MAX
from ..queue.task import DEFAULT_TYPE, PRIORITIES
from .bodies import KEY_PATTERN, NAME_CHARS_MAX
from .problems import MEDIA_TYPE
from .submissions import NAME_PATTERN

_NO_TOKEN = "The producer has a token, and the request has not; nothing was accepted"
_OTHER_HOST = "The producer is for this machine, and `Host` is another name than its own; nothing was accepted"
_TASK_TOO_LARGE = "The task or the body is larger than the limits; nothing was accepted."


def describe(config: Config) -> dict[str, Any]:
    """Return the document for `GET /openapi.json`."""
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "zeroloss producer",
            "version": "1",
            "description": "Queues tasks. A 202 is a promise: Redis has acknowledged the task.",
        },
        # The token is optional here: it is required only if the producer has one.
        "security": [{"token": []}, {}],
        "paths": {
            "/task": {"post": _post_task(config)},
            "/tasks": {"post": _post_tasks(config)},
            "/healthz": {"get": _get("isHealthy", "The process runs", {"status": {"const": "ok"}})},
            "/readyz": {"get": _get_readyz(config)},
            "/metrics": {"get": _get_metrics()},
            "/openapi.json": {"get": _get_description()},
        },
        "components": {
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
            "schemas": {"Task": _task(), "Queued": _queued(), "BatchAnswer": _batch_answer(), "Problem": _problem()},
            "parameters": {"IdempotencyKey": _idempotency_key()},
        },
    }


def _post_task(config: Config) -> dict[str, Any]:
    return {
        "operationId": "enqueue",
        "summary": "Queue one task",
        "parameters": [_ref("parameters", "IdempotencyKey")],
        "requestBody": {"required": True, "content": _json(_ref("schemas", "Task"))},
        "responses": {
            "202": {
                "description": "Queued: Redis has acknowledged it, as safe as Zeroloss-Durability says",
                "headers": {
                    **_durability(config),
                    "Idempotency-Replayed": {
                        "description": "Present where the key was known: this is the first task's answer again",
                        "schema": {"const": "true"},
                    },
                },
                "content": _json(_ref("schemas", "Queued")),
            },
            **_refusals(),
        },
    }


def _post_tasks(config: Config) -> dict[str, Any]:
    batch = {"type": "array", "minItems": 1, "maxItems": config.max_batch, "items": _ref("schemas", "Task")}
    lines = {**batch, "description": "One JSON object a line, each ended by a newline; empty lines are skipped"}
    answer = _json(_ref("schemas", "BatchAnswer"))
    return {
        "operationId": "enqueueMany",
        "summary": "Queue many tasks in one atomic step; one answer for each, in order",
        "parameters": [_ref("parameters", "IdempotencyKey")],
        "requestBody": {
            "required": True,
            "content": {
                **_json(batch),
                "application/x-ndjson": {"schema": lines},
                "application/jsonl": {"schema": lines},
            },
        },
        "responses": {
            "202": {"description": "All were queued", "headers": _durability(config), "content": answer},
            "207": {
                "description": "Some were refused; the others were queued",
                "headers": _durability(config),
                "content": answer,
            },
            **_refusals(),
        },
    }


def _durability(config: Config) -> dict[str, Any]:
    description = "How safe the tasks are: memory (as the server's own fsync policy has it), fsync or replicas:N"
    return {
        "Zeroloss-Durability": {"description": description, "required": True, "schema": {"const": config.durability}}
    }


def _get(operation_id: str, summary: str, properties: dict[str, Any]) -> dict[str, Any]:
    schema = {"type": "object", "properties": properties, "required": list(properties), "additionalProperties": False}
    responses = {"200": {"description": summary, "content": _json(schema)}}
    return {"operationId": operation_id, "summary": summary, "responses": responses}


def _get_readyz(config: Config) -> dict[str, Any]:
    properties: dict[str, Any] = {
        "status": {"const": "ready"},
        "maxmemory_policy": {"type": "string"},
        "durability": {"const": config.durability},
    }
    if config.shards > 1:
        properties["shards"] = {
            "description": "Each shard's name, and ready or why it is not; one ready shard is enough",
            "type": "object",
            "additionalProperties": {"type": "string"},
        }
    operation = _get("isReady", "Redis answers, takes tasks, does not evict them, and can be that durable", properties)
    operation["responses"]["503"] = _refusal(
        "Redis does not answer, refuses tasks, may evict them, or cannot be as durable as was asked for", retry=True
    )
    return operation


def _get_description() -> dict[str, Any]:
    responses = {"200": {"description": "This document", "content": _json({"type": "object"})}}
    responses |= _no_access()
    return {"operationId": "describe", "summary": "This document", "responses": responses}


def _get_metrics() -> dict[str, Any]:
    content = {"text/plain": {"schema": {"type": "string"}}}
    responses = {"200": {"description": "Requests and tasks, for Prometheus", "content": content}}
    responses |= _no_access()
    return {"operationId": "metrics", "summary": "Requests and tasks, for Prometheus", "responses": responses}


def _task() -> dict[str, Any]:
    name = {"type": "string", "minLength": 1, "maxLength": NAME_CHARS_MAX, "pattern": NAME_PATTERN}
    return {
        "type": "object",
        "properties": {
            "id": {**name, "description": "The task's id; a sortable unique one is made if it is missing"},
            "type": {**name, "default": DEFAULT_TYPE, "description": "Names the handler"},
            "payload": {"description": "Any JSON value, handed to the handler byte for byte; no half surrogate pairs"},
            "priority": {"enum": [*PRIORITIES], "default": "default"},
            "delay_ms": {
                "type": "integer",
                "minimum": 0,
                "maximum": DELAY_MS_MAX,
                "description": "It runs that many ms from now, by Redis's clock",
            },
            "execute_at": {
                "type": "string",
                "format": "date-time",
                "description": "It runs at this time, with its zone, by Redis's clock; a time that has passed is now",
            },
        },
        "required": ["payload"],
        "not": {"required": ["delay_ms", "execute_at"]},
        "additionalProperties": False,
    }


def _queued() -> dict[str, Any]:
    return {
        "type": "object",
        "properties": {"status": {"const": "queued"}, "task_id": {"type": "string", "minLength": 1}},
        "required": ["status", "task_id"],
        "additionalProperties": False,
    }


def _batch_answer() -> dict[str, Any]:
    refused = {
        "type": "object",
        "properties": {"status": {"enum": ["refused", "unknown"]}, "problem": _ref("schemas", "Problem")},
        "required": ["status", "problem"],
        "additionalProperties": False,
    }
    return {
        "type": "object",
        "properties": {
            "queued": {"type": "integer", "minimum": 0},
            "refused": {"type": "integer", "minimum": 0},
            "results": {"type": "array", "items": {"oneOf": [_ref("schemas", "Queued"), refused]}},
        },
        "required": ["queued", "refused", "results"],
        "additionalProperties": False,
    }


def _problem() -> dict[str, Any]:
    return {
        "type": "object",
        "description": "RFC 9457. `detail` says what to do, and whether something may have been accepted",
        "properties": {
            "type": {"type": "string", "format": "uri-reference"},
            "title": {"type": "string"},
            "status": {"type": "integer"},
            "detail": {"type": "string"},
        },
        "required": ["type", "title", "status", "detail"],
        "additionalProperties": False,
    }


def _idempotency_key() -> dict[str, Any]:
    return {
        "name": "Idempotency-Key",
        "in": "header",
        "required": False,
        "description": "Same key and task: same answer, no second task. In a batch it covers each item by its index",
        "schema": {"type": "string", "minLength": 1, "maxLength": NAME_CHARS_MAX, "pattern": KEY_PATTERN},
    }


def _refusals() -> dict[str, Any]:
    return {
        "400": _refusal("The request is malformed; nothing was accepted"),
        **_no_access(),
        "413": _refusal(_TASK_TOO_LARGE),
        "415": _refusal("Not the media type, charset or encoding that is read; nothing was accepted"),
        "422": _refusal("The Idempotency-Key belongs to another task; nothing was accepted"),
        "429": _refusal("The queue holds as much as it may; nothing was accepted", retry=True),
        "503": _refusal("Redis refused or did not answer; `type` and `detail` tell if it may be accepted", retry=True),
        "500": _refusal("A defect of the producer; the outcome is unknown"),
    }


def _no_access() -> dict[str, Any]:
    return {"401": _refusal(_NO_TOKEN), "403": _refusal(_OTHER_HOST)}


def _refusal(description: str, *, retry: bool = False) -> dict[str, Any]:
    response: dict[str, Any] = {
        "description": description,
        "content": {MEDIA_TYPE: {"schema": _ref("schemas", "Problem")}},
    }
    if retry:
        seconds = {"type": "integer", "minimum": 1}
        response["headers"] = {"Retry-After": {"description": "Seconds", "required": True, "schema": seconds}}
    return response


def _json(schema: dict[str, Any]) -> dict[str, Any]:
    return {"application/json": {"schema": schema}}


def _ref(kind: str, name: str) -> dict[str, str]:
    return {"$ref": f"#/components/{kind}/{name}"}
