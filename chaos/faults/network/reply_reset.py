"""A single reply that is cut in its middle."""

import time
from dataclasses import dataclass
from typing import ClassVar

from ...history import Aim
from ...system.proxy import ANY_ROLE, Listener, Phase, Point, Strike, StrikeKind
from ..base import Effect, Fault, Missed, Stage, waited_for
from ..registry import fault
from .base import Victims

EACH_S = 1.0
"""Maximum wait for one kind of command, in seconds: workers send some kinds only once."""


@fault
@dataclass(frozen=True, kw_only=True)
class NetReplyReset(Fault):
    """Resets a connection in the middle of a reply: the command was executed (I1, I2, I3).

    The worker can't know that its claim gave it a task, or that its ack removed one.
    """

    name: ClassVar[str] = "net-reply-reset"
    threatens: ClassVar[tuple[str, ...]] = ("I1", "I2", "I3")
    aims_at: ClassVar[Aim] = "network"
    loses_replies: ClassVar[bool] = True
    count: ClassVar[int] = 5
    through_proxy: ClassVar[bool] = True

    patience_s: float = 10.0
    """Maximum wait for a worker inside a task, and then for the command, in seconds each."""

    def inject(self, stage: Stage) -> Effect:
        victims = Victims(stage, "one", self.patience_s)
        listener = victims.network.listeners[next(iter(victims.slots))]
        seen, give_up_s, tried = len(listener.cut), time.monotonic() + self.patience_s, set[str]()
        while True:
            name = victims.network.proxy.call(lambda: _arm_next(listener, stage, tried))
            tried.add(name)
            waited_for(stage, lambda: len(listener.cut) != seen, min(EACH_S, self.patience_s))
            listener.disarm()
            if len(listener.cut) != seen:
                break
            if time.monotonic() > give_up_s or stage.nothing_left():
                raise Missed(f"{victims.names} got no answer to {name} within {self.patience_s:g} s.")
        victims.look()
        relayed, size = listener.cut[seen]
        return victims.effect(
            f"{victims.names}: its connection was reset after {relayed} of the {size} bytes of the reply to {name}."
        )

    def heal(self, stage: Stage) -> None:
        for listener in stage.network.listeners if stage.network else ():
            listener.disarm()


def _arm_next(listener: Listener, stage: Stage, tried: set[str]) -> str:
    """Cut the reply to the next command of one kind, and return its name. Runs in the proxy's thread.

    A kind is the likelier the more often it was sent. Kinds in `tried` are used only if there are no others.
    """
    counts = {name: count for (role, name), count in sorted(listener.counts().items()) if role == ANY_ROLE}
    if not counts:
        raise Missed("The worker has sent no command yet.")
    counts = {name: count for name, count in counts.items() if name not in tried} or counts
    (name,) = stage.random.choices(list(counts), list(counts.values()))
    point = Point(ANY_ROLE, name, counts[name] + 1)
    listener.arm(Strike(point=point, kind=StrikeKind.CUT, phase=Phase.EXECUTED))
    return name
