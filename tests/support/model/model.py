"""The queue as a plain Python value: what every verb does to it, said once more and without Redis.

A `State` is never changed; each verb takes one and returns the next, and where it answers, the answer beside it.
`dataclasses.replace` makes each transition read as "the same, but". Each verb is one script: what it leaves of the bell
is seen by all.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import NamedTuple

from zeroloss.reference.queue.consuming.settling import TURNS
from zeroloss.reference.queue.task import PRIORITIES, Task

LISTS = tuple(PRIORITIES)  # in the order in which they are claimed


class Entry(NamedTuple):
    """One task as it lies somewhere, with the counts of its header.

    `payload` is its JSON text: two texts of one value are two payloads (I6).
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
        """After a retry, a recovery or a burial."""
        return self._replace(
            attempt=self.attempt + 1, retries=self.retries + retries, recoveries=self.recoveries + recoveries
        )


class Delivery(NamedTuple):
    """An entry in a consumer's hash, under its number there: ownership is a matter of that number (I3)."""

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
    """What a producer asks for; `payload` is its text."""

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
    pending: tuple[tuple[Entry, ...], ...] = ((), (), ())  # of each priority; the next to be claimed is the first
    bell: bool = False  # it rings
    held: Mapping[str, tuple[Delivery, ...]] = field(default_factory=dict)  # consumer -> by their numbers
    numbers: Mapping[str, int] = field(default_factory=dict)  # consumer -> the highest that it was given
    leases: Mapping[str, Lease] = field(default_factory=dict)
    delayed: frozenset[Entry] = frozenset()
    due: tuple[Entry, ...] = ()  # still in delayed, and the time has come
    dead: tuple[Letter, ...] = ()  # newest first
    finished: frozenset[str] = frozenset()
    keys: Mapping[str, tuple[Wish, str]] = field(default_factory=dict)  # idempotency key -> the request and its task
    counters: Mapping[str, int] = field(default_factory=dict)

    def lives(self, consumer: str) -> bool:
        return self.leases.get(consumer) is Lease.LIVES

    def holding(self, consumer: str) -> tuple[Delivery, ...]:
        return self.held.get(consumer, ())

    def entry(self, consumer: str, number: int) -> Entry | None:
        return dict(self.holding(consumer)).get(number)

    @property
    def waiting(self) -> tuple[Entry, ...]:
        """All that is pending, of whatever priority."""
        high, default, low = self.pending
        return high + default + low


def enqueue(state: State, wishes: Sequence[Wish], new_ids: Sequence[str]) -> tuple[State, list[str | None] | None]:
    """The id for each wish, None for a conflict; None for the whole: full, nothing was done. All or nothing."""
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
    """A bare JSON object from a client that does not know of bell, counters and header."""
    return _append(state, [entry])


def settle(
    state: State, consumer: str, first: int, done: Sequence[int], limit: int, turn: int = 1
) -> tuple[State, Settled]:
    """An ack needs the number, a claim needs the lease and numbers above all that were given."""
    state, lost = _ack(state, consumer, done)
    lives = state.lives(consumer)
    if not lives or first <= state.numbers.get(consumer, 0):
        limit = 0
    state, claimed = _take(state, consumer, first, limit, turn)
    return _ring(state), Settled(lives, lost, claimed)


def _take(state: State, consumer: str, first: int, limit: int, turn: int) -> tuple[State, tuple[Delivery, ...]]:
    """What a claim does that is not refused."""
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
    """What a waiting consumer's BLPOP does before its claim. What others do in between leaves the bell right."""
    return replace(state, bell=False)


def fail(state: State, consumer: str, number: int, error: str) -> tuple[State, bool]:
    """Whether it was held. To delayed, or to dead_letter when the budget of retries is spent."""
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
    """How many were held; they are the next to be claimed, in their order."""
    released = 0
    for number in sorted(numbers, reverse=True):
        entry = state.entry(consumer, number)
        if entry:
            state = _put_back(_drop(state, consumer, number), entry)
            released += 1
    return _ring(state), released


def renew(state: State, consumer: str, given: int = 0) -> State:
    """`given`: the highest number that the consumer has asked a claim for.

    Recovery has forgotten which numbers were given: a request of that time must not be carried out any more.
    """
    if given and consumer not in state.leases:
        state = replace(state, numbers={**state.numbers, consumer: given})
    return _lease(state, consumer, Lease.LIVES)


def leave(
    state: State, consumer: str, done: Sequence[int] = (), unbegun: Sequence[int] = ()
) -> tuple[State, tuple[bool, tuple[int, ...]]]:
    """What is done is acked, what was not begun given back. Whether it left, and what of `done` was not held."""
    state, lost = _ack(state, consumer, done)
    state, _ = release(state, consumer, unbegun)
    if state.holding(consumer):
        return _lease(state, consumer, Lease.ENDED), (False, lost)
    return _forget(state, consumer), (True, lost)


def expire(state: State, consumer: str) -> State:
    return _lease(state, consumer, Lease.ENDED) if state.lives(consumer) else state


def recover(state: State, consumer: str, batch: int, *, is_dead: bool = False) -> tuple[State, tuple[int, int]]:
    """How many were moved and how many are left, by one script; not one while the lease lives.

    To the claiming end, or to dead_letter when the budget of recoveries is spent.
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
    """Hashes without an entry get one."""
    orphans = [consumer for consumer, held in state.held.items() if held and consumer not in state.leases]
    for consumer in orphans:
        state = _lease(state, consumer, Lease.LIVES)
    return state, len(orphans)


def lose_entry(state: State, consumer: str) -> State:
    """By hand, or by a copy of some keys: nothing of the queue's own does it."""
    return _lease(state, consumer, None)


def requeue(state: State, letters: Iterable[Letter]) -> State:
    """To the end of the queue, with new budgets; the attempt goes on."""
    for letter in letters:
        again = letter.entry._replace(retries=0, recoveries=0)
        state = _append(replace(state, dead=_without(state.dead, letter)), [again])
    return _ring(state)


def purge(state: State, letters: Iterable[Letter]) -> State:
    """Thrown away on purpose, by an operator: no law speaks of it any more."""
    for letter in letters:
        state = replace(state, dead=_without(state.dead, letter))
    return state


def _ack(state: State, consumer: str, done: Sequence[int]) -> tuple[State, tuple[int, ...]]:
    """The numbers that were not held."""
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
    """The bell rings if and only if something is pending."""
    rings = bool(state.waiting)
    return state if state.bell == rings else replace(state, bell=rings)


def _put_back(state: State, entry: Entry) -> State:
    """To the claiming end of its list."""
    place = LISTS.index(entry.priority)
    return _with_list(state, place, (entry, *state.pending[place]))


def _forget(state: State, consumer: str) -> State:
    """It leaves the registry, and its numbers with it."""
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
