"""Reset connections of workers."""

from dataclasses import dataclass
from typing import ClassVar

from ..base import Effect, Stage, wait_for
from ..registry import fault
from .base import Victims, WayFault, Workers


@fault
@dataclass(frozen=True, kw_only=True)
class NetReset(WayFault):
    """Resets all connections of a worker inside a task (I1, I2).

    The worker can't know whether its last commands were executed. It lives on and connects again.
    """

    name: ClassVar[str] = "net-reset"
    threatens: ClassVar[tuple[str, ...]] = ("I1", "I2")
    count: ClassVar[int] = 5
    cuts: ClassVar[bool] = True

    workers: Workers = "one"

    def inject(self, stage: Stage) -> Effect:
        victims = Victims(stage, self.workers, self.patience_s)
        listeners = [victims.network.listeners[slot] for slot in victims.slots]
        none_open = f"No connection was open within {self.patience_s:g} s."
        # None may be open now: after a reset, a worker waits a little before it connects again.
        reset = wait_for(stage, lambda: sum(one.reset_all() for one in listeners), self.patience_s, none_open)
        victims.look()
        return victims.effect(f"{victims.names}: the proxy reset {reset} open connection{'' if reset == 1 else 's'}.")
