"""`Queue` over all shards: its counts are sums, and an id in its lists names the shard."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any

import redis

from ..queue.client import Queue
from ..queue.config import Config
from ..queue.connection import connect
from ..queue.dead_letters import LETTER_ID, PAGE, DeadLetter, DeadLetters, NotRequeueable
from ..queue.errors import QueueError
from ..queue.keys import Keys
from ..queue.task import PRIORITIES
from ..stats.gauges import Gauges, Reading
from .members import EachShard, Shards, together
from .spread import Spread


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardedReading(Reading):
    """All shards together. A sum is None if one shard's value is unknown, and `unreadable` names the shard."""

    shards: dict[str, Reading | None] = field(default_factory=dict)  # namespace -> reading; None: no answer


class ShardedGauges(Gauges):
    """Reads every shard without changing it."""

    def __init__(self, shards: Shards, clients: Mapping[str, redis.Redis]) -> None:
        self._shards = shards
        self._gauges = EachShard(shards, lambda each: Gauges(clients[each.namespace], each))

    def read(self) -> ShardedReading:
        """Read all shards.

        Raises:
            OtherProtocol: this process was started with another number of shards.
            redis.RedisError: no shard answers.
        """
        readings: dict[str, Reading | None] = {}
        unreadable: dict[str, str] = {}
        error: redis.RedisError | None = None
        self._shards.look()
        gauges = dict(self._gauges)
        for name, answer in zip(gauges, together(_read, gauges.values()), strict=True):
            if isinstance(answer, Reading):
                readings[name] = answer
            else:
                readings[name], error = None, answer
                reason = str(answer).rstrip(".")
                unreadable |= {each.name: f"{name} does not answer: {reason}." for each in fields(Reading)}
        found = [reading for reading in readings.values() if reading]
        if not found:
            raise error or redis.ConnectionError("There are no shards.")
        for name, reading in readings.items():
            if reading:
                unreadable |= {member: f"{name}: {sentence}" for member, sentence in reading.unreadable.items()}
        whole = error is None

        def total(member: str) -> int | None:
            return _sum([getattr(reading, member) for reading in found]) if whole else None

        consumers = [reading.consumers for reading in found]
        known = [each for each in consumers if each is not None]
        paused = [reading.paused for reading in found]
        return ShardedReading(
            time_ms=max(reading.time_ms for reading in found),
            pending=total("pending"),
            processing=total("processing"),
            awaiting_recovery=total("awaiting_recovery"),
            delayed=total("delayed"),
            dead_letter=total("dead_letter"),
            counters={
                name: _sum([reading.counters[name] for reading in found]) if whole else None
                for name in found[0].counters
            },
            consumers=[one for each in known for one in each] if whole and len(known) == len(consumers) else None,
            oldest_pending_age_ms=_max([reading.oldest_pending_age_ms for reading in found]),
            pending_by_priority={
                name: _sum([reading.pending_by_priority[name] for reading in found]) if whole else None
                for name in PRIORITIES
            },
            oldest_by_priority_ms={
                name: _max([reading.oldest_by_priority_ms[name] for reading in found]) for name in PRIORITIES
            },
            paused=True if any(paused) else None if None in paused or not whole else False,
            unreadable=unreadable,
            shards=readings,
        )


def look_at_shards(
    config: Config, connect: Callable[[Config], redis.Redis]
) -> tuple[Callable[[Callable[[redis.Redis, Config], Any]], Mapping[str, Any]], ShardedGauges, "ShardedDeadLetters"]:
    """Return a function that makes an object for each shard, by namespace; the gauges and dead letters of all."""
    shards = Shards(config)
    clients = EachShard(shards, connect)

    def each(make: Callable[[redis.Redis, Config], Any]) -> Mapping[str, Any]:
        return EachShard(shards, lambda shard: make(clients[shard.namespace], shard))

    return each, ShardedGauges(shards, clients), ShardedDeadLetters(shards, clients)


class ShardedDeadLetters(DeadLetters):
    """The letters of all shards, newest first. An id is the number of the shard, a slash, and the letter's id there."""

    def __init__(self, shards: Shards, clients: Mapping[str, redis.Redis]) -> None:
        self._members = shards
        self._each = EachShard(shards, lambda each: DeadLetters(clients[each.namespace], each))

    @property
    def _shards(self) -> list[DeadLetters]:
        self._members.look()
        return list(self._each.values())

    def count(self) -> int:
        return sum(shard.count() for shard in self._shards)

    def page(self, limit: int = PAGE, before: str | None = None) -> list[DeadLetter]:
        shards = self._shards
        place, letter_id = (len(shards), None) if before is None else self._parsed(before)
        found: list[tuple[tuple[int, int], int, DeadLetter]] = []
        for number, shard in enumerate(shards):
            bound = letter_id
            if letter_id is not None and number < place:  # of two letters with one id, that of the lower shard is older
                first, _, second = letter_id.partition("-")
                bound = f"{first}-{int(second) + 1}"
            found += [(_moment(letter.id), number, letter) for letter in shard.page(limit, bound)]
        found.sort(key=lambda each: each[:2], reverse=True)
        return [_numbered(number, letter) for _, number, letter in found[: max(1, limit)]]

    def get(self, letter_id: str) -> DeadLetter | None:
        number, rest = self._parsed(letter_id)
        letter = self._shards[number].get(rest)
        return letter and _numbered(number, letter)

    def find(self, *task_ids: str) -> list[DeadLetter]:
        return [_numbered(number, one) for number, shard in enumerate(self._shards) for one in shard.find(*task_ids)]

    def requeue(self, *letter_ids: str) -> int:
        requeued, failures = 0, []
        for number, ids in self._by_shard(letter_ids):
            try:
                requeued += self._shards[number].requeue(*ids)
            except NotRequeueable as error:
                failures.append(NotRequeueable(f"{number}/{error}"))  # its sentence begins with the letter's id
        if failures:
            raise failures[0]
        return requeued

    def requeue_all(self) -> int:
        return sum(shard.requeue_all() for shard in self._shards)

    def purge(self, *letter_ids: str) -> int:
        return sum(self._shards[number].purge(*ids) for number, ids in self._by_shard(letter_ids))

    def purge_all(self) -> int:
        return sum(shard.purge_all() for shard in self._shards)

    def _by_shard(self, letter_ids: tuple[str, ...]) -> Iterator[tuple[int, list[str]]]:
        parsed = [self._parsed(letter_id) for letter_id in letter_ids]
        for number in sorted({number for number, _ in parsed}):
            yield number, [letter_id for place, letter_id in parsed if place == number]

    def _parsed(self, letter_id: str) -> tuple[int, str]:
        number, slash, rest = letter_id.partition("/")
        is_number = number.isascii() and number.isdecimal() and len(number) < 4
        if not slash or not is_number or int(number) >= len(self._shards) or not LETTER_ID.fullmatch(rest):
            raise QueueError(f"{letter_id!r} is not an id of a dead letter here; one looks like 0/1795929154172-0.")
        return int(number), rest


class ShardedQueue(Queue):
    """Enqueues to all shards, sums up their counts, and manages the dead letters of all."""

    def __init__(self, config: Config) -> None:
        self._enqueuer = self._spread = Spread(config)
        self._members = shards = self._spread.members
        self._clients = EachShard(shards, connect)
        self.dead_letters = ShardedDeadLetters(shards, self._clients)
        self._gauges = ShardedGauges(shards, self._clients)

    def stats(self) -> ShardedReading:
        return self._gauges.read()

    def close(self) -> None:
        self._spread.close()
        for client in self._clients.made():
            client.close()

    def pause(self) -> None:
        self._members.look()
        for name, client in self._clients.items():
            client.set(Keys(name).paused, "1")

    def resume(self) -> bool:
        self._members.look()
        deleted: list[Any] = [client.delete(Keys(name).paused) for name, client in self._clients.items()]
        return any(deleted)


def _moment(letter_id: str) -> tuple[int, int]:
    first, _, second = letter_id.partition("-")
    return int(first), int(second)


def _numbered(number: int, letter: DeadLetter) -> DeadLetter:
    return replace(letter, id=f"{number}/{letter.id}")


def _sum(counts: list[int | None]) -> int | None:
    known = [count for count in counts if count is not None]
    return sum(known) if len(known) == len(counts) else None


def _max(ages: list[int | None]) -> int | None:
    return max((age for age in ages if age is not None), default=None)


def _read(gauges: Gauges) -> Reading | redis.RedisError:
    try:
        return gauges.read()
    except redis.RedisError as error:
        return error
