"""Converts a request to submissions, and their outcomes to an answer. The WSGI and the ASGI app share this."""

from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple

import falcon
import msgspec
from prometheus_client import Counter

from ..queue.config import Config
from ..queue.enqueuing.submission import Accepted, Outcome, Submission, turn_to_decode
from ..queue.errors import OutcomeUnknown, TaskTooLarge
from .bodies import read_idempotency_key, read_trace_context, require_media_type
from .problems import Problem, malformed, problem_of
from .submissions import ENVELOPE_BYTES, decode_utf8, read_submission, split_array, split_lines

JSON_TYPE = "application/json"
NDJSON_TYPES = ("application/x-ndjson", "application/jsonl")
ITEM = "\t"  # between a batch's key and an item's index; no key of a client, by HTTP or from Python, contains it
DURABILITY_HEADER = "Zeroloss-Durability"

_encode = msgspec.json.Encoder().encode


class Expected(NamedTuple):
    """The limits and properties of a request's body, from the request's head."""

    limit_bytes: int
    advice: str  # what the client can do if the body is larger
    media_type: str
    idempotency_key: str | None
    trace_context: str


class _Queued(msgspec.Struct, gc=False):
    task_id: str
    status: Literal["queued"] = "queued"


class Intake:
    """Reads requests within the limits of a configuration, and answers them. `enqueued`: priority -> the counter."""

    def __init__(self, config: Config, enqueued: Callable[[str], Counter]) -> None:
        self._config, self._enqueued = config, enqueued

    def expect_one(self, req: falcon.Request) -> Expected:
        """Read the head of `POST /task`.

        Raises:
            Problem: 415, 400.
        """
        limit_bytes = task_body_limit(self._config)
        advice = "send less, or send a reference to where the data lies"
        return _expect(req, (JSON_TYPE,), limit_bytes, advice)

    def expect_many(self, req: falcon.Request) -> Expected:
        """Read the head of `POST /tasks`.

        Raises:
            Problem: 415, 400.
        """
        types = (JSON_TYPE, *NDJSON_TYPES)
        return _expect(req, types, self._config.max_body_bytes, "send the tasks in several requests")

    def read_one(self, expected: Expected, body: bytes) -> Submission:
        """Read the one task of a body.

        Raises:
            Problem: 400.
        """
        with turn_to_decode(len(body)):
            return read_submission(body, "The body", expected.idempotency_key, expected.trace_context)

    def read_many(self, expected: Expected, body: bytes) -> list[Submission | Problem]:
        """Read the tasks of a batch. An invalid task gets its own Problem in the list.

        Raises:
            Problem: 400, 413.
        """
        items_max, item_max = self._config.max_batch, self._config.max_task_bytes + ENVELOPE_BYTES
        with turn_to_decode(len(body)):
            if expected.media_type == JSON_TYPE:
                decode_utf8(body, "The body")
                items = split_array(body, items_max, item_max)
            else:
                items = split_lines(body, items_max)
            if not items:
                raise malformed("The batch is empty; send at least one task.")
            return [self._read_item(item, index, expected) for index, item in enumerate(items)]

    def _read_item(self, item: bytes, index: int, expected: Expected) -> Submission | Problem:
        """Read one item of a batch. Its idempotency key is the batch's key with the item's index."""
        limit_bytes, key = self._config.max_task_bytes, expected.idempotency_key
        if len(item) > limit_bytes + ENVELOPE_BYTES:
            return problem_of(TaskTooLarge(len(item), limit_bytes))
        try:
            item_key = None if key is None else f"{key}{ITEM}{index}"
            return read_submission(item, f"Item {index}", item_key, expected.trace_context)
        except Problem as problem:
            return problem

    def answer_one(self, resp: falcon.Response, submission: Submission, outcome: Outcome) -> None:
        """Answer `POST /task`.

        Raises:
            QueueError: the task was not accepted, or the outcome is unknown.
        """
        if not isinstance(outcome, Accepted):
            raise outcome
        if outcome.replayed:
            resp.set_header("Idempotency-Replayed", "true")
        else:
            self._enqueued(submission.priority).inc()
        resp.set_header(DURABILITY_HEADER, self._config.durability)
        answer(resp, falcon.HTTP_202, _Queued(outcome.task_id))

    def answer_many(
        self, resp: falcon.Response, items: Sequence[Submission | Problem], outcomes: Sequence[Outcome]
    ) -> None:
        """Answer `POST /tasks`. `outcomes`: one for each item that is a submission, in order."""
        results: list[Any] = []
        priorities: dict[str, int] = {}
        queued = refused = 0
        rest = iter(outcomes)
        for item in items:
            outcome = next(rest) if isinstance(item, Submission) else item
            if isinstance(outcome, Accepted):
                results.append(_Queued(outcome.task_id))
                queued += 1
                if not outcome.replayed and isinstance(item, Submission):
                    priorities[item.priority] = priorities.get(item.priority, 0) + 1
            else:
                problem = outcome if isinstance(outcome, Problem) else problem_of(outcome)
                is_unknown = isinstance(outcome, OutcomeUnknown)
                results.append({"status": "unknown" if is_unknown else "refused", "problem": problem.document()})
                refused += not is_unknown
        for priority, count in priorities.items():
            self._enqueued(priority).inc(count)
        resp.set_header(DURABILITY_HEADER, self._config.durability)
        document = {"queued": queued, "refused": refused, "results": results}
        answer(resp, falcon.HTTP_207 if queued < len(results) else falcon.HTTP_202, document)


def task_body_limit(config: Config) -> int:
    """Return the limit in bytes for the body of `POST /task`."""
    return min(config.max_body_bytes, config.max_task_bytes + ENVELOPE_BYTES)


def submissions_of(items: Sequence[Submission | Problem]) -> list[Submission]:
    """Return the valid tasks of a batch."""
    return [item for item in items if isinstance(item, Submission)]


def answer(resp: falcon.Response, status: str, document: Any) -> None:
    """Answer with JSON that no cache keeps."""
    resp.status = status
    resp.content_type = JSON_TYPE
    resp.set_header("Cache-Control", "no-store")
    resp.data = _encode(document)


def _expect(req: falcon.Request, types: tuple[str, ...], limit_bytes: int, advice: str) -> Expected:
    media_type = require_media_type(req, types)
    return Expected(limit_bytes, advice, media_type, read_idempotency_key(req), read_trace_context(req))
