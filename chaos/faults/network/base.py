"""What the faults of the network share: whose way they hit at, and how a slow one is seen."""

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
    """Something is done to the way between workers and server, which leads through the proxy for it."""

    aims_at: ClassVar[Aim] = "network"
    brings: ClassVar[Mapping[Brought, int]] = {"lasting": 2, "plain": 6}
    through_proxy: ClassVar[bool] = True

    workers: Workers = "all"
    """`all`, or `one` that is inside a task."""
    patience_s: float = 10.0
    """How long to wait until a worker is inside a task, and then for what is to be met on its way."""

    def heal(self, stage: Stage) -> None:
        """Every way is as it was. What was held back goes on."""
        if stage.network:
            stage.network.set_links(range(len(stage.network.listeners)), Link())


class Victims:
    """The workers in some slots: all processes and tasks that a fault on their way has met so far."""

    def __init__(self, stage: Stage, workers: Workers, patience_s: float) -> None:
        """One that is inside a task, or all when one is. Raises Missed: none is."""
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
        """Raises Missed: their way is not the proxy's."""
        if self._stage.network is None:
            raise Missed("The workers do not go through the proxy.")
        return self._stage.network

    def look(self) -> None:
        """One that was started again in its slot belongs to them too."""
        self._stage.ledger.poll()
        for worker in self._stage.workers.living():
            if self._stage.workers.slot_of(worker) in self.slots:
                self._pids.update(worker.members())
                self._tasks.update(self._stage.ledger.open_in_session(worker.sid))

    def watch(self, for_s: float) -> None:
        """Look at them until so much time has passed."""
        until_s = time.monotonic() + for_s
        while (left_s := until_s - time.monotonic()) > 0:
            self._stage.wait(min(LOOK_EVERY_S, left_s))
            self.look()

    def tallies(self) -> tuple[Tally, Tally]:
        """What has passed on their ways so far: to the server, and from it."""
        return self.network.tallies(self.slots)

    def passed_since(self, before: tuple[Tally, Tally]) -> tuple[Tally, Tally]:
        """What has passed since then."""
        sent, answered = (now - then for now, then in zip(self.tallies(), before, strict=True))
        return sent, answered

    def effect(self, evidence: str) -> Effect:
        """With all that were met."""
        return Effect(evidence=evidence, pids=tuple(sorted(self._pids)), tasks=tuple(sorted(self._tasks)))


def slow_down(stage: Stage, fault: WayFault, link: Link, for_s: float) -> Effect:
    """Gives its workers this link for that long. Raises Missed: nothing came by."""
    victims = Victims(stage, fault.workers, fault.patience_s)
    before = victims.tallies()
    victims.network.set_links(victims.slots, link)
    victims.watch(for_s)
    sent, answered = victims.passed_since(before)
    if not (sent.late_bytes and answered.late_bytes):
        raise Missed(f"Nothing came by within {for_s:g} s that could be late.")
    pieces = sent.late_pieces + answered.late_pieces
    return victims.effect(
        f"{victims.names}: {sent.late_bytes:,} bytes to the server and {answered.late_bytes:,} from it, in "
        f"{pieces:,} pieces, came {(sent.late_s + answered.late_s) / pieces * 1000:,.0f} ms late on average, within "
        f"{for_s:g} s."
    )
