"""Base class of the faults of task bodies: the plan holds the tasks, and the ledger shows that they misbehaved."""

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
    """Base of the faults by which some tasks misbehave in one way. The effect counts the tasks seen to do so."""

    aims_at: ClassVar[Aim] = "handler"
    last: ClassVar[bool] = True
    behaviour: ClassVar[str]
    """What these tasks do: one of `BEHAVIOURS`."""
    did: ClassVar[str]
    """The same as a phrase in the past tense, for the evidence."""

    tasks: int = how_many(10)
    """Number of tasks that misbehave."""
    patience_s: float = 30.0
    """Maximum wait, in seconds after all submissions, until all of them have misbehaved."""

    def arrange(self, tasks: "list[PlannedTask]", draw: Random, recover_within_s: float) -> "list[PlannedTask]":
        well_behaved = [task.id for task in tasks if not task.behaviour]
        drawn = set(draw.sample(well_behaved, min(self.tasks, len(well_behaved))))
        return [self.spoil(task, recover_within_s) if task.id in drawn else task for task in tasks]

    def spoil(self, task: "PlannedTask", recover_within_s: float) -> "PlannedTask":
        """Return the task changed so that it misbehaves."""
        return replace(task, behaviour=self.behaviour)

    def inject(self, stage: Stage) -> Effect:
        planned = stage.behaving.get(self.behaviour, frozenset())
        give_up_s = time.monotonic() + self.patience_s
        while True:
            stage.ledger.poll()
            # A body that another fault hit says nothing about its own misbehaviour.
            struck = planned & stage.struck()
            seen = (planned - struck) & self.seen(stage)
            # A completed task will not misbehave later: it may have been recovered before its first attempt began.
            decided = planned <= seen | struck | stage.ledger.completed()
            # Tasks that were never accepted will not run.
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
        """Return the tasks that, by the ledger, misbehaved in this way; tasks outside this fault may be among them."""
