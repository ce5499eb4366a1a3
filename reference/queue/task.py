"""A task and its bytes.

In Redis a task is one JSON object. Its payload's text is carried as it came (I6): retries, recoveries and requeues
splice new counts around it and never encode it again, so 1.10 stays 1.10 and a number beyond 2^53 keeps its digits.
"""

import json
import os
import threading
import time
from typing import Any, NamedTuple

from .errors import Undecodable
from .texts import NAME_CHARS_MAX, printable


def _refuse_constant(text: str) -> None:
    raise ValueError(f"{text} is not JSON")


_decoder: Any = json.JSONDecoder(parse_constant=_refuse_constant)  # Python's NaN and Infinity would pass otherwise
_WHITESPACE = " \t\n\r"
COUNT_MAX = 2**53  # beyond it a double, as Lua and other languages have, cannot count on
_COUNTS = ("created_at", "retry_count", "recovered_count", "retries_forgiven", "recoveries_forgiven")


class Task(NamedTuple):
    """One delivery of a task, as decoded from `element`, the exact bytes that lie in Redis.

    A named tuple, since one is made for each task, and a frozen dataclass takes five times as long to make.
    """

    id: str
    type: str
    payload: Any
    created_at: int  # ms since the epoch, by the producer's clock: to show, not to compare
    retry_count: int  # how often its handler raised
    recovered_count: int  # how often its worker vanished
    retries_forgiven: int  # what a requeue from the dead-letter list forgave; the counts themselves only grow
    recoveries_forgiven: int
    error: str | None  # why it was given up; only in the dead-letter list
    element: bytes

    @property
    def attempt(self) -> int:
        """1 for the first delivery. It only grows, so it is also the fencing token."""
        return 1 + self.retry_count + self.recovered_count

    @property
    def shown_id(self) -> str:
        """The id as it may stand in a line of a log; others than the producer may have pushed anything."""
        return printable(self.id, NAME_CHARS_MAX)

    @property
    def shown_type(self) -> str:
        return printable(self.type, NAME_CHARS_MAX)


def encode(*, task_id: str, task_type: str, payload_json: str, created_at: int) -> bytes:
    """The element for a new task. `payload_json` is valid JSON text and is carried as it is."""
    return (
        f'{{"id":{json.dumps(task_id)},"type":{json.dumps(task_type)},"payload":{payload_json},'
        f'"created_at":{created_at},"retry_count":0,"recovered_count":0}}'
    ).encode()


def decode(element: bytes) -> Task:
    """Read a task.

    Raises:
        Undecodable: not UTF-8, not JSON, not an object, or without a string `id`.
    """
    try:
        members = _decode_json(element.decode())
    except (ValueError, RecursionError) as error:  # bad UTF-8 and bad JSON are both ValueErrors
        raise Undecodable(f"not JSON: {error}") from None
    if not isinstance(members, dict):
        raise Undecodable("not a JSON object")
    get = members.get
    task_id, task_type, reason = get("id"), get("type", "default"), get("error")
    if not isinstance(task_id, str) or not isinstance(task_type, str):
        raise Undecodable("its id or type is not a string")
    counts = []
    for name in _COUNTS:
        count = get(name, 0)
        if type(count) is not int or not 0 <= count <= COUNT_MAX:  # a bool, too, is an int to `isinstance`
            raise Undecodable(f"its {name} is not a whole number from 0 to 2^53")
        counts.append(count)
    reason = reason if isinstance(reason, str) else None
    return Task._make((task_id, task_type, get("payload"), *counts, reason, element))


def _decode_json(text: str) -> Any:
    """As the decoder's own `decode`, which looks for white space around every text, where almost none has any."""
    try:
        value, end = _decoder.scan_once(text, 0)
    except StopIteration:
        return _decoder.decode(text)
    return value if end == len(text) else _decoder.decode(text)


def revise(element: bytes, **changes: Any) -> bytes:
    """The same task with some members set (None removes one); every other member's text stays byte for byte.

    Raises:
        Undecodable: the element is not a task.
    """
    try:
        members = raw_members(element.decode())
    except (ValueError, RecursionError) as error:
        raise Undecodable(f"not a JSON object: {error}") from None
    for name, value in changes.items():
        if value is None:
            members.pop(name, None)
        else:
            members[name] = json.dumps(value)
    return ("{" + ",".join(f"{json.dumps(name)}:{text}" for name, text in members.items()) + "}").encode()


def raw_members(text: str) -> dict[str, str]:
    """Split a JSON object into its members, each value as the text it was written in.

    Raises:
        ValueError: not one JSON object. (`json` has no way to keep a value's text; its own scanner finds the ends.)
    """
    members: dict[str, str] = {}
    position = after_space(text, 0)
    if text[position : position + 1] != "{":
        raise ValueError("it does not begin with {")
    position = after_space(text, position + 1)
    if text[position : position + 1] == "}":
        _expect_end(text, position + 1)
        return members
    while True:
        name, position = _decoder.raw_decode(text, position)
        if not isinstance(name, str):
            raise ValueError("a member's name is not a string")
        position = after_space(text, position)
        if text[position : position + 1] != ":":
            raise ValueError(f"no colon after {name!r}")
        start = after_space(text, position + 1)
        _, end = _decoder.raw_decode(text, start)
        members[name] = text[start:end]
        position = after_space(text, end)
        separator = text[position : position + 1]
        if separator == "}":
            _expect_end(text, position + 1)
            return members
        if separator != ",":
            raise ValueError(f"neither a comma nor the end after {name!r}")
        position = after_space(text, position + 1)


def after_space(text: str, position: int) -> int:
    """The first position from `position` on that is no white space of JSON."""
    while position < len(text) and text[position] in _WHITESPACE:
        position += 1
    return position


def _expect_end(text: str, position: int) -> None:
    if after_space(text, position) != len(text):
        raise ValueError("something follows the object")


class _IdClock:
    """Time in units of 1/4096 ms that never repeats within the process."""

    def __init__(self) -> None:
        self._last = 0
        self._lock = threading.Lock()

    def take(self, count: int) -> range:
        with self._lock:
            first = max(self._last + 1, time.time_ns() * 4096 // 1_000_000)
            self._last = first + count - 1
            return range(first, first + count)


_id_clock = _IdClock()


def new_task_id() -> str:
    """A UUIDv7 (RFC 9562, section 5.7, method 3): sorts by time, in order within a process, unique across processes."""
    return new_task_ids(1)[0]


def new_task_ids(count: int) -> list[str]:
    """As many, in order. One look at the clock and one at the source of chance for all: each id alone costs both."""
    chances = memoryview(os.urandom(8 * count)).cast("Q")
    made = []
    for ticks, chance in zip(_id_clock.take(count), chances, strict=True):
        time_ms, tail = f"{ticks >> 12 & 0xFFFF_FFFF_FFFF:012x}", f"{0b10 << 62 | chance >> 2:016x}"
        made.append(f"{time_ms[:8]}-{time_ms[8:]}-7{ticks & 0xFFF:03x}-{tail[:4]}-{tail[4:]}")
    return made
