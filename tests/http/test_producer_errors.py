"""The producer's errors, one by one.

Each is a problem document that states the error, and whether a task may have been accepted.
"""

import json
from collections.abc import Callable
from typing import Any

import falcon.testing
import pytest
import redis
from support.processes.over_http import app_of, assert_problem, post
from support.processes.relay import Relay
from support.queue_fixtures import Queue
from zeroloss.reference.http.submissions import NESTING_MAX
from zeroloss.system.servers import Server

TASK = b'{"payload": 1}'
BOTH = pytest.mark.parametrize("path", ["/task", "/tasks"])


@pytest.fixture
def http(queue: Queue) -> falcon.testing.TestClient:
    return app_of(queue)


# 400: the request is invalid.


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("", ["JSON"]),
        ("[]", ["does not begin with {"]),
        ("nonsense", ["JSON"]),
        ('{"payload": 1', ["JSON"]),
        ('{"payload": 1}}', ["trailing characters"]),
        ('{"payload": 1,}', ["JSON"]),
        ('{"payload": NaN}', ["offset 12"]),
        ('{"payload": -Infinity}', ["offset 13"]),
        ("[]", ["JSON object"]),
        ("null", ["JSON object"]),
        ('"payload"', ["JSON object"]),
        ('{"payload": ' + "9" * 5_000 + "}", ["digits", "string"]),
        (b'{"payload": "\xff"}', ["UTF-8", "offset 1"]),
        (b'\xef\xbb\xbf{"payload": 1}', ["JSON"]),
    ],
)
def test_a_body_that_is_not_a_json_object_is_refused_with_400(
    http: Any, queue: Queue, body: str | bytes, words: list[str]
) -> None:
    assert_problem(post(http, "/task", body), 400, "The body", *words, kind="malformed")
    assert set(queue.everything()) <= {"tasks:protocol"}


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("{}", ["no payload", "null"]),
        ('{"payloda": 1}', ['"payloda"', "id, type, payload, priority, delay_ms, execute_at"]),
        ('{"payload": 1, "queue": 3, "delay": 4}', ['"queue", "delay"']),
        ('{"payload": 1, "priority": 3}', ["priority", '"high" or "default" or "low"']),
        ('{"payload": 1, "priority": "urgent"}', ["priority", '"high" or "default" or "low"']),
        ('{"payload": 1, "delay_ms": -1}', ["delay_ms", "from 0 to"]),
        ('{"payload": 1, "delay_ms": 1.5}', ["delay_ms", "whole number"]),
        ('{"payload": 1, "delay_ms": "1"}', ["delay_ms", "whole number"]),
        ('{"payload": 1, "delay_ms": null}', ["delay_ms", "whole number"]),
        ('{"payload": 1, "execute_at": "tomorrow"}', ["execute_at", "RFC 3339"]),
        ('{"payload": 1, "execute_at": "2026-01-31T09:30:00"}', ["execute_at", "with its zone"]),
        ('{"payload": 1, "execute_at": 1795929154172}', ["execute_at", "RFC 3339"]),
        ('{"payload": 1, "delay_ms": 1, "execute_at": "2026-01-31T09:30:00Z"}', ["both", "keep one"]),
        ('{"payload": "\\ud800"}', ["payload", "surrogate"]),
        ('{"payload": 1, "payload": 2}', ['"payload"', "more than once"]),
        ('{"payload": 1, "id": "a", "i\\u0064": "b"}', ['"id"', "more than once"]),
        ('{"payload": 1, "id": ""}', ["id", "1 to 256 characters"]),
        ('{"payload": 1, "id": 7}', ["id", "string"]),
        ('{"payload": 1, "id": null}', ["id", "string"]),
        ('{"payload": 1, "id": "' + "x" * 257 + '"}', ["id", "256"]),
        ('{"payload": 1, "id": "a\\nb"}', ["id", "control"]),
        ('{"payload": 1, "id": "a\\n"}', ["id", "control"]),
        ('{"payload": 1, "id": "\\ud800"}', ["id", "surrogate"]),
        ('{"payload": 1, "type": []}', ["type", "string"]),
        ('{"payload": 1, "type": ""}', ["type", "1 to 256 characters"]),
    ],
)
def test_a_task_of_the_wrong_shape_is_refused_with_400_naming_the_member(
    http: Any, queue: Queue, body: str, words: list[str]
) -> None:
    assert_problem(post(http, "/task", body), 400, *words, kind="malformed")
    assert set(queue.everything()) <= {"tasks:protocol"}


@pytest.mark.parametrize("opening", ["[", '{"a":'])
def test_a_payload_nested_beyond_all_use_is_refused_with_400(http: Any, queue: Queue, opening: str) -> None:
    assert_problem(post(http, "/task", '{"payload": ' + opening * 100_000), 400, "nested", kind="malformed")
    assert_problem(post(http, "/tasks", "[" + opening * 100_000), 400, "nested", kind="malformed")
    assert set(queue.everything()) <= {"tasks:protocol"}


def test_a_payload_nested_just_within_the_bound_is_accepted_and_brackets_in_strings_do_not_nest(http: Any) -> None:
    depth = NESTING_MAX - 1  # the task itself is the first level
    assert post(http, "/task", '{"payload": ' + "[" * depth + "]" * depth + "}").status_code == 202
    assert_problem(
        post(http, "/task", '{"payload": ' + "[" * (depth + 1) + "]" * (depth + 1) + "}"),
        400,
        "200 levels",
        kind="malformed",
    )
    assert post(http, "/task", json.dumps({"payload": ["[" * 500, '\\"[{' * 500]})).status_code == 202


def test_a_repeated_name_inside_the_payload_is_the_payloads_own_business(http: Any, queue: Queue) -> None:
    assert post(http, "/task", '{"payload": {"a": 1, "a": 2}}').status_code == 202
    assert b'{"a": 1, "a": 2}' in queue.pending()[0]


@pytest.mark.parametrize(
    ("media_type", "body", "word"),
    [
        ("application/json", "[]", "The batch is empty; send at least one task."),
        ("application/x-ndjson", "", "empty"),
        ("application/x-ndjson", "\n \r\n", "empty"),
        ("application/json", '{"payload": 1}', "JSON array"),
        ("application/json", '[{"payload": 1}', "JSON array"),
        ("application/json", '[{"payload": 1} {"payload": 2}]', "expected ','"),
        ("application/json", '[{"payload": 1},]', "JSON array"),
        ("application/json", '[{"payload": 1}] 2', "trailing characters"),
        ("application/json", "[NaN]", "offset 1"),
        ("application/json", b'[{"payload": "\xff"}]', "The body is not UTF-8"),
    ],
)
def test_a_batch_that_is_not_a_batch_is_refused_as_a_whole_with_400(
    http: Any, queue: Queue, media_type: str, body: str | bytes, word: str
) -> None:
    assert_problem(post(http, "/tasks", body, Content_Type=media_type), 400, word, kind="malformed")
    assert set(queue.everything()) <= {"tasks:protocol"}


@BOTH
@pytest.mark.parametrize("key", ["", '""', "k" * 257, 'a"b', '"a', '"', "a\\b", "schl\xfcssel", "a\tb"])
def test_an_invalid_idempotency_key_is_refused_with_400(http: Any, queue: Queue, path: str, key: str) -> None:
    assert_problem(post(http, path, TASK, Idempotency_Key=key), 400, "Idempotency-Key", "256", kind="malformed")
    assert set(queue.everything()) <= {"tasks:protocol"}


# 404, 405, 415.


@pytest.mark.parametrize("path", ["/", "/taskz", "/task/", "/task/7", "/tasks/../task"])
def test_an_unknown_route_is_404(http: Any, path: str) -> None:
    assert_problem(http.simulate_get(path), 404, path)


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("GET", "/task", {"POST", "OPTIONS"}),
        ("HEAD", "/task", {"POST", "OPTIONS"}),
        ("PUT", "/tasks", {"POST", "OPTIONS"}),
        ("DELETE", "/tasks", {"POST", "OPTIONS"}),
        ("POST", "/healthz", {"GET", "HEAD", "OPTIONS"}),
        ("POST", "/readyz", {"GET", "HEAD", "OPTIONS"}),
        ("PATCH", "/openapi.json", {"GET", "HEAD", "OPTIONS"}),
    ],
)
def test_a_wrong_method_is_405_and_names_the_right_ones(http: Any, method: str, path: str, allowed: set[str]) -> None:
    answer = http.simulate_request(method, path)
    assert set(answer.headers["allow"].split(", ")) == allowed
    if method != "HEAD":
        assert_problem(answer, 405, path, method)


def test_options_tells_the_methods(http: Any) -> None:
    answer = http.simulate_options("/task")
    assert (answer.status_code, answer.headers["allow"]) == (200, "POST")


@BOTH
@pytest.mark.parametrize(
    "content_type",
    ["", "text/plain", "application/x-www-form-urlencoded", "application/cloudevents+json", "application/jsonp"],
)
def test_a_body_without_a_json_content_type_is_415(http: Any, queue: Queue, path: str, content_type: str) -> None:
    answer = post(http, path, TASK, Content_Type=content_type)
    assert_problem(answer, 415, "Content-Type", "application/json", kind="unsupported-media-type")
    assert set(queue.everything()) <= {"tasks:protocol"}


def test_ndjson_is_for_batches_only(http: Any) -> None:
    assert_problem(post(http, "/task", TASK, Content_Type="application/x-ndjson"), 415, kind="unsupported-media-type")


@BOTH
def test_another_charset_or_a_compressed_body_is_415(http: Any, path: str) -> None:
    latin = post(http, path, TASK, Content_Type="application/json; charset=latin-1")
    assert_problem(latin, 415, "utf-8", "latin-1", kind="unsupported-media-type")
    assert_problem(post(http, path, TASK, Content_Encoding="gzip"), 415, "compressed", kind="unsupported-media-type")


# 413.


def test_a_task_beyond_its_limit_is_413(queue: Queue) -> None:
    answer = post(app_of(queue, max_task_bytes=1_000), "/task", json.dumps({"payload": "x" * 1_000}))
    assert_problem(answer, 413, "The task has", "1000", kind="too-large")
    assert set(queue.everything()) <= {"tasks:protocol"}


@BOTH
def test_a_body_beyond_its_limit_is_413(queue: Queue, path: str) -> None:
    http = app_of(queue, max_task_bytes=500, max_body_bytes=1_000)
    answer = post(http, path, json.dumps({"payload": "x" * 1_000}))
    assert_problem(answer, 413, "The body has more than 1000 bytes", kind="too-large")


def test_a_batch_of_too_many_tasks_is_413_as_a_whole(queue: Queue) -> None:
    http = app_of(queue, max_batch=2)
    answer = post(http, "/tasks", json.dumps([{"payload": 1}] * 3))
    assert_problem(answer, 413, "3 tasks", "2 allowed", kind="too-large")
    assert set(queue.everything()) <= {"tasks:protocol"}
    assert post(http, "/tasks", json.dumps([{"payload": 1}] * 2)).status_code == 202


# 429.


@BOTH
def test_a_full_queue_is_429_with_retry_after_and_nothing_is_accepted(queue: Queue, path: str) -> None:
    queue.enqueue(1, 2)
    full = app_of(queue, max_pending=2)
    answer = post(full, path, TASK if path == "/task" else b'[{"payload": 3}, {"payload": 4}]')
    assert_problem(answer, 429, "2 pending", "Nothing was accepted", kind="queue-full")
    assert int(answer.headers["retry-after"]) > 0
    assert len(queue.pending()) == 2


# 500 and 503.


@BOTH
def test_redis_down_is_503_with_retry_after_and_says_that_nothing_was_accepted(
    queue: Queue, dead_port: int, path: str
) -> None:
    down = app_of(queue, redis_url=f"redis://127.0.0.1:{dead_port}/0")
    answer = post(down, path, TASK if path == "/task" else b"[%b]" % TASK)
    assert_problem(answer, 503, "Nothing was accepted", kind="not-accepted")
    assert int(answer.headers["retry-after"]) > 0


def test_redis_out_of_memory_is_503_and_says_that_nothing_was_accepted(open_own_server: Callable[..., Server]) -> None:
    server = open_own_server(appendfsync=None)
    with redis.Redis.from_url(server.url) as client:
        client.config_set("maxmemory", "1")
        queue = Queue(client, server.url)
        assert_problem(post(app_of(queue), "/task", TASK), 503, "Nothing was accepted", kind="not-accepted")
        assert set(queue.everything()) <= {"tasks:protocol"}
        queue.own_client.close()


@BOTH
def test_a_lost_reply_of_redis_is_503_and_says_that_the_task_may_have_been_accepted(queue: Queue, path: str) -> None:
    body = TASK if path == "/task" else b"[%b]" % TASK
    with Relay(queue.config.redis_url) as relay:
        http = app_of(queue, redis_url=relay.url)
        post(http, path, body)  # loads the script
        relay.swallow("EVALSHA")
        answer = post(http, path, body, Idempotency_Key="k1")
        assert_problem(answer, 503, "may have been accepted", "same Idempotency-Key", kind="outcome-unknown")
        assert int(answer.headers["retry-after"]) > 0
        assert len(queue.pending()) == 2  # this task was accepted
        assert post(http, path, body, Idempotency_Key="k1").status_code == 202
        assert len(queue.pending()) == 2


def test_a_body_that_another_server_hands_on_shortened_is_refused_with_400(http: Any, queue: Queue) -> None:
    answer = http.simulate_post(
        "/tasks",
        body='{"payload": 1}\n',
        headers={
            "Content-Type": "application/x-ndjson",
            "Content-Length": "1000",
        },
    )
    assert_problem(answer, 400, "15 of 1000 bytes", kind="malformed")
    assert set(queue.everything()) <= {"tasks:protocol"}
