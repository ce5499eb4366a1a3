"""The data of the charts: the last minutes, as the workers recorded them in Redis with their renewals."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import redis

from ..queue.config import Config
from ..queue.keys import Keys
from ..queue.lua import SERIES_BOUNDS_MS
from ..queue.task import PRIORITIES
from ..stats.gauges import COUNTERS

MINUTES_MAX = 120
REASON_CHARS_MAX = 200
FAILING_SHARE = 0.1  # share of failures in the last minutes above which they are reported
FAILING_MIN = 10
FAILING_OVER_MS = 300_000

_number = re.compile(rb"[0-9]{1,18}")
_bucket = re.compile(rb"(wait|run):([0-9]{1,9}|inf)")
_POINT = ("time_ms", *COUNTERS, *PRIORITIES, *(f"since {name}" for name in PRIORITIES), "delayed", "dead_letter")


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """The queue at one moment, by Redis's clock. None: the value could not be read then, or no task waited."""

    time_ms: int
    counters: dict[str, int | None]
    pending: dict[str, int | None]  # by priority
    oldest_ms: dict[str, int | None]  # age of the task to be claimed next, by priority
    delayed: int | None
    dead_letter: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Latency:
    """Quantiles of the tasks that workers counted in one minute, in ms. None: they counted no task."""

    time_ms: int  # when the minute began
    wait_p50: float | None  # from enqueue, or the due time, to the start of the first attempt
    wait_p95: float | None
    run_p50: float | None
    run_p95: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class SeriesReading:
    """Points and latencies of some minutes, oldest first. A minute without a worker is missing."""

    time_ms: int
    points: list[Point]
    latencies: list[Latency]
    unreadable: dict[str, str] = field(default_factory=dict)  # "series" -> a sentence


class Series:
    """Reads the series without changing it."""

    def __init__(self, client: redis.Redis, config: Config) -> None:
        self._client, self._keys = client, Keys(config.namespace)

    def read(self, minutes: int) -> SeriesReading:
        """Read the last `minutes`, and the current one, in two round trips.

        Raises:
            redis.RedisError: Redis does not answer.
        """
        clock: Any = self._client.time()
        now_ms = clock[0] * 1000 + clock[1] // 1000
        last = now_ms // 60_000
        wanted = range(last - min(max(minutes, 1), MINUTES_MAX), last + 1)
        with self._client.pipeline(transaction=False) as pipeline:
            for minute in wanted:
                pipeline.hgetall(self._keys.series(minute))
            answers = pipeline.execute(raise_on_error=False)
        unreadable: dict[str, str] = {}
        points: list[Point] = []
        latencies: list[Latency] = []
        for minute, answer in zip(wanted, answers, strict=True):
            if isinstance(answer, redis.ResponseError):
                why = str(answer)[:REASON_CHARS_MAX].rstrip(". ")
                unreadable["series"] = f"{self._keys.series(minute)} cannot be read: {why}."
            elif answer:
                points += _points(answer)
                latencies.append(_latency(minute * 60_000, answer))
        points.sort(key=lambda point: point.time_ms)  # a point may be stored in the minute before its own
        return SeriesReading(time_ms=now_ms, points=points, latencies=latencies, unreadable=unreadable)


def failing(points: Sequence[Point]) -> tuple[int, int] | None:
    """Return how many handlers failed and how many tasks completed in the last minutes; None if failures are few."""
    if not points:
        return None
    recent = [point for point in points if point.time_ms >= points[-1].time_ms - FAILING_OVER_MS]
    counts = [(point.counters["failed"], point.counters["completed"]) for point in recent]
    known = [(failed, completed) for failed, completed in counts if failed is not None and completed is not None]
    if len(known) < 2:
        return None
    failed, completed = (after - before for before, after in zip(known[0], known[-1], strict=True))
    return (failed, completed) if failed > FAILING_MIN and failed > FAILING_SHARE * (failed + completed) else None


def _points(fields: Mapping[bytes, bytes]) -> list[Point]:
    found = (_point(text) for name, text in fields.items() if name.isdigit())
    return [point for point in found if point]


def _point(text: bytes) -> Point | None:
    words = text.split()
    values = [int(word) if _number.fullmatch(word) else None for word in words]
    if len(values) != len(_POINT) or values[0] is None:
        return None
    time_ms, value = values[0], dict(zip(_POINT, values, strict=True))
    since = {name: value[f"since {name}"] for name in PRIORITIES}
    return Point(
        time_ms=time_ms,
        counters={name: value[name] for name in COUNTERS},
        pending={name: value[name] for name in PRIORITIES},
        oldest_ms={name: None if at_ms is None else max(0, time_ms - at_ms) for name, at_ms in since.items()},
        delayed=value["delayed"],
        dead_letter=value["dead_letter"],
    )


def _latency(time_ms: int, fields: Mapping[bytes, bytes]) -> Latency:
    waits, runs = dict(_buckets(fields, b"wait")), dict(_buckets(fields, b"run"))
    return Latency(
        time_ms=time_ms,
        wait_p50=quantile(waits, 0.5),
        wait_p95=quantile(waits, 0.95),
        run_p50=quantile(runs, 0.5),
        run_p95=quantile(runs, 0.95),
    )


def _buckets(fields: Mapping[bytes, bytes], of: bytes) -> Iterator[tuple[float, int]]:
    yield from ((float(bound), 0) for bound in SERIES_BOUNDS_MS)
    for name, text in fields.items():
        matched = _bucket.fullmatch(name)
        if matched and matched[1] == of and _number.fullmatch(text):
            yield float(matched[2]), int(text)


def quantile(buckets: Mapping[float, int], share: float) -> float | None:
    """Estimate a quantile of a histogram (upper bound -> count) as Prometheus does: linear within a bucket.

    In the last bucket, which has no upper bound, the result is the highest bound. None: nothing was counted.
    """
    left = share * sum(buckets.values())
    if not left:
        return None
    lower = 0.0
    for bound in sorted(buckets):
        if buckets[bound] and left <= buckets[bound]:
            return lower if bound == float("inf") else lower + (bound - lower) * left / buckets[bound]
        left -= buckets[bound]
        lower = bound
    return lower
