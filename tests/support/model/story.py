"""One story of the state machine: the real queue, the model's state, what has happened so far, and the laws over it."""

from functools import lru_cache
from typing import Any

import redis
from zeroloss.invariants import INVARIANTS, Answer, Transition
from zeroloss.reference.queue.consumer import Consumer
from zeroloss.reference.queue.errors import LeaseLost
from zeroloss.reference.queue.task import decode

from support.model import model
from support.model.model import Entry, Lease, State
from support.queue_fixtures import Queue

HOUR_MS = 3_600_000
OLD_MS = 10 * HOUR_MS
MAX_PENDING = 6
KEYS = ["key 1", "key 2"]  # idempotency keys; no other is used


@lru_cache(maxsize=10_000)
def entry_of(element: bytes) -> Entry:
    return Entry.of(decode(element))


class Story:
    """`look` reads the whole of the real queue at one instant; the rest judges what it saw."""

    def __init__(self, client: redis.Redis, url: str, *, max_retries: int, max_recoveries: int) -> None:
        bounds = {"max_pending": MAX_PENDING, "max_retries": max_retries, "max_recoveries": max_recoveries}
        hours = {"lease_ms": HOUR_MS, "tombstone_ms": 2 * HOUR_MS, "backoff_ms": HOUR_MS, "backoff_max_ms": 9 * HOUR_MS}
        self.queue = Queue(client, url, **bounds, **hours)
        self.state = State(**bounds)
        self.names: list[str] = []  # of all consumers that ever were
        self.submitted: dict[str, str] = {}  # id -> the payload's text, in the order of acceptance
        self.executed: list[tuple[str, str]] = []  # each delivery: id, the payload's text
        self.answers: list[Answer] = []
        self.transitions: list[Transition] = []
        self.swept: list[str] = []  # held by the dead when the last step began to sweep
        self.undisturbed = True  # no task has been given back yet, so that I7 applies
        self.in_order: list[str] = []
        self.attempts: dict[str, int] = {}
        self.purged: set[str] = set()
        self._seen: dict[str, Any] = {}

    def accept(self, task_id: str, payload: str) -> None:
        assert task_id not in self.submitted
        self.submitted[task_id] = payload

    def claimed(self, entries: list[Entry]) -> None:
        self.executed += [(entry.id, entry.payload) for entry in entries]
        if self.undisturbed:
            self.in_order += [entry.id for entry in entries]

    def held(self, name: str) -> list[bytes]:
        """What this consumer's list held when the current step began."""
        return self._seen["held"].get(name, [])

    def not_due(self) -> list[bytes]:
        return [element for element, score in self._seen["delayed"] if score > self._seen["now"]]

    def in_order_of_death(self) -> list[str]:
        """As the reaper finds them: by the end of their leases, then by name."""
        return [name.decode() for name, end in self._seen["consumers"] if end <= self._seen["now"]]

    def look(self) -> None:
        keys = self.queue.keys
        with self.queue.client.pipeline(transaction=True) as pipeline:
            pipeline.time()
            pipeline.lrange(keys.pending, 0, -1)
            pipeline.zrange(keys.delayed, 0, -1, withscores=True)
            pipeline.lrange(keys.dead_letter, 0, -1)
            pipeline.zrange(keys.consumers, 0, -1, withscores=True)
            pipeline.hgetall(keys.counters)
            pipeline.mget([keys.idempotency(key) for key in KEYS])
            for name in self.names:
                pipeline.lrange(keys.processing(name), 0, -1)
            (seconds, micros), pending, delayed, dead, consumers, counters, known, *held = pipeline.execute()
        self._seen = {
            "now": seconds * 1000 + micros / 1000,
            "pending": pending[::-1],
            "delayed": delayed,
            "dead": dead,
            "consumers": consumers,
            "counters": {name.decode(): int(value) for name, value in counters.items() if int(value)},
            "keys": {
                key: value[64:].decode() for key, value in zip(KEYS, known, strict=True) if value
            },  # after a digest
            "held": {name: elements[::-1] for name, elements in zip(self.names, held, strict=True) if elements},
        }

    def compare(self) -> None:
        """The real queue, read as the model would say it, is the model's state."""
        seen, state = self._seen, self.state
        waiting = self.not_due()
        assert _entries(seen["pending"]) == list(state.pending)
        assert {name: _entries(elements) for name, elements in seen["held"].items()} == {
            name: list(entries) for name, entries in state.held.items() if entries
        }
        assert set(_entries(waiting)) == state.delayed
        assert _entries([e for e, _ in seen["delayed"] if e not in waiting]) == list(state.due)
        assert _entries(seen["dead"]) == list(state.dead)
        assert {name.decode(): self._lease(end) for name, end in seen["consumers"]} == dict(state.leases)
        assert seen["counters"] == dict(state.counters)
        assert seen["keys"] == {key: entry.id for key, entry in state.keys.items()}

    def _lease(self, end_ms: float) -> Lease:
        ago_ms = self._seen["now"] - end_ms
        if ago_ms < 0:
            return Lease.LIVES
        return Lease.OLD if ago_ms > self.queue.config.tombstone_ms else Lease.ENDED

    def violations(self) -> list[str]:
        """Every law, over what was seen in Redis and what has happened; not over the model."""
        seen = self._seen
        places = {
            "pending": seen["pending"],
            "delayed": [element for element, _ in seen["delayed"]],
            "dead_letter": seen["dead"],
            **{f"processing:{name}": elements for name, elements in seen["held"].items()},
        }
        tasks = [entry for elements in places.values() for entry in _entries(elements)]
        ids = {place: [entry.id for entry in _entries(elements)] for place, elements in places.items()}
        dead = {task.id: task.error for task in _entries(seen["dead"])}
        completed = {entry_of(t.element).id for t in self.transitions if t.verb == "ack" and t.succeeded}
        waiting = {task.id for task in tasks} - dead.keys()
        retries = {task.id: task.failures for task in tasks}
        deaths = {task.id: task.deaths for task in tasks}
        claimable = {task_id: 0.0 for place in ("pending", "dead_letter") for task_id in ids[place]}
        swept, self.swept = self.swept, []
        arguments = [
            ("I1", (self.submitted.keys() - self.purged, completed, ids)),
            ("I2", (self.submitted.keys() - self.purged, completed, dead, waiting)),
            ("I3", (self.transitions,)),
            ("I4", ({task_id: claimable.get(task_id) for task_id in swept}, 0.0)),
            ("I5", (retries, self.state.max_retries + 1, dead)),
            ("I5", (deaths, self.state.max_recoveries + 1, dead)),
            ("I6", (self.submitted, [*self.executed, *((task.id, task.payload) for task in tasks)])),
            ("I7", (list(self.submitted), self.in_order)),
            ("I8", (self.answers,)),
        ]
        found = [f"{number}: {text}" for number, given in arguments for text in INVARIANTS[number].check(*given)]
        return found + self._fencing({task.id: task.attempt for task in tasks})

    def _fencing(self, attempts: dict[str, int]) -> list[str]:
        """An attempt only grows: it is the fencing token."""
        found = [
            f"I3: Task {task_id} went from attempt {self.attempts[task_id]} back to {attempt}."
            for task_id, attempt in attempts.items()
            if attempt < self.attempts.get(task_id, 1)
        ]
        self.attempts.update(attempts)
        return found


def _entries(elements: list[bytes]) -> list[Entry]:
    return [entry_of(element) for element in elements]


def end(consumer: Consumer, verb: str, element: bytes) -> bool:
    """A consumer acks, fails, gives up or releases what it believes that it holds. Whether it did hold it."""
    task = decode(element)
    try:
        if verb == "ack":
            consumer.ack(task)
        elif verb == "fail":
            consumer.fail(task, "ValueError: no")
        elif verb == "dead_letter":
            consumer.dead_letter(task, "Nobody knows it.")
        else:
            return consumer.release([element]) == 1
    except LeaseLost as lost:
        assert (lost.consumer, lost.task_id) == (consumer.name, task.id)
        return False
    return True


def end_in_the_model(state: State, consumer: str, verb: str, entry: Entry) -> tuple[State, bool]:
    if verb == "ack":
        state, (lost, _) = model.settle(state, consumer, [entry], 0)
        return state, not lost
    if verb == "fail":
        return model.fail(state, consumer, entry, "ValueError: no")
    if verb == "dead_letter":
        return model.dead_letter(state, consumer, entry, "Nobody knows it.")
    state, released = model.release(state, consumer, [entry])
    return state, released == 1
