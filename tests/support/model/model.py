"""A model of the queue as a plain Python value: every verb of the protocol, without Redis.

A `State` is immutable. Each verb takes a state and returns the next one, together with its answer if it has one. Each
verb stands for one script, so other processes see the bell only as the verb leaves it.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import NamedTuple

from zeroloss.reference.queue.consuming.settling import TURNS
from zeroloss.reference.queue.task import PRIORITIES, Task

LISTS = tuple(PRIORITIES)  # in claim order


class Entry(NamedTuple):
    """One task in the queue, with the counts of its header.

    `payload` is JSON text: two texts of one value are different payloads (I6).
    """

    id: str
    payload: str
    attempt: int = 1
    retries: int = 0
    recoveries: int = 0
    priority: str = "default"

    @classmethod
    def of(cls, task: Task) -> "Entry":
        payload = bytes(task.raw_payload).decode()
        return cls(task.id, payload, task.attempt, task.retries, task.recoveries, task.priority)

    def raised(self, *, retries: int = 0, recoveries: int = 0) -> "Entry":
        """Return the entry after a retry, a recovery or dead-lettering: the attempt grows by one."""
        return self._replace(
            attempt=self.attempt + 1, retries=self.retries + retries, recoveries=self.recoveries + recoveries
        )


class Delivery(NamedTuple):
    """An entry in a consumer's hash and its number there. The number proves ownership (I3)."""

    number: int
    entry: Entry


class Letter(NamedTuple):
    entry: Entry
    reason: str
    error: str


class Settled(NamedTuple):
    lives: bool
    lost: tuple[int, ...]
    claimed: tuple[Delivery, ...]


class Wish(NamedTuple):
    """A task that a producer submits; `payload` is JSON text."""

    payload: str
    key: str | None = None
    priority: str = "default"
    later: bool = False  # with a delay


class Lease(Enum):
    LIVES = "lives"
    ENDED = "ended"


@dataclass(frozen=True)
class State:
    max_pending: int
    max_scheduled: int
    max_retries: int
    max_recoveries: int
    pending: tuple[tuple[Entry, ...], ...] = ((), (), ())  # for each priority, in claim order
    bell: bool = False  # whether it rings
    held: Mapping[str, tuple[Delivery, ...]] = field(default_factory=dict)  # consumer -> deliveries, by number
    numbers: Mapping[str, int] = field(default_factory=dict)  # consumer -> highest number given
    leases: Mapping[str, Lease] = field(default_factory=dict)
    delayed: frozenset[Entry] = frozenset()
    due: tuple[Entry, ...] = ()  # due, but still in delayed
    dead: tuple[Letter, ...] = ()  # newest first
    finished: frozenset[str] = frozenset()
    keys: Mapping[str, tuple[Wish, str]] = field(default_factory=dict)  # idempotency key -> request and task id
    counters: Mapping[str, int] = field(default_factory=dict)

    def lives(self, consumer: str) -> bool:
        return self.leases.get(consumer) is Lease.LIVES

    def holding(self, consumer: str) -> tuple[Delivery, ...]:
        return self.held.get(consumer, ())

    def entry(self, consumer: str, number: int) -> Entry | None:
        return dict(self.holding(consumer)).get(number)

    @property
    def waiting(self) -> tuple[Entry, ...]:
        """The pending tasks of all priorities, in claim order."""
        high, default, low = self.pending
        return high + default + low


def enqueue(state: State, wishes: Sequence[Wish], new_ids: Sequence[str]) -> tuple[State, list[str | None] | None]:
    """Enqueue all wishes or none. Return an id for each, None for a conflict; None as a whole if the queue is full."""
    keys, now, later, answers = dict(state.keys), [], [], []
    for wish, new_id in zip(wishes, new_ids, strict=True):
        known = keys.get(wish.key) if wish.key else None
        if known is None:
            known = wish, new_id
            (later if wish.later else now).append(Entry(new_id, wish.payload, priority=wish.priority))
            if wish.key:
                keys[wish.key] = known
        answers.append(known[1] if known[0] == wish else None)
    if now and len(state.waiting) + len(now) > state.max_pending:
        return state, None
    if later and len(state.delayed) + len(state.due) + len(later) > state.max_scheduled:
        return state, None
    state = replace(_count(state, enqueued=len(now) + len(later)), keys=keys, delayed=state.delayed.union(later))
    return _ring(_append(state, now)), answers


def push(state: State, entry: Entry) -> State:
    """Push a bare JSON object, as a client does that does not maintain the bell, the counters and the header."""
    return _append(state, [entry])


def settle(
    state: State, consumer: str, first: int, done: Sequence[int], limit: int, turn: int = 1
) -> tuple[State, Settled]:
    """Ack and claim. An ack requires the delivery's number; a claim requires a live lease and higher numbers."""
    state, lost = _ack(state, consumer, done)
    lives = state.lives(consumer)
    if not lives or first <= state.numbers.get(consumer, 0):
        limit = 0
    state, claimed = _take(state, consumer, first, limit, turn)
    return _ring(state), Settled(lives, lost, claimed)


def _take(state: State, consumer: str, first: int, limit: int, turn: int) -> tuple[State, tuple[Delivery, ...]]:
    """Claim up to `limit` tasks for a consumer, without checks."""
    pending, claimed = list(state.pending), []
    for number in range(first, first + limit):
        begins = {0: 2, TURNS // 2: 1}.get((turn + len(claimed)) % TURNS, 0)
        filled = [place for place in (begins, 0, 1, 2) if pending[place]]
        if not filled:
            break
        entry, *others = pending[filled[0]]
        pending[filled[0]] = tuple(others)
        claimed.append(Delivery(number, entry))
    if not claimed:
        return state, ()
    held = {**dict(state.holding(consumer)), **dict(claimed)}
    return replace(
        state,
        pending=tuple(pending),
        held={**state.held, consumer: tuple(Delivery(number, held[number]) for number in sorted(held))},
        numbers={**state.numbers, consumer: claimed[-1].number},
    ), tuple(claimed)


def take_bell(state: State) -> State:
    """Take the bell, as a waiting consumer's BLPOP does before its claim. Steps in between keep the bell correct."""
    return replace(state, bell=False)


def fail(state: State, consumer: str, number: int, error: str) -> tuple[State, bool]:
    """Move a failed task to delayed, or to dead_letter when its retries are used up. Return whether it was held."""
    entry = state.entry(consumer, number)
    if not entry:
        return state, False
    failed = entry.raised(retries=1)
    state = _count(_drop(state, consumer, number), failed=1)
    if failed.retries > state.max_retries:
        return _bury(state, Letter(failed, "failed", error)), True
    return replace(_count(state, retried=1), delayed=state.delayed | {failed}), True


def dead_letter(state: State, consumer: str, number: int, error: str) -> tuple[State, bool]:
    entry = state.entry(consumer, number)
    if not entry:
        return state, False
    return _bury(_drop(state, consumer, number), Letter(entry.raised(), "not_runnable", error)), True


def release(state: State, consumer: str, numbers: Iterable[int]) -> tuple[State, int]:
    """Give tasks back to the claiming end, in order. Return how many were held."""
    released = 0
    for number in sorted(numbers, reverse=True):
        entry = state.entry(consumer, number)
        if entry:
            state = _put_back(_drop(state, consumer, number), entry)
            released += 1
    return _ring(state), released


def renew(state: State, consumer: str, given: int = 0) -> State:
    """Renew a lease. `given`: the highest number that the consumer has sent in a claim.

    Recovery deletes the record of given numbers; `given` restores it, so a late request from before is refused.
    """
    if given and consumer not in state.leases:
        state = replace(state, numbers={**state.numbers, consumer: given})
    return _lease(state, consumer, Lease.LIVES)


def leave(
    state: State, consumer: str, done: Sequence[int] = (), unbegun: Sequence[int] = ()
) -> tuple[State, tuple[bool, tuple[int, ...]]]:
    """Ack `done`, give back `unbegun`, and leave. Return whether the consumer left, and the `done` it did not hold."""
    state, lost = _ack(state, consumer, done)
    state, _ = release(state, consumer, unbegun)
    if state.holding(consumer):
        return _lease(state, consumer, Lease.ENDED), (False, lost)
    return _forget(state, consumer), (True, lost)


def expire(state: State, consumer: str) -> State:
    return _lease(state, consumer, Lease.ENDED) if state.lives(consumer) else state


def recover(state: State, consumer: str, batch: int, *, is_dead: bool = False) -> tuple[State, tuple[int, int]]:
    """Recover up to `batch` tasks of a consumer by one script. Return how many were moved, and how many are left.

    Tasks go to the claiming end, or to dead_letter when their recoveries are used up. A live lease prevents any move.
    """
    if is_dead:
        state = expire(state, consumer)
    if state.lives(consumer):
        return state, (0, len(state.holding(consumer)))
    moved = state.holding(consumer)[::-1][:batch]
    for number, entry in moved:
        state = _drop(state, consumer, number)
        found = entry.raised(recoveries=1)
        if found.recoveries > state.max_recoveries:
            error = f"Its worker vanished {found.recoveries} times, the last was {consumer}."
            state = _bury(state, Letter(found, "vanished", error))
        else:
            state = _put_back(_count(state, recovered=1), found)
    left = len(state.holding(consumer))
    return _ring(state if left else _forget(state, consumer)), (len(moved), left)


def falls_due(state: State, entry: Entry) -> State:
    return replace(state, delayed=state.delayed - {entry}, due=(*state.due, entry))


def promote(state: State) -> tuple[State, int]:
    after = replace(_append(state, state.due), due=())
    return (_ring(after) if state.due else after), len(state.due)


def adopt(state: State) -> tuple[State, int]:
    """Register the consumers of hashes without a registry entry. Return how many there were."""
    orphans = [consumer for consumer, held in state.held.items() if held and consumer not in state.leases]
    for consumer in orphans:
        state = _lease(state, consumer, Lease.LIVES)
    return state, len(orphans)


def lose_entry(state: State, consumer: str) -> State:
    """Remove a registry entry, as an operator or a partial copy of the keys may; the queue itself never does."""
    return _lease(state, consumer, None)


def requeue(state: State, letters: Iterable[Letter]) -> State:
    """Move dead letters to the end of the queue, with retries and recoveries reset; the attempt is kept."""
    for letter in letters:
        again = letter.entry._replace(retries=0, recoveries=0)
        state = _append(replace(state, dead=_without(state.dead, letter)), [again])
    return _ring(state)


def purge(state: State, letters: Iterable[Letter]) -> State:
    """Delete dead letters, as an operator does on purpose: no law covers them afterwards."""
    for letter in letters:
        state = replace(state, dead=_without(state.dead, letter))
    return state


def _ack(state: State, consumer: str, done: Sequence[int]) -> tuple[State, tuple[int, ...]]:
    """Remove finished deliveries. Return the numbers that were not held."""
    lost = []
    for number in done:
        entry = state.entry(consumer, number)
        if entry:
            state = _drop(state, consumer, number)
            state = replace(_count(state, completed=1), finished=state.finished | {entry.id})
        else:
            lost.append(number)
    return state, tuple(lost)


def _ring(state: State) -> State:
    """Make the bell ring if and only if a task is pending."""
    rings = bool(state.waiting)
    return state if state.bell == rings else replace(state, bell=rings)


def _put_back(state: State, entry: Entry) -> State:
    """Add an entry to the claiming end of its list."""
    place = LISTS.index(entry.priority)
    return _with_list(state, place, (entry, *state.pending[place]))


def _forget(state: State, consumer: str) -> State:
    """Remove a consumer and the record of its numbers from the registry."""
    numbers = {name: number for name, number in state.numbers.items() if name != consumer}
    return replace(_lease(state, consumer, None), numbers=numbers)


def _append(state: State, entries: Iterable[Entry]) -> State:
    for entry in entries:
        place = LISTS.index(entry.priority)
        state = _with_list(state, place, (*state.pending[place], entry))
    return state


def _with_list(state: State, place: int, entries: tuple[Entry, ...]) -> State:
    return replace(state, pending=(*state.pending[:place], entries, *state.pending[place + 1 :]))


def _drop(state: State, consumer: str, number: int) -> State:
    held = tuple(delivery for delivery in state.holding(consumer) if delivery.number != number)
    return replace(state, held={**state.held, consumer: held})


def _bury(state: State, letter: Letter) -> State:
    return replace(_count(state, dead_lettered=1), dead=(letter, *state.dead))


def _lease(state: State, consumer: str, lease: Lease | None) -> State:
    leases = {name: known for name, known in state.leases.items() if name != consumer}
    return replace(state, leases=leases if lease is None else {**leases, consumer: lease})


def _count(state: State, **added: int) -> State:
    counters = dict(state.counters)
    for name, number in added.items():
        if number:
            counters[name] = counters.get(name, 0) + number
    return replace(state, counters=counters)


def _without(letters: tuple[Letter, ...], letter: Letter) -> tuple[Letter, ...]:
    position = letters.index(letter)
    return letters[:position] + letters[position + 1 :]
