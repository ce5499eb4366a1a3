"""The consumers that vanished lately, and how many of their tasks were recovered."""

from collections.abc import Mapping
from typing import Any

import redis

from ..queue.keys import Keys
from ..stats.gauges import read_about
from .places import Shown

SHOWN_MAX = 20


def read_vanished(clients: Mapping[str, redis.Redis]) -> list[Shown]:
    """Return the last vanished consumers of all queues, newest first. `clients`: by namespace.

    Raises:
        redis.RedisError: Redis does not answer, or a key is of another type.
    """
    found: list[Shown] = []
    for name, client in clients.items():
        records: Any = client.xrevrange(Keys(name).vanished, count=SHOWN_MAX)
        found += [_shown(*record) for record in records]
    return sorted(found, key=lambda one: int(one["time_ms"]), reverse=True)[:SHOWN_MAX]


def _shown(record_id: bytes, fields: dict[bytes, bytes]) -> Shown:
    _, about = read_about(fields.get(b"about", b""))
    counts = {name: fields.get(name.encode(), b"") for name in ("recovered", "dead_lettered")}
    return {
        "time_ms": int(record_id.partition(b"-")[0]),
        "consumer": fields.get(b"consumer", b"").decode(errors="backslashreplace"),
        "host": about.host,
        "version": about.version,
        **{name: int(text) if text.isdigit() and len(text) < 19 else None for name, text in counts.items()},
    }
