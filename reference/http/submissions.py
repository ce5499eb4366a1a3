"""From the bytes of a request to `Submission`s, strictly: what is not understood is refused, never ignored.

A payload's text is cut out of the body and carried as it is (I6), so 1.10 stays 1.10.
"""

import json
import re
import sys
from collections.abc import Sequence
from typing import Any

import falcon

from ..queue.client import NESTING_MAX
from ..queue.enqueuer import AT_ONCE, Submission, due_at, due_in
from ..queue.errors import InvalidTask
from ..queue.task import PRIORITIES, refuse_half_pairs
from .json_text import after_space, decoder, raw_members
from .problems import Problem, malformed
from .window import Window

NAME_CHARS_MAX = 256  # an id, a type, an idempotency key
NAME_PATTERN = r"^[^\u0000-\u001f\u007f-\u009f]+$"  # no control characters: an id is shown in logs and lists
KEY_PATTERN = r'^("[ !#-\[\]-~]+"|[ !#-\[\]-~]+)$'  # printable ASCII; the IETF draft's quotes may be there or not
ENVELOPE_BYTES = 8_192  # what a task has beside its payload: two names of 256 characters, each escaped in 12 bytes

_MEMBERS = ("id", "type", "payload", "priority", "delay_ms", "execute_at")

_name = re.compile(NAME_PATTERN)
# A member as most clients write it: the name, and an id or a type without escapes. No white space before a separator.
_plain_member = re.compile(
    r'[ \t\n\r]*"(?:(id|type)"[ \t\n\r]*:[ \t\n\r]*"([^"\\\x00-\x1f\x7f-\x9f\ud800-\udfff]{1,256})"|'
    r'payload"[ \t\n\r]*:[ \t\n\r]*)'
)
_string_or_bracket = re.compile(r'"(?:[^"\\]++|\\.)*+(?:"|\\?\Z)|[\[\]{}]', re.DOTALL)
_key = re.compile(KEY_PATTERN)
_trace_context = re.compile(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")
_line = re.compile(rb"[^ \t\r\n][^\n]*")


_read_value = decoder.scan_once  # a value and where it ends; StopIteration where there is none


def read_body(req: falcon.Request, limit_bytes: int, advice: str = "send the tasks in several requests") -> bytes:
    """The whole body. `advice` says what to do where it is too large.

    Raises:
        Problem: 413 beyond `limit_bytes`; 400 where the body ended before its Content-Length; 415 if compressed.
    """
    if req.get_header("Content-Encoding", default="identity").lower() != "identity":
        raise Problem("unsupported-media-type", "The body is compressed; send it without Content-Encoding.")
    length = req.content_length
    if length is not None and length > limit_bytes:
        raise _body_too_large(limit_bytes, advice)
    # A chunked body has no length; a server that marks the end of the stream can be read without one.
    stream = req.stream if length is None and req.env.get("wsgi.input_terminated") else req.bounded_stream
    body: bytes = stream.read(limit_bytes + 1)
    if len(body) > limit_bytes:
        raise _body_too_large(limit_bytes, advice)
    if length is not None and len(body) < length:
        raise malformed(f"The body ended after {len(body)} of {length} bytes; send it again.")
    return body


def require_media_type(req: falcon.Request, accepted: Sequence[str]) -> str:
    """The request's media type, one of `accepted`, in UTF-8.

    Raises:
        Problem: 415, naming what is accepted.
    """
    media_type, _, parameters = (req.content_type or "").lower().partition(";")
    media_type = media_type.strip()
    if media_type not in accepted:
        got = f"not {media_type[:100]!r}" if media_type else "and it is missing"
        raise Problem("unsupported-media-type", f"Content-Type has to be {' or '.join(accepted)}, {got}.")
    charset = re.search(r"charset\s*=\s*\"?([^\s\";]*)", parameters) if parameters else None
    if charset and charset[1] not in ("utf-8", "utf8", "us-ascii"):
        raise Problem("unsupported-media-type", f"The charset has to be utf-8, not {charset[1][:50]!r}.")
    return media_type


def read_idempotency_key(req: falcon.Request) -> str | None:
    """The Idempotency-Key header without its optional quotes; None where there is none.

    Raises:
        Problem: 400, it is empty, too long, or not printable ASCII.
    """
    header = req.get_header("Idempotency-Key")
    if header is None:
        return None
    bare = header[1:-1] if len(header) > 1 and header[0] == header[-1] == '"' else header
    if not _key.fullmatch(header) or len(bare) > NAME_CHARS_MAX:
        raise malformed(
            f"Idempotency-Key has to be 1 to {NAME_CHARS_MAX} printable ASCII characters without quotes or backslashes."
        )
    return bare


def read_trace_context(req: falcon.Request) -> str:
    """The `traceparent` header, which travels with the task; empty where there is none, or none that makes sense.

    https://www.w3.org/TR/trace-context/#traceparent-header
    """
    header = req.get_header("traceparent", default="")
    return header if _trace_context.fullmatch(header) else ""


def decode_utf8(body: bytes, what: str) -> str:
    try:
        return body.decode()
    except UnicodeDecodeError as error:
        raise malformed(f"{what} is not UTF-8: byte {error.start + 1} makes no sense.") from None


def read_submission(text: str, what: str, idempotency_key: str | None) -> Submission:
    """Read one task's JSON object. `what` begins the sentence of an error: "The body", "The line".

    Raises:
        Problem: 400, naming the member and what to do.
    """
    submission = _read_plain(text, idempotency_key) or _read_any(text, what, idempotency_key)
    try:
        refuse_half_pairs(submission.payload_json)
    except InvalidTask:
        raise malformed(f"{what}'s payload holds half of a surrogate pair, which is no text.") from None
    return submission


def _read_plain(text: str, idempotency_key: str | None) -> Submission | None:
    """A task that is written as most are, in a sixth of the time; None: `_read_any` has to look, and to say why not."""
    if not text.startswith("{") or text.count("[") + text.count("{") > NESTING_MAX:
        return None
    members: dict[str, str] = {}
    end, separator = 0, ","
    while separator == ",":
        member = _plain_member.match(text, end + 1)
        if member is None:
            return None
        name, value = member.groups()
        end = member.end()
        if name is None:
            try:
                _, end = _read_value(text, end)
            except (StopIteration, ValueError):
                return None
            name, value = "payload", text[member.end() : end]
        if name in members:
            return None
        members[name] = value
        separator = text[end : end + 1]
    if text[end:] != "}" or "payload" not in members:
        return None
    return Submission(members["payload"], members.get("type", "default"), members.get("id"), idempotency_key)


def _read_any(text: str, what: str, idempotency_key: str | None) -> Submission:
    refuse_deep_nesting(text, what)
    try:
        names: list[str] = []
        members = raw_members(text)
        json.JSONDecoder(object_pairs_hook=_remember_names(names)).decode(text)
    except ValueError as error:
        raise malformed(f"{what} is not a JSON object with a payload: {_reason(error)}.") from None
    unknown = [name for name in members if name not in _MEMBERS]
    if unknown:
        shown = ", ".join(_shown(name) for name in unknown[:5])
        raise malformed(f"{what} has the unknown member {shown}; a task has {', '.join(_MEMBERS)}.")
    if len(names) > len(members):
        twice = next(name for name in members if names.count(name) > 1)
        raise malformed(f"{what} has {_shown(twice)} more than once; keep one.")
    if "payload" not in members:
        raise malformed(f"{what} has no payload; give the task one, null if it needs none.")
    return Submission(
        payload_json=members["payload"],
        task_type=_read_name(members, "type", what) or "default",
        task_id=_read_name(members, "id", what),
        idempotency_key=idempotency_key,
        priority=_read_priority(members, what),
        due=_read_due(members, what),
    )


def _read_priority(members: dict[str, str], what: str) -> str:
    priority = json.loads(members.get("priority", '"default"'))
    if not isinstance(priority, str) or priority not in PRIORITIES:
        raise malformed(f"{what}'s priority has to be {' or '.join(map(json.dumps, PRIORITIES))}.")
    return priority


def _read_due(members: dict[str, str], what: str) -> str:
    if "delay_ms" in members and "execute_at" in members:
        raise malformed(f"{what} has both delay_ms and execute_at; keep one.")
    try:
        if "execute_at" in members:
            return due_at(json.loads(members["execute_at"]))
        return due_in(json.loads(members["delay_ms"])) if "delay_ms" in members else AT_ONCE
    except InvalidTask as error:
        raise malformed(f"{what}'s {error}") from None


def refuse_deep_nesting(text: str, what: str, depth_max: int = NESTING_MAX) -> None:
    """Raises Problem: 400 where arrays and objects are nested deeper than `depth_max`, so that `what` is too deep."""
    if text.count("[") + text.count("{") <= depth_max:
        return
    depth = 0
    for match in _string_or_bracket.finditer(text):
        if match[0] in "[{":
            depth += 1
            if depth > depth_max:
                raise malformed(f"{what} is nested deeper than {NESTING_MAX} levels; flatten the payload.")
        elif match[0] in "]}":
            depth -= 1


def split_array(text: str, items_max: int = sys.maxsize, item_chars_max: int = sys.maxsize) -> list[str]:
    """The texts of a JSON array's items. What comes after the first that is too many, or too large, is not decoded.

    Raises:
        Problem: 400, it is not a JSON array; 413, too many items, or one that is too large.
    """
    try:
        items = _split_array(text, items_max, item_chars_max)
    except RecursionError:
        refuse_deep_nesting(text, "The body")
        raise
    except ValueError as error:
        if isinstance(error, json.JSONDecodeError):
            refuse_deep_nesting(text[: error.pos], "The body")
        raise malformed(f"The body is not a JSON array of tasks: {_reason(error)}.") from None
    for item in items:
        refuse_deep_nesting(item, "The body", NESTING_MAX - 1)
    return items


def _split_array(text: str, items_max: int, item_chars_max: int) -> list[str]:
    items: list[str] = []
    window = Window(text, item_chars_max, decoder)
    position = after_space(text, 0)
    if text[position : position + 1] != "[":
        raise ValueError("it does not begin with [")
    position = after_space(text, position + 1)
    separator = text[position : position + 1]
    while separator != "]":
        if len(items) == items_max:
            raise _too_many(items_max)
        end = window.end_of_value(position)
        if end is None:
            raise Problem(
                "too-large",
                f"Item {len(items)} has more than {item_chars_max} characters, more than a task may have. "
                "Nothing was accepted. Send less, or send a reference to where the data lies.",
            )
        items.append(text[position:end])
        position = after_space(text, end)
        separator = text[position : position + 1]
        if separator == ",":
            position = after_space(text, position + 1)
        elif separator != "]":
            raise ValueError(f"neither a comma nor the end after item {len(items)}")
    if after_space(text, position + 1) != len(text):
        raise ValueError("something follows the array")
    return items


def split_lines(body: bytes, items_max: int = sys.maxsize) -> list[bytes]:
    """The lines of NDJSON; empty ones are no items, as its specification allows.

    Raises:
        Problem: 413, too many.
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


def _body_too_large(limit_bytes: int, advice: str) -> Problem:
    return Problem("too-large", f"The body has more than {limit_bytes} bytes; {advice}.")


def _read_name(members: dict[str, str], member: str, what: str) -> str | None:
    if member not in members:
        return None
    value = json.loads(members[member])
    if not isinstance(value, str) or not 0 < len(value) <= NAME_CHARS_MAX or not _name.fullmatch(value):
        raise malformed(
            f"{what}'s {member} has to be a string of 1 to {NAME_CHARS_MAX} characters without control characters."
        )
    if any("\ud800" <= character <= "\udfff" for character in value):
        raise malformed(f"{what}'s {member} holds half of a surrogate pair, which is no text.")
    return value


def _remember_names(names: list[str]) -> Any:
    """A hook that leaves the names of the outermost object in `names`: it is the last one that the decoder ends."""

    def hook(pairs: list[tuple[str, Any]]) -> None:
        names[:] = [name for name, _ in pairs]

    return hook


def _reason(error: ValueError) -> str:
    reason = str(error)
    if reason.startswith("Exceeds the limit"):  # Python's own bound; its text is about Python's settings
        return "it holds a whole number of too many digits; send it as a string"
    return reason


def _shown(name: str) -> str:
    return json.dumps(name[:60])
