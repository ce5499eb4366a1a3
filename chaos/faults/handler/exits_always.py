"""Handlers that always take their process with them."""

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

    Each must be given up in the end, and those that were in hand with it must not be.
    """

    name: ClassVar[str] = "handler-exits-always"
    threatens: ClassVar[tuple[str, ...]] = ("I1", "I2", "I4", "I5")
    behaviour: ClassVar[str] = "exit"
    did: ClassVar[str] = "ended the process that they ran in"

    tasks: int = how_many(1)
    """How many of the tasks do so."""

    def seen(self, stage: Stage) -> Set[str]:
        return stage.ledger.cut_off().keys()
