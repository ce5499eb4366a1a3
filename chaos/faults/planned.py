"""A task of the plan: its payload, its time and its behaviour. A fault may change tasks before the run (`arrange`)."""

import hashlib
import json
from random import Random
from typing import Any, Literal

import msgspec

from ..target import Task

Numbers = Literal["doubles", "whole", "text"]
"""Numbers in a payload: those of any language; also integers beyond 2^53; also numbers that only the text preserves."""

SMALL_BYTES_MAX = 2_000
OF_THE_OTHERS = 3
"""A fault takes at most one in this many ordinary tasks: the others keep the traffic going."""
APART_S = 1.0
"""Seconds between the last other task and a call at the end, so that no earlier fault hits tasks of the call."""
ODD_TEXT = '\u00e9\u2603\U0001f4a5 "\\/\n\u2028\u2029\x85\ufeff\x7fe\u0301\u212b\u1100\u1161'
"""Text with characters that some parsers treat as a line end, a byte order mark or a control character, and with others
that Unicode normalization changes."""
FILLER_RAW = "\u00e9\u2603\U0001f4a5"
"""Characters of two, three and four bytes."""
ONLY_IN_TEXT = '"fixed":1.10,"huge":1e400,"zero":-0.0,"b":1,"a":2'
"""JSON that decoding and re-encoding changes: digits, a number beyond the range of doubles, the order of members."""


class PlannedTask(msgspec.Struct, frozen=True, array_like=True, omit_defaults=True):
    """One submission, `at_s` seconds after the start. Encoded as an array, to keep large plans small."""

    id: str
    at_s: float
    work_ms: int
    size_bytes: int = 0
    """Length of the payload's JSON text, in bytes; the text is longer if its other members need more."""
    behaviour: str = ""
    """One of `BEHAVIOURS`; empty if the task behaves well."""
    type: str = ""
    """One of the target's types; empty if it has only one."""
    batch: int = 0
    """Neighbouring tasks with the same number are submitted in one call; 0: the task is submitted alone."""
    raw: bool = False
    """Whether the text is UTF-8, in place of ASCII with escapes."""
    numbers: Numbers = "whole"
    priority: str = ""
    """One of the target's priorities; empty if it states none."""
    delay_ms: int = 0
    """Time from submission to the scheduled start, in ms."""
    spaced: bool = False
    """Whether the text has spaces after its commas and colons."""
    fault: int = 0
    """Number of the fault with whose beginning the task is submitted; 0: it is submitted at `at_s`."""

    @property
    def alone(self) -> bool:
        """Whether it behaves well and is in no batch. Client faults change only such tasks: batches keep their size."""
        return not (self.behaviour or self.batch)

    @property
    def ordinary(self) -> bool:
        """Whether it is a small single task of the trickle, not scheduled: faults may take it for themselves."""
        return bool(self.at_s) and self.alone and not self.delay_ms and self.size_bytes <= SMALL_BYTES_MAX

    def text(self) -> str:
        """Return the payload's JSON text. Its member `odd` holds values that careless re-encoding changes."""
        odd: dict[str, Any] = {"fraction": 0.1, "empty": [], "text": ODD_TEXT}
        if self.numbers != "doubles":
            odd = {"whole": 2**53 + 1, **odd}
        members: dict[str, Any] = {"id": self.id, "work_ms": self.work_ms}
        members |= {"behaviour": self.behaviour} if self.behaviour else {}
        comma, colon = separators = (", ", ": ") if self.spaced else (",", ":")
        text = json.dumps({**members, "odd": odd}, ensure_ascii=not self.raw, separators=separators)
        if self.numbers == "text":
            text = f"{text[:-2]}{comma}{ONLY_IN_TEXT}}}}}"
        frame = f'{comma}"filler"{colon}""'
        return f'{text[:-1]}{frame[:-1]}{self._filler(self.size_bytes - len(text.encode()) - len(frame))}"}}'

    def task(self) -> Task:
        """Return the task as it is passed to the target."""
        text = self.text()
        return Task(
            self.id, json.loads(text), text=text, type=self.type, priority=self.priority, delay_ms=self.delay_ms
        )

    def _filler(self, size: int) -> str:
        """Return text of `size` bytes; empty if `size` is negative."""
        raw = FILLER_RAW * (max(0, size) // len(FILLER_RAW.encode())) if self.raw else ""
        left = max(0, size - len(raw.encode()))
        digits = hashlib.sha256(self.id.encode()).hexdigest()
        return raw + (digits * (left // len(digits) + 1))[:left]


def with_call_at_end(tasks: list[PlannedTask], count: int, draw: Random) -> tuple[list[PlannedTask], list[PlannedTask]]:
    """Return the other tasks, and ordinary ones, at most `count`, that are submitted after them, in one call.

    At most one in `OF_THE_OTHERS` is taken, so that the other faults keep their traffic, and evenly: a gap of many
    neighbours would leave a fault that waits for traffic without any.
    """
    fit = [place for place, task in enumerate(tasks) if task.ordinary]
    wanted = min(count, len(fit) // OF_THE_OTHERS)
    if not wanted:
        return tasks, []
    every = len(fit) // wanted
    chosen = fit[draw.randrange(every) :: every][:wanted]
    taken, batch, at_s = set(chosen), 1 + max(task.batch for task in tasks), tasks[-1].at_s + APART_S
    call = [msgspec.structs.replace(tasks[place], batch=batch, at_s=at_s) for place in chosen]
    return [task for place, task in enumerate(tasks) if place not in taken], call
