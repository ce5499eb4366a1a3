"""Reads the head and the bytes of a request, before its tasks are parsed: media type, length, keys, body."""

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

import falcon

from .problems import Problem, malformed

if TYPE_CHECKING:
    import falcon.asgi

NAME_CHARS_MAX = 256  # an id, a type, an idempotency key
KEY_PATTERN = r'^("[ !#-\[\]-~]+"|[ !#-\[\]-~]+)$'  # printable ASCII; the quotes of the IETF draft are optional

_key = re.compile(KEY_PATTERN)
_trace_context = re.compile(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")


def read_body(req: falcon.Request, limit_bytes: int, advice: str = "send the tasks in several requests") -> bytes:
    """Read the whole body. `advice`: what the client can do if the body is too large.

    Raises:
        Problem: 413 beyond `limit_bytes`; 400 if the body ended before its Content-Length; 415 if compressed.
    """
    length = _refuse_by_head(req, limit_bytes, advice)
    # A chunked body has no length; a server that marks the end of the stream can be read without one.
    stream = req.stream if length is None and req.env.get("wsgi.input_terminated") else req.bounded_stream
    body: bytes = stream.read(limit_bytes + 1)
    return _whole(body, length, limit_bytes, advice)


async def read_body_async(
    req: "falcon.asgi.Request", limit_bytes: int, advice: str = "send the tasks in several requests"
) -> bytes:
    """Read the whole body under ASGI.

    Raises:
        Problem: as `read_body` does.
    """
    length = _refuse_by_head(req, limit_bytes, advice)
    body: bytes = await req.stream.read(limit_bytes + 1)
    return _whole(body, length, limit_bytes, advice)


def _refuse_by_head(req: falcon.Request, limit_bytes: int, advice: str) -> int | None:
    if req.get_header("Content-Encoding", default="identity").lower() != "identity":
        raise Problem("unsupported-media-type", "The body is compressed; send it without Content-Encoding.")
    length: int | None = req.content_length
    if length is not None and req.get_header("Transfer-Encoding"):  # servers differ in which one they obey
        raise Problem(
            "malformed",
            "Transfer-Encoding and Content-Length are both there; send one.",
            headers={"Connection": "close"},
        )
    if length is not None and length > limit_bytes:
        raise _body_too_large(limit_bytes, advice)
    return length


def _whole(body: bytes, length: int | None, limit_bytes: int, advice: str) -> bytes:
    if len(body) > limit_bytes:
        raise _body_too_large(limit_bytes, advice)
    if length is not None and len(body) < length:
        raise malformed(f"The body ended after {len(body)} of {length} bytes; send it again.")
    return body


def _body_too_large(limit_bytes: int, advice: str) -> Problem:
    return Problem("too-large", f"The body has more than {limit_bytes} bytes; {advice}.")


def require_media_type(req: falcon.Request, accepted: Sequence[str]) -> str:
    """Return the request's media type, one of `accepted`, in UTF-8.

    Raises:
        Problem: 415; the text names the accepted types.
    """
    media_type, _, parameters = (req.content_type or "").lower().partition(";")
    media_type = media_type.strip()
    if media_type not in accepted:
        got = f"not {media_type[:100]!r}" if media_type else "and it is missing"
        raise Problem("unsupported-media-type", f"Content-Type must be {' or '.join(accepted)}, {got}.")
    charset = re.search(r"charset\s*=\s*\"?([^\s\";]*)", parameters) if parameters else None
    if charset and charset[1] not in ("utf-8", "utf8", "us-ascii"):
        raise Problem("unsupported-media-type", f"The charset must be utf-8, not {charset[1][:50]!r}.")
    return media_type


def read_idempotency_key(req: falcon.Request) -> str | None:
    """Return the Idempotency-Key header without its optional quotes; None if the header is missing.

    Raises:
        Problem: 400, the key is empty, too long, or not printable ASCII.
    """
    header = req.get_header("Idempotency-Key")
    if header is None:
        return None
    bare = header[1:-1] if len(header) > 1 and header[0] == header[-1] == '"' else header
    if not _key.fullmatch(header) or len(bare) > NAME_CHARS_MAX:
        raise malformed(
            f"Idempotency-Key must be 1 to {NAME_CHARS_MAX} printable ASCII characters without quotes or backslashes."
        )
    return bare


def read_trace_context(req: falcon.Request) -> str:
    """Return the trace context that travels with the task; empty if it is missing or invalid.

    It is the header `traceparent`, unless a middleware has put the app's own in `req.context`.
    https://www.w3.org/TR/trace-context/#traceparent-header
    """
    header: str = getattr(req.context, "traceparent", "") or req.get_header("traceparent", default="")
    return header if _trace_context.fullmatch(header) else ""
