"""The problem documents of the HTTP parts, word for word: programs read `type`, people read `detail`."""

import logging
from collections.abc import Callable
from functools import partial
from typing import Any

import falcon.testing
import pytest
from redis.exceptions import ConnectionError as RedisConnectionError
from support.processes.over_http import app_of, assert_problem, post
from support.queue_fixtures import Queue
from zeroloss.reference.http.problems import Problem, malformed, problem_of, redis_unavailable
from zeroloss.reference.queue.enqueuer import Enqueuer
from zeroloss.reference.queue.errors import (
    IdempotencyConflict,
    LeaseLost,
    NotAccepted,
    NotConfirmed,
    OutcomeUnknown,
    QueueError,
    QueueFull,
    TaskTooLarge,
)

REPEAT = (
    "Repeat the request with the same Idempotency-Key, which never queues a task twice; "
    "without such a key the repeated task may run twice."
)


def document(kind: str | None, title: str, status: int, detail: str) -> dict[str, Any]:
    type_ = f"urn:zeroloss:problem:{kind}" if kind else "about:blank"
    return {"type": type_, "title": title, "status": status, "detail": detail}


UNEXPECTED = document(
    None,
    "Internal Server Error",
    500,
    "Something unexpected went wrong and was logged. If a task was sent, it may have been accepted.",
)


@pytest.mark.parametrize(
    ("make", "fields", "expected", "headers"),
    [
        (
            partial(TaskTooLarge, 11, 10),
            {"size_bytes": 11, "limit_bytes": 10},
            document(
                "too-large",
                "Too large",
                413,
                "The task has 11 bytes; at most 10 are accepted. "
                "Send less, or send a reference to where the data lies.",
            ),
            {},
        ),
        (
            partial(IdempotencyConflict, "k"),
            {"key": "k"},
            document(
                "idempotency-conflict",
                "The idempotency key belongs to another task",
                422,
                "Idempotency key 'k' was already used for a different task. Use a new key for a new task.",
            ),
            {},
        ),
        (
            partial(QueueFull, 8, 7),
            {"length": 8, "limit": 7},
            document(
                "queue-full",
                "The queue is full",
                429,
                "The queue holds 8 pending tasks; its bound is 7. Nothing was accepted. Send it again later.",
            ),
            {"Retry-After": "5"},
        ),
        (
            partial(NotAccepted, "no connection"),
            {"reason": "no connection"},
            document(
                "not-accepted",
                "Nothing was accepted",
                503,
                "Nothing was accepted: no connection. Sending it again is safe.",
            ),
            {"Retry-After": "2"},
        ),
        (
            partial(OutcomeUnknown, "no answer"),
            {"reason": "no answer"},
            document(
                "outcome-unknown",
                "The outcome is unknown",
                503,
                f"The outcome is unknown, the task may have been accepted: no answer. {REPEAT}",
            ),
            {"Retry-After": "2"},
        ),
        (
            partial(NotConfirmed, "fsync", "0 of 1"),
            {"level": "fsync", "reason": "0 of 1"},
            document(
                "outcome-unknown",
                "The outcome is unknown",
                503,
                f"The primary accepted it, but its durability was not confirmed as fsync in time (0 of 1). {REPEAT}",
            ),
            {"Retry-After": "2"},
        ),
    ],
    ids=["too large", "idempotency conflict", "queue full", "not accepted", "outcome unknown", "not confirmed"],
)
def test_each_error_of_a_producer_has_its_kind_and_says_what_to_do(
    make: Callable[[], QueueError], fields: dict[str, Any], expected: dict[str, Any], headers: dict[str, str]
) -> None:
    error = make()
    assert vars(error) == fields
    problem = problem_of(error)
    assert problem.document() == expected
    assert problem.headers == headers


def test_an_error_of_the_queue_that_no_request_should_meet_is_logged_whole_and_reported_as_unexpected(
    caplog: pytest.LogCaptureFixture,
) -> None:
    error = LeaseLost("w1", "t1")
    assert problem_of(error).document() == UNEXPECTED
    (record,) = caplog.records
    assert record.message == "An error without a problem document of its own"
    assert record.exc_info
    assert record.exc_info[1] is error
    assert str(error) == "Consumer w1 no longer holds task t1."


def test_a_defect_is_logged_with_its_request_and_reported_as_unexpected(
    queue: Queue, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: Any) -> None:
        raise RuntimeError("a secret of the inside")

    monkeypatch.setattr(Enqueuer, "enqueue", fail)
    with caplog.at_level(logging.ERROR):
        answer = post(app_of(queue), "/task", b'{"payload": 1}')
    assert_problem(answer, 500)
    assert answer.json == UNEXPECTED
    (record,) = caplog.records
    assert record.message == "POST /task failed"
    assert "a secret of the inside" in caplog.text


@pytest.mark.parametrize(
    ("text", "clause"),
    [
        ("Connection refused.", "Connection refused"),
        ("Timeout reading. \n", "Timeout reading"),
        ("", "ConnectionError"),
        ("x" * 600, "x" * 250),
    ],
    ids=["a sentence", "a line", "nothing", "a long one"],
)
def test_the_answer_of_redis_is_part_of_the_sentence(text: str, clause: str) -> None:
    problem = redis_unavailable(RedisConnectionError(text))
    assert problem.document() == document(
        "redis-unavailable", "Redis is unavailable", 503, f"Redis does not answer: {clause}."
    )
    assert problem.headers == {"Retry-After": "2"}


def test_a_problem_without_a_kind_is_named_by_its_status() -> None:
    assert Problem(None, "Why.", status=404).document() == document(None, "Not Found", 404, "Why.")


def test_no_detail_is_longer_than_500_characters() -> None:
    assert len(malformed("x" * 501).document()["detail"]) == 500


@pytest.mark.parametrize(
    ("method", "path", "status", "detail"),
    [
        ("GET", "/nowhere", 404, "Nothing is at /nowhere."),
        ("GET", "/" + "x" * 200, 404, f"Nothing is at /{'x' * 99}."),
        ("PUT", "/task", 405, "/task does not take PUT; it takes POST, OPTIONS."),
    ],
    ids=["a path", "a long path", "a method"],
)
def test_a_request_that_goes_nowhere_learns_what_is_there(
    queue: Queue, method: str, path: str, status: int, detail: str
) -> None:
    answer: falcon.testing.Result = app_of(queue).simulate_request(method, path)
    assert_problem(answer, status)
    assert answer.json["detail"] == detail
    assert answer.headers["cache-control"] == "no-store"
