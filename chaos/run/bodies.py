"""Whether task bodies last as long as their payload says: in one that ends at once no fault finds a task."""

from collections.abc import Callable

from ..history.tail import LedgerTail
from ..plan.plan import Plan

LONG_MS = 50
"""Bodies that are planned to last that long are looked at."""
SEEN_MIN = 20
"""That many of them must have ended."""
SHARE_MAX = 0.1
"""At most this share of them lasted half of `LONG_MS`."""


class Bodies:
    """Looks at the bodies that have ended so far. `say` gets one sentence if they end at once."""

    def __init__(self, plan: Plan, ledger: LedgerTail, say: Callable[[str], None]) -> None:
        self._long = frozenset(task.id for task in plan.tasks if task.work_ms >= LONG_MS)
        self._ledger, self._say = ledger, say
        self._instant: bool | None = None

    def end_at_once(self) -> bool:
        """Whether they do. It is decided once."""
        if self._instant is None:
            ended = self._long & self._ledger.completed()
            if len(ended) < SEEN_MIN:
                return False
            self._instant = len(ended & self._ledger.lasted(LONG_MS / 2000)) <= SHARE_MAX * len(ended)
            if self._instant:
                self._say(
                    "Task bodies end at once, so that no fault finds a task in its body: let each last as long as "
                    'payload["work_ms"] says, in milliseconds. Faults do not wait for one in this run.'
                )
        return self._instant
