"""Mutants that claim, ack or give back wrongly."""

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from zeroloss.reference.queue import consumer
from zeroloss.reference.queue.consumer import Consumer
from zeroloss.reference.queue.consuming.registry import Departure, Renewal
from zeroloss.reference.queue.consuming.settling import Settlement
from zeroloss.reference.queue.errors import LeaseLost
from zeroloss.reference.queue.task import Task
from zeroloss.reference.worker.claimer import Claimer
from zeroloss.reference.worker.delivery import Delivery, State
from zeroloss.reference.worker.process import HandlerThread

from .mutant import OVERTAKEN, UNEXPLAINED, mutant
from .patching import edit, patch
from .profiles import ASLEEP, BACKLOG, DEFAULT, HANDLERS, KILLS, SIGTERM, STALL_BUSY, ZOMBIE

LOOKS_AGAIN = "A waiting worker looks again when its wait ends, and new tasks ring."


def _trust_nothing_but_the_hand(claimer: Any) -> None:
    claimer._unsure = False


@mutant(expects="LOST", breaks="I1", profile=KILLS)
def plain_brpop() -> None:
    """A task leaves Redis when it is claimed, and is only in its worker's memory from then on."""
    held = "redis.call('HSET', KEYS[5], unpack(fields, from, math.min(from + 999, 2 * count)))"
    edit(consumer, "SETTLE", held, "")
    patch(Claimer, "_reconcile", _trust_nothing_but_the_hand)  # there is no hash to compare it with


@mutant(expects=OVERTAKEN, breaks="I7", profile=BACKLOG)
def newest_first() -> None:
    """The newest task is claimed first, so that an old one waits until there is no other."""
    edit(
        consumer,
        "SETTLE",
        "-math.min(had + 16, had + limit - count), -had - 1",
        "had, had",
    )
    edit(consumer, "SETTLE", "KEYS[i + 1], 0, -taken[i] - 1", "KEYS[i + 1], taken[i], -1")


@mutant(expects="LOST", breaks="I2", profile=KILLS)
def ack_before_the_handler() -> None:
    """A task is acked immediately before its handler is called."""

    def handle(self: Any, delivery: Delivery) -> Any:
        self._claimer._consumer.settle([delivery.number], 0)
        return original(self, delivery)

    original = patch(HandlerThread, "_outcome", handle)


@mutant(expects="LOST", breaks="I2", profile=HANDLERS)
def ack_in_finally() -> None:
    """A task is acked when its handler ends, even if the handler raised."""

    def handle(self: Any, delivery: Delivery) -> None:
        original(self, delivery)

    original = patch(HandlerThread, "_outcome", handle)


@mutant(expects=("NEEDS_RESTART", "STUCK"), breaks="I1", profile=STALL_BUSY)
def no_reconciliation() -> None:
    """After a lost reply the worker does not check in Redis which tasks the lost claim gave it."""
    patch(Claimer, "_reconcile", _trust_nothing_but_the_hand)


@mutant(expects=UNEXPLAINED, breaks="I3", profile=ZOMBIE)
def zombie_honoured() -> None:
    """The failure report of a worker that lost the task is accepted: a retry runs beside the recovered task."""

    def fail(self: Any, task: Task, *arguments: Any) -> Any:
        try:
            return fail_its_own(self, task, *arguments)
        except LeaseLost:
            self._client.zadd(self._keys.delayed, {task.entry: 0})
            return True

    def take_back(self: Any, delivery: Delivery) -> None:
        if delivery.seconds is not None:
            delivery.state = State.OUT
        take_back_its_own(self, delivery)

    def reconcile(self: Any) -> None:
        settled = {delivery: delivery.state for delivery in self._hand.having(State.DONE, State.FAILED)}
        reconcile_all(self)
        for delivery, state in settled.items():
            delivery.state = state
            self._hand.take(delivery)

    fail_its_own = patch(Consumer, "fail", fail)
    take_back_its_own = patch(Claimer, "_take_back", take_back)
    reconcile_all = patch(Claimer, "_reconcile", reconcile)


@mutant(expects="LOST", breaks="I1", profile=SIGTERM)
def drain_drops() -> None:
    """A worker that shuts down deletes the tasks that it claimed but did not begin, instead of giving them back."""

    def give_back(self: Any) -> None:
        if self._stopping:
            self._hand.withdraw()
            idle = self._surplus()
            self._consumer.settle([delivery.number for delivery in idle], 0)
            self._hand.drop(idle)
        give_all_back(self)

    def leave(self: Any, done: Iterable[int], unbegun: Iterable[int]) -> Departure:
        departure: Departure = leave_in_order(self, [*done, *unbegun])
        return departure

    give_all_back = patch(Claimer, "_give_back", give_back)
    leave_in_order = patch(Consumer, "leave", leave)


@mutant(expects=("STUCK", "NEEDS_RESTART"), breaks="I4", profile=ASLEEP)
def claim_without_a_lease() -> None:
    """A claim hands out tasks to a worker whose lease has ended, and which recovery may have forgotten."""
    edit(consumer, "SETTLE", "if not lives or limit > 0 and", "if limit > 0 and")


@mutant(breaks="I1", profile=DEFAULT, blind_spot="Nothing in a run repeats a command on its way.")
def repeated_claim_overwrites() -> None:
    """A repeated claim is executed under the same numbers: its second task overwrites the first."""
    mark = "or limit > 0 and number <= tonumber(redis.call('HGET', KEYS[7], ARGV[1]) or 0)"
    edit(consumer, "SETTLE", mark, "")


@mutant(expects=("NEEDS_RESTART", "STUCK", "NEEDS_TRAFFIC"), breaks="I1", profile=STALL_BUSY)
def numbers_used_again() -> None:
    """After a lost reply a worker claims under the same number again, which Redis refuses forever."""

    def reserve(self: Any, _count: int) -> int:
        return int(self._given) + 1

    def settled(self: Any, number: int, reply: Any) -> Settlement:
        settlement: Settlement = settled_as_told(self, number, reply)
        self._given = max(self._given, number + len(settlement.claimed) - 1)
        return settlement

    patch(Consumer, "reserve", reserve)
    settled_as_told = patch(Consumer, "_settled", settled)


@mutant(breaks="I3", profile=DEFAULT, blind_spot="A reply is seldom under way just when what is held is read.")
def number_in_flight_believed() -> None:
    """A task that a blocking claim received is run when it is seen in Redis, and again when the reply arrives."""

    def reconcile(self: Any) -> None:
        awaited, self._awaited = self._awaited, None
        original(self)
        self._awaited = awaited

    original = patch(Claimer, "_reconcile", reconcile)


@mutant(breaks="I1", profile=DEFAULT, blind_spot="A command is seldom so late that what it claims comes after a look.")
def renewal_does_not_count() -> None:
    """A lease renewal does not compare the number of tasks held in Redis with the number that the worker knows."""

    class Right(int):
        def __ne__(self, _other: object) -> bool:
            return False

    def renew(self: Any, *report: Any) -> Renewal:
        renewal: Renewal = original(self, *report)
        return replace(renewal, holding=Right(renewal.holding))

    original = patch(Consumer, "renew", renew)


@mutant(breaks="I4", profile=DEFAULT, blind_spot=LOOKS_AGAIN)
def bell_swallowed() -> None:
    """A waiting worker whose lease has ended consumes the bell, though it claims nothing."""
    edit(consumer, "SETTLE", "ring()\nreturn {lives", "if lives then ring() end\nreturn {lives")


@mutant(breaks="I4", profile=DEFAULT, blind_spot=LOOKS_AGAIN)
def release_does_not_ring() -> None:
    """Tasks that a worker gives back do not ring the bell."""
    edit(consumer, "_RELEASE", "ring()\nreturn released", "return released")
    edit(consumer, "LEAVE", "ring()\nreturn", "return")


@mutant(breaks="I7", profile=DEFAULT, blind_spot="Only what is accepted by one call is held to its priority.")
def low_priority_starves() -> None:
    """A low-priority task is never claimed while tasks of other priorities are pending."""
    edit(consumer, "SETTLE", "turn == 0 and 3 or turn == 8 and 2 or 1", "1")
