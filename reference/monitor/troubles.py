"""The troubles of a queue, worst first, each with advice. Only values that were read are judged."""

from collections.abc import Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

from ..stats.gauges import Reading
from .series import SeriesReading, failing

OLD_MS = 300_000  # a task that waits longer is too old; as ZerolossTasksWait in ci/deploy/prometheus/alerts.yml
FULL_SHARE = 0.9  # of maxmemory


class Trouble(NamedTuple):
    """`level`: critical if tasks do not run or may be lost, else warning."""

    level: str
    title: str
    detail: str


def troubles_of(
    reading: Reading,
    memories: Iterable[Mapping[str, Any] | None],
    shards: Mapping[str, Reading | None] = MappingProxyType({}),
) -> list[Trouble]:
    """Return the troubles in a reading. `memories`: each server's `INFO memory`, None if the server denies it.

    `shards`: each shard's reading, None if the shard does not answer.
    """
    found = [*_workers(reading), *_unattended(shards)]
    for memory in memories:
        found += _memory(memory or {})
    found += _waiting(reading)
    return sorted(dict.fromkeys(found), key=lambda trouble: trouble.level)  # critical comes before warning


def troubles_of_series(series: SeriesReading) -> list[Trouble]:
    """Return the troubles in the last minutes."""
    counts = failing(series.points)
    if counts is None:
        return []
    failed, completed = counts
    detail = f"In the last minutes {failed:,} handlers failed and {completed:,} tasks were completed."
    return [Trouble("warning", "Handlers fail", f"{detail} The dead letters and the log have the errors.")]


def _workers(reading: Reading) -> Iterator[Trouble]:
    if reading.consumers is not None and not reading.consumers:
        yield Trouble("critical", "No worker is alive", "Nothing is processed until one starts.")
    if reading.paused:
        yield Trouble(
            "warning", "Claiming is paused", "Workers finish what they run and claim no more, until `resume`."
        )
    if reading.awaiting_recovery:
        held = f"{reading.awaiting_recovery:,} are held by workers that are gone"
        yield Trouble("warning", "Tasks await recovery", f"{held}; a living worker gives them back within seconds.")


def _unattended(shards: Mapping[str, Reading | None]) -> Iterator[Trouble]:
    for name, reading in shards.items():
        if reading is None:
            yield Trouble("critical", f"The shard {name} does not answer", "Its tasks wait until its Redis does.")
        elif reading.pending and reading.consumers is not None and not reading.consumers:
            yield Trouble("warning", f"No worker attends {name}", "Run at least as many processes as there are shards.")


def _waiting(reading: Reading) -> Iterator[Trouble]:
    age_ms = reading.oldest_pending_age_ms
    if age_ms is not None and age_ms > OLD_MS:
        waits = f"The oldest has waited for {age_ms // 60_000} minutes"
        yield Trouble("warning", "Tasks wait too long", f"{waits}: add workers, or find what makes tasks slow.")


def _memory(memory: Mapping[str, Any]) -> Iterator[Trouble]:
    limit, used, policy = memory.get("maxmemory"), memory.get("used_memory"), str(memory.get("maxmemory_policy", ""))
    if not isinstance(limit, int) or not limit:
        return
    if policy.startswith("allkeys-"):
        what = f"maxmemory-policy is {policy}, which deletes tasks when Redis's memory is full"
        yield Trouble("critical", "Redis may evict the queue", f"{what}; set it to noeviction.")
    if isinstance(used, int) and used > FULL_SHARE * limit:
        what = f"{used / limit:.0%} of maxmemory are used"
        yield Trouble("warning", "Redis's memory is almost full", f"{what}; beyond it new tasks are refused.")
