"""Mutants that claim, ack or give back wrongly."""

from typing import Any

from zeroloss.reference.queue import consumer
from zeroloss.reference.queue.consumer import Consumer
from zeroloss.reference.worker.claimer import Claimer
from zeroloss.reference.worker.delivery import Delivery
from zeroloss.reference.worker.process import HandlerThread

from .mutant import OVERTAKEN, UNEXPLAINED, mutant
from .patching import edit, patch
from .profiles import BACKLOG, HANDLERS, KILLS, SIGTERM, STALL_BUSY, ZOMBIE


def _trust_nothing_but_the_hand(claimer: Any) -> None:
    claimer._unsure = False


@mutant(expects="LOST", breaks="I1", profile=KILLS)
def plain_brpop() -> None:
    """A task leaves Redis when it is claimed, and is only in its worker's memory from then on."""
    push = "redis.call('LPUSH', KEYS[1], unpack(claimed, first, math.min(first + 999, #claimed)))"
    edit(consumer, "_SETTLE", push, "")

    def claim_waiting(self: Any, timeout_ms: int) -> Any:
        popped = self._client.brpop([self._keys.pending], timeout_ms / 1000)
        return popped and popped[1]

    patch(Consumer, "claim_waiting", claim_waiting)
    patch(Claimer, "_reconcile", _trust_nothing_but_the_hand)  # there is no list to compare it with


@mutant(expects=OVERTAKEN, breaks="I7", profile=BACKLOG)
def newest_first() -> None:
    """The newest task is claimed first, so that an old one waits until there is no other."""
    edit(
        consumer,
        "_SETTLE",
        "-math.min(#claimed + 32, limit), -#claimed - 1",
        "#claimed, math.min(#claimed + 32, limit) - 1",
    )
    edit(consumer, "_SETTLE", "for i = #waiting, 1, -1 do", "for i = 1, #waiting do")
    edit(consumer, "_SETTLE", "KEYS[2], 0, -#claimed - 1", "KEYS[2], #claimed, -1")


@mutant(expects="LOST", breaks="I2", profile=KILLS)
def ack_before_the_handler() -> None:
    """A task is acked when its handler is about to be called."""

    def handle(self: Any, delivery: Delivery) -> Any:
        self._claimer._consumer.settle([delivery.element], 0)
        return original(self, delivery)

    original = patch(HandlerThread, "_outcome", handle)


@mutant(expects="LOST", breaks="I2", profile=HANDLERS)
def ack_in_finally() -> None:
    """A task is acked when its handler is through, even if it raised."""

    def handle(self: Any, delivery: Delivery) -> None:
        original(self, delivery)

    original = patch(HandlerThread, "_outcome", handle)


@mutant(expects=("NEEDS_RESTART", "STUCK"), breaks="I1", profile=STALL_BUSY)
def no_reconciliation() -> None:
    """After a lost reply the worker does not look into its own list for what the lost claim has moved there."""
    patch(Claimer, "_reconcile", _trust_nothing_but_the_hand)


@mutant(expects=UNEXPLAINED, breaks="I3", profile=ZOMBIE)
def zombie_honoured() -> None:
    """What a worker says about a task that was taken from it is believed: it is retried beside its successor."""
    for script in ("_RETRY", "_DEAD_LETTER"):
        edit(consumer, script, "if not redis.call('LPOS', KEYS[1], ARGV[1], 'RANK', -1) then return 0 end", "")

    def take_back(self: Any, delivery: Delivery) -> None:
        if delivery.seconds is not None:
            self._hand.add(delivery)
        take_back_its_own(self, delivery)

    def reconcile(self: Any) -> None:
        finished, failed = self._finished, self._failed
        reconcile_all(self)
        self._finished, self._failed = finished, failed

    take_back_its_own = patch(Claimer, "_take_back", take_back)
    reconcile_all = patch(Claimer, "_reconcile", reconcile)


@mutant(expects="LOST", breaks="I1", profile=SIGTERM)
def drain_drops() -> None:
    """A worker that is asked to end removes what it had claimed and not begun, in place of giving it back."""

    def give_back(self: Any) -> None:
        if self._stopping:
            idle = self._withdraw() + self._surplus
            self._consumer.settle([delivery.element for delivery in idle], 0)
            self._surplus = []
            self._hand.difference_update(idle)
        original(self)

    original = patch(Claimer, "_give_back", give_back)
