"""What the monitor shows, read from Redis in two round trips."""

from collections.abc import Sequence
from dataclasses import dataclass

import redis

from .config import Config
from .errors import Undecodable
from .keys import Keys
from .task import decode

COUNTERS = ("enqueued", "completed", "failed", "retried", "recovered", "dead_lettered")


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsumerReading:
    """A live consumer: its lease has not ended."""

    name: str
    holding: int  # tasks in its processing list
    lease_left_ms: int
    heartbeat_age_ms: int  # since it last renewed, if it works with the same lease_ms


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """The queue at one moment, by Redis's clock. Two round trips, so a task on the move may show twice."""

    time_ms: int
    pending: int
    processing: int  # in the lists of live and dead consumers
    awaiting_recovery: int  # of these, held by consumers whose lease has ended
    delayed: int
    dead_letter: int
    counters: dict[str, int]  # each of COUNTERS, since the queue began
    consumers: list[ConsumerReading]
    oldest_pending_age_ms: int | None  # None: nothing is pending, or the oldest is no task. By its producer's clock


class Gauges:
    """Reads the queue without changing it."""

    def __init__(self, client: redis.Redis, config: Config) -> None:
        self._client, self._config, self._keys = client, config, Keys(config.namespace)

    def read(self) -> Reading:
        """Raises redis.RedisError where Redis does not answer; there is never half a reading."""
        keys = self._keys
        with self._client.pipeline(transaction=False) as pipeline:
            pipeline.time()
            pipeline.llen(keys.pending)
            pipeline.lindex(keys.pending, -1)
            pipeline.zcard(keys.delayed)
            pipeline.llen(keys.dead_letter)
            pipeline.hgetall(keys.counters)
            pipeline.zrange(keys.consumers, 0, -1, withscores=True)
            (seconds, micros), pending, oldest, delayed, dead_letter, counters, leases = pipeline.execute()
        now_ms = seconds * 1000 + micros // 1000
        holdings = self._count_holdings([name for name, _ in leases])
        consumers, awaiting_recovery = [], 0
        for (name, lease_ends_ms), holding in zip(leases, holdings, strict=True):
            lease_left_ms = int(lease_ends_ms) - now_ms
            if lease_left_ms > 0:
                consumers.append(self._live(name, holding, lease_left_ms))
            else:  # a tombstone: kept long after, so that a late claim is found
                awaiting_recovery += holding
        return Reading(
            time_ms=now_ms,
            pending=pending,
            processing=sum(holdings),
            awaiting_recovery=awaiting_recovery,
            delayed=delayed,
            dead_letter=dead_letter,
            counters={name: int(counters.get(name.encode(), 0)) for name in COUNTERS},
            consumers=sorted(consumers, key=lambda consumer: consumer.name),
            oldest_pending_age_ms=_age_ms(oldest, now_ms),
        )

    def _count_holdings(self, consumers: Sequence[bytes]) -> list[int]:
        if not consumers:
            return []
        with self._client.pipeline(transaction=False) as pipeline:
            for consumer in consumers:
                pipeline.llen(self._keys.processing("").encode() + consumer)
            lengths: list[int] = pipeline.execute()
        return lengths

    def _live(self, name: bytes, holding: int, lease_left_ms: int) -> ConsumerReading:
        return ConsumerReading(
            name=name.decode(errors="backslashreplace"),
            holding=holding,
            lease_left_ms=lease_left_ms,
            heartbeat_age_ms=max(0, self._config.lease_ms - lease_left_ms),
        )


def _age_ms(element: bytes | None, now_ms: int) -> int | None:
    if element is None:
        return None
    try:
        created_at = decode(element).created_at
    except Undecodable:  # it ends in dead_letter, and its age is of no interest
        return None
    return max(0, now_ms - created_at) if created_at else None
