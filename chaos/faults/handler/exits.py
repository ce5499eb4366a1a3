"""Handlers that end their process once."""

from collections.abc import Set
from dataclasses import dataclass
from typing import ClassVar

from ..base import Stage, how_many
from ..registry import fault
from .base import HandlerFault


@fault
@dataclass(frozen=True, kw_only=True)
class HandlerExits(HandlerFault):
    """The bodies of some tasks call os._exit at their first attempt (I1, I2, I4, I5).

    Other tasks that the process runs or holds are interrupted, too.
    """

    name: ClassVar[str] = "handler-exits"
    threatens: ClassVar[tuple[str, ...]] = ("I1", "I2", "I4", "I5")
    behaviour: ClassVar[str] = "exit-once"
    did: ClassVar[str] = "ended the process that they ran in"

    tasks: int = how_many(5)
    """Number of tasks that do so."""

    def seen(self, stage: Stage) -> Set[str]:
        return stage.ledger.cut_off().keys()
