"""The state of a queue for the monitor, read from Redis in two round trips."""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec
import redis

from ..queue.config import Config
from ..queue.keys import Keys
from ..queue.task import PRIORITIES, enqueued_at

COUNTERS = ("enqueued", "completed", "failed", "retried", "recovered", "dead_lettered")
REASON_CHARS_MAX = 200

_whole_number = re.compile(rb"-?[0-9]{1,19}")  # values that Redis itself accepts in a counter


class About(msgspec.Struct, kw_only=True):
    """The description that a worker sends with each renewal: see `worker/journal.py`."""

    host: str = ""
    pid: int = 0
    version: str = ""
    threads: int = 0
    up_ms: int = 0  # from the start of its process to the renewal
    running: list[tuple[int, str, int]] = []  # delivery number, task type, ms that it has run by then


@dataclass(frozen=True, slots=True, kw_only=True)
class RunningTask:
    """A task that a handler was running when its consumer last renewed; the ones that had run longest are listed."""

    number: int  # of the delivery
    type: str
    running_ms: int  # until now, if it still runs


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsumerReading:
    """A live consumer: its lease has not ended. None or empty: the value could not be read, or was not reported."""

    name: str
    holding: int | None  # tasks
    lease_left_ms: int | None
    heartbeat_age_ms: int | None  # since its last renewal, if its lease_ms is the reader's
    host: str = ""
    version: str = ""
    age_ms: int | None = None  # since its process began
    running: list[RunningTask] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """The queue at one moment, by Redis's clock. It takes two round trips, so a task that moves may count twice.

    A value that could not be read is None, and `unreadable` has the reason.
    """

    time_ms: int
    pending: int | None
    processing: int | None  # held by live and dead consumers
    awaiting_recovery: int | None  # of `processing`: held by consumers whose lease has ended
    delayed: int | None
    dead_letter: int | None
    counters: dict[str, int | None]  # each of COUNTERS, since the queue began
    consumers: list[ConsumerReading] | None
    oldest_pending_age_ms: int | None  # of those to be claimed next. None, too, if these have no age
    pending_by_priority: dict[str, int | None] = field(default_factory=dict)  # high, default, low
    oldest_by_priority_ms: dict[str, int | None] = field(default_factory=dict)  # as `oldest_pending_age_ms`
    paused: bool | None = None
    unreadable: dict[str, str] = field(default_factory=dict)  # field of this class -> a sentence


class Gauges:
    """Reads the queue without changing it."""

    def __init__(self, client: redis.Redis, config: Config) -> None:
        self._client, self._config, self._keys = client, config, Keys(config.namespace)

    def read(self) -> Reading:
        """Read everything. A refusal of Redis, as for a key of another type, makes only the fields from this key None.

        Raises:
            redis.RedisError: Redis does not answer, or refuses `TIME`.
        """
        keys = self._keys
        with self._client.pipeline(transaction=False) as pipeline:
            pipeline.time()
            for waiting in keys.lists:
                pipeline.llen(waiting)
                pipeline.lindex(waiting, -1)
            pipeline.zcard(keys.delayed)
            pipeline.xlen(keys.dead_letter)
            pipeline.hgetall(keys.counters)
            pipeline.exists(keys.paused)
            pipeline.hgetall(keys.info)
            pipeline.zrange(keys.consumers, 0, -1, withscores=True)
            clock, *lists, delayed, dead_letter, counters, paused, info, leases = pipeline.execute(raise_on_error=False)
        if isinstance(clock, redis.ResponseError):
            raise clock
        now_ms = clock[0] * 1000 + clock[1] // 1000
        sieve = _Sieve()
        is_paused = sieve.take(paused, keys.paused, "paused")
        leases = sieve.take(leases, keys.consumers, "consumers", "processing", "awaiting_recovery")
        said = sieve.take(info, keys.info, "info") or {}
        held = None if leases is None else self._read_held(leases, said, now_ms, sieve)
        consumers, processing, awaiting_recovery = held or (None, None, None)
        lengths = [sieve.take(*length, "pending") for length in zip(lists[::2], keys.lists, strict=True)]
        heads = [sieve.take(*entry, "oldest_pending_age_ms") for entry in zip(lists[1::2], keys.lists, strict=True)]
        return Reading(
            time_ms=now_ms,
            pending=_sum(lengths),
            processing=processing,
            awaiting_recovery=awaiting_recovery,
            delayed=sieve.take(delayed, keys.delayed, "delayed"),
            dead_letter=sieve.take(dead_letter, keys.dead_letter, "dead_letter"),
            counters=_counts(sieve.take(counters, keys.counters, "counters"), keys.counters, sieve),
            consumers=consumers,
            oldest_pending_age_ms=_oldest_age_ms(heads, now_ms),
            pending_by_priority=dict(zip(PRIORITIES, lengths, strict=True)),
            oldest_by_priority_ms={
                name: _oldest_age_ms([head], now_ms) for name, head in zip(PRIORITIES, heads, strict=True)
            },
            paused=None if is_paused is None else bool(is_paused),
            unreadable=sieve.unreadable,
        )

    def _read_held(
        self, leases: Sequence[tuple[bytes, float]], said: Mapping[bytes, bytes], now_ms: int, sieve: "_Sieve"
    ) -> tuple[list[ConsumerReading], int | None, int | None]:
        """Return the live consumers, the number of held tasks, and of those the ones whose lease has ended."""
        prefix = self._keys.processing("").encode()
        with self._client.pipeline(transaction=False) as pipeline:
            for name, _ in leases:
                pipeline.hlen(prefix + name)
            lengths = pipeline.execute(raise_on_error=False)
        consumers: list[ConsumerReading] = []
        live: list[int | None] = []
        ended: list[int | None] = []
        for (name, lease_ends_ms), length in zip(leases, lengths, strict=True):
            is_live = lease_ends_ms > now_ms
            harmed = ("processing",) if is_live else ("processing", "awaiting_recovery")
            holding = sieve.take(length, _shown(prefix + name), *harmed)
            (live if is_live else ended).append(holding)
            if is_live:
                consumers.append(self._live(name, holding, lease_ends_ms, now_ms, sieve, said.get(name, b"")))
        consumers.sort(key=lambda consumer: consumer.name)
        return consumers, _sum(live + ended), _sum(ended)

    def _live(
        self, name: bytes, holding: int | None, lease_ends_ms: float, now_ms: int, sieve: "_Sieve", said: bytes
    ) -> ConsumerReading:
        lease_left_ms = heartbeat_age_ms = None
        if math.isinf(lease_ends_ms):
            score = f"the score {lease_ends_ms} for {_shown(name)}, which is not a time"
            sieve.unreadable["consumers"] = f"{self._keys.consumers} has {score}."
        else:
            lease_left_ms = int(lease_ends_ms) - now_ms
            heartbeat_age_ms = max(0, self._config.lease_ms - lease_left_ms)
        at_ms, about = read_about(said)
        return ConsumerReading(
            name=_shown(name),
            holding=holding,
            lease_left_ms=lease_left_ms,
            heartbeat_age_ms=heartbeat_age_ms,
            host=about.host,
            version=about.version,
            age_ms=now_ms - at_ms + about.up_ms if at_ms else None,
            running=[
                RunningTask(number=number, type=task_type, running_ms=max(0, now_ms - at_ms + ms))
                for number, task_type, ms in about.running
            ],
        )


def read_about(said: bytes) -> tuple[int, About]:
    """Return the time of a consumer's description, ms by Redis's clock, and the description; 0 and empty on error."""
    at, _, text = said.partition(b" ")
    try:
        return int(at) if _whole_number.fullmatch(at) else 0, msgspec.json.decode(text, type=About)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return 0, About()


class _Sieve:
    """Replaces refusals of Redis in a reading by None, and collects the fields that are missing, with the reasons."""

    def __init__(self) -> None:
        self.unreadable: dict[str, str] = {}

    def take(self, answer: Any, key: str, *members: str) -> Any:
        """Return the answer, or None if it is a refusal. `members`: the fields that are read from this answer."""
        if not isinstance(answer, redis.ResponseError):
            return answer
        for member in members:
            self.unreadable[member] = f"{key} cannot be read: {str(answer)[:REASON_CHARS_MAX].rstrip('. ')}."
        return None


def _counts(counters: dict[bytes, bytes] | None, key: str, sieve: _Sieve) -> dict[str, int | None]:
    counts: dict[str, int | None] = dict.fromkeys(COUNTERS)
    if counters is None:
        return counts
    for name in COUNTERS:
        text = counters.get(name.encode(), b"0")
        if _whole_number.fullmatch(text):
            counts[name] = int(text)
        else:
            sieve.unreadable["counters"] = f"{key} has {_shown(text[:40])!r} for {name}, which is not a whole number."
    return counts


def _sum(counts: Sequence[int | None]) -> int | None:
    known = [count for count in counts if count is not None]
    return sum(known) if len(known) == len(counts) else None


def _shown(text: bytes) -> str:
    return text.decode(errors="backslashreplace")


def _oldest_age_ms(entries: Sequence[bytes | None], now_ms: int) -> int | None:
    since = [at_ms for entry in entries if entry is not None and (at_ms := enqueued_at(entry)) is not None]
    return max(0, now_ms - min(since)) if since else None
