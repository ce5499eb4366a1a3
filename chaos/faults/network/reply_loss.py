"""A bad line: of all replies a share breaks off, each with its connection."""

from dataclasses import dataclass
from typing import ClassVar

from ...history import Aim
from ...system.proxy import Link
from ..base import Effect, Fault, Missed, Stage
from ..registry import fault
from .base import Victims, Workers, mend


@fault
@dataclass(frozen=True, kw_only=True)
class NetReplyLoss(Fault):
    """For a while many of the replies to workers break off, and their connections are reset (I1, I2, I3, I4).

    Whatever is done in two commands is sooner or later done by half, and whoever cannot renew his lease loses it.
    """

    name: ClassVar[str] = "net-reply-loss"
    threatens: ClassVar[tuple[str, ...]] = ("I1", "I2", "I3", "I4")
    aims_at: ClassVar[Aim] = "network"
    loses_replies: ClassVar[bool] = True
    count: ClassVar[int] = 2
    through_proxy: ClassVar[bool] = True

    workers: Workers = "all"
    """`all`, or `one` that is inside a task."""
    share: float = 0.3
    """Of the replies."""
    for_s: float = 4.0
    """How long it lasts."""
    patience_s: float = 10.0
    """How long to wait until a worker is inside a task."""

    def inject(self, stage: Stage) -> Effect:
        victims = Victims(stage, self.workers, self.patience_s)
        before = _cut(stage)
        victims.network.set_links(victims.slots, Link(cut_share=self.share, seed=stage.random.getrandbits(32)))
        victims.watch(self.for_s)
        cut = _cut(stage) - before
        if not cut:
            raise Missed(f"No reply was due within {self.for_s:g} s.")
        return victims.effect(
            f"{victims.names}: {cut} replies broke off with their connections within {self.for_s:g} s."
        )

    def heal(self, stage: Stage) -> None:
        mend(stage)


def _cut(stage: Stage) -> int:
    return sum(len(listener.cut) for listener in stage.network.listeners) if stage.network else 0
