"""`Queue` over all shards: what it counts is the sum, and what it lists says from which shard it is."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, fields, replace
from typing import Any

import redis

from ..queue.client import Queue
from ..queue.config import Config
from ..queue.dead_letters import LETTER_ID, PAGE, DeadLetter, DeadLetters
from ..queue.errors import QueueError
from ..queue.gauges import Gauges, Reading
from ..queue.keys import Keys
from ..queue.task import PRIORITIES
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
        with ThreadPoolExecutor(len(self._gauges)) as threads:  # of those that hang none is waited for after another
            answers = list(threads.map(_read, self._gauges.values()))
        for name, answer in zip(self._gauges, answers, strict=True):
            if isinstance(answer, Reading):
                readings[name] = answer
            else:
                readings[name], error = None, answer
                unreadable |= {each.name: f"{name} does not answer: {answer}." for each in fields(Reading)}
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
) -> tuple[dict[str, redis.Redis], ShardedGauges, "ShardedDeadLetters"]:
    """A client for each shard, by its namespace, and the gauges and dead letters of all."""
    configs = shard_configs(config)
    clients = {each.namespace: connect(each) for each in configs}
    letters = ShardedDeadLetters([DeadLetters(clients[each.namespace], each) for each in configs])
    return clients, ShardedGauges(clients, configs), letters


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

    def get(self, letter_id: str) -> DeadLetter | None:
        number, rest = self._parsed(letter_id)
        letter = self._shards[number].get(rest)
        return letter and _numbered(number, letter)

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
        is_number = number.isascii() and number.isdecimal() and len(number) < 4
        if not slash or not is_number or int(number) >= len(self._shards) or not LETTER_ID.fullmatch(rest):
            raise QueueError(f"{letter_id!r} is not an id of a dead letter here; one looks like 0/1795929154172-0.")
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


def _max(ages: list[int | None]) -> int | None:
    return max((age for age in ages if age is not None), default=None)


def _read(gauges: Gauges) -> Reading | redis.RedisError:
    try:
        return gauges.read()
    except redis.RedisError as error:
        return error
