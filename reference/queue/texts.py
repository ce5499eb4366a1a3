"""Text that an application makes, bounded and escaped once, here, before it is logged, stored or shown.

It may hold line breaks and control characters, be 50 MB long, or raise while it is made. What leaves this module is
printable and short: it cannot look like another line of a log, and the original is not kept.
"""

import traceback
from types import TracebackType

MAX_ERROR_CHARS = 2_000
NAME_CHARS_MAX = 256  # of an id or a type in a line of the log; the producer refuses longer ones
FRAMES_MAX = 10  # the innermost frames of each error
ERRORS_MAX = 3  # of a chain: the last error, and those that caused it
LINE_CHARS_MAX = 200
TRACEBACK_CHARS_MAX = ERRORS_MAX * (2 * FRAMES_MAX + 3) * (LINE_CHARS_MAX + 1)


def printable(text: str, limit: int) -> str:
    """Return the text on one line of at most `limit` characters, as `repr` would escape it, without the quotes."""
    begin = str.__getitem__(text, slice(limit + 1))  # a plain `str`, whatever the class of `text` overrides
    if not begin.isprintable():
        begin = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in begin)
    return begin if len(begin) <= limit else begin[: limit - 3] + "..."


def reason_of(error: BaseException, limit: int = MAX_ERROR_CHARS) -> str:
    """Return the error's type and text, on one line."""
    name = printable(type(error).__name__, NAME_CHARS_MAX)
    try:
        text = printable(str(error), limit)
    except BaseException:  # noqa: BLE001  the application's code makes the text, and may raise or exit
        return name
    return printable(f"{name}: {text}", limit) if text else name


def traceback_of(error: BaseException) -> str:
    """Return the frames below the one that caught the error, innermost last, after the frames of its causes.

    At most `TRACEBACK_CHARS_MAX` characters; each line is printable. Empty if it cannot be made.
    """
    parts: list[str] = []
    current: BaseException | None = error
    frames = error.__traceback__.tb_next if error.__traceback__ else None
    try:
        while current is not None and len(parts) < ERRORS_MAX:
            lines = [*_frames(frames), reason_of(current, LINE_CHARS_MAX)]
            parts.append("\n".join(printable(line, LINE_CHARS_MAX) for line in lines))
            current = _led_to(current)
            frames = current.__traceback__ if current else None
    except BaseException:  # noqa: BLE001  source lines come from the application's own loaders
        return ""
    return "\nwhich led to\n".join(reversed(parts))


def _frames(frames: TracebackType | None) -> list[str]:
    count = sum(1 for _ in traceback.walk_tb(frames))
    lines = [f"[{count - FRAMES_MAX} outer frames left out]"] if count > FRAMES_MAX else []
    for frame in traceback.extract_tb(frames, limit=-FRAMES_MAX):
        lines.append(f'File "{frame.filename}", line {frame.lineno}, in {frame.name}')
        if frame.line:
            lines.append(f"  {frame.line}")
    return lines


def _led_to(error: BaseException) -> BaseException | None:
    if isinstance(error, BaseExceptionGroup):
        first: BaseException = error.exceptions[0]
        return first
    return error.__cause__ or (None if error.__suppress_context__ else error.__context__)
