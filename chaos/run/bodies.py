"""Detects task bodies that end at once, whatever their payload says: no fault can hit a task inside such a body."""

from collections.abc import Callable

from ..history.tail import LedgerTail
from ..plan.plan import Plan

LONG_MS = 50
"""Planned length, in ms, from which a body is checked."""
SEEN_MIN = 20
"""Number of checked bodies that must have ended before the decision."""
SHARE_MAX = 0.1
"""Bodies end at once if at most this share of those checked lasted half of `LONG_MS`."""


class Bodies:
    """Checks the bodies that have ended so far. `say` gets one sentence if they end at once."""

    def __init__(self, plan: Plan, ledger: LedgerTail, say: Callable[[str], None]) -> None:
        self._long = frozenset(task.id for task in plan.tasks if task.work_ms >= LONG_MS)
        self._ledger, self._say = ledger, say
        self._instant: bool | None = None

    def end_at_once(self) -> bool:
        """Return whether task bodies end at once. Decided once, after `SEEN_MIN` bodies; until then False."""
        if self._instant is None:
            ended = self._long & self._ledger.completed()
            if len(ended) < SEEN_MIN:
                return False
            self._instant = len(ended & self._ledger.lasted(LONG_MS / 2000)) <= SHARE_MAX * len(ended)
            if self._instant:
                self._say(
                    "Task bodies end at once, so no fault can hit a task in its body: make each body last "
                    'payload["work_ms"] milliseconds. In this run, faults no longer wait for a running body.'
                )
        return self._instant
