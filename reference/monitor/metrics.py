"""The queue's metrics for Prometheus, read at each scrape."""

from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from redis.exceptions import RedisError, ResponseError

from ..queue.errors import OtherProtocol
from ..stats.gauges import Gauges, Reading


class QueueCollector(Collector):
    """Collects `zeroloss_up`, always, and the values that could be read."""

    def __init__(self, gauges: Gauges) -> None:
        self._gauges = gauges

    def describe(self) -> list[Metric]:
        return []  # without this, registering reads the queue once

    def collect(self) -> Iterator[Metric]:
        try:
            reading = self._gauges.read()
        except (RedisError, OtherProtocol) as error:
            answers = isinstance(error, ResponseError)  # a refusal is an answer
            yield GaugeMetricFamily("zeroloss_up", "1 where Redis answers", value=answers)
            return
        yield GaugeMetricFamily("zeroloss_up", "1 where Redis answers", value=1)
        yield from metrics(reading)


def metrics(reading: Reading) -> Iterator[Metric]:
    """Yield a reading's metrics: gauges, and a counter for each of `gauges.COUNTERS`; unknown values are left out."""
    tasks = GaugeMetricFamily("zeroloss_tasks", "Tasks in the queue by where they lie", labels=["state"])
    for state in ("pending", "processing", "delayed", "dead_letter"):
        if getattr(reading, state) is not None:
            tasks.add_metric([state], getattr(reading, state))
    yield tasks
    waiting = GaugeMetricFamily("zeroloss_pending_tasks", "Tasks that wait for a worker", labels=["priority"])
    for priority, count in reading.pending_by_priority.items():
        if count is not None:
            waiting.add_metric([priority], count)
    yield waiting
    for name, text, value in _gauges(reading):
        if value is not None:
            yield GaugeMetricFamily(name, text, value=value)
    for name, count in reading.counters.items():
        if count is not None:
            text = f"Tasks {name.replace('_', '-')} since the queue began"
            yield CounterMetricFamily(f"zeroloss_{name}", text, value=count)


def _gauges(reading: Reading) -> Iterator[tuple[str, str, float | None]]:
    """Yield name, meaning and value of each gauge; the value is None if it is unknown."""
    yield (
        "zeroloss_tasks_awaiting_recovery",
        "Tasks in processing whose consumer's lease has ended",
        reading.awaiting_recovery,
    )
    consumers = reading.consumers
    yield "zeroloss_consumers", "Consumers with a living lease", None if consumers is None else len(consumers)
    ages_ms = [consumer.heartbeat_age_ms for consumer in consumers or []]
    known_ms = [age_ms for age_ms in ages_ms if age_ms is not None]
    is_known = consumers is not None and len(known_ms) == len(ages_ms)
    yield (
        "zeroloss_heartbeat_age_seconds_max",
        "Age of the oldest heartbeat among the living consumers",
        max(known_ms, default=0) / 1000 if is_known else None,
    )
    yield (
        "zeroloss_oldest_pending_age_seconds",
        "Age of the oldest task that is next to be claimed",
        None if "oldest_pending_age_ms" in reading.unreadable else (reading.oldest_pending_age_ms or 0) / 1000,
    )
