"""The ends of JSON values in a long text, found without decoding much of it at a time.

The end of a value is where decoding it ends, and decoded a value may take thirty times the memory of its text.
"""

import json
from typing import Any

_TOKEN_CHARS_MAX = 12  # the longest of which a part is an error at its beginning: \\ud800\\udc00


class Window:
    """Decodes no more than twice `value_chars_max` at a time."""

    def __init__(self, text: str, value_chars_max: int, decoder: Any) -> None:
        self._text, self._value_chars_max, self._decoder = text, value_chars_max, decoder
        self._start, self._part = 0, text[: 2 * value_chars_max]

    def end_of_value(self, position: int) -> int | None:
        """Find the end of the value at `position`. None: it has more than `value_chars_max` characters.

        Raises:
            ValueError, RecursionError: there is no value.
        """
        if self._is_cut() and position + self._value_chars_max >= self._start + len(self._part):
            self._start, self._part = position, self._text[position : position + 2 * self._value_chars_max]
        try:
            _, end = self._decoder.raw_decode(self._part, position - self._start)
        except json.JSONDecodeError as error:
            # An unclosed string, or an error at the very end: the value goes on behind the cut.
            at_the_end = error.msg.startswith("Unterminated") or error.pos > len(self._part) - _TOKEN_CHARS_MAX
            if at_the_end and self._is_cut():
                return None
            raise json.JSONDecodeError(error.msg, self._text, self._start + error.pos) from None
        end += self._start
        return end if end - position <= self._value_chars_max else None

    def _is_cut(self) -> bool:
        return self._start + len(self._part) < len(self._text)
