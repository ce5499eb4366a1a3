"""The application of `dramatiq`, as both its worker and its producer import it."""

import os
import time
from typing import Any

import dramatiq
from dramatiq.brokers.redis import RedisBroker

from ..ledger import effect

dramatiq.set_broker(RedisBroker(url=os.environ["REDIS_URL"], heartbeat_timeout=5_000, maintenance_chance=20_000))


@dramatiq.actor(min_backoff=100)
def work(payload: dict[str, Any]) -> None:
    with effect(payload["id"], payload=payload):
        time.sleep(payload["work_ms"] / 1000)
