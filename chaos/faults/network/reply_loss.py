"""An unreliable network: a share of the replies is cut, and their connections are reset."""

from dataclasses import dataclass
from typing import ClassVar

from ...system.proxy import Link
from ..base import Effect, Missed, Stage
from ..registry import fault
from .base import Victims, WayFault


@fault
@dataclass(frozen=True, kw_only=True)
class NetReplyLoss(WayFault):
    """Cuts many replies to workers in their middle, and resets the connections (I1, I2, I3, I4).

    A step that takes two commands is sooner or later half done, and a worker that can't renew its lease loses it.
    """

    name: ClassVar[str] = "net-reply-loss"
    threatens: ClassVar[tuple[str, ...]] = ("I1", "I2", "I3", "I4")
    loses_replies: ClassVar[bool] = True
    count: ClassVar[int] = 2

    share: float = 0.3
    """Share of the replies that are cut."""
    for_s: float = 4.0
    """Duration, in seconds."""

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


def _cut(stage: Stage) -> int:
    return sum(len(listener.cut) for listener in stage.network.listeners) if stage.network else 0
