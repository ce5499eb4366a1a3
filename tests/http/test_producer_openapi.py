"""The producer conforms to its OpenAPI description in all requests that schemathesis generates."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
import redis
import schemathesis
from hypothesis import HealthCheck, Phase, settings
from support.processes.over_http import app_of, served
from support.queue_fixtures import Queue
from zeroloss.reference.http.openapi import describe
from zeroloss.reference.queue.config import Config
from zeroloss.system.servers import Server

# A batch with an invalid item is answered 207: only that item is refused.
REFUSALS = ["207", "400", "413", "415", "422"]
CHECKS = {"checks": {"negative_data_rejection": {"expected-statuses": REFUSALS}}}

MAX_BATCH = 20  # small, because batches at and beyond the limit are generated, too
described = schemathesis.openapi.from_dict(
    describe(Config(max_batch=MAX_BATCH)), config=schemathesis.Config.from_dict(CHECKS)
)


@schemathesis.serializer("application/x-ndjson", "application/jsonl")
def as_lines(_context: schemathesis.SerializationContext, value: Any) -> bytes:
    """Serialize an array with one item a line, and any other value as one line."""
    items = value if isinstance(value, list) else [value]
    return b"".join(json.dumps(item).encode() + b"\n" for item in items)


@pytest.fixture(scope="module")
def producer_url(embedded: Server) -> Iterator[str]:
    with served("producer", embedded.url, max_batch=MAX_BATCH) as producer:
        yield producer.url


@pytest.fixture(scope="module")
def keyspace(embedded: Server) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(embedded.url) as connected:
        yield connected


@described.parametrize()
@settings(
    max_examples=1_500 if settings.get_current_profile_name() == "nightly" else 50,
    derandomize=True,
    database=None,
    deadline=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)
def test_the_producer_keeps_to_its_description(
    case: schemathesis.Case, producer_url: str, keyspace: redis.Redis
) -> None:
    keyspace.flushdb()  # an earlier example may have used the same idempotency key with another payload
    case.call_and_validate(base_url=producer_url)


def test_the_producer_serves_the_description_with_its_own_limits(queue: Queue) -> None:
    description = app_of(queue, max_batch=7).simulate_get("/openapi.json").json
    assert description == describe(queue.configured(max_batch=7).config)
    body = description["paths"]["/tasks"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    assert body["maxItems"] == 7


def test_a_refusal_for_a_host_name_is_described_where_one_for_a_token_is() -> None:
    for path, operations in describe(Config())["paths"].items():
        for operation in operations.values():
            assert ("401" in operation["responses"]) == ("403" in operation["responses"]), path
