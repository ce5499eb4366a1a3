"""Handlers that end their process at every attempt: poison tasks."""

from collections.abc import Set
from dataclasses import dataclass
from typing import ClassVar

from ..base import Stage, how_many
from ..registry import fault
from .base import HandlerFault


@fault
@dataclass(frozen=True, kw_only=True)
class HandlerExitsAlways(HandlerFault):
    """The bodies of some tasks kill the process that they run in, at every attempt (I1, I2, I4, I5).

    Each must end as a dead letter, and the other tasks in its processes must not.
    """

    name: ClassVar[str] = "handler-exits-always"
    threatens: ClassVar[tuple[str, ...]] = ("I1", "I2", "I4", "I5")
    behaviour: ClassVar[str] = "exit"
    did: ClassVar[str] = "ended the process that they ran in"

    tasks: int = how_many(1)
    """Number of tasks that do so."""

    def seen(self, stage: Stage) -> Set[str]:
        return stage.ledger.cut_off().keys()
