"""Connections that die without notice to either end."""

from dataclasses import dataclass
from typing import ClassVar

from ..base import Effect, Missed, Stage
from ..registry import fault
from .base import Victims, WayFault, Workers


@fault
@dataclass(frozen=True, kw_only=True)
class NetSilence(WayFault):
    """Drops all traffic on a worker's connections, without notice to either side (I2, I3, I4).

    A firewall or a NAT that drops its state does so. Neither end sees a reset; the server keeps serving an unreachable
    client, and may deliver a task to it. New connections work.
    """

    name: ClassVar[str] = "net-silence"
    threatens: ClassVar[tuple[str, ...]] = ("I2", "I3", "I4")
    count: ClassVar[int] = 2
    loses_replies: ClassVar[bool] = True

    workers: Workers = "one"
    for_s: float = 0.0
    """Seconds of observation; 0: 1.5 times the time that the target takes to recover a task, plus 1 s."""

    def inject(self, stage: Stage) -> Effect:
        victims = Victims(stage, self.workers, self.patience_s)
        for_s = self.for_s or 1.5 * stage.recover_within_s + 1.0
        before = victims.tallies()
        dead = sum(victims.network.listeners[slot].silence() for slot in victims.slots)
        victims.watch(for_s)
        sent, answered = victims.passed_since(before)
        if not (sent.held_bytes or answered.held_bytes):
            raise Missed(f"Nothing was sent within {for_s:g} s on the {dead} connections that had died.")
        return victims.effect(
            f"{victims.names}: {dead} connections died silently; {sent.held_bytes:,} bytes to the server and "
            f"{answered.held_bytes:,} from it were never delivered."
        )
