"""A server whose memory is full."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

from ..base import Brought, Effect, InMix, Missed, Stage, errors_answered, waited_for
from ..registry import fault
from .base import ServerFault
from .memory import starve


@fault
@dataclass(frozen=True, kw_only=True)
class ServerMaxmemory(ServerFault):
    """Sets maxmemory far below the used memory, without eviction, for seconds (I1, I2, I4).

    The server refuses every command that can add data, even a move from one list to another. Workers must still
    complete the accepted tasks, also those that fail meanwhile, and a refused task must not be promised.
    https://redis.io/docs/latest/develop/reference/eviction/
    """

    name: ClassVar[str] = "server-maxmemory"
    threatens: ClassVar[tuple[str, ...]] = ("I1", "I2", "I4")
    fills_memory: ClassVar[bool] = True
    needs_full_memory: ClassVar[bool] = True
    in_mix: ClassVar[InMix] = "once"
    count: ClassVar[int] = 2
    # No worker is killed meanwhile, so that a body may hang to its time limit, with long ones beside it.
    brings: ClassVar[Mapping[Brought, int]] = {"lasting": 4, "failing": 8, "long": 4, "hanging": 2}

    for_s: float = 8.0
    """Duration of the full memory, in seconds; long enough for a missing retry to be overdue before it ends."""
    patience_s: float = 1.0
    """Maximum wait, in seconds, for a body that will fail, if the plan has such tasks; then the fault begins anyway."""

    def inject(self, stage: Stage) -> Effect:
        failing = frozenset[str]().union(*_raising(stage))
        waited_for(stage, lambda: _fails_soon(stage, failing), self.patience_s if failing else 0.0)
        starved = starve(
            stage, policy="noeviction", share=0.0, for_s=self.for_s, counted=partial(errors_answered, kind="OOM")
        )
        if not (starved.count or starved.accepted):
            raise Missed(f"The server refused nothing within {self.for_s:g} s, and no task was accepted.")
        return Effect(
            evidence=f"With maxmemory at 1 of the {starved.held} bytes that it held, the server refused "
            f"{starved.count} commands within {self.for_s:g} s; meanwhile {starved.completed} tasks were completed, "
            f"and {starved.accepted} accepted.",
            tasks=starved.tasks,
            lasted=starved.lasted,
        )


def _raising(stage: Stage) -> Iterable[frozenset[str]]:
    return (tasks for way, tasks in stage.behaving.items() if way.startswith("raise-"))


def _fails_soon(stage: Stage, failing: frozenset[str]) -> bool:
    """Return whether one of these tasks is in its body and has not raised before, so that it has attempts left."""
    stage.ledger.poll()
    return bool(stage.ledger.open_tasks().keys() & failing - stage.ledger.raised())
