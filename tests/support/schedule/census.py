"""A snapshot of the queue in Redis, and sentences for the changes of one step."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

import redis
from zeroloss.reference.queue.errors import Undecodable
from zeroloss.reference.queue.keys import Keys
from zeroloss.reference.queue.task import Task

UNREADABLE = "the undecodable one"
PENDING = ("pending:high", "pending", "pending:low")

# KEYS  the bell and the three lists, delayed, dead_letter, consumers, numbers
# ARGV  the key prefixes of consumers' hashes and of idempotency keys
_CENSUS = """
local held = {}
for _, key in ipairs(redis.call('KEYS', ARGV[1] .. '*')) do
  held[#held + 1] = key
  held[#held + 1] = redis.call('HGETALL', key)
end
local lists = {}
for i = 2, 4 do lists[#lists + 1] = redis.call('LRANGE', KEYS[i], 0, -1) end
local dead = redis.pcall('XRANGE', KEYS[6], '-', '+')
return {redis.call('LLEN', KEYS[1]), lists, redis.call('ZRANGE', KEYS[5], 0, -1), dead.err and {} or dead,
  redis.call('ZRANGE', KEYS[7], 0, -1, 'WITHSCORES'), redis.call('HGETALL', KEYS[8]), held,
  redis.call('KEYS', ARGV[2] .. '*')}
"""


class Read(NamedTuple):
    """One decoded entry."""

    id: str
    payload: str
    retries: int
    recoveries: int
    priority: str


@lru_cache(maxsize=10_000)
def read(entry: bytes) -> Read:
    try:
        task = Task(entry)
    except Undecodable:
        return Read(UNREADABLE, "", 0, 0, "")
    return Read(task.id, bytes(task.raw_payload).decode(), task.retries, task.recoveries, task.priority)


@dataclass(frozen=True, kw_only=True)
class Census:
    """`places`: place -> entries; `processing:w1` has the entries of consumer w1, in the order of their numbers.

    `leases`: consumer -> end of its lease, ms. `numbers`: consumer -> highest number given.
    `reasons`: id -> why the task was dead-lettered.
    """

    places: dict[str, list[bytes]]
    leases: dict[str, float]
    known: frozenset[bytes]
    rings: int = 0
    numbers: tuple[bytes, ...] = ()
    held: tuple[tuple[str, tuple[bytes, ...]], ...] = ()
    reasons: tuple[tuple[str, str], ...] = ()

    @property
    def waiting(self) -> bool:
        return any(there for place, there in self.places.items() if place != "dead_letter")

    @property
    def pending(self) -> bool:
        return any(self.places[place] for place in PENDING)

    def ids(self) -> dict[str, list[str]]:
        return {place: [read(entry).id for entry in there] for place, there in self.places.items()}

    def frozen(self) -> tuple[Any, ...]:
        """Return a hashable value, for comparison with other snapshots."""
        lists = tuple((place, tuple(there)) for place, there in sorted(self.places.items()))
        return lists, tuple(sorted(self.leases.items())), self.known, self.rings, self.numbers, self.held


NOTHING = Census(places={place: [] for place in (*PENDING, "delayed", "dead_letter")}, leases={}, known=frozenset())


class Observer:
    """Takes a snapshot in one round trip."""

    def __init__(self, client: redis.Redis, keys: Keys) -> None:
        self._script: Any = client.register_script(_CENSUS)
        self._keys = [*keys.waiting, keys.delayed, keys.dead_letter, keys.consumers, keys.numbers]
        self._prefixes = [keys.processing(""), keys.idempotency("")]

    def look(self) -> Census:
        rings, lists, delayed, letters, leases, numbers, held, known = self._script(self._keys, self._prefixes)
        size = len(self._prefixes[0])
        holders: dict[str, dict[bytes, bytes]] = {}
        for key, flat in zip(held[::2], held[1::2], strict=True):
            by_number = dict(zip(flat[::2], flat[1::2], strict=True))
            holders[key.decode()[size:]] = {number: by_number[number] for number in sorted(by_number, key=int)}
        given_up = [dict(zip(fields[::2], fields[1::2], strict=True)) for _, fields in letters]
        return Census(
            places={
                **dict(zip(PENDING, lists, strict=True)),
                "delayed": delayed,
                "dead_letter": [letter[b"entry"] for letter in given_up],
                **{f"processing:{name}": list(there.values()) for name, there in holders.items()},
            },
            leases={name.decode(): float(end) for name, end in zip(leases[::2], leases[1::2], strict=True)},
            known=frozenset(known),
            rings=rings,
            numbers=tuple(numbers),
            held=tuple((name, tuple(there)) for name, there in sorted(holders.items())),
            reasons=tuple((read(letter[b"entry"]).id, letter[b"error"].decode()) for letter in given_up),
        )


class Move(NamedTuple):
    """An entry with this id left `origin`, arrived at `target`, or both. None: not in Redis."""

    id: str
    origin: str | None
    target: str | None


def moves(before: Census, after: Census) -> Iterator[Move]:
    """Yield the moves of one step, matched by id because a retry or a recovery changes the bytes."""
    was, now = ({(i, p): n for p, there in c.ids().items() for i, n in Counter(there).items()} for c in (before, after))
    left, came = (list((Counter(a) - Counter(b)).elements()) for a, b in ((was, now), (now, was)))
    for task_id, origin in left:
        target = next((place for other, place in came if other == task_id), None)
        if target is not None:
            came.remove((task_id, target))
        yield Move(task_id, origin, target)
    for task_id, target in came:
        yield Move(task_id, None, target)


def tell(actor: str, before: Census, after: Census, now_ms: int) -> list[str]:
    """Return one sentence for each change; the extension of a live lease does not count."""
    said = [_sentence(actor, move) for move in moves(before, after)]
    for name, end in after.leases.items():
        if before.leases.get(name, 0) <= now_ms < end:
            said.append(f"{name}'s lease {'begins again' if name in before.leases else 'begins'}")
    said += [f"{actor} forgets {name}" for name in before.leases.keys() - after.leases.keys()]
    if after.known - before.known and not said:
        said.append(f"{actor} takes an idempotency key")
    return said


def _sentence(actor: str, move: Move) -> str:
    task, origin, target = move.id, move.origin or "", move.target or ""
    own = f"processing:{actor}"
    whose = origin.removeprefix("processing:")
    from_, to = ("pending" if place in PENDING else place for place in (origin, target))
    if origin == own:
        ends = {"": f"acks {task}", "pending": f"gives {task} back", "delayed": f"fails {task}, for a retry"}
        return f"{actor} {ends.get(to, f'gives {task} up')}"
    if whose != origin:
        ends = {"": f"removes {task} of {whose}", "pending": f"recovers {task} from {whose}"}
        return f"{actor} {ends.get(to, f'gives {task} of {whose} up')}"
    if actor == "Redis" and to != "pending":
        return f"Redis hands {task} to {target.removeprefix('processing:') or 'a wait'}"
    verbs = {
        ("", "pending"): f"pushes {task}",
        ("", "delayed"): f"schedules {task}",
        ("pending", own): f"claims {task}",
        ("pending", ""): f"takes {task} out of Redis",
        ("delayed", "pending"): f"promotes {task}",
        ("dead_letter", "pending"): f"requeues {task}",
    }
    return f"{actor} " + verbs.get((from_, to), f"moves {task} from {origin or 'nowhere'} to {target or 'nowhere'}")
