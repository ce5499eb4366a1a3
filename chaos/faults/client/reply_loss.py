"""An unreliable network between the submitting processes and the server."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from ...history import Aim
from ...system.proxy import Link
from ..base import Brought, Effect, Fault, InMix, Missed, Stage, how_many, waited_for
from ..registry import fault


@fault
@dataclass(frozen=True, kw_only=True)
class ClientReplyLoss(Fault):
    """Cuts off replies to the producer, or to a client without one, after the command was executed (I2, I8).

    The server has executed the command, and its client can't know. A client that repeats it without an idempotency key
    enqueues the task twice, and one that answers "nothing was accepted" is wrong. The fault does not excuse two
    executions with the same attempt number.
    """

    name: ClassVar[str] = "client-reply-loss"
    threatens: ClassVar[tuple[str, ...]] = ("I2", "I8")
    aims_at: ClassVar[Aim] = "client"
    loses_replies: ClassVar[bool] = True
    through_proxy: ClassVar[bool] = True
    of_clients: ClassVar[bool] = True
    in_mix: ClassVar[InMix] = "once"
    needs_attempts: ClassVar[bool] = True
    brings: ClassVar[Mapping[Brought, int]] = {"plain": 16}

    share: float = 0.5
    """Share of the replies that are cut."""
    replies: int = how_many(8)
    """Number of replies to cut."""
    for_s: float = 5.0
    """Maximum wait for this number, in seconds; after that, one reply is enough."""
    patience_s: float = 30.0
    """Maximum wait for the first reply that is cut, in seconds from the start of the fault."""

    def inject(self, stage: Stage) -> Effect:
        if stage.network is None:
            raise Missed("The clients do not go through the proxy.")
        doors = stage.network.clients.values()

        def broken_off() -> int:
            return sum(len(door.cut) for door in doors) - before

        before = sum(len(door.cut) for door in doors)
        for number, door in enumerate(doors):
            door.set_link(Link(cut_share=self.share, seed=stage.random.getrandbits(32) + number))
        waited_for(stage, lambda: broken_off() >= self.replies or stage.workload_over(), self.for_s)
        waited_for(stage, lambda: broken_off() or stage.workload_over(), self.patience_s - self.for_s)
        cut = broken_off()
        if not cut:
            raise Missed("No reply was due.")
        return Effect(evidence=f"{cut} replies to clients were cut, with their connections.")

    def heal(self, stage: Stage) -> None:
        for door in stage.network.clients.values() if stage.network else ():
            door.set_link(Link())
