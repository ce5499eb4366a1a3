"""The queue as a plain Python value: what every verb does to it, said once more and without Redis.

A `State` is never changed; each verb takes one and returns the next, and where it answers, the answer beside it.
`dataclasses.replace` makes each transition read as "the same, but".
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum

from zeroloss.reference.queue.task import Task, raw_members


@dataclass(frozen=True)
class Entry:
    """One task as it lies somewhere: equal where its bytes are, for ownership is a matter of bytes (I3).

    `payload` is its JSON text: two texts of one value are two payloads (I6). What was forgiven is None until the first
    requeue, and may be 0 after it.
    """

    id: str
    payload: str
    retry_count: int = 0
    recovered_count: int = 0
    retries_forgiven: int | None = None
    recoveries_forgiven: int | None = None
    error: str | None = None

    @property
    def attempt(self) -> int:
        return 1 + self.retry_count + self.recovered_count

    @property
    def failures(self) -> int:
        """Since the last requeue; so are `deaths`."""
        return self.retry_count - (self.retries_forgiven or 0)

    @property
    def deaths(self) -> int:
        return self.recovered_count - (self.recoveries_forgiven or 0)

    @classmethod
    def of(cls, task: Task) -> "Entry":
        members = raw_members(task.element.decode())
        return cls(
            task.id,
            members["payload"],
            task.retry_count,
            task.recovered_count,
            task.retries_forgiven if "retries_forgiven" in members else None,
            task.recoveries_forgiven if "recoveries_forgiven" in members else None,
            task.error,
        )


class Lease(Enum):
    LIVES = "lives"
    ENDED = "ended"  # and its entry stays, as a tombstone
    OLD = "ended so long ago that the tombstone may go"


@dataclass(frozen=True)
class State:
    max_pending: int
    max_retries: int
    max_recoveries: int
    pending: tuple[Entry, ...] = ()  # the next to be claimed is the first
    held: Mapping[str, tuple[Entry, ...]] = field(default_factory=dict)  # consumer -> oldest first
    delayed: frozenset[Entry] = frozenset()
    due: tuple[Entry, ...] = ()  # still in delayed, and the backoff is over
    dead: tuple[Entry, ...] = ()  # newest first
    finished: frozenset[str] = frozenset()
    leases: Mapping[str, Lease] = field(default_factory=dict)
    keys: Mapping[str, Entry] = field(default_factory=dict)  # idempotency key -> the task it gave
    counters: Mapping[str, int] = field(default_factory=dict)

    def lives(self, consumer: str) -> bool:
        return self.leases.get(consumer) is Lease.LIVES

    def holding(self, consumer: str) -> tuple[Entry, ...]:
        return self.held.get(consumer, ())


Wish = tuple[str, str | None]  # the payload's text, and the idempotency key


def enqueue(state: State, wishes: Sequence[Wish], new_ids: Sequence[str]) -> tuple[State, list[str | None] | None]:
    """The id for each wish, None for a conflict; None for the whole: full, nothing was done. All or nothing."""
    keys, new, answers = dict(state.keys), [], []
    for (payload, key), new_id in zip(wishes, new_ids, strict=True):
        known = keys.get(key) if key else None
        if known is None:
            known = Entry(new_id, payload)
            new.append(known)
            if key:
                keys[key] = known
        answers.append(known.id if known.payload == payload else None)
    if new and len(state.pending) + len(new) > state.max_pending:
        return state, None
    return replace(_count(state, enqueued=len(new)), pending=(*state.pending, *new), keys=keys), answers


def settle(
    state: State, consumer: str, done: Sequence[Entry], limit: int
) -> tuple[State, tuple[list[Entry], list[Entry]]]:
    """What was lost, and what was claimed. An ack needs the task, a claim needs the lease."""
    lost = []
    for entry in done:
        if entry in state.holding(consumer):
            state = _take(state, consumer, entry)
            state = replace(_count(state, completed=1), finished=state.finished | {entry.id})
        else:
            lost.append(entry)
    claimed = state.pending[:limit] if state.lives(consumer) else ()
    return _hand_over(state, consumer, claimed), (lost, list(claimed))


def hand_over_late(state: State, consumer: str) -> State:
    """Redis serves a BLMOVE whose consumer was given up long ago."""
    return _hand_over(state, consumer, state.pending[:1])


def fail(state: State, consumer: str, entry: Entry, error: str) -> tuple[State, bool]:
    """Whether it was held. To delayed, or to dead_letter when the budget of retries is spent."""
    if entry not in state.holding(consumer):
        return state, False
    state = _count(_take(state, consumer, entry), failed=1)
    failed = replace(entry, retry_count=entry.retry_count + 1)
    if failed.failures > state.max_retries:
        return _bury(state, replace(failed, error=error)), True
    return replace(_count(state, retried=1), delayed=state.delayed | {failed}), True


def dead_letter(state: State, consumer: str, entry: Entry, error: str) -> tuple[State, bool]:
    if entry not in state.holding(consumer):
        return state, False
    return _bury(_take(state, consumer, entry), replace(entry, error=error)), True


def release(state: State, consumer: str, entries: Sequence[Entry]) -> tuple[State, int]:
    """How many were held; they are the next to be claimed, in their order."""
    released = [entry for entry in entries if entry in state.holding(consumer)]
    for entry in released:
        state = _take(state, consumer, entry)
    return replace(state, pending=(*released, *state.pending)), len(released)


def renew(state: State, consumer: str) -> State:
    return _lease(state, consumer, Lease.LIVES)


def leave(state: State, consumer: str) -> tuple[State, bool]:
    if state.holding(consumer):
        return _lease(state, consumer, Lease.ENDED), False
    return _lease(state, consumer, None), True


def expire(state: State, consumer: str) -> State:
    return _lease(state, consumer, Lease.ENDED) if state.lives(consumer) else state


def recover(state: State, consumer: str) -> tuple[State, int]:
    """How many were moved: to the claiming end, or to dead_letter when the budget of recoveries is spent."""
    if state.leases.get(consumer, Lease.LIVES) is Lease.LIVES:
        return state, 0
    entries = state.holding(consumer)
    for entry in reversed(entries):
        state = _take(state, consumer, entry)
        found = replace(entry, recovered_count=entry.recovered_count + 1)
        if found.deaths > state.max_recoveries:
            error = f"Its worker vanished {found.deaths} times, the last was {consumer}."
            state = _bury(state, replace(found, error=error))
        else:
            state = replace(_count(state, recovered=1), pending=(found, *state.pending))
    return state, len(entries)


def backoff_ends(state: State, entry: Entry) -> State:
    return replace(state, delayed=state.delayed - {entry}, due=(*state.due, entry))


def promote(state: State) -> tuple[State, int]:
    return replace(state, pending=(*state.pending, *state.due), due=()), len(state.due)


def adopt(state: State) -> tuple[State, int]:
    """Lists without an entry get one; tombstones that are old go, if their lists are empty."""
    orphans = [consumer for consumer, held in state.held.items() if held and consumer not in state.leases]
    for consumer in orphans:
        state = _lease(state, consumer, Lease.LIVES)
    for consumer, lease in state.leases.items():
        if lease is Lease.OLD and not state.holding(consumer):
            state = _lease(state, consumer, None)
    return state, len(orphans)


def lose_entry(state: State, consumer: str) -> State:
    """The server came back without its last writes."""
    return _lease(state, consumer, None)


def grow_old(state: State, consumer: str) -> State:
    return _lease(state, consumer, Lease.OLD)


def requeue(state: State, entries: Iterable[Entry]) -> State:
    """To the end of the queue, with new budgets; the counts themselves go on."""
    for entry in entries:
        again = replace(
            entry, error=None, retries_forgiven=entry.retry_count, recoveries_forgiven=entry.recovered_count
        )
        state = replace(state, dead=_without(state.dead, entry), pending=(*state.pending, again))
    return state


def purge(state: State, entries: Iterable[Entry]) -> State:
    """Thrown away on purpose, by an operator: no law speaks of it any more."""
    for entry in entries:
        state = replace(state, dead=_without(state.dead, entry))
    return state


def _hand_over(state: State, consumer: str, entries: tuple[Entry, ...]) -> State:
    held = {**state.held, consumer: (*state.holding(consumer), *entries)}
    return replace(state, pending=state.pending[len(entries) :], held=held)


def _take(state: State, consumer: str, entry: Entry) -> State:
    return replace(state, held={**state.held, consumer: _without(state.holding(consumer), entry)})


def _bury(state: State, entry: Entry) -> State:
    return replace(_count(state, dead_lettered=1), dead=(entry, *state.dead))


def _lease(state: State, consumer: str, lease: Lease | None) -> State:
    leases = {name: known for name, known in state.leases.items() if name != consumer}
    return replace(state, leases=leases if lease is None else {**leases, consumer: lease})


def _count(state: State, **added: int) -> State:
    counters = dict(state.counters)
    for name, number in added.items():
        if number:
            counters[name] = counters.get(name, 0) + number
    return replace(state, counters=counters)


def _without(entries: tuple[Entry, ...], entry: Entry) -> tuple[Entry, ...]:
    position = entries.index(entry)
    return entries[:position] + entries[position + 1 :]
