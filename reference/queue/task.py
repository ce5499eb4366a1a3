"""A task and its bytes.

In Redis a task is an entry: a short ASCII header with its counts, and then its JSON, which never changes (I6):

    d,2,1,0,1795929154172,0,;{"id":"...","type":"email","payload":{...}}
    | | | | |             | trace context, if any
    | | | | |             salt: makes equal entries different in a sorted set
    | | | | time of the enqueue, or the due time of a scheduled task, ms of Redis's clock
    | | | recoveries, counted against `max_recoveries`
    | | retries, counted against `max_retries`
    | attempt: one higher for each retry, recovery and burial; it never falls
    priority: h, d or l

So a script raises a count without parsing the JSON, and 1.10 stays 1.10. A bare JSON object, which a foreign producer
may push, gets its header when it is claimed. If an object has two members of one name, the last one counts.
"""

import json
import os
import re
import threading
import time
from typing import Any

import msgspec

from .errors import InvalidTask, Undecodable
from .texts import NAME_CHARS_MAX, printable

DEFAULT_TYPE = "default"
PRIORITIES = {"high": "h", "default": "d", "low": "l"}
_PRIORITY_NAMES = {letter.encode(): name for name, letter in PRIORITIES.items()}
# The same limits as in `lua.py`; without them a count could have 4,300 digits.
_HEADER = re.compile(rb"([hdl]),(\d{1,9}),(\d{1,9}),(\d{1,9}),(\d{1,15}),\d{1,9},([0-9a-fA-F-]*);")
HEADER_BYTES_MAX = 160


def refuse_constant(text: str) -> None:
    """Raise ValueError: as `parse_constant` of a `json` decoder this makes it accept valid JSON only."""
    raise ValueError(f"{text} is not JSON")  # Python's NaN and Infinity would pass otherwise


class _Body(msgspec.Struct, gc=False):
    """The JSON of a task. Further members are kept in the entry, and not read here."""

    id: str
    type: str = DEFAULT_TYPE
    payload: msgspec.Raw = msgspec.Raw(b"null")


_read_body = msgspec.json.Decoder(_Body).decode
_read_number_beyond = json.JSONDecoder(parse_constant=refuse_constant).decode
_written = msgspec.json.encode


class Task:
    """One delivery of a task, as read from `entry`, the exact bytes that Redis holds.

    `number` is the consumer's number of this delivery, by which it acks, fails or releases the task.
    """

    __slots__ = ("_header", "_payload", "entry", "id", "number", "raw_payload", "type")

    def __init__(self, entry: bytes, number: int = 0) -> None:
        """Read an entry with its header.

        Raises:
            Undecodable: there is no header, or what follows is not a JSON object with a string `id`.
        """
        header = _HEADER.match(entry, 0, HEADER_BYTES_MAX)
        if header is None:
            raise Undecodable("its header cannot be read")
        try:
            if not entry.isascii():
                entry.decode()
            body = _read_body(entry[header.end() :])
        except (ValueError, RecursionError) as error:  # bad UTF-8 and msgspec's own errors are both ValueErrors
            raise Undecodable(f"not a task: {printable(str(error), NAME_CHARS_MAX)}") from None
        self.entry, self.number = entry, number
        self.id, self.type, self.raw_payload = body.id, body.type, body.payload
        # Properties that are rarely used are parsed on access: this runs for a hundred thousand tasks a second.
        self._header = header
        self._payload: Any = self  # not read yet

    @property
    def priority(self) -> str:
        """high, default or low."""
        return _PRIORITY_NAMES[self._header[1]]

    @property
    def attempt(self) -> int:
        """1 for the first delivery. It only grows, so it is also the fencing token."""
        return int(self._header[2])

    @property
    def retries(self) -> int:
        """How often its handler raised since the task was enqueued or requeued."""
        return int(self._header[3])

    @property
    def recoveries(self) -> int:
        """How often its worker vanished since the task was enqueued or requeued."""
        return int(self._header[4])

    @property
    def enqueued_at(self) -> int:
        """Time of the enqueue, or the due time of a scheduled task, ms since the epoch by Redis's clock."""
        return int(self._header[5])

    @property
    def trace_context(self) -> str:
        """The `traceparent` of the request that submitted the task; empty if there was none."""
        return self._header[6].decode()

    @property
    def payload(self) -> Any:
        """The payload as Python values; numbers keep their value, whatever their size.

        Raises:
            ValueError, RecursionError: Python cannot read this JSON; the producer refuses such payloads.
        """
        if self._payload is self:
            try:
                self._payload = msgspec.json.decode(self.raw_payload)
            except msgspec.MsgspecError:  # it reads no number beyond a double's range, such as 1e400
                self._payload = _read_number_beyond(bytes(self.raw_payload).decode())
        return self._payload

    @property
    def shown_id(self) -> str:
        """The id in a form that is safe in a log line; a foreign producer may have pushed any text."""
        return printable(self.id, NAME_CHARS_MAX)

    @property
    def shown_type(self) -> str:
        return printable(self.type, NAME_CHARS_MAX)

    def __repr__(self) -> str:
        return f"Task({self.shown_id!r}, {self.shown_type!r}, attempt={self.attempt})"


def enqueued_at(entry: bytes) -> int | None:
    """Return `Task.enqueued_at` of an entry that may not be a task; None if it has no header."""
    header = _HEADER.match(entry, 0, HEADER_BYTES_MAX)
    return int(header[5]) if header else None


def refuse_half_pairs(payload_json: str) -> None:
    """Raise InvalidTask for JSON with an unpaired \\ud800: the grammar allows it, but no worker could read it.

    Such an escape is half of a surrogate pair and not a character (RFC 8259, section 8.2).
    """
    if "\\u" in payload_json:
        try:
            msgspec.json.decode(payload_json, type=msgspec.Raw)
        except ValueError:
            raise InvalidTask("The payload holds half of a surrogate pair, which is not text.") from None


def encode(*, task_id: str, task_type: str, payload_json: str) -> bytes:
    """Return the JSON of a new task. `payload_json` is valid JSON text and is copied unchanged.

    The default type is left out: that saves memory of the server for each waiting task.
    """
    named = b"" if task_type == DEFAULT_TYPE else b'"type":%b,' % _written(task_type)
    return b'{"id":%b,%b"payload":%b}' % (_written(task_id), named, payload_json.encode())


class _IdClock:
    """Time in units of 1/4096 ms that never repeats within the process."""

    def __init__(self) -> None:
        self._last = 0
        self.reset()

    def reset(self) -> None:  # in a forked child as well: a thread of the parent may have held the lock
        self._lock = threading.Lock()

    def take(self, count: int) -> range:
        with self._lock:
            first = max(self._last + 1, time.time_ns() * 4096 // 1_000_000)
            self._last = first + count - 1
            return range(first, first + count)


_id_clock = _IdClock()
os.register_at_fork(after_in_child=_id_clock.reset)


def new_task_id() -> str:
    """Return a UUIDv7 (RFC 9562, section 5.7, method 3): sorted by time within a process, unique across processes."""
    return new_task_ids(1)[0]


def new_task_ids(count: int) -> list[str]:
    """Return `count` ids, in order, for the cost of one read of the clock and one of random bytes."""
    chances = memoryview(os.urandom(8 * count)).cast("Q")
    return [
        "%08x-%04x-7%03x-%04x-%012x"  # noqa: UP031  it takes two thirds of the time of an f-string
        % (t >> 28 & 0xFFFF_FFFF, t >> 12 & 0xFFFF, t & 0xFFF, 0x8000 | chance >> 50, chance & 0xFFFF_FFFF_FFFF)
        for t, chance in zip(_id_clock.take(count), chances, strict=True)
    ]
