"""The members of a JSON object, each as the text it was written in: `json` has no way to keep it."""

import json
from typing import Any

from ..queue.task import refuse_constant

decoder: Any = json.JSONDecoder(parse_constant=refuse_constant)
_WHITESPACE = " \t\n\r"


def raw_members(text: str) -> dict[str, str]:
    """Split a JSON object into its members, each value as the text it was written in.

    Raises:
        ValueError: not one JSON object.
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
        name, position = decoder.raw_decode(text, position)
        if not isinstance(name, str):
            raise ValueError("a member's name is not a string")
        position = after_space(text, position)
        if text[position : position + 1] != ":":
            raise ValueError(f"no colon after {name!r}")
        start = after_space(text, position + 1)
        _, end = decoder.raw_decode(text, start)
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
