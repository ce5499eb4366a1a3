"""What the faults of a task's own body have in common: the plan has them, and the ledger shows that they came about."""

import time
from abc import abstractmethod
from collections.abc import Set
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING, ClassVar

from msgspec.structs import replace

from ...history import Aim
from ..base import POLL_S, Effect, Fault, Missed, Stage, how_many

if TYPE_CHECKING:
    from ..planned import PlannedTask


@dataclass(frozen=True, kw_only=True)
class HandlerFault(Fault):
    """Some tasks misbehave in one way. At the end it is counted how many of them were seen to."""

    aims_at: ClassVar[Aim] = "handler"
    last: ClassVar[bool] = True
    behaviour: ClassVar[str]
    """What these tasks do: one of `BEHAVIOURS`."""
    did: ClassVar[str]
    """The same in the past, for the evidence."""

    tasks: int = how_many(10)
    """How many of the tasks do so."""
    patience_s: float = 30.0
    """How long to wait, once all are submitted, until all of them have."""

    def arrange(self, tasks: "list[PlannedTask]", draw: Random, recover_within_s: float) -> "list[PlannedTask]":
        well_behaved = [task.id for task in tasks if not task.behaviour]
        drawn = set(draw.sample(well_behaved, min(self.tasks, len(well_behaved))))
        return [self.spoil(task, recover_within_s) if task.id in drawn else task for task in tasks]

    def spoil(self, task: "PlannedTask", recover_within_s: float) -> "PlannedTask":
        """One of them."""
        return replace(task, behaviour=self.behaviour)

    def inject(self, stage: Stage) -> Effect:
        planned = stage.behaving.get(self.behaviour, frozenset())
        give_up_s = time.monotonic() + self.patience_s
        while True:
            stage.ledger.poll()
            # A body that another fault ended is not seen to have ended by itself.
            struck = planned & stage.struck()
            seen = (planned - struck) & self.seen(stage)
            # Nor will one that is completed do so yet: it may have been recovered before its first attempt was begun.
            decided = planned <= seen | struck | stage.ledger.completed()
            # Those that were never accepted will not run.
            if decided or stage.nothing_left() or time.monotonic() > give_up_s:
                break
            stage.wait(POLL_S)
        if not seen:
            raise Missed(
                f"None of {len(planned)} tasks {self.did}: does the target's handler do what the payload says?"
            )
        return Effect(evidence=f"{len(seen)} of {len(planned)} tasks {self.did}.", tasks=tuple(sorted(seen)))

    @abstractmethod
    def seen(self, stage: Stage) -> Set[str]:
        """The tasks that, as the ledger shows, did what these must do; others may be among them."""
