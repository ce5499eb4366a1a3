"""Crash points, named so that the next run can find the same point.

A point is a command that a worker sends: the role of the connection, the command's name, and its occurrence. It is
written `role/name#occurrence`, for example `EVALSHA:1f0e22aa/BLPOP#2`. A connection's role is the first command it
sends after its handshake. If a client's threads share connections, roles mean nothing, and `*` stands for any role.
"""

import hashlib
import re
from collections.abc import Sequence
from enum import StrEnum
from typing import NamedTuple

ANY_ROLE = "*"

_HANDSHAKE = frozenset({"HELLO", "SELECT", "AUTH"})
_BY_SCRIPT = frozenset({b"EVAL", b"EVAL_RO"})
_BY_DIGEST = frozenset({b"EVALSHA", b"EVALSHA_RO"})
_BY_SECOND_WORD = frozenset(
    {b"CLIENT", b"CONFIG", b"SCRIPT", b"XGROUP", b"XINFO", b"FUNCTION", b"CLUSTER", b"OBJECT", b"PUBSUB"}
)
DIGEST_CHARACTERS = 8

_WRITTEN = re.compile(r"(?P<role>[^/\s]+)/(?P<name>[^/#\s]+)#(?P<occurrence>[1-9][0-9]*)")


class Phase(StrEnum):
    """The moment of a fault, relative to the command at its point."""

    BEFORE = "before"  # the command was sent by the worker and never reaches the server
    EXECUTED = "executed"  # the server has executed it, and the reply is never seen
    AFTER = "after"  # the reply was relayed


class Point(NamedTuple):
    """One command of one worker."""

    role: str
    name: str
    occurrence: int

    def __str__(self) -> str:
        return f"{self.role}/{self.name}#{self.occurrence}"


def read_point(text: str) -> Point:
    """Return the point that `str(point)` wrote. Raises ValueError."""
    found = _WRITTEN.fullmatch(text)
    if not found:
        raise ValueError(f"{text!r} is not a crash point: write role/NAME#occurrence.")
    return Point(found["role"], found["name"], int(found["occurrence"]))


def command_name(head: Sequence[bytes]) -> str:
    """Return a command's name from its first two words. A script is named by its digest, however it is sent."""
    first = head[0].upper()
    if len(head) > 1:
        second = head[1]
        if first in _BY_DIGEST:
            return f"EVALSHA:{_text(second[:DIGEST_CHARACTERS].lower())}"
        if first in _BY_SCRIPT:
            return f"EVALSHA:{hashlib.sha1(second, usedforsecurity=False).hexdigest()[:DIGEST_CHARACTERS]}"
        if first in (b"FCALL", b"FCALL_RO"):
            return f"FCALL:{_text(second)}"
        if first in _BY_SECOND_WORD:
            return f"{_text(first)}|{_text(second.upper())}"
    return _text(first)


def is_handshake(name: str) -> bool:
    """Whether a command only prepares its connection. Such a command is not a point, and does not define the role."""
    return name in _HANDSHAKE or name.startswith("CLIENT|") or not name


def _text(word: bytes) -> str:
    """Return a word without the characters that separate the parts of a written point."""
    return re.sub(r"[/#\s]", "_", word.decode("ascii", "backslashreplace"))
