"""Transitions with one planted mistake each. A search that misses one of them would miss a real mistake, too."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from support.model import model, world
from support.model.bounds import KEYED, ONCE, ONE, TWO
from support.model.model import Delivery, Entry, Lease, Letter, State, Wish
from support.model.world import Bounds, Client, Protocol


@dataclass(frozen=True, kw_only=True)
class Planted:
    """`law`: the law that the search must find broken. `protocol`: the queue with this one mistake."""

    law: str
    protocol: Protocol
    bounds: Bounds


# -- several steps instead of one atomic step --------------------------------------------------------------------------


def _moved_back(state: State, consumer: str, *, taken: bool, pushed: bool) -> State:
    """Perform half of the recovery of the consumer's newest task."""
    number, entry = state.holding(consumer)[-1]
    if taken:
        state = model._drop(state, consumer, number)
    return model._ring(model._put_back(state, entry.raised(recoveries=1)) if pushed else state)


def _dead_and_holding(state: State) -> list[str]:
    return [name for name, held in state.held.items() if held and state.leases.get(name) is Lease.ENDED]


def _takes_then_pushes(state: State) -> Iterator[tuple[str, State]]:
    for name in _dead_and_holding(state):
        says = f"a reaper takes a task out of the hash of {name}, and dies before it pushes it"
        yield says, _moved_back(state, name, taken=True, pushed=False)


def _pushes_then_takes(state: State) -> Iterator[tuple[str, State]]:
    for name in _dead_and_holding(state):
        says = f"a reaper pushes a task, and dies before it takes it out of the hash of {name}"
        yield says, _moved_back(state, name, taken=False, pushed=True)


def _fails_in_two_steps(state: State) -> Iterator[tuple[str, State]]:
    for name, held in state.held.items():
        for number, entry in held[:1]:
            says = f"{name} takes {entry.id} out of its hash to fail it, and dies before it adds it to delayed"
            yield says, model._drop(state, name, number)


def _claims_in_two_steps(state: State) -> Iterator[tuple[str, State]]:
    if state.waiting:
        first, *others = state.pending[1]
        says = f"a consumer takes {first.id} out of pending, and dies before it adds it to its hash"
        yield says, model._ring(model._with_list(state, 1, tuple(others)))


def _remembers_the_key_later(state: State) -> Iterator[tuple[str, State]]:
    """Set the key after the push: the producer dies in between."""
    for key, (_, task) in state.keys.items():
        if task in [entry.id for entry in state.waiting]:
            keys = {other: known for other, known in state.keys.items() if other != key}
            yield f"the producer had pushed {task}, and dies before it sets its key", replace(state, keys=keys)


# -- numbers and leases ------------------------------------------------------------------------------------------------


def _looks_at_no_numbers(state: State, consumer: str, *request: Any) -> Any:
    forgotten = replace(state, numbers={name: known for name, known in state.numbers.items() if name != consumer})
    after, settled = model.settle(forgotten, consumer, *request)
    return replace(after, numbers=state.numbers), settled


def _renews_without_its_numbers(state: State, consumer: str, _: int) -> State:
    return model.renew(state, consumer)


def _looks_at_no_lease(state: State, consumer: str, *request: Any) -> Any:
    known = state.leases.get(consumer)
    after, settled = model.settle(model._lease(state, consumer, Lease.LIVES), consumer, *request)
    return model._lease(after, consumer, known), settled


def _acks_whoever_holds(state: State, consumer: str, first: int, done: Sequence[int], *claim: Any) -> Any:
    for name in [name for name in state.held if done]:
        state, _ = model.settle(state, name, 0, [number for number, _ in state.holding(name)], 0)
    after, settled = model.settle(state, consumer, first, [], *claim)
    return after, settled._replace(lost=())


def _acks_the_oldest(state: State, consumer: str, first: int, done: Sequence[int], *claim: Any) -> Any:
    """Ack the oldest held deliveries, whatever their numbers are."""
    held = [number for number, _ in state.holding(consumer)]
    after, settled = model.settle(state, consumer, first, held[: len(done)], *claim)
    return after, settled._replace(lost=tuple(done[len(held) :]))


def _believes_what_is_in_flight(client: Client, held: tuple[Delivery, ...]) -> Client:
    return world._reconciled(client._replace(awaited=0), held)._replace(awaited=client.awaited)


def _compares_no_count(client: Client, lapsed: bool, holding: int) -> bool:
    return lapsed and (holding > 0 or bool(client.hand))


def _gives_the_number_again(client: Client) -> Client:
    return client._replace(unsure=True, given=max(0, client.given - 1))


def _finishes_what_it_claims(state: State, consumer: str, *request: Any) -> Any:
    state, settled = model.settle(state, consumer, *request)
    for number, _ in settled.claimed:
        state, _ = model.settle(state, consumer, 0, [number], 0)
    return state, settled


# -- recovery, retries and burials -------------------------------------------------------------------------------------


def _recovers_the_living(state: State, consumer: str, batch: int, *, is_dead: bool = False) -> Any:
    return model.recover(state, consumer, batch, is_dead=True)


def _strikes_off_who_holds(state: State, consumer: str, batch: int, *, is_dead: bool = False) -> Any:
    after, answer = model.recover(state, consumer, batch, is_dead=is_dead)
    return (after if after.lives(consumer) else model._forget(after, consumer)), answer


def _recovers_the_oldest_first(state: State, consumer: str, batch: int, *, is_dead: bool = False) -> Any:
    held = state.holding(consumer)
    turned = replace(state, held={**state.held, consumer: held[::-1]})
    after, answer = model.recover(turned, consumer, batch, is_dead=is_dead)
    return replace(after, held={**after.held, consumer: after.holding(consumer)[::-1]}), answer


def _lowered(entries: Sequence[Entry], before: State) -> tuple[Entry, ...]:
    """Return the entries with the attempts that they had before."""
    known = {entry.id: entry.attempt for held in before.held.values() for _, entry in held}
    return tuple(entry._replace(attempt=known.get(entry.id, entry.attempt)) for entry in entries)


def _raises_no_attempt(state: State, consumer: str, batch: int, *, is_dead: bool = False) -> Any:
    after, answer = model.recover(state, consumer, batch, is_dead=is_dead)
    return replace(after, pending=tuple(_lowered(entries, state) for entries in after.pending)), answer


def _counts_no_recovery(state: State, consumer: str, batch: int, *, is_dead: bool = False) -> Any:
    endless = replace(state, max_recoveries=state.max_recoveries + 1)
    after, answer = model.recover(endless, consumer, batch, is_dead=is_dead)
    return replace(after, max_recoveries=state.max_recoveries), answer


def _sets_the_attempt_back(state: State, letters: Sequence[Letter]) -> State:
    after = model.requeue(state, letters)
    ids = {letter.entry.id for letter in letters}
    pending = tuple(tuple(e._replace(attempt=1) if e.id in ids else e for e in entries) for entries in after.pending)
    return replace(after, pending=pending)


def _gives_up_without_a_reason(state: State, consumer: str, number: int, _: str) -> Any:
    return model.fail(state, consumer, number, "")


def _counts_no_retry(state: State, consumer: str, number: int, error: str) -> Any:
    after, failed = model.fail(state, consumer, number, error)
    return replace(after, delayed=frozenset(entry._replace(retries=0) for entry in after.delayed)), failed


def _retries_once_too_often(state: State, consumer: str, number: int, error: str) -> Any:
    generous = replace(state, max_retries=state.max_retries + 1)
    after, failed = model.fail(generous, consumer, number, error)
    return replace(after, max_retries=state.max_retries), failed


def _writes_the_payload_again(state: State, consumer: str, number: int, error: str) -> Any:
    after, failed = model.fail(state, consumer, number, error)
    return replace(after, delayed=frozenset(e._replace(payload=str(float(e.payload))) for e in after.delayed)), failed


def _retries_under_a_new_id(state: State, consumer: str, number: int, error: str) -> Any:
    after, failed = model.fail(state, consumer, number, error)
    return replace(after, delayed=frozenset(e._replace(id="another") for e in after.delayed)), failed


# -- order, priorities, keys -------------------------------------------------------------------------------------------


def _releases_in_the_wrong_order(state: State, consumer: str, numbers: Sequence[int]) -> Any:
    released = 0
    for number in sorted(numbers):
        state, moved = model.release(state, consumer, [number])
        released += moved
    return state, released


def _leaves_with_tasks_in_hand(state: State, consumer: str, done: Sequence[int], unbegun: Sequence[int]) -> Any:
    """Leave unbegun tasks in the hash of a consumer that is not registered any more."""
    after, (_, lost) = model.leave(state, consumer, done)
    return model._forget(after, consumer), (True, lost)


def _claims_the_newest(state: State, *request: Any) -> Any:
    turned = replace(state, pending=tuple(entries[::-1] for entries in state.pending))
    after, answer = model.settle(turned, *request)
    return replace(after, pending=tuple(entries[::-1] for entries in after.pending)), answer


def _takes_any_payload_for_a_replay(state: State, wishes: Sequence[Wish], new_ids: Sequence[str]) -> Any:
    (wish,) = wishes
    known = state.keys.get(wish.key or "")
    return model.enqueue(state, [known[0] if known else wish], new_ids)


def _promotes_nothing(state: State) -> Any:
    return replace(state, delayed=state.delayed | frozenset(state.due), due=()), 0


# -- the bell ----------------------------------------------------------------------------------------------------------


def _silently(verb: Callable[..., Any]) -> Callable[..., Any]:
    """Return the same verb without its effect on the bell."""

    def silent(state: State, *given: Any, **named: Any) -> Any:
        answer = verb(state, *given, **named)
        if isinstance(answer, State):
            return replace(answer, bell=state.bell)
        return replace(answer[0], bell=state.bell), *answer[1:]

    return silent


def _swallows_the_ring(state: State, *request: Any) -> Any:
    after, settled = model.settle(state, *request)
    return (after if settled.claimed else replace(after, bell=state.bell)), settled


_FAULTS = Bounds(consumers=2, wishes=ONE, faults=2)
_WAITS = Bounds(consumers=1, wishes=ONE, faults=2, waits=True)
_NETWORK = Bounds(consumers=1, wishes=TWO, faults=2, network=True, max_retries=0)
_LATE = Bounds(consumers=1, wishes=TWO, faults=1, network=True, **ONCE)
_STAYS = Bounds(consumers=1, wishes=TWO, faults=1, network=True, leaves=False, **ONCE)
_ORDER = Bounds(consumers=1, wishes=TWO, faults=1, hand=2)
_KEYS = Bounds(consumers=1, wishes=KEYED[:1] + KEYED[2:], faults=2)
_LAST = Bounds(consumers=2, wishes=ONE, faults=2, **ONCE)

PLANTED_WITHIN = {
    "faults": _FAULTS,
    "waits": _WAITS,
    "network": _NETWORK,
    "late": _LATE,
    "stays": _STAYS,
    "order": _ORDER,
    "keys": _KEYS,
    "last": _LAST,
}


def _planted(law: str, bounds: Bounds = _FAULTS, **verb: Any) -> Planted:
    return Planted(law=law, protocol=Protocol(**verb), bounds=bounds)


PLANTED: dict[str, Planted] = {
    "recovery takes a task out and pushes it in two steps": _planted("I1", half_done=_takes_then_pushes),
    "recovery pushes a task and takes it out in two steps": _planted("I1", half_done=_pushes_then_takes),
    "a claim takes a task out and adds it to a hash in two steps": _planted("I1", half_done=_claims_in_two_steps),
    "a failed task is moved to delayed in two steps": _planted("I1", half_done=_fails_in_two_steps),
    "a repeated claim is not refused": _planted("I1", _LATE, settle=_looks_at_no_numbers),
    "a task is finished when it is claimed": _planted("I2", settle=_finishes_what_it_claims),
    "a task is given up without a reason": _planted("I2", _LAST, fail=_gives_up_without_a_reason),
    "a renewal lets repeated claims of before a recovery in": _planted(
        "I3", _NETWORK, renew=_renews_without_its_numbers
    ),
    "an ack does not ask who holds the task": _planted("I3", settle=_acks_whoever_holds),
    "an ack removes whatever its consumer holds": _planted("I3", _LATE, settle=_acks_the_oldest),
    "recovery does not look at the lease": _planted("I3", recover=_recovers_the_living),
    "recovery does not raise the attempt": _planted("I3", recover=_raises_no_attempt),
    "a requeue sets the attempt back": _planted("I3", _LAST, requeue=_sets_the_attempt_back),
    "reconciling believes what is in flight": _planted("I3", _WAITS, reconciled=_believes_what_is_in_flight),
    "a claim does not look at the lease": _planted("I4", settle=_looks_at_no_lease),
    "recovery removes a consumer that still holds tasks": _planted("I4", _ORDER, recover=_strikes_off_who_holds),
    "a consumer leaves with tasks in hand": _planted("I4", leave=_leaves_with_tasks_in_hand),
    "what a leaving consumer gives back does not ring": _planted("Liveness", leave=_silently(model.leave)),
    "a retry is not counted": _planted("I5", fail=_counts_no_retry),
    "a task is retried once too often": _planted("I5", fail=_retries_once_too_often),
    "a task is recovered once too often": _planted("I5", _LAST, recover=_counts_no_recovery),
    "a retry writes the payload again": _planted("I6", fail=_writes_the_payload_again),
    "a retry gets a new id": _planted("I6", fail=_retries_under_a_new_id),
    "what is given back is turned round": _planted("I7", _ORDER, release=_releases_in_the_wrong_order),
    "recovery begins with the oldest": _planted("I7", _ORDER, recover=_recovers_the_oldest_first),
    "the newest task is claimed first": _planted("I7", _ORDER, settle=_claims_the_newest),
    "an idempotency key is set in a step of its own": _planted("I8", _KEYS, half_done=_remembers_the_key_later),
    "a key's payload is not compared": _planted("I8", _KEYS, enqueue=_takes_any_payload_for_a_replay),
    "what is due is not promoted": _planted("Liveness", promote=_promotes_nothing),
    "a renewal does not compare how much is held": _planted("Liveness", _STAYS, has_to_read=_compares_no_count),
    "a number is given again after a lost reply": _planted("Liveness", _LATE, given_up=_gives_the_number_again),
    "recovery does not ring": _planted("Liveness", recover=_silently(model.recover)),
    "a promotion does not ring": _planted("Liveness", promote=_silently(model.promote)),
    "what is given back does not ring": _planted("Liveness", release=_silently(model.release)),
    "a requeue does not ring": _planted("Liveness", _LAST, requeue=_silently(model.requeue)),
    "a claim that finds no lease swallows the ring": _planted("Liveness", _WAITS, settle=_swallows_the_ring),
}
