"""All that lies in Redis at one instant, and in words what one step has changed of it."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

import redis
from zeroloss.reference.queue.errors import Undecodable
from zeroloss.reference.queue.keys import Keys
from zeroloss.reference.queue.task import decode, raw_members

UNREADABLE = "the undecodable one"

# KEYS  pending, delayed, dead_letter, consumers
# ARGV  the prefixes of processing lists and of idempotency keys
_CENSUS = """
local held = {}
for _, key in ipairs(redis.call('KEYS', ARGV[1] .. '*')) do
  held[#held + 1] = key
  held[#held + 1] = redis.call('LRANGE', key, 0, -1)
end
local pending, dead = redis.call('LRANGE', KEYS[1], 0, -1), redis.call('LRANGE', KEYS[3], 0, -1)
local leases = redis.call('ZRANGE', KEYS[4], 0, -1, 'WITHSCORES')
return {pending, redis.call('ZRANGE', KEYS[2], 0, -1), dead, leases, held, redis.call('KEYS', ARGV[2] .. '*')}
"""


class Read(NamedTuple):
    """One element."""

    id: str
    payload: str
    retries: int
    recoveries: int
    error: str | None


@lru_cache(maxsize=10_000)
def read(element: bytes) -> Read:
    try:
        task = decode(element)
    except Undecodable:
        return Read(UNREADABLE, "", 0, 0, "it cannot be decoded")
    payload = raw_members(element.decode()).get("payload", "null")
    return Read(task.id, payload, task.retry_count, task.recovered_count, task.error)


@dataclass(frozen=True, kw_only=True)
class Census:
    """`places`: where -> elements; `processing:w1` for lists of claimers. `leases`: consumer -> its end, ms."""

    places: dict[str, list[bytes]]
    leases: dict[str, float]
    known: frozenset[bytes]

    @property
    def waiting(self) -> bool:
        return any(there for place, there in self.places.items() if place != "dead_letter")

    def ids(self) -> dict[str, list[str]]:
        return {place: [read(element).id for element in there] for place, there in self.places.items()}

    def frozen(self) -> tuple[Any, ...]:
        """To be compared with others."""
        lists = tuple((place, tuple(there)) for place, there in sorted(self.places.items()))
        return lists, tuple(sorted(self.leases.items())), self.known


NOTHING = Census(places={"pending": [], "delayed": [], "dead_letter": []}, leases={}, known=frozenset())


class Observer:
    """One round trip for the whole of it."""

    def __init__(self, client: redis.Redis, keys: Keys) -> None:
        self._script: Any = client.register_script(_CENSUS)
        self._keys = [keys.pending, keys.delayed, keys.dead_letter, keys.consumers]
        self._prefixes = [keys.processing(""), keys.idempotency("")]

    def look(self) -> Census:
        pending, delayed, dead, leases, held, known = self._script(self._keys, self._prefixes)
        size = len(self._prefixes[0])
        lists = {f"processing:{key.decode()[size:]}": there for key, there in zip(held[::2], held[1::2], strict=True)}
        return Census(
            places={"pending": pending, "delayed": delayed, "dead_letter": dead, **lists},
            leases={name.decode(): float(end) for name, end in zip(leases[::2], leases[1::2], strict=True)},
            known=frozenset(known),
        )


class Move(NamedTuple):
    """An element of this id left `origin` or came to `target`, or both. None: it is nowhere."""

    id: str
    origin: str | None
    target: str | None


def moves(before: Census, after: Census) -> Iterator[Move]:
    """What one step has moved, by id: a retry or a recovery changes the bytes."""
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
    """One sentence for each change; a living lease that is longer now is none."""
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
    if origin == own:
        ends = {"": f"acks {task}", "pending": f"gives {task} back", "delayed": f"fails {task}, for a retry"}
        return f"{actor} {ends.get(target, f'gives {task} up')}"
    if whose != origin:
        ends = {"": f"removes {task} of {whose}", "pending": f"recovers {task} from {whose}"}
        return f"{actor} {ends.get(target, f'gives {task} of {whose} up')}"
    if actor == "Redis":
        return f"Redis hands {task} to {target.removeprefix('processing:') or 'a wait'}"
    verbs = {
        ("", "pending"): f"pushes {task}",
        ("pending", own): f"claims {task}",
        ("pending", ""): f"takes {task} out of Redis",
        ("delayed", "pending"): f"promotes {task}",
    }
    return f"{actor} " + verbs.get(
        (origin, target), f"moves {task} from {origin or 'nowhere'} to {target or 'nowhere'}"
    )
