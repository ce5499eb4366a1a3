"""The errors of the HTTP servers, as RFC 9457 problem documents.

`type` identifies the kind for a program; `detail` explains to a person what is wrong and what to do. Above all it says
whether a task may have been accepted: with `not-accepted` certainly not, with `outcome-unknown` possibly.
"""

import json
import logging
from collections.abc import Awaitable, Callable, Mapping
from http import HTTPStatus
from typing import Any

import falcon
from redis.exceptions import RedisError

from ..queue.errors import (
    IdempotencyConflict,
    NotAccepted,
    OtherProtocol,
    OutcomeUnknown,
    QueueError,
    QueueFull,
    TaskTooLarge,
)

MEDIA_TYPE = "application/problem+json"
DETAIL_CHARS_MAX = 500

# Values of Retry-After. A full queue takes longer to drain than Redis takes to restart.
FULL_RETRY_AFTER_S = 5
REDIS_RETRY_AFTER_S = 2

# kind -> status and title. The kind is the last word of `type`.
_KINDS: Mapping[str, tuple[int, str]] = {
    "malformed": (400, "The request is malformed"),
    "unauthorized": (401, "The token is missing or wrong"),
    "too-large": (413, "Too large"),
    "unsupported-media-type": (415, "Unsupported media type"),
    "idempotency-conflict": (422, "The idempotency key belongs to another task"),
    "queue-full": (429, "The queue is full"),
    "not-accepted": (503, "Nothing was accepted"),
    "outcome-unknown": (503, "The outcome is unknown"),
    "redis-unavailable": (503, "Redis is unavailable"),
    "redis-evicts": (503, "Redis may evict the queue"),
    "redis-refuses": (503, "Redis refuses new tasks"),
    "durability-out-of-reach": (503, "The durability asked for cannot be reached"),
}

_log = logging.getLogger(__name__)


class Problem(falcon.HTTPError):
    """An error with the contents of its document. `kind` is one of this module's, or None for `about:blank`."""

    def __init__(
        self,
        kind: str | None,
        detail: str,
        *,
        status: int = 500,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        title = HTTPStatus(status).phrase
        if kind is not None:
            status, title = _KINDS[kind]
        super().__init__(status, title=title, description=detail[:DETAIL_CHARS_MAX], headers=dict(headers or {}))
        self.kind = kind

    def document(self) -> dict[str, Any]:
        """Return the members of the RFC: type, title, status, detail."""
        return {
            "type": "about:blank" if self.kind is None else f"urn:zeroloss:problem:{self.kind}",
            "title": self.title,
            "status": self.status_code,
            "detail": self.description,
        }


def malformed(detail: str) -> Problem:
    return Problem("malformed", detail)


def redis_unavailable(error: RedisError) -> Problem:
    """Return the problem for a request that only reads."""
    detail = f"Redis does not answer: {_clause(error)}."
    return Problem("redis-unavailable", detail, headers=_after(REDIS_RETRY_AFTER_S))


def redis_refuses(reason: str) -> Problem:
    """Return the problem of a producer that can accept no task, though Redis answers."""
    detail = f"No task can be accepted: {reason.rstrip('.')}."
    return Problem("redis-refuses", detail, headers=_after(REDIS_RETRY_AFTER_S))


def problem_of(error: QueueError) -> Problem:
    """Return the problem for an error of the queue; 500 for an error without a kind of its own."""
    match error:
        case TaskTooLarge():
            return Problem("too-large", f"{_clause(error)}. Send less, or send a reference to where the data lies.")
        case IdempotencyConflict():
            return Problem("idempotency-conflict", f"{_clause(error)}. Use a new key for a new task.")
        case QueueFull():
            return Problem("queue-full", f"{_clause(error)}. Send it again later.", headers=_after(FULL_RETRY_AFTER_S))
        case OtherProtocol():
            return redis_refuses(str(error))
        case NotAccepted():
            detail = f"{_clause(error)}. Sending it again is safe."
            return Problem("not-accepted", detail, headers=_after(REDIS_RETRY_AFTER_S))
        case OutcomeUnknown():
            detail = (
                f"{_clause(error)}. Repeat the request with the same Idempotency-Key, which never queues a task twice; "
                "without such a key the repeated task may run twice."
            )
            return Problem("outcome-unknown", detail, headers=_after(REDIS_RETRY_AFTER_S))
        case _:
            _log.error("An error without a problem document of its own", exc_info=error)
            return _unexpected()


def install(app: falcon.App[Any, Any]) -> None:
    """Make `app` answer every error, foreseen or not, with a problem document."""
    app.add_error_handler(Exception, _on_exception)
    app.add_error_handler(falcon.HTTPError, _on_http_error)
    app.add_error_handler(QueueError, _on_queue_error)


def install_async(app: Any) -> None:
    """Make an ASGI app answer every error with a problem document."""
    for error, handler in (
        (Exception, _on_exception),
        (falcon.HTTPError, _on_http_error),
        (QueueError, _on_queue_error),
    ):
        app.add_error_handler(error, _async(handler))


def _async(handler: Callable[..., None]) -> Callable[..., Awaitable[None]]:
    async def handle(req: Any, resp: Any, error: Any, params: Any) -> None:
        handler(req, resp, error, params)

    return handle


def _on_queue_error(_req: falcon.Request, resp: falcon.Response, error: QueueError, _params: Any) -> None:
    answer(resp, problem_of(error))


def _on_http_error(req: falcon.Request, resp: falcon.Response, error: falcon.HTTPError, _params: Any) -> None:
    if isinstance(error, Problem):
        answer(resp, error)
        return
    path, detail = req.path[:100], error.description
    headers = dict(error.headers or {})
    if error.status_code == 404:
        detail = f"Nothing is at {path}."
    elif error.status_code == 405:
        detail = f"{path} does not take {req.method[:20]}; it takes {headers.get('Allow', 'nothing')}."
    answer(resp, Problem(None, detail or f"{error.title}.", status=error.status_code, headers=headers))


def _on_exception(req: falcon.Request, resp: falcon.Response, error: Exception, _params: Any) -> None:
    _log.error("%s %s failed", req.method, req.path, exc_info=error)
    answer(resp, _unexpected())


def _unexpected() -> Problem:
    return Problem(
        None,
        "Something unexpected went wrong and was logged. If a task was sent, it may have been accepted.",
        status=500,
    )


def answer(resp: falcon.Response, problem: Problem) -> None:
    """Answer with the problem's document."""
    resp.status = problem.status
    resp.content_type = MEDIA_TYPE
    resp.data = json.dumps(problem.document()).encode()
    resp.set_header("Cache-Control", "no-store")
    resp.set_headers(problem.headers or {})


def _clause(error: Exception) -> str:
    """Return the error's text, bounded and without a full stop, as part of a sentence."""
    return str(error)[: DETAIL_CHARS_MAX // 2].rstrip(". \n") or type(error).__name__


def _after(seconds: int) -> dict[str, str]:
    return {"Retry-After": str(seconds)}
