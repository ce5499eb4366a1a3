"""A partition between the server and one or all workers, in one direction or both."""

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

    Its connections stay open and fall silent. Traffic sent meanwhile arrives when the partition ends, long after other
    workers have recovered the tasks and the worker has stopped waiting for replies.
    """

    name: ClassVar[str] = "net-partition"
    threatens: ClassVar[tuple[str, ...]] = ("I2", "I3", "I4")
    count: ClassVar[int] = 2

    workers: Workers = "one"
    way: Literal["both", "to-server", "to-worker"] = "both"
    """Direction that is cut. With `to-worker` the server executes commands, and their replies do not arrive."""
    for_s: float = 0.0
    """Duration, in seconds; 0: 1.5 times the time that the target takes to recover a task, plus 1 s."""

    def inject(self, stage: Stage) -> Effect:
        victims = Victims(stage, self.workers, self.patience_s)
        for_s = self.for_s or 1.5 * stage.recover_within_s + 1.0
        before = victims.tallies()
        link = Link(to_server_lost=self.way != "to-worker", to_worker_lost=self.way != "to-server")
        victims.network.set_links(victims.slots, link)
        # Return when it ends, so that the effect includes the tasks that the workers begin meanwhile.
        victims.watch(for_s)
        sent, answered = victims.passed_since(before)
        if not (sent.held_bytes or answered.held_bytes):
            raise Missed(f"No data was sent within {for_s:g} s that the proxy could hold back.")
        return victims.effect(
            f"{victims.names} cut off for {for_s:.3g} s: the proxy held back {sent.held_bytes:,} bytes to the server "
            f"and {answered.held_bytes:,} from it."
        )
