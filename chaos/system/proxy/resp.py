"""Split RESP2 and RESP3 streams into commands and replies, and nothing more: no value is decoded.

https://redis.io/docs/latest/develop/reference/protocol-spec/
"""

from typing import NamedTuple, Protocol, TypeVar

from .points import command_name

HEAD_WORDS = 2
"""Number of words that are kept of a command: its name needs no more."""


class ProtocolError(Exception):
    """The stream is not RESP."""


Unit = TypeVar("Unit")


class Parser(Protocol[Unit]):
    """Splits the data of one side into units: commands or replies."""

    rest: bytes

    def feed(self, chunk: bytes) -> list[Unit]: ...


class Request(NamedTuple):
    """One complete command. `name` comes from `points.command_name`."""

    name: str
    raw: bytes


class Reply(NamedTuple):
    """One complete reply, or a push, which answers no command."""

    raw: bytes
    push: bool


class RequestParser:
    """Splits a client's data into commands: arrays of bulk strings, or inline commands."""

    def __init__(self) -> None:
        self.rest = b""
        """Data of the incomplete last command."""
        self._at = 0  # offset in `rest`: everything before is scanned
        self._left = 0  # number of missing words of the incomplete command
        self._head: list[bytes] = []

    def feed(self, chunk: bytes) -> list[Request]:
        """Return the commands that are now complete. Raises ProtocolError."""
        data = self.rest + chunk if self.rest else chunk
        at, left, head = self._at, self._left, self._head
        start, size = 0, len(data)
        requests = []
        try:
            while (end := data.find(b"\r\n", at)) >= 0:
                if left:
                    if data[at] != 36:  # $
                        raise ProtocolError("A command holds something that is not a bulk string.")
                    stop = end + 4 + int(data[at + 1 : end])
                    if stop > size:
                        break
                    if len(head) < HEAD_WORDS:
                        head.append(data[end + 2 : stop - 2])
                    at = stop
                    left -= 1
                elif data[at : at + 1] == b"*":
                    left = max(0, int(data[at + 1 : end]))
                    head = []
                    at = end + 2
                    if left:
                        continue
                else:
                    head = data[at:end].split(maxsplit=HEAD_WORDS)[:HEAD_WORDS]
                    at = end + 2
                if not left:
                    requests.append(Request(command_name(head) if head else "", data[start:at]))
                    start = at
        except ValueError:
            raise ProtocolError("A length in a command is not a number.") from None
        self.rest, self._at, self._left, self._head = data[start:], at - start, left, head
        return requests


class ReplyParser:
    """Splits a server's data into replies."""

    def __init__(self) -> None:
        self.rest = b""
        """Data of the incomplete last reply."""
        self._at = 0
        self._left = 0  # number of missing elements of the incomplete reply
        self._push = False

    def feed(self, chunk: bytes) -> list[Reply]:
        """Return the replies that are now complete. Raises ProtocolError."""
        data = self.rest + chunk if self.rest else chunk
        at, left, push = self._at, self._left, self._push
        start, size = 0, len(data)
        replies = []
        try:
            while (end := data.find(b"\r\n", at)) >= 0:
                kind = data[at]
                if not left:
                    left, push = 1, kind == 62  # >
                if kind == 36 or kind in b"!=":  # a string, an error, a verbatim string, with its length
                    length = int(data[at + 1 : end])
                    stop = end + 2 if length < 0 else end + 4 + length
                    if stop > size:
                        break
                    at = stop
                    left -= 1
                elif kind in b":+-_,#(":
                    at = end + 2
                    left -= 1
                elif kind in b"*~>":
                    left += max(0, int(data[at + 1 : end])) - 1
                    at = end + 2
                elif kind in b"%|":  # an attribute precedes its element, and is not one itself
                    left += 2 * int(data[at + 1 : end]) - (kind == 37)
                    at = end + 2
                else:
                    raise ProtocolError(f"A reply begins with {chr(kind)!r}.")
                if not left:
                    replies.append(Reply(data[start:at], push))
                    start = at
        except ValueError:
            raise ProtocolError("A length in a reply is not a number.") from None
        self.rest, self._at, self._left, self._push = data[start:], at - start, left, push
        return replies
