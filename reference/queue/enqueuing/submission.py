"""A request to enqueue a task, and the answer."""

import hashlib
import json
import math
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Annotated, Any

import msgspec

from ..errors import InvalidTask, QueueError
from ..task import DEFAULT_TYPE

AT_ONCE = "-"
DELAY_MS_MAX = 10 * 366 * 86_400_000
TIME_MS_MAX = 99_999_999_999_999  # 14 digits, the year 5138
LARGE = 65_536  # bytes or characters
_turn = threading.Lock()


def _reset_turn() -> None:
    global _turn
    _turn = threading.Lock()


os.register_at_fork(after_in_child=_reset_turn)  # a thread of the parent may have held it


@contextmanager
def turn_to_decode(size: int) -> Iterator[None]:
    """Wait for a turn if `size` is large. Not reentrant; do not wait for anything else during the turn.

    Decoded JSON may take thirty times the memory of its text, and because of the interpreter lock several threads do
    not decode faster than one. So one thread at a time decodes large JSON.
    """
    if size < LARGE:
        yield
        return
    with _turn:
        yield


def _exactly(number: str) -> list[Any]:
    """Represent a fraction by its text: as floats 0.1 and 0.10000000000000000001 are equal. No payload holds NaN."""
    return [math.nan, number]


def due_in(delay_ms: object) -> str:
    """Return `Submission.due` for a delay.

    Raises:
        InvalidTask: the delay is invalid.
    """
    if isinstance(delay_ms, float) and delay_ms.is_integer():  # to JSON 5.0 and 5 are the same number
        delay_ms = int(delay_ms)
    if not isinstance(delay_ms, int) or isinstance(delay_ms, bool) or not 0 <= delay_ms <= DELAY_MS_MAX:
        raise InvalidTask(f"delay_ms must be a whole number of ms from 0 to {DELAY_MS_MAX} (ten years).")
    return f"+{delay_ms}"


def due_at(execute_at: object) -> str:
    """Return `Submission.due` for a time with its zone, a `datetime` or a string in RFC 3339 format.

    Raises:
        InvalidTask: the time is invalid.
    """
    try:
        time = msgspec.convert(execute_at, Annotated[datetime, msgspec.Meta(tz=True)], strict=True)
        return str(min(max(0, round(time.timestamp() * 1000)), TIME_MS_MAX))
    except (msgspec.ValidationError, ValueError, OverflowError):
        raise InvalidTask(
            "execute_at must be a time with its zone, as RFC 3339 writes it: 2026-01-31T09:30:00Z."
        ) from None


class Submission(msgspec.Struct, frozen=True, gc=False):
    """A request to enqueue a task. `payload_json` is valid JSON text, carried byte for byte (I6).

    A Struct, as is `Accepted`: a batch makes thousands, and named tuples of them cost a fourth of the producer's time.
    """

    payload_json: str
    task_type: str = DEFAULT_TYPE
    task_id: str | None = None
    idempotency_key: str | None = None
    priority: str = "default"
    due: str = AT_ONCE  # when it is to run: at once, `+` and a delay in ms, or ms since the epoch
    trace_context: str = ""  # W3C's `traceparent`

    def digest(self) -> str:
        """Return the digest that is stored with an idempotency key: of type, payload, priority, schedule and chosen id.

        White space, the order of names and the trace context do not change it.
        """
        with turn_to_decode(len(self.payload_json)):
            meaning = [self.task_type, self.task_id, json.loads(self.payload_json, parse_float=_exactly)]
            if (self.priority, self.due) != ("default", AT_ONCE):
                meaning += [self.priority, self.due]
            return hashlib.sha256(json.dumps(meaning, sort_keys=True).encode()).hexdigest()


class Accepted(msgspec.Struct, frozen=True, gc=False):
    """A promise. `replayed`: the idempotency key was used before for this task, and `task_id` is that first task's."""

    task_id: str
    replayed: bool


Outcome = Accepted | QueueError
"""The outcome for one task: a promise, or the error that prevents it."""
