"""`Queue` over all shards: what it counts is the sum, and what it lists says from which shard it is."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, fields, replace
from typing import Any

import redis

from ..queue.client import Queue
from ..queue.config import Config
from ..queue.dead_letters import PAGE, DeadLetter, DeadLetters
from ..queue.errors import QueueError
from ..queue.gauges import Gauges, Reading
from ..queue.keys import Keys
from .layout import shard_configs
from .spread import Spread


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardedReading(Reading):
    """All shards together. What one of them cannot tell is None in the sum, and `unreadable` names the shard."""

    shards: dict[str, Reading | None] = field(default_factory=dict)  # namespace -> its own; None: it does not answer


class ShardedGauges(Gauges):
    """Reads every shard without changing it."""

    def __init__(self, clients: dict[str, redis.Redis], configs: list[Config]) -> None:
        self._gauges = {each.namespace: Gauges(clients[each.namespace], each) for each in configs}

    def read(self) -> ShardedReading:
        """Read all.

        Raises:
            redis.RedisError: no shard answers.
        """
        readings: dict[str, Reading | None] = {}
        unreadable: dict[str, str] = {}
        error: redis.RedisError | None = None
        for name, gauges in self._gauges.items():
            try:
                readings[name] = gauges.read()
            except redis.RedisError as caught:
                readings[name], error = None, caught
                unreadable |= {each.name: f"{name} does not answer: {caught}." for each in fields(Reading)}
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
        ages = [reading.oldest_pending_age_ms for reading in found if reading.oldest_pending_age_ms is not None]
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
            oldest_pending_age_ms=max(ages, default=None),
            unreadable=unreadable,
            shards=readings,
        )


def sharded_gauges(config: Config, connect: Callable[[Config], redis.Redis]) -> ShardedGauges:
    """The gauges of all shards, each asked through a client of its own."""
    configs = shard_configs(config)
    return ShardedGauges({each.namespace: connect(each) for each in configs}, configs)


class ShardedDeadLetters(DeadLetters):
    """The letters of all shards, newest first. An id is the number of the shard, a slash, and the letter's id there."""

    def __init__(self, shards: list[DeadLetters]) -> None:
        self._shards = shards

    def count(self) -> int:
        return sum(shard.count() for shard in self._shards)

    def page(self, limit: int = PAGE, before: str | None = None) -> list[DeadLetter]:
        place, letter_id = (len(self._shards), None) if before is None else self._parsed(before)
        found: list[tuple[tuple[int, int], int, DeadLetter]] = []
        for number, shard in enumerate(self._shards):
            bound = letter_id
            if letter_id is not None and number < place:  # of two letters of one id, the lower number is older
                first, _, second = letter_id.partition("-")
                bound = f"{first}-{int(second) + 1}"
            found += [(_moment(letter.id), number, letter) for letter in shard.page(limit, bound)]
        found.sort(key=lambda each: each[:2], reverse=True)
        return [_numbered(number, letter) for _, number, letter in found[: max(1, limit)]]

    def find(self, task_id: str) -> list[DeadLetter]:
        return [_numbered(number, one) for number, shard in enumerate(self._shards) for one in shard.find(task_id)]

    def requeue(self, *letter_ids: str) -> int:
        return sum(self._shards[number].requeue(*ids) for number, ids in self._by_shard(letter_ids))

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
        if not slash or not number.isdecimal() or int(number) >= len(self._shards):
            raise QueueError(f"{letter_id!r} is no id of a dead letter here; one looks like 0/1795929154172-0.")
        return int(number), rest


class ShardedQueue(Queue):
    """Enqueues to all shards, counts them together, and looks after the dead letters of all."""

    def __init__(self, config: Config) -> None:
        self._enqueuer = self._spread = Spread(config)
        shards = self._spread.shards
        self.dead_letters = ShardedDeadLetters([DeadLetters(shard.client, shard.config) for shard in shards])
        clients = {shard.config.namespace: shard.client for shard in shards}
        self._gauges = ShardedGauges(clients, [shard.config for shard in shards])

    def close(self) -> None:
        self._spread.close()

    def pause(self) -> None:
        for shard in self._spread.shards:
            shard.client.set(Keys(shard.config.namespace).paused, "1")

    def resume(self) -> bool:
        deleted: list[Any] = [shard.client.delete(Keys(shard.config.namespace).paused) for shard in self._spread.shards]
        return any(deleted)


def _moment(letter_id: str) -> tuple[int, int]:
    first, _, second = letter_id.partition("-")
    return int(first), int(second)


def _numbered(number: int, letter: DeadLetter) -> DeadLetter:
    return replace(letter, id=f"{number}/{letter.id}")


def _sum(counts: list[int | None]) -> int | None:
    known = [count for count in counts if count is not None]
    return sum(known) if len(known) == len(counts) else None
