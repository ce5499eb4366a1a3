"""A worker, or all of them, and the server do not hear of each other, in both directions or in one."""

from dataclasses import dataclass
from typing import ClassVar, Literal

from ...system.proxy import Link
from ..base import Effect, Missed, Stage
from ..registry import fault
from .base import Victims, WayFault, Workers


@fault
@dataclass(frozen=True, kw_only=True)
class NetPartition(WayFault):
    """Cuts a worker off from the server until its lease has ended, then reconnects it (I2, I3, I4).

    Its connections stay open and are silent. What was sent into the silence arrives when it ends, long after others
    have taken the tasks over, and after the worker has given up waiting for the answer.
    """

    name: ClassVar[str] = "net-partition"
    threatens: ClassVar[tuple[str, ...]] = ("I2", "I3", "I4")
    count: ClassVar[int] = 2

    workers: Workers = "one"
    way: Literal["both", "to-server", "to-worker"] = "both"
    """Which direction is cut. To the worker alone: commands are executed, and their replies do not come."""
    for_s: float = 0.0
    """How long; 0: longer than the target takes to recover a task, by half and a second."""

    def inject(self, stage: Stage) -> Effect:
        victims = Victims(stage, self.workers, self.patience_s)
        for_s = self.for_s or 1.5 * stage.recover_within_s + 1.0
        before = victims.tallies()
        link = Link(to_server_lost=self.way != "to-worker", to_worker_lost=self.way != "to-server")
        victims.network.set_links(victims.slots, link)
        # On record when it ends: whatever they begin meanwhile is its doing too.
        victims.watch(for_s)
        sent, answered = victims.passed_since(before)
        if not (sent.held_bytes or answered.held_bytes):
            raise Missed(f"Nothing was sent within {for_s:g} s that could be held back.")
        return victims.effect(
            f"{victims.names} cut off for {for_s:.3g} s: the proxy held back {sent.held_bytes:,} bytes to the server "
            f"and {answered.held_bytes:,} from it."
        )
