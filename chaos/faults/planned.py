"""A task of the plan: what is submitted, when, and how it misbehaves. A fault may arrange these before the run."""

import hashlib
from typing import Any

import msgspec


class PlannedTask(msgspec.Struct, frozen=True, array_like=True, omit_defaults=True):
    """One submission, `at_s` after the start. An array in JSON, as there may be many."""

    id: str
    at_s: float
    work_ms: int
    filler_bytes: int
    behaviour: str = ""
    """How it misbehaves: one of `BEHAVIOURS`; empty: it does not."""

    def payload(self) -> dict[str, Any]:
        """What is submitted. `odd` holds what careless re-encoding changes."""
        filler = hashlib.sha256(self.id.encode()).hexdigest()
        return {
            "id": self.id,
            "work_ms": self.work_ms,
            **({"behaviour": self.behaviour} if self.behaviour else {}),
            "odd": {"whole": 9007199254740993, "fraction": 0.1, "empty": [], "text": '\u00e9\u2603\U0001f4a5 "\\/\n'},
            "filler": (filler * (self.filler_bytes // len(filler) + 1))[: self.filler_bytes],
        }
