"""One run of the state machine: the real queue, the model's state, the events so far, and the laws over them."""

from functools import lru_cache
from typing import Any

import redis
from zeroloss.invariants import INVARIANTS, Answer, Transition
from zeroloss.reference.queue.consumer import Consumer
from zeroloss.reference.queue.consuming.settling import Claimed
from zeroloss.reference.queue.errors import LeaseLost
from zeroloss.reference.queue.task import PRIORITIES, Task, encode

from support.model import model
from support.model.model import LISTS, Delivery, Entry, Lease, Letter, State, Wish
from support.queue_fixtures import Queue

HOUR_MS = 3_600_000
MAX_PENDING = 7
MAX_SCHEDULED = 3
KEYS = ["key 1", "key 2"]  # all idempotency keys


@lru_cache(maxsize=10_000)
def entry_of(entry: bytes, priority: str = "default") -> Entry:
    """Decode an entry. A bare object gets the header that a claim from the list of this priority would add."""
    if entry.startswith(b"{"):
        entry = f"{PRIORITIES[priority]},1,0,0,0,0,;".encode() + entry
    return Entry.of(Task(entry))


def deliveries(claimed: list[Claimed]) -> tuple[Delivery, ...]:
    return tuple(Delivery(number, Entry.of(Task(entry))) for number, entry in claimed)


class Story:
    """`look` reads the whole real queue at one instant; the other methods judge that snapshot."""

    def __init__(self, client: redis.Redis, url: str, *, max_retries: int, max_recoveries: int) -> None:
        bounds = {
            "max_pending": MAX_PENDING,
            "max_scheduled": MAX_SCHEDULED,
            "max_retries": max_retries,
            "max_recoveries": max_recoveries,
        }
        hours = {"lease_ms": HOUR_MS, "backoff_ms": HOUR_MS, "backoff_max_ms": 9 * HOUR_MS}
        self.queue = Queue(client, url, **bounds, **hours)
        self.state = State(**bounds)
        self.names: list[str] = []  # of all consumers, past and present
        self.submitted: dict[str, Wish] = {}  # by id, in the order of acceptance
        self.executed: list[tuple[str, str]] = []  # each delivery: id, the payload's text
        self.finished: set[str] = set()
        self.answers: list[Answer] = []
        self.transitions: list[Transition] = []
        self.swept: list[str] = []  # held by dead workers when the last step began to sweep
        self.undisturbed = True  # no task has been given back yet, so that I7 applies
        self.in_order: list[str] = []
        self.attempts: dict[str, int] = {}
        self.purged: set[str] = set()
        self.rung = True  # whether the queue has set the bell since a foreign client's last push
        self._seen: dict[str, Any] = {}

    def accept(self, task_id: str, wish: Wish) -> None:
        assert task_id not in self.submitted
        self.submitted[task_id] = wish

    def push_bare(self, task_id: str, payload: str, priority: str) -> None:
        """Push a task as a producer does that knows only the name of a list."""
        self.accept(task_id, Wish(payload, priority=priority))
        text = encode(task_id=task_id, task_type="default", payload_json=payload)
        self.queue.client.lpush(self.queue.keys.lists[LISTS.index(priority)], text)
        self.state = model.push(self.state, Entry(task_id, payload, priority=priority))
        self.rung = False

    def claimed(self, claimed: tuple[Delivery, ...]) -> None:
        self.executed += [(entry.id, entry.payload) for _, entry in claimed]
        if self.undisturbed:
            self.in_order += [entry.id for _, entry in claimed]

    def held(self, name: str) -> dict[int, bytes]:
        """Return the entries that this consumer held when the current step began."""
        held: dict[int, bytes] = self._seen["held"].get(name, {})
        return held

    def acted(self, verb: str, name: str, number: int, held: dict[int, bytes], succeeded: bool) -> None:
        self.transitions.append(Transition(verb, name, number, held.keys(), succeeded))
        if verb == "ack" and succeeded and number in held:
            self.finished.add(entry_of(held[number]).id)

    def not_due(self) -> list[bytes]:
        return [entry for entry, score in self._seen["delayed"] if score > self._seen["now"]]

    def letter_ids(self) -> list[str]:
        """Newest first."""
        return [letter_id.decode() for letter_id, _ in self._seen["dead"]]

    def in_order_of_death(self) -> list[str]:
        """Return dead consumers in the reaper's order: by the end of their leases, then by name."""
        return [name.decode() for name, end in self._seen["consumers"] if end <= self._seen["now"]]

    def look(self) -> None:
        keys = self.queue.keys
        with self.queue.client.pipeline(transaction=True) as pipeline:
            pipeline.time()
            pipeline.lrange(keys.bell, 0, -1)
            for name in keys.lists:
                pipeline.lrange(name, 0, -1)
            pipeline.zrange(keys.delayed, 0, -1, withscores=True)
            pipeline.xrevrange(keys.dead_letter)
            pipeline.zrange(keys.consumers, 0, -1, withscores=True)
            pipeline.hgetall(keys.numbers)
            pipeline.hgetall(keys.counters)
            pipeline.mget([keys.idempotency(key) for key in KEYS])
            for name in self.names:
                pipeline.hgetall(keys.processing(name))
            (seconds, micros), bell, high, default, low, delayed, dead, consumers, numbers, counters, known, *held = (
                pipeline.execute()
            )
        self._seen = {
            "now": seconds * 1000 + micros / 1000,
            "bell": bell,
            "pending": [entries[::-1] for entries in (high, default, low)],
            "delayed": delayed,
            "dead": dead,
            "consumers": consumers,
            "numbers": {name.decode(): int(number) for name, number in numbers.items()},
            "counters": {name.decode(): int(value) for name, value in counters.items() if int(value)},
            "keys": {
                key: value[64:].decode() for key, value in zip(KEYS, known, strict=True) if value
            },  # after a digest
            "held": {
                name: {int(number): fields[number] for number in sorted(fields, key=int)}
                for name, fields in zip(self.names, held, strict=True)
                if fields
            },
        }

    def compare(self) -> None:
        """Assert that the real queue, converted to the model's terms, equals the model's state."""
        seen, state = self._seen, self.state
        waiting = self.not_due()
        assert tuple(self._pending()) == state.pending
        assert seen["bell"] == [b"1"] * state.bell
        assert {name: deliveries([*fields.items()]) for name, fields in seen["held"].items()} == {
            name: held for name, held in state.held.items() if held
        }
        assert seen["numbers"] == dict(state.numbers)
        assert set(map(entry_of, waiting)) == state.delayed
        assert [entry_of(e) for e, _ in seen["delayed"] if e not in waiting] == list(state.due)
        assert tuple(_letter(fields) for _, fields in seen["dead"]) == state.dead
        assert {name.decode(): self._lease(end) for name, end in seen["consumers"]} == dict(state.leases)
        assert seen["counters"] == dict(state.counters)
        assert seen["keys"] == {key: task for key, (_, task) in state.keys.items()}

    def _pending(self) -> list[tuple[Entry, ...]]:
        return [
            tuple(entry_of(entry, priority) for entry in entries)
            for priority, entries in zip(LISTS, self._seen["pending"], strict=True)
        ]

    def _lease(self, end_ms: float) -> Lease:
        return Lease.LIVES if end_ms > self._seen["now"] else Lease.ENDED

    def violations(self) -> list[str]:
        """Check every law against the snapshot of Redis and the events, not against the model."""
        seen = self._seen
        places: dict[str, list[Entry]] = {
            **{f"pending:{name}": list(entries) for name, entries in zip(LISTS, self._pending(), strict=True)},
            "delayed": [entry_of(entry) for entry, _ in seen["delayed"]],
            "dead_letter": [_letter(fields).entry for _, fields in seen["dead"]],
            **{f"processing:{name}": [*map(entry_of, fields.values())] for name, fields in seen["held"].items()},
        }
        tasks = [entry for entries in places.values() for entry in entries]
        ids = {place: [entry.id for entry in entries] for place, entries in places.items()}
        dead = {letter.entry.id: letter.reason and letter.error for letter in (_letter(f) for _, f in seen["dead"])}
        waiting = {task.id for task in tasks} - dead.keys()
        claimable = {
            task: 0.0 for place, there in ids.items() if place.startswith(("pending", "dead")) for task in there
        }
        swept, self.swept = self.swept, []
        accepted = self.submitted.keys() - self.purged
        submitted = {task: wish.payload for task, wish in self.submitted.items()}
        arguments: list[tuple[str, Any]] = [
            ("I1", (accepted, self.finished, ids)),
            ("I2", (accepted, self.finished, dead, waiting)),
            ("I3", (self.transitions,)),
            ("I4", ({task_id: claimable.get(task_id) for task_id in swept}, 0.0)),
            ("I5", ({task.id: task.retries for task in tasks}, self.state.max_retries + 1, dead)),
            ("I5", ({task.id: task.recoveries for task in tasks}, self.state.max_recoveries + 1, dead)),
            ("I6", (submitted, [*self.executed, *((task.id, task.payload) for task in tasks)])),
            ("I8", (self.answers,)),
        ]
        for priority in LISTS:
            prompt = [t for t, wish in self.submitted.items() if wish.priority == priority and not wish.later]
            arguments.append(("I7", (prompt, self.in_order)))
        found = [f"{number}: {text}" for number, given in arguments for text in INVARIANTS[number].check(*given)]
        if self.rung and bool(seen["bell"]) != any(seen["pending"]):
            found.append("The bell rings for nothing, or is silent while something is pending.")
        return found + self._fencing({task.id: task.attempt for task in tasks})

    def _fencing(self, attempts: dict[str, int]) -> list[str]:
        """Check that no attempt decreases: it is the fencing token."""
        found = [
            f"I3: Task {task_id} went from attempt {self.attempts[task_id]} back to {attempt}."
            for task_id, attempt in attempts.items()
            if attempt < self.attempts.get(task_id, 1)
        ]
        self.attempts.update(attempts)
        return found


def _letter(fields: dict[bytes, bytes]) -> Letter:
    return Letter(entry_of(fields[b"entry"]), fields[b"reason"].decode(), fields[b"error"].decode())


def end(consumer: Consumer, verb: str, claimed: Claimed) -> bool:
    """Ack, fail, dead-letter or release a task that the consumer believes it holds. Return whether it did hold it."""
    task = Task(claimed.entry, claimed.number)
    try:
        if verb == "ack":
            consumer.ack(task)
        elif verb == "fail":
            consumer.fail(task, "ValueError: no")
        elif verb == "dead_letter":
            consumer.dead_letter(claimed, "Nobody knows it.", task_id=task.id)
        else:
            return consumer.release([claimed.number]) == 1
    except LeaseLost as lost:
        assert (lost.consumer, lost.task_id) == (consumer.name, task.id)
        return False
    return True


def end_in_the_model(state: State, consumer: str, verb: str, number: int) -> tuple[State, bool]:
    if verb == "ack":
        state, settled = model.settle(state, consumer, 0, [number], 0)
        return state, not settled.lost
    if verb == "fail":
        return model.fail(state, consumer, number, "ValueError: no")
    if verb == "dead_letter":
        return model.dead_letter(state, consumer, number, "Nobody knows it.")
    state, released = model.release(state, consumer, [number])
    return state, released == 1
