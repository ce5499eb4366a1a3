"""Shared code of the faults of the network: choose the workers to hit, and observe their traffic."""

import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

from ...history import Aim
from ...system.network import Network
from ...system.proxy import Link, Tally
from ..base import Brought, Effect, Fault, Missed, Stage, busy_worker

LOOK_EVERY_S = 0.1

Workers = Literal["one", "all"]


@dataclass(frozen=True, kw_only=True)
class WayFault(Fault):
    """Base of the faults that disturb the connections between workers and server, by means of the proxy."""

    aims_at: ClassVar[Aim] = "network"
    brings: ClassVar[Mapping[Brought, int]] = {"lasting": 2, "plain": 6}
    through_proxy: ClassVar[bool] = True

    workers: Workers = "all"
    """`all` workers, or `one` that is inside a task."""
    patience_s: float = 10.0
    """Maximum wait, in seconds, for a worker inside a task, and then for the traffic or connections to hit."""

    def heal(self, stage: Stage) -> None:
        """Restore the links of all workers, which delivers the traffic held back."""
        if stage.network:
            stage.network.set_links(range(len(stage.network.listeners)), Link())


class Victims:
    """The workers in some slots, with all processes and tasks that a fault of their connections has hit so far."""

    def __init__(self, stage: Stage, workers: Workers, patience_s: float) -> None:
        """Wait for a worker inside a task, and choose it, or all workers. Raises Missed if there is none."""
        self._stage = stage
        busy = busy_worker(stage, patience_s)
        chosen = [busy] if workers == "one" else stage.workers.living()
        found = [stage.workers.slot_of(worker) for worker in chosen]
        self.slots: Collection[int] = [slot for slot in found if slot is not None]
        self.names = f"Worker {busy.sid}" if workers == "one" else f"All {len(self.slots)} workers"
        self._pids: set[int] = set()
        self._tasks: set[str] = set()
        self.look()

    @property
    def network(self) -> Network:
        """The proxy. Raises Missed if the workers do not connect through it."""
        if self._stage.network is None:
            raise Missed("The workers do not go through the proxy.")
        return self._stage.network

    def look(self) -> None:
        """Add their current processes and open tasks; a worker started again in one of the slots counts, too."""
        self._stage.ledger.poll()
        for worker in self._stage.workers.living():
            if self._stage.workers.slot_of(worker) in self.slots:
                self._pids.update(worker.members())
                self._tasks.update(self._stage.ledger.open_in_session(worker.sid))

    def watch(self, for_s: float) -> None:
        """Call `look` repeatedly for `for_s` seconds."""
        until_s = time.monotonic() + for_s
        while (left_s := until_s - time.monotonic()) > 0:
            self._stage.wait(min(LOOK_EVERY_S, left_s))
            self.look()

    def tallies(self) -> tuple[Tally, Tally]:
        """Return what the proxy has done so far to their traffic: to the server, and from it."""
        return self.network.tallies(self.slots)

    def passed_since(self, before: tuple[Tally, Tally]) -> tuple[Tally, Tally]:
        """Return the difference of `tallies()` to `before`."""
        sent, answered = (now - then for now, then in zip(self.tallies(), before, strict=True))
        return sent, answered

    def effect(self, evidence: str) -> Effect:
        """Return an effect with all processes and tasks hit so far."""
        return Effect(evidence=evidence, pids=tuple(sorted(self._pids)), tasks=tuple(sorted(self._tasks)))


def slow_down(stage: Stage, fault: WayFault, link: Link, for_s: float) -> Effect:
    """Apply a link to the workers of `fault` for `for_s`. Raises Missed unless it delayed traffic both ways."""
    victims = Victims(stage, fault.workers, fault.patience_s)
    before = victims.tallies()
    victims.network.set_links(victims.slots, link)
    victims.watch(for_s)
    sent, answered = victims.passed_since(before)
    if not (sent.late_bytes and answered.late_bytes):
        raise Missed(f"The proxy did not delay data in both directions within {for_s:g} s.")
    pieces = sent.late_pieces + answered.late_pieces
    return victims.effect(
        f"{victims.names}: {sent.late_bytes:,} bytes to the server and {answered.late_bytes:,} from it, in "
        f"{pieces:,} pieces, came {(sent.late_s + answered.late_s) / pieces * 1000:,.0f} ms late on average, within "
        f"{for_s:g} s."
    )
