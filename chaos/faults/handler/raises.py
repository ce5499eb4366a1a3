"""Handlers that raise."""

from collections.abc import Set
from dataclasses import dataclass
from typing import ClassVar

from ..base import Stage
from ..registry import fault
from .base import HandlerFault


@fault
@dataclass(frozen=True, kw_only=True)
class HandlerRaises(HandlerFault):
    """The bodies of some tasks raise at their first attempt (I1, I2, I5).

    A task that raised is neither done nor lost: it must run again.
    """

    name: ClassVar[str] = "handler-raises"
    threatens: ClassVar[tuple[str, ...]] = ("I1", "I2", "I5")
    behaviour: ClassVar[str] = "raise-once"
    did: ClassVar[str] = "raised an error"

    def seen(self, stage: Stage) -> Set[str]:
        return stage.ledger.raised()
