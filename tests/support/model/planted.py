"""Deliberately wrong transitions, each wrong in one way. A search that does not find one would miss a real mistake."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from support.model import model
from support.model.bounds import KEYED, ONE, TWO
from support.model.model import Entry, Lease, State
from support.model.world import Bounds, Protocol


@dataclass(frozen=True, kw_only=True)
class Planted:
    """`law`: what the search has to find broken. `protocol`: the queue with this one mistake."""

    law: str
    protocol: Protocol
    bounds: Bounds


def _moved_back(state: State, consumer: str, *, taken: bool, pushed: bool) -> State:
    """Half of a recovery of several steps: its oldest task."""
    entry = state.holding(consumer)[0]
    if taken:
        state = model._take(state, consumer, entry)
    if pushed:
        found = replace(entry, recovered_count=entry.recovered_count + 1)
        state = replace(state, pending=(found, *state.pending))
    return state


def _dead_and_holding(state: State) -> list[str]:
    return [name for name, held in state.held.items() if held and state.leases.get(name) in (Lease.ENDED, Lease.OLD)]


def _takes_then_pushes(state: State) -> Iterator[tuple[str, State]]:
    for name in _dead_and_holding(state):
        says = f"a reaper takes {state.holding(name)[0].id} out of the list of {name}, and dies before it pushes it"
        yield says, _moved_back(state, name, taken=True, pushed=False)


def _pushes_then_takes(state: State) -> Iterator[tuple[str, State]]:
    for name in _dead_and_holding(state):
        says = f"a reaper pushes {state.holding(name)[0].id}, and dies before it takes it out of the list of {name}"
        yield says, _moved_back(state, name, taken=False, pushed=True)


def _fails_in_two_steps(state: State) -> Iterator[tuple[str, State]]:
    for name, held in state.held.items():
        for entry in held[:1]:
            says = f"{name} takes {entry.id} out of its list to fail it, and dies before it adds it to delayed"
            yield says, model._take(state, name, entry)


def _claims_in_two_steps(state: State) -> Iterator[tuple[str, State]]:
    if state.pending:
        says = f"a consumer takes {state.pending[0].id} out of pending, and dies before it adds it to its list"
        yield says, replace(state, pending=state.pending[1:])


def _finishes_what_it_claims(state: State, consumer: str, done: Sequence[Entry], limit: int) -> Any:
    state, (lost, claimed) = model.settle(state, consumer, [], limit)
    for entry in claimed:
        state, _ = model.settle(state, consumer, [entry], 0)
    return state, (lost, claimed)


def _gives_up_without_a_reason(state: State, consumer: str, entry: Entry, _: str) -> Any:
    return model.fail(state, consumer, entry, "")


def _acks_by_id(state: State, consumer: str, done: Sequence[Entry], limit: int) -> Any:
    """Whatever its bytes and whoever holds it."""
    for entry in done:
        for name, held in state.held.items():
            for same in [other for other in held if other.id == entry.id]:
                state, _ = model.settle(state, name, [same], 0)
    state, (_, claimed) = model.settle(state, consumer, [], limit)
    return state, ([], claimed)


def _recovers_the_living(state: State, consumer: str) -> Any:
    lease = state.leases.get(consumer)
    after, moved = model.recover(model.expire(state, consumer), consumer)
    return model._lease(after, consumer, lease), moved


def _recovers_the_same_bytes(state: State, consumer: str) -> Any:
    entries = state.holding(consumer)
    after, moved = model.recover(state, consumer)
    if not moved:
        return state, 0
    return replace(after, pending=(*entries, *state.pending), dead=state.dead), moved


def _adopts_nothing(state: State) -> Any:
    kept = {name: lease for name, lease in state.leases.items() if lease is not Lease.OLD or state.holding(name)}
    return replace(state, leases=kept), 0


def _forgets_at_once(state: State, consumer: str) -> State:
    after = model.expire(state, consumer)
    return after if state.holding(consumer) else model._lease(after, consumer, None)


def _counts_no_retry(state: State, consumer: str, entry: Entry, error: str) -> Any:
    after, failed = model.fail(state, consumer, entry, error)
    delayed = frozenset(replace(e, retry_count=entry.retry_count) if e.id == entry.id else e for e in after.delayed)
    return replace(after, delayed=delayed), failed


def _retries_once_too_often(state: State, consumer: str, entry: Entry, error: str) -> Any:
    generous = replace(state, max_retries=state.max_retries + 1)
    after, failed = model.fail(generous, consumer, entry, error)
    return replace(after, max_retries=state.max_retries), failed


def _writes_the_payload_again(state: State, consumer: str, entry: Entry, error: str) -> Any:
    after, failed = model.fail(state, consumer, entry, error)
    return replace(after, delayed=frozenset(replace(e, payload=str(float(e.payload))) for e in after.delayed)), failed


def _retries_under_a_new_id(state: State, consumer: str, entry: Entry, error: str) -> Any:
    after, failed = model.fail(state, consumer, entry, error)
    return replace(after, delayed=frozenset(replace(e, id="another") for e in after.delayed)), failed


def _releases_to_the_wrong_end(state: State, consumer: str, entries: Sequence[Entry]) -> Any:
    after, released = model.release(state, consumer, entries)
    return replace(after, pending=(*after.pending[released:], *after.pending[:released])), released


def _claims_the_newest(state: State, consumer: str, done: Sequence[Entry], limit: int) -> Any:
    turned = replace(state, pending=state.pending[::-1])
    after, answer = model.settle(turned, consumer, done, limit)
    return replace(after, pending=after.pending[::-1]), answer


def _remembers_the_key_later(state: State) -> Iterator[tuple[str, State]]:
    """The key is set after the push; who should have set it died."""
    for key, entry in state.keys.items():
        if entry in state.pending:
            keys = {other: known for other, known in state.keys.items() if other != key}
            yield f"the producer had pushed {entry.id}, and dies before it sets its key", replace(state, keys=keys)


def _takes_any_payload_for_a_replay(state: State, wishes: Sequence[model.Wish], new_ids: Sequence[str]) -> Any:
    ((payload, key),) = wishes
    known = state.keys.get(key or "")
    return model.enqueue(state, [(known.payload if known else payload, key)], new_ids)


def _promotes_nothing(state: State) -> Any:
    return replace(state, delayed=state.delayed | frozenset(state.due), due=()), 0


_FAULTS = Bounds(consumers=2, wishes=ONE, faults=2)
_ORDER = Bounds(consumers=1, wishes=TWO, faults=0, hand=2)
_KEYS = Bounds(consumers=1, wishes=KEYED[:1] + KEYED[2:], faults=2)

PLANTED_WITHIN = {"faults": _FAULTS, "order": _ORDER, "keys": _KEYS}


def _planted(law: str, bounds: Bounds = _FAULTS, **verb: Any) -> Planted:
    return Planted(law=law, protocol=Protocol(**verb), bounds=bounds)


PLANTED: dict[str, Planted] = {
    "recovery takes a task out and pushes it in two steps": _planted("I1", half_done=_takes_then_pushes),
    "recovery pushes a task and takes it out in two steps": _planted("I1", half_done=_pushes_then_takes),
    "a claim takes a task out and adds it to a list in two steps": _planted("I1", half_done=_claims_in_two_steps),
    "a failed task is moved to delayed in two steps": _planted("I1", half_done=_fails_in_two_steps),
    "a task is finished when it is claimed": _planted("I2", settle=_finishes_what_it_claims),
    "a task is given up without a reason": _planted("I2", fail=_gives_up_without_a_reason),
    "anybody can ack a task by its id": _planted("I3", settle=_acks_by_id),
    "recovery does not look at the lease": _planted("I3", recover=_recovers_the_living),
    "recovery leaves the bytes as they were": _planted("I3", recover=_recovers_the_same_bytes),
    "a list that no entry names is not adopted": _planted("I4", adopt=_adopts_nothing),
    "a tombstone is forgotten at once": _planted("I4", expire=_forgets_at_once),
    "a retry is not counted": _planted("I5", fail=_counts_no_retry),
    "a task is retried once too often": _planted("I5", fail=_retries_once_too_often),
    "a retry writes the payload again": _planted("I6", fail=_writes_the_payload_again),
    "a retry gets a new id": _planted("I6", fail=_retries_under_a_new_id),
    "what is given back goes to the wrong end": _planted("I7", _ORDER, release=_releases_to_the_wrong_end),
    "the newest task is claimed first": _planted("I7", _ORDER, settle=_claims_the_newest),
    "an idempotency key is set in a step of its own": _planted("I8", _KEYS, half_done=_remembers_the_key_later),
    "a key's payload is not compared": _planted("I8", _KEYS, enqueue=_takes_any_payload_for_a_replay),
    "what is due is not promoted": _planted("Liveness", promote=_promotes_nothing),
}
