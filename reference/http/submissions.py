"""Converts the bytes of a request to `Submission`s, strictly: an unknown member is refused, never ignored.

A payload is cut out of the body and kept byte for byte (I6), so 1.10 stays 1.10.
"""

import functools
import json
import re
import sys
from itertools import accumulate
from typing import Any

import msgspec
from msgspec import UNSET, Raw, UnsetType

from ..queue.client import NESTING_MAX
from ..queue.enqueuing.submission import AT_ONCE, LARGE, Submission, due_at, due_in
from ..queue.errors import InvalidTask
from ..queue.task import DEFAULT_TYPE, PRIORITIES
from .bodies import NAME_CHARS_MAX
from .problems import Problem, malformed

NAME_PATTERN = r"^[^\u0000-\u001f\u007f-\u009f]+$"  # no control characters: an id is shown in logs and lists
ENVELOPE_BYTES = 8_192  # of a task beside its payload: two names of 256 characters, each escaped in 12 bytes
FLAT_LEVELS = 8
DIGITS_MAX = 4_300  # of a whole number: Python does not parse longer ones

_name = re.compile(NAME_PATTERN)
_line = re.compile(rb"[^ \t\r\n][^\n]*")
_string = re.compile(rb'"(?:[^"\\]++|\\.)*+"', re.DOTALL)
_many_digits = re.compile(rb"(?<![0-9])[0-9]{%d}" % (DIGITS_MAX + 1))
_long_integer = re.compile(rb"(?<![0-9.eE+])(?<![eE]-)[0-9]{%d}[0-9]*+(?![.eE])" % (DIGITS_MAX + 1))
_STEPS = b"\x01\xff"  # down and up: 1 and -1 as signed bytes
_AS_STEPS = bytes.maketrans(b"[]{}", _STEPS * 2)
_NO_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))


class _Task(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    payload: Raw
    type: str | UnsetType = UNSET
    id: str | UnsetType = UNSET
    priority: str | UnsetType = UNSET
    delay_ms: Raw | UnsetType = UNSET
    execute_at: Raw | UnsetType = UNSET


_MEMBERS = ("id", "type", "payload", "priority", "delay_ms", "execute_at")
_read_task = msgspec.json.Decoder(_Task).decode
_read_members = msgspec.json.Decoder(dict[str, Raw]).decode
_read_items = msgspec.json.Decoder(list[Raw]).decode


def decode_utf8(text: bytes, what: str) -> str:
    """Decode text. `what` begins the sentence of an error.

    Raises:
        Problem: 400, the text is not UTF-8.
    """
    try:
        return text.decode()
    except UnicodeDecodeError as error:
        raise malformed(f"{what} is not UTF-8: invalid byte at offset {error.start}.") from None


def read_submission(text: bytes, what: str, idempotency_key: str | None, trace_context: str = "") -> Submission:
    """Read one task's JSON object. `what` begins the sentence of an error: "The body", "Item 3".

    Raises:
        Problem: 400; the text names the member and what to do.
    """
    try:
        task = _read_task(text)
    except (ValueError, RecursionError) as error:
        raise _refusal(text, what, error) from None
    payload = bytes(task.payload)
    payload_json = decode_utf8(payload, f"{what}'s payload")
    quotes = _quotes(payload) + 2
    task_type, task_id, priority, due = DEFAULT_TYPE, None, "default", AT_ONCE
    if task.type is not UNSET:
        task_type = _checked(task.type, "type", what)
        quotes += 4
    if task.id is not UNSET:
        task_id = _checked(task.id, "id", what)
        quotes += 4
    if task.priority is not UNSET:
        priority = task.priority
        quotes += 4
        if priority not in PRIORITIES:
            raise _wrong_priority(what)
    if task.delay_ms is not UNSET or task.execute_at is not UNSET:
        due = _read_due(task, what)
        quotes += sum(_quotes(bytes(raw)) + 2 for raw in (task.delay_ms, task.execute_at) if raw is not UNSET)
    if _quotes(text) != quotes:  # a member repeats: its quotes remain, though the decoder kept the last only
        raise _repeated(text, what)
    if len(payload) > NESTING_MAX:
        _refuse_deep_nesting(text, what)
        if _many_digits.search(payload) and _long_integer.search(_string.sub(b'""', payload)):
            raise malformed(f"{what}'s payload holds a whole number of too many digits; send it as a string.")
    return Submission(payload_json, task_type, task_id, idempotency_key, priority, due, trace_context)


def split_array(body: bytes, items_max: int = sys.maxsize, item_bytes_max: int = sys.maxsize) -> list[bytes]:
    """Split a JSON array into its items. Decoding stops at the first item beyond the limit.

    Raises:
        Problem: 400, the body is not a JSON array; 413, it has too many items, or an item is too large.
    """
    try:
        if body.count(b",") < items_max:
            raw: list[Raw] = _read_items(body)
        else:
            raw = [item for item in msgspec.structs.astuple(_bounded(items_max)(body)) if item is not UNSET]
    except RecursionError:
        raise _nested_too_deep("The body") from None
    except msgspec.ValidationError as error:
        if "at most length" in str(error):
            raise _too_many(items_max) from None
        raise malformed("The body is not a JSON array of tasks: it does not begin with [.") from None
    except ValueError as error:
        raise malformed(f"The body is not a JSON array of tasks: {_reason(error)}.") from None
    items = [bytes(item) for item in raw]
    for index, item in enumerate(items):
        if len(item) > item_bytes_max:
            raise Problem(
                "too-large",
                f"Item {index} has more than {item_bytes_max} bytes, more than a task may have. "
                "Nothing was accepted. Send less, or send a reference to where the data lies.",
            )
    return items


@functools.cache
def _bounded(items_max: int) -> Any:
    """Return a decoder of arrays that stops at the first item beyond the limit; `list` with `max_length` does not."""
    fields = [(f"item_{number}", Raw | UnsetType, UNSET) for number in range(items_max)]
    struct = msgspec.defstruct("Items", fields, array_like=True, forbid_unknown_fields=True)
    return msgspec.json.Decoder(struct).decode


def split_lines(body: bytes, items_max: int = sys.maxsize) -> list[bytes]:
    """Split NDJSON into its lines. Empty lines are not items, as its specification allows.

    Raises:
        Problem: 413, there are too many lines.
    """
    lines: list[bytes] = []
    for match in _line.finditer(body):
        if len(lines) == items_max:
            raise _too_many(items_max)
        lines.append(match[0].rstrip(b" \t\r"))
    return lines


def _too_many(items_max: int) -> Problem:
    return Problem(
        "too-large",
        f"The batch has at least {items_max + 1} tasks, more than the {items_max} allowed; send several.",
    )


def _refusal(text: bytes, what: str, error: Exception) -> Problem:
    """Return why a task is refused, in the terms of this API; the decoder's error names the first mistake only."""
    if isinstance(error, RecursionError):
        return _nested_too_deep(what)
    decode_utf8(text, what)
    try:
        members = _read_members(text)
    except RecursionError:
        return _nested_too_deep(what)
    except msgspec.ValidationError:
        return malformed(f"{what} is not a JSON object with a payload: it does not begin with {{.")
    except ValueError as reason:
        if member := _half_pair(text):
            return malformed(f"{what}'s {member} holds half of a surrogate pair, which is not text.")
        return malformed(f"{what} is not a JSON object with a payload: {_reason(reason)}.")
    unknown = [name for name in members if name not in _MEMBERS]
    if unknown:
        shown = ", ".join(json.dumps(name[:60]) for name in unknown[:5])
        return malformed(f"{what} has the unknown member {shown}; a task has {', '.join(_MEMBERS)}.")
    if "payload" not in members:
        return malformed(f"{what} has no payload; give the task one, null if it needs none.")
    for member in ("type", "id"):
        if member in members and not bytes(members[member]).startswith(b'"'):
            return _wrong_name(member, what)
    if "priority" in members and not bytes(members["priority"]).startswith(b'"'):
        return _wrong_priority(what)
    return malformed(f"{what} is not a task: {_reason(error)}.")


def _half_pair(text: bytes) -> str | None:
    """Return the member with an unpaired escape like \\ud800 (RFC 8259, section 8.2), if that is the mistake."""
    if b"\\u" not in text:
        return None
    try:
        members = json.loads(text)
        for name, value in members.items():
            try:
                json.dumps([name, value], ensure_ascii=False).encode()
            except UnicodeEncodeError:
                return json.dumps(name[:60])
    except (ValueError, AttributeError, RecursionError):
        return None
    return None


def _checked(name: str, member: str, what: str) -> str:
    if name.isascii() and name.isprintable() and 0 < len(name) <= NAME_CHARS_MAX:
        return name
    if not 0 < len(name) <= NAME_CHARS_MAX or not _name.fullmatch(name):
        raise _wrong_name(member, what)
    return name


def _read_due(task: _Task, what: str) -> str:
    if task.delay_ms is not UNSET and task.execute_at is not UNSET:
        raise malformed(f"{what} has both delay_ms and execute_at; keep one.")
    read, raw = (due_in, task.delay_ms) if task.execute_at is UNSET else (due_at, task.execute_at)
    try:
        try:
            value = msgspec.json.decode(raw)  # type: ignore[arg-type]
        except (ValueError, RecursionError):
            value = None  # for example 1e999, which is invalid for both
        return read(value)
    except InvalidTask as error:
        raise malformed(f"{what}'s {error}") from None


def _quotes(text: bytes) -> int:
    """Count the quotes of JSON's grammar, without escaped quotes within strings."""
    if b"\\" not in text:
        return text.count(b'"')
    text = text.replace(b"\\\\", b"")
    return text.count(b'"') - text.count(b'\\"')


def _repeated(text: bytes, what: str) -> Problem:
    names: list[str] = []
    if len(text) < LARGE:  # the cost of finding its name is bounded

        def remember(pairs: list[tuple[str, Any]]) -> None:
            names[:] = [name for name, _ in pairs]  # of the outermost object: it is the last one to end

        try:
            json.loads(text, object_pairs_hook=remember)
        except (ValueError, RecursionError):  # it is nested deeply, or holds a whole number of too many digits
            names.clear()
    twice = next((json.dumps(name) for name in names if names.count(name) > 1), "a member")
    return malformed(f"{what} has {twice} more than once; keep one.")


def _refuse_deep_nesting(text: bytes, what: str) -> None:
    """Raise Problem beyond NESTING_MAX levels. Each pass removes all innermost arrays and objects of valid JSON."""
    if text.count(b"[") + text.count(b"{") <= NESTING_MAX:
        return
    brackets = _string.sub(b"", text).translate(_AS_STEPS, _NO_BRACKETS)
    for _ in range(FLAT_LEVELS):
        brackets = brackets.replace(_STEPS, b"")
    if FLAT_LEVELS + max(accumulate(memoryview(brackets).cast("b")), default=0) > NESTING_MAX:
        raise _nested_too_deep(what)


def _nested_too_deep(what: str) -> Problem:
    return malformed(f"{what} is nested deeper than {NESTING_MAX} levels; flatten the payload.")


def _wrong_name(member: str, what: str) -> Problem:
    return malformed(
        f"{what}'s {member} must be a string of 1 to {NAME_CHARS_MAX} characters without control characters."
    )


def _wrong_priority(what: str) -> Problem:
    return malformed(f"{what}'s priority must be {' or '.join(map(json.dumps, PRIORITIES))}.")


def _reason(error: Exception) -> str:
    return str(error).removeprefix("JSON is malformed: ").replace("(byte ", "(offset ")
