"""A task of the plan: what is submitted, when, and how it misbehaves. A fault may arrange these before the run."""

import hashlib
import json
from typing import Any, Literal

import msgspec

from ..target import Task

Numbers = Literal["doubles", "whole", "text"]
"""What numbers a payload holds: such as any language knows; whole ones beyond 2^53, too; such as only text keeps."""

ODD_TEXT = '\u00e9\u2603\U0001f4a5 "\\/\n\u2028\u2029\x85\ufeff\x7f'
"""With what some take for the end of a line, for a mark of the byte order, and for a control character."""
FILLER_RAW = "\u00e9\u2603\U0001f4a5"
"""Characters of two, three and four bytes."""
ONLY_IN_TEXT = '"fixed":1.10,"huge":1e400,"zero":-0.0,"b":1,"a":2'
"""What decoding and encoding again changes: digits, a number beyond all doubles, the order of members."""


class PlannedTask(msgspec.Struct, frozen=True, array_like=True, omit_defaults=True):
    """One submission, `at_s` after the start. An array in JSON, as there may be many."""

    id: str
    at_s: float
    work_ms: int
    size_bytes: int = 0
    """How long the JSON text of its payload is; at least as long as its other members need."""
    behaviour: str = ""
    """How it misbehaves: one of `BEHAVIOURS`; empty: it does not."""
    type: str = ""
    """One of the target's types; empty: it has one only."""
    batch: int = 0
    """Neighbours with the same number are submitted in one call; 0: it is alone."""
    raw: bool = False
    """Whether its text is spelt in UTF-8, and not in ASCII with escapes."""
    numbers: Numbers = "whole"
    priority: str = ""
    """One of the target's priorities; empty: it states none."""
    delay_ms: int = 0
    """It is scheduled to begin that many ms after it was submitted."""
    spaced: bool = False
    """Whether there are spaces behind the commas and colons of its text."""
    fault: int = 0
    """It comes when the fault of this number begins, and not when it is due; 0: it is for none."""

    @property
    def alone(self) -> bool:
        """Whether it behaves well and is in no batch: a client may misbehave with it, and each batch keeps its size."""
        return not (self.behaviour or self.batch)

    def text(self) -> str:
        """The payload's JSON text. `odd` holds what careless re-encoding changes."""
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
        """What the target is handed."""
        text = self.text()
        return Task(
            self.id, json.loads(text), text=text, type=self.type, priority=self.priority, delay_ms=self.delay_ms
        )

    def _filler(self, size: int) -> str:
        """Text of that many bytes; none where there is no room."""
        raw = FILLER_RAW * (max(0, size) // len(FILLER_RAW.encode())) if self.raw else ""
        left = max(0, size - len(raw.encode()))
        digits = hashlib.sha256(self.id.encode()).hexdigest()
        return raw + (digits * (left // len(digits) + 1))[:left]
