"""HTTP requests of the reference's target to the producer, with one connection per thread."""

import hashlib
import http.client
import json
import select
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from datetime import datetime, timedelta, timezone
from itertools import zip_longest
from typing import Any

from ..target import Task, WrongAnswer

TIMEOUT_S = 15.0
RETRY_S = 0.1
CHUNKED_ONE_IN, CHUNKS = 8, 20
"""One in `CHUNKED_ONE_IN` requests has no Content-Length, and is sent in up to `CHUNKS` chunks."""
PAST_ONE_IN = 20
"""One in this many unscheduled tasks states a time that has passed, so that it is due now."""
LARGE_CHARS = 500_000
TRACE_CONTEXT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
ZONES = (timezone(timedelta(hours=5, minutes=30)), timezone(timedelta(hours=-8)))
ACCEPTED = 202
MULTI_STATUS = 207
UNPROCESSABLE = 422
TOO_MANY = 429
SERVER_ERROR = 500
SERVICE_UNAVAILABLE = 503
NOT_ACCEPTED = "urn:zeroloss:problem:not-accepted"
CONFLICT = "urn:zeroloss:problem:idempotency-conflict"


class Requests:
    """Posts to the producer at the port that `port()` returns: the port changes at a restart."""

    def __init__(self, port: Callable[[], int | None]) -> None:
        self._port = port
        self._connections = threading.local()

    @property
    def stale(self) -> bool:
        """Whether the server has closed this thread's idle connection: between requests only its end can be read."""
        opened = getattr(self._connections, "http", None)
        return opened is not None and opened.sock is not None and bool(select.select([opened.sock], [], [], 0)[0])

    def post(self, path: str, body: str, key: str | None) -> tuple[int, str]:
        """Send one request; return status and answer. After any error this thread's next request connects again.

        Raises OSError or http.client.HTTPException if the outcome is unknown.
        """
        connection = getattr(self._connections, "http", None)
        if connection is not None and self.stale:
            connection.close()
            connection = None
        if connection is None:
            connection = http.client.HTTPConnection("127.0.0.1", self._port(), timeout=TIMEOUT_S)
            self._connections.http = connection
        try:
            headers = _headers(path, body, key)
            if one_in(CHUNKED_ONE_IN, body, "chunked"):
                headers["Transfer-Encoding"] = "chunked"
            connection.request("POST", path, _sent(body, headers), headers, encode_chunked=True)
            response = connection.getresponse()
            return response.status, response.read().decode()
        except Exception:
            connection.close()
            self._connections.http = None
            raise

    def post_when_there_is_room(self, path: str, body: str, key: str | None, give_up_s: float) -> tuple[int, str]:
        """Post, and post again under the same key while the queue is full, until `give_up_s`."""
        status, answer = self.post(path, body, key)
        while status == TOO_MANY and time.monotonic() < give_up_s:
            time.sleep(RETRY_S)
            status, answer = self.post(path, body, key)
        return status, answer

    def repeat(self, path: str, body: str, key: str, first: str) -> None:
        """Send a request again that got the answer `first`.

        Raises WrongAnswer if it is refused, or if a task has another id now. Errors while Redis is down are ignored.
        """
        with suppress(http.client.HTTPException, OSError):
            status, answer = self.post(path, body, key)
            if status not in (ACCEPTED, MULTI_STATUS):
                if status < SERVER_ERROR:
                    raise WrongAnswer(f"An accepted request is refused when sent again, by {status}: {answer:.200}")
                return
            nothing: dict[str, Any] = {}
            for before, after in zip_longest(_results(first), _results(answer), fillvalue=nothing):
                promised, again = before.get("task_id"), after.get("task_id")
                if promised and after.get("status") != "unknown" and again != promised:
                    raise WrongAnswer(f"A task was accepted as {promised}, and as {again} when it was sent again.")

    def hang_up(self, body: str, key: str | None) -> None:
        """Send a request and close the connection. Raises ConnectionAbortedError: its outcome is unknown."""
        connection = http.client.HTTPConnection("127.0.0.1", self._port(), timeout=TIMEOUT_S)
        try:
            connection.request("POST", "/task", body.encode(), _headers("/task", body, key))
        finally:
            connection.close()
        raise ConnectionAbortedError("The client hung up before the answer came.")


def submission(task: Task, task_type: str, *, named: bool, timed: bool) -> str:
    """Return the task as JSON, with the payload's text unchanged. `named`: with its id; else the producer makes one.

    `timed`: half of the scheduled tasks state a time, and some unscheduled ones a time that has passed.
    """
    members = [f'"id":{json.dumps(task.id)}'] if named else []
    members.append(f'"type":{json.dumps(task_type, ensure_ascii=False)}')
    members += [f'"priority":"{task.priority}"'] if task.priority else []
    if due := due_time(task, timed=timed):
        members.append(f'"execute_at":"{due.isoformat(timespec="milliseconds")}"')
    elif timed and not task.delay_ms and one_in(PAST_ONE_IN, task.id, "past"):
        members.append('"execute_at":"2026-01-31T09:30:00Z"')
    elif task.delay_ms:
        members.append(f'"delay_ms":{task.delay_ms}')
    return f'{{{",".join(members)},"payload":{task.text}}}'


def due_time(task: Task, *, timed: bool) -> datetime | None:
    """Return the due time, in some time zone, of half of the scheduled tasks if `timed`; None: state the delay.

    A request with a delay is the same whenever it is sent. With a time it would differ under the same key.
    """
    if not (task.delay_ms and timed and one_in(2, task.id, "timed")):
        return None
    return datetime.now(ZONES[len(task.text) % len(ZONES)]) + timedelta(milliseconds=task.delay_ms + 1)


def _results(answer: str) -> list[dict[str, Any]]:
    """Return the results of a batch, or the one result of a single task."""
    document = json.loads(answer)
    results: list[dict[str, Any]] = document.get("results", [document])
    return results


def refuses(status: int, answer: str) -> bool:
    """Return whether the answer is a definite no. For a 503 its type decides; a 500 leaves the outcome unknown."""
    if status == SERVICE_UNAVAILABLE:
        return bool(json.loads(answer)["type"] == NOT_ACCEPTED)
    return status < SERVER_ERROR


def one_in(count: int, *names: str) -> bool:
    """Return True for one in `count` combinations of names, always for the same ones."""
    return drawn(count, *names) == 0


def drawn(count: int, *names: str) -> int:
    """Return a number below `count`, always the same for these names. A further name makes it independent."""
    digest = hashlib.sha256(" ".join(names).encode()).digest()
    return int.from_bytes(digest[:4], "big") % count


def _sent(body: str, headers: Mapping[str, str]) -> bytes | Iterator[bytes]:
    """Return the body, whole or in chunks. `encode_chunked` of `http.client` does nothing to a whole body."""
    whole = body.encode()
    if "Transfer-Encoding" not in headers:
        return whole
    size = len(whole) // CHUNKS + 1
    return (whole[start : start + size] for start in range(0, len(whole), size))


def _headers(path: str, body: str, key: str | None) -> dict[str, str]:
    """Return the headers."""
    lines = path == "/tasks" and not body.startswith("[")
    headers = {"Content-Type": "application/x-ndjson" if lines else "application/json"}
    headers |= {"Idempotency-Key": key} if key else {}
    return headers | ({"traceparent": trace} if (trace := trace_context_of(body)) else {})


def trace_context_of(text: str) -> str:
    """Return the trace context that travels with the tasks of a request, or an empty string.

    Half of the requests have one, and all large ones: an entry of the largest size has all that an entry may have.
    """
    return TRACE_CONTEXT if len(text) >= LARGE_CHARS or one_in(2, text) else ""
