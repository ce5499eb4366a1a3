"""The producer does what its OpenAPI description says, for whatever schemathesis makes of it."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from http_support import app_of, served
from hypothesis import HealthCheck, Phase, settings
from queue_fixtures import Queue

from chaos.servers import Server
from reference.config import Config
from reference.openapi import describe

described = schemathesis.openapi.from_dict(describe(Config()))


@schemathesis.serializer("application/x-ndjson", "application/jsonl")
def as_lines(_context: schemathesis.SerializationContext, value: Any) -> bytes:
    """An array, one item a line; what is no array is one line."""
    items = value if isinstance(value, list) else [value]
    return b"".join(json.dumps(item).encode() + b"\n" for item in items)


@pytest.fixture(scope="module")
def producer_url(server: Server) -> Iterator[str]:
    with served("producer", server.url, namespace="described") as producer:
        yield producer.url


@described.parametrize()
@settings(
    max_examples=60,
    derandomize=True,
    database=None,
    deadline=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)
def test_the_producer_keeps_to_its_description(case: schemathesis.Case, producer_url: str) -> None:
    case.call_and_validate(base_url=producer_url)


def test_the_producer_serves_the_description_with_its_own_limits(queue: Queue) -> None:
    description = app_of(queue, max_batch=7).simulate_get("/openapi.json").json
    assert description == describe(queue.configured(max_batch=7).config)
    body = description["paths"]["/tasks"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    assert body["maxItems"] == 7
